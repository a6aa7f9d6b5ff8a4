package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"macaroond/service/api"
)

// limitFiles bounds how large a file the server may write, as a full disk
// would; 0 lifts it.
func (s *site) limitFiles(size uint64) {
	s.t.Helper()
	const fsize = 1 // RLIMIT_FSIZE
	limit := syscall.Rlimit{Cur: size, Max: ^uint64(0)}
	if size == 0 {
		limit.Cur = ^uint64(0)
	}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(s.cmd.Process.Pid), fsize, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		s.t.Fatal(errno)
	}
}

// The system refuses to let the database grow: nothing is answered as done,
// verdicts go on, and all is well as soon as there is room.
func TestNoRoom(t *testing.T) {
	s := newSite(t, nil)
	s.spawn()
	s.addUser("alice")
	root := s.login("alice").Token
	for range 2 {
		wal, err := os.Stat(filepath.Join(s.dir, "macaroond.db-wal"))
		must(t, err)
		s.limitFiles(uint64(wal.Size()))
		s.refuseAll(root)
		if got := s.answer(root); got != api.CodeOK {
			t.Errorf("a verdict: %s", got)
		}
		s.unready("database")
		s.limitFiles(0)
		s.ready() // also when nobody asks for anything
		// What was refused did not happen, neither now nor after a restart.
		if got := s.changes(root)["login"](); got != api.CodeOK {
			t.Errorf("with room again: %s\n%s", got, s.log)
		}
		s.kill()
		s.spawn()
		if got := s.answer(root); got != api.CodeOK {
			t.Errorf("a refused logout happened: %s", got)
		}
		s.must(nil, "", "audit", "verify")
	}
	if got := s.changes(root)["logout"](); got != api.CodeOK {
		t.Error(got)
	}
}
