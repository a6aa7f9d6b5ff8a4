package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"macaroond/storage"
	"macaroond/storage/storagetest"
)

// lockTest has another process, as it were, in the middle of a change.
func lockTest(t *testing.T, path string) *sql.Tx {
	t.Helper()
	other, err := sql.Open("sqlite", path+"?_txlock=immediate")
	must(t, err)
	t.Cleanup(func() { other.Close() })
	lock, err := other.Begin()
	must(t, err)
	return lock
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, lock := openTest(t, path, Options{BusyTimeout: 20 * time.Millisecond}), lockTest(t, path)

	var wg sync.WaitGroup
	for n := range uint64(4) {
		wg.Go(func() {
			_, err := revoke(t.Context(), s, n)
			wantUnavailable(t, err, reasonLocked)
		})
	}
	wg.Wait()
	wantSequence(t, s, 0) // reading goes on
	_, err := Open(t.Context(), path, Options{BusyTimeout: 20 * time.Millisecond})
	wantUnavailable(t, err, reasonLocked)

	must(t, lock.Rollback())
	_, err = revoke(t.Context(), s, 9)
	must(t, err)
	wantSequence(t, s, 1)
}

// held runs fn while the writer is busy, so that what fn queues is one group
// with the change that kept it so, whose error it returns.
func held(t *testing.T, s *Store, fn func()) (err error) {
	t.Helper()
	busy, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	var once sync.Once // it runs again when a neighbour takes the transaction down
	wg.Go(func() {
		err = s.w.do(t.Context(), func(*tx) error { once.Do(func() { close(busy) }); <-release; return nil })
	})
	<-busy
	fn()
	close(release)
	wg.Wait()
	return err
}

// queue starts a change and returns when it waits in the queue.
func queue(t *testing.T, s *Store, ctx context.Context, fn func(*tx) error) <-chan error {
	t.Helper()
	n, done := len(s.w.queue), make(chan error, 1)
	go func() { done <- s.w.do(ctx, fn) }()
	for deadline := time.Now().Add(10 * time.Second); len(s.w.queue) == n; {
		if time.Now().After(deadline) {
			t.Fatal("not queued")
		}
	}
	return done
}

func appending(detail string) func(*tx) error {
	return func(t *tx) error {
		return t.audit(storage.Event{Time: storagetest.T0, Type: "test", Detail: detail})
	}
}

func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	must(t, openTest(t, path, Options{}).Close())
	s := openTest(t, path, Options{uri: url.Values{"_pragma": {"max_page_count(60)"}}})

	// What does not fit fails alone; its neighbours, before and after, do not.
	var big, a, b <-chan error
	must(t, held(t, s, func() {
		a = queue(t, s, t.Context(), appending("before"))
		big = queue(t, s, t.Context(), appending(strings.Repeat("x", 1<<20)))
		b = queue(t, s, t.Context(), appending("after"))
	}))
	must(t, <-a)
	must(t, <-b)
	wantUnavailable(t, <-big, reasonFull)

	stored := 2
	var err error
	for ; err == nil; stored++ {
		err = s.AppendAudit(t.Context(), storage.Event{Time: storagetest.T0, Type: "test", Detail: strings.Repeat("y", 3000)})
	}
	stored--
	wantUnavailable(t, err, reasonFull)
	all, err := s.Audit(t.Context(), 0, 1000)
	must(t, err)
	if len(all) != stored {
		t.Fatalf("%d entries, %d were answered", len(all), stored)
	}
	for i, e := range all {
		if e.Seq != int64(i+1) || !e.Intact() {
			t.Fatalf("entry %d is %d", i+1, e.Seq)
		}
	}
	// Room again.
	_, err = s.Expire(t.Context(), storage.Expire{Now: storagetest.T0, AuditBefore: storagetest.T0.Add(time.Hour), Limit: 1000})
	must(t, err)
	appendOne(t, s)
}

