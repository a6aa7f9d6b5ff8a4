package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup implements [storage.Store]. The copy is made beside path and takes its
// name when it is whole and synced, so a file that is not empty is a backup.
func (s *Store) Backup(ctx context.Context, path string) (err error) {
	if err := s.w.takes(ctx); err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil { // never read as a URI then
		return fileFault(err)
	}
	place, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return unavailable(reasonBackup, err)
	}
	if err != nil {
		return fileFault(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := place.Close(); err != nil {
		return fileFault(err)
	}
	part, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part") // mode 0600
	if err != nil {
		return fileFault(err)
	}
	defer os.Remove(part.Name())
	defer part.Close()

	if err := s.vacuumInto(ctx, part.Name()); err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return fileFault(err)
	}
	if err := os.Rename(part.Name(), path); err != nil {
		return fileFault(err)
	}
	return syncDir(filepath.Dir(path))
}

// vacuumInto has a connection of its own: it must be able to write, though not
// to the database, and takes long.
func (s *Store) vacuumInto(ctx context.Context, path string) (err error) {
	db, err := sql.Open("sqlite", s.dsn("rw", anyPragmas))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, path)
	return fault(ctx, err)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fileFault(err)
	}
	defer dir.Close()
	return fileFault(dir.Sync())
}

// Check implements [storage.Store].
func (s *Store) Check(ctx context.Context) error {
	said, err := list(s.reader(ctx), func(r scanner) (line string, err error) { return line, r.Scan(&line) }, `PRAGMA quick_check(1)`)
	if err != nil {
		return err
	}
	if len(said) != 1 || said[0] != "ok" {
		return unavailable(reasonDamaged, fmt.Errorf("quick_check says %q", said))
	}
	return nil
}
