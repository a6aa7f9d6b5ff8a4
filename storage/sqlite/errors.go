package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"macaroond/storage"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

const (
	reasonLocked   = "database is locked by another process: end the one that holds it, and try again"
	reasonReadOnly = "database is read-only: check the owner and mode of the data directory and how its file system is mounted"
	reasonFull     = "disk is full: make room in the data directory"
	reasonDisk     = "disk does not read or write as it should: check the disk and its file system"
	reasonDamaged  = "database is damaged: restore a backup"
	reasonNotOurs  = "file is not a database of this service: check the data directory, or restore a backup"
	reasonMoved    = "database file was replaced, moved or removed while it was in use: put it back, or restart the server"
	reasonNoOpen   = "database cannot be opened: check that the data directory exists, its owner and its mode"
	reasonMemory   = "not enough memory for the database: give the process more"
	reasonNoWAL    = "database cannot keep a write-ahead log: put the data directory on a local file system"
	reasonClosed   = "database is closed: the process is ending"
	reasonNumbers  = "epoch numbers are used up: begin a new database"
	reasonLost     = "connection to the database was lost: try again"
)

func unavailable(reason string, err error) error {
	return &storage.UnavailableError{Reason: reason, Err: err}
}

// fault turns an error of the driver into one of the contract. A caller's own
// end comes first: an interrupted query is not the database's trouble.
func fault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return unavailable(reasonLost, err)
	}
	switch se.Code() & 0xff { // the primary code is the low byte
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_PROTOCOL:
		return unavailable(reasonLocked, err)
	case lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_AUTH:
		return unavailable(reasonReadOnly, err)
	case lib.SQLITE_FULL:
		return unavailable(reasonFull, err)
	case lib.SQLITE_IOERR:
		return unavailable(reasonDisk, err)
	case lib.SQLITE_CORRUPT:
		return unavailable(reasonDamaged, err)
	case lib.SQLITE_NOTADB:
		return unavailable(reasonNotOurs, err)
	case lib.SQLITE_CANTOPEN:
		return unavailable(reasonNoOpen, err)
	case lib.SQLITE_NOMEM:
		return unavailable(reasonMemory, err)
	case lib.SQLITE_INTERRUPT, lib.SQLITE_ABORT:
		return unavailable(reasonLost, err)
	case lib.SQLITE_ERROR:
		// An empty file is a good database without tables, and a later release's may
		// lack a column. Neither has a code of its own.
		if strings.Contains(se.Error(), "no such table") || strings.Contains(se.Error(), "no such column") {
			return unavailable(reasonNotOurs, err)
		}
	}
	// Constraints, syntax, misuse: a bug here or in the caller.
	return fmt.Errorf("storage/sqlite: %w", err)
}

// noIndex tells that no room could be had for the index of the log (-shm), which
// reading needs, too.
func noIndex(err error) bool {
	se, ok := errors.AsType[*sqlite.Error](err)
	return ok && (se.Code() == lib.SQLITE_IOERR_SHMSIZE || se.Code() == lib.SQLITE_IOERR_SHMMAP)
}

// badRow is for a row that does not hold what the schema says.
func badRow(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("storage/sqlite: row: %w", err)
}

// fileFault does the same for an error of the file system.
func fileFault(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return unavailable(reasonFull, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return unavailable(reasonReadOnly, err)
	case errors.Is(err, syscall.EIO):
		return unavailable(reasonDisk, err)
	}
	return unavailable(reasonNoOpen, err)
}