func TestCorrupt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := openTest(t, path, Options{})
	fillRevocations(t, s, 5000)
	var page int64
	must(t, s.read.QueryRow(`SELECT rootpage FROM sqlite_master WHERE name = 'revocations'`).Scan(&page))
	must(t, s.Close())
	good, err := os.ReadFile(path)
	must(t, err)
	bad := bytes.Clone(good)
	copy(bad[(page-1)*4096:page*4096], bytes.Repeat([]byte{0xEE}, 4096))
	must(t, os.WriteFile(path, bad, 0o600))

	s = openTest(t, path, Options{})
	wantUnavailable(t, s.Check(t.Context()), reasonDamaged)
	place := t.TempDir()
	wantUnavailable(t, s.Backup(t.Context(), filepath.Join(place, "backup")), reasonDamaged)
	if left, err := os.ReadDir(place); err != nil || len(left) != 0 {
		t.Errorf("a backup that failed left %v, %v", left, err)
	}
	before, err := s.State(t.Context())
	must(t, err)
	_, err = revoke(t.Context(), s, 1)
	wantUnavailable(t, err, reasonDamaged)
	var last error
	for _, err := range s.Revocations(t.Context(), 0) {
		last = err
	}
	wantUnavailable(t, last, reasonDamaged)
	after, err := s.State(t.Context())
	must(t, err)
	if after != before {
		t.Errorf("state %+v, was %+v", after, before)
	}
	must(t, s.Close())
	must(t, os.WriteFile(path, good, 0o600))
	s = openTest(t, path, Options{})
	must(t, s.Check(t.Context()))
	wantSequence(t, s, 5000)
	_, err = revoke(t.Context(), s, 1)
	must(t, err)
}

// A list that cannot be read to its end is an error: it does not end before.
func TestCorruptInTheMiddle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := openTest(t, path, Options{})
	fillRevocations(t, s, 5000)
	var key []byte
	must(t, s.read.QueryRow(`SELECT root_key_id FROM revocations WHERE seq = 4500`).Scan(&key))
	must(t, s.Close())
	bad, err := os.ReadFile(path)
	must(t, err)
	for at := bytes.Index(bad, key); at >= 0; at = bytes.Index(bad, key) { // in the table, and in its index
		page := at / 4096 * 4096
		copy(bad[page:page+4096], bytes.Repeat([]byte{0xEE}, 4096))
	}
	must(t, os.WriteFile(path, bad, 0o600))

	s = openTest(t, path, Options{})
	read := 0
	for r, err := range s.Revocations(t.Context(), 4100) {
		if err != nil {
			wantUnavailable(t, err, reasonDamaged)
			return
		}
		if read++; r.Seq != int64(4100+read) {
			t.Fatalf("entry %d of those after 4100 is %d", read, r.Seq)
		}
	}
	t.Errorf("no error, after %d entries", read)
}

func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	must(t, openTest(t, path, Options{}).Close())
	good, err := os.ReadFile(path)
	must(t, err)
	for _, bad := range [][]byte{[]byte(strings.Repeat("no database\n", 1000)), append([]byte("SQLite format 9\x00"), good[16:]...)} {
		must(t, os.WriteFile(path, bad, 0o600))
		_, err = Open(t.Context(), path, Options{})
		wantUnavailable(t, err, reasonNotOurs)
		got, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(got, bad) {
			t.Error("the file was changed")
		}
	}
	must(t, os.WriteFile(path, good, 0o600))
	appendOne(t, openTest(t, path, Options{}))
}

// One group: an error and a panic are undone alone, and everybody is answered.
func TestGroup(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "db"), Options{})
	mine := errors.New("mine")
	var first, failed, last <-chan error
	gone, cancel := context.WithCancel(t.Context())
	panicked := make(chan any, 1)
	must(t, held(t, s, func() {
		first = queue(t, s, t.Context(), appending("first"))
		failed = queue(t, s, t.Context(), func(t *tx) error { return errors.Join(appending("failed")(t), mine) })
		go func() {
			defer func() { panicked <- recover() }()
			_ = s.w.do(t.Context(), func(t *tx) error { panic(appending("panicked")(t)) })
		}()
		left := queue(t, s, gone, appending("abandoned"))
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) { // while the writer is still busy
			t.Error(err)
		}
		last = queue(t, s, t.Context(), appending("last"))
	}))
	must(t, <-first)
	must(t, <-last)
	if err := <-failed; !errors.Is(err, mine) {
		t.Error(err)
	}
	if <-panicked == nil {
		t.Error("no panic")
	}
	all, err := s.Audit(t.Context(), 0, 10)
	must(t, err)
	var got []string
	for _, e := range all {
		got = append(got, e.Detail)
	}
	if strings.Join(got, " ") != "first last" {
		t.Errorf("kept: %q", got)
	}
}

