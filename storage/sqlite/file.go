package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"macaroond/storage"
)

// file is the database's file as it was when it was opened.
type file struct {
	path string
	info fs.FileInfo
}

// same is an error when the path names another file by now, or none. SQLite goes
// on with the one that it has open, which no other process and no later start
// finds again: what is written there is lost, and what others write is not seen.
func (f file) same() error {
	now, err := os.Stat(f.path)
	if err == nil && os.SameFile(f.info, now) {
		return nil
	}
	return unavailable(reasonMoved, err)
}

// explain says of an error that the disk is full, when it is: SQLite does so of
// pages, and has an I/O error for a companion that it cannot make or map.
func (f file) explain(err error) error {
	down, ok := errors.AsType[*storage.UnavailableError](err)
	if ok && (down.Reason == reasonDisk || down.Reason == reasonNoOpen) && f.diskFull() {
		return unavailable(reasonFull, down.Err)
	}
	return err
}

func (f file) diskFull() bool {
	var disk syscall.Statfs_t
	err := syscall.Statfs(filepath.Dir(f.path), &disk)
	return err == nil && disk.Blocks > 0 && disk.Bavail == 0 // without blocks it has no bound
}