// Close answers what was accepted before.
func TestCloseFinishesTheQueue(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "db"), Options{})
	var all []<-chan error
	closed := make(chan error, 1)
	must(t, held(t, s, func() {
		for range 20 {
			all = append(all, queue(t, s, t.Context(), appending("queued")))
		}
		go func() { closed <- s.Close() }()
	}))
	for _, done := range all {
		must(t, <-done)
	}
	must(t, <-closed)
}

// A commit that fails is nobody's success.
func TestCommitFails(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "db"), Options{})
	var a, b <-chan error
	c := held(t, s, func() {
		a = queue(t, s, t.Context(), appending("a"))
		b = queue(t, s, t.Context(), func(t *tx) error {
			t.st.sequence = -1 // the state row's CHECK refuses it
			return nil
		})
	})
	if <-a == nil || <-b == nil || c == nil {
		t.Error("success")
	}
	all, err := s.Audit(t.Context(), 0, 10)
	must(t, err)
	if len(all) != 0 {
		t.Errorf("%d entries", len(all))
	}
	appendOne(t, s)
}

// A file that somebody empties under a running process is not made a new
// database: once its connection is gone the writer can do nothing, nobody can
// read, and the file stays as it is.
func TestEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := openTest(t, path, Options{})
	_, err := revoke(t.Context(), s, 1)
	must(t, err)
	must(t, os.Truncate(path, 0))
	must(t, os.Truncate(path+"-wal", 0))
	trouble := errors.New("trouble")
	err = s.w.doPlain(t.Context(), func(*tx) error { return trouble }, func(error) bool { return false })
	if !errors.Is(err, trouble) {
		t.Fatal(err)
	}
	for n := range uint64(5) {
		var unavailable *storage.UnavailableError
		if _, err := revoke(t.Context(), s, n+2); !errors.As(err, &unavailable) {
			t.Errorf("change %d: %v", n, err)
		}
		if _, err := s.Users(t.Context(), "", 10); !errors.As(err, &unavailable) {
			t.Errorf("reading %d: %v", n, err)
		}
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() != 0 {
		t.Errorf("the file has %d bytes", info.Size())
	}
}

// The file goes away under a running process, and perhaps another one comes in
// its place: nothing is acknowledged that a later start does not find, and nobody
// goes on reading what others cannot change.
func TestMoved(t *testing.T) {
	for name, swap := range map[string]struct {
		away, back func(path, backup string) error
	}{
		"its directory is moved": {
			func(path, _ string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".moved") },
			func(path, _ string) error { return os.Rename(filepath.Dir(path)+".moved", filepath.Dir(path)) },
		},
		"it is moved": {
			func(path, _ string) error { return os.Rename(path, path+".moved") },
			func(path, _ string) error { return os.Rename(path+".moved", path) },
		},
		"a backup takes its place": {
			func(path, backup string) error {
				return errors.Join(os.Rename(path, path+".moved"), os.Rename(backup, path))
			},
			func(path, _ string) error { return os.Rename(path+".moved", path) },
		},
		"a backup takes its place, and its log is removed": {away: func(path, backup string) error {
			return errors.Join(os.Rename(backup, path), os.Remove(path+"-wal"), os.Remove(path+"-shm"))
		}},
		"all is removed": {away: func(path, _ string) error {
			return errors.Join(os.Remove(path), os.Remove(path+"-wal"), os.Remove(path+"-shm"))
		}},
	} {
		setup := func(t *testing.T) (s *Store, path, backup string) {
			dir := filepath.Join(t.TempDir(), "data")
			must(t, os.Mkdir(dir, 0o700))
			path, backup = filepath.Join(dir, "db"), filepath.Join(t.TempDir(), "backup")
			s = openTest(t, path, Options{})
			_, err := revoke(t.Context(), s, 1)
			must(t, err)
			must(t, s.Backup(t.Context(), backup))
			return s, path, backup
		}
		refused := func(t *testing.T, s *Store) {
			t.Helper()
			_, err := revoke(t.Context(), s, 2)
			wantUnavailable(t, err, reasonMoved)
			_, err = s.State(t.Context())
			wantUnavailable(t, err, reasonMoved)
		}
		t.Run(name, func(t *testing.T) {
			s, path, backup := setup(t)
			err := s.w.do(t.Context(), func(tx *tx) error { return errors.Join(appending("lost")(tx), swap.away(path, backup)) })
			wantUnavailable(t, err, reasonMoved) // committed, where nobody finds it
			refused(t, s)
			if swap.back == nil {
				return
			}
			must(t, swap.back(path, backup))
			wantSequence(t, s, 1)
			_, err = revoke(t.Context(), s, 3)
			must(t, err)
			must(t, s.Close())
			wantSequence(t, openTest(t, path, Options{}), 2)
		})
		t.Run(name+", and the next connection would be to another file", func(t *testing.T) {
			s, path, backup := setup(t)
			trouble := errors.New("trouble")
			err := s.w.doPlain(t.Context(), func(*tx) error { return errors.Join(trouble, swap.away(path, backup)) }, func(error) bool { return false })
			if !errors.Is(err, trouble) {
				t.Fatal(err)
			}
			refused(t, s)
		})
	}
}

// A backup that somebody writes over the file under a running process has no
// write-ahead log: nothing is acknowledged that a power failure could take back.
func TestOverwritten(t *testing.T) {
	path, copied := filepath.Join(t.TempDir(), "db"), filepath.Join(t.TempDir(), "backup")
	s := openTest(t, path, Options{})
	must(t, s.Backup(t.Context(), copied))
	backup, err := os.ReadFile(copied)
	must(t, err)
	must(t, os.WriteFile(path, backup, 0o600))
	must(t, os.Remove(path+"-wal"))
	must(t, os.Remove(path+"-shm"))
	trouble := errors.New("trouble")
	err = s.w.doPlain(t.Context(), func(*tx) error { return trouble }, func(error) bool { return false })
	if !errors.Is(err, trouble) {
		t.Fatal(err)
	}
	_, err = revoke(t.Context(), s, 1)
	wantUnavailable(t, err, reasonNotOurs)
}

// A change that could not be made is remembered until the store has found that
// one can be; what is damaged stays so.
func TestWritable(t *testing.T) {
	wait := func(t *testing.T, s *Store) {
		t.Helper()
		for deadline := time.Now().Add(10 * probeInterval); s.Writable(t.Context()) != nil; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(s.Writable(t.Context()))
			}
		}
	}
	t.Run("locked", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		s, lock := openTest(t, path, Options{BusyTimeout: 20 * time.Millisecond}), lockTest(t, path)
		must(t, s.Writable(t.Context())) // nobody has tried
		_, err := revoke(t.Context(), s, 1)
		wantUnavailable(t, err, reasonLocked)
		for end := time.Now().Add(2 * probeInterval); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			wantUnavailable(t, s.Writable(t.Context()), reasonLocked)
		}
		must(t, lock.Rollback())
		wait(t, s)
	})
	t.Run("moved", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		s := openTest(t, path, Options{})
		must(t, os.Rename(path, path+".moved"))
		_, err := revoke(t.Context(), s, 1)
		wantUnavailable(t, err, reasonMoved)
		wantUnavailable(t, s.Writable(t.Context()), reasonMoved)
		must(t, os.Rename(path+".moved", path))
		wait(t, s)
	})
	t.Run("damaged", func(t *testing.T) {
		s := openTest(t, filepath.Join(t.TempDir(), "db"), Options{})
		damage := unavailable(reasonDamaged, nil)
		if err := s.w.do(t.Context(), func(*tx) error { return damage }); !errors.Is(err, damage) {
			t.Fatal(err)
		}
		appendOne(t, s) // in a page that is sound
		if err := s.w.do(t.Context(), func(*tx) error { return unavailable(reasonLocked, nil) }); err == nil {
			t.Fatal("no error")
		}
		s.w.probe()
		wantUnavailable(t, s.Writable(t.Context()), reasonDamaged)
	})
}
