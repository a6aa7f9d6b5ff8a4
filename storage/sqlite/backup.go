package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"macaroond/storage"
)

// Backup implements [storage.Store]. The copy is made beside path and takes its
// name when it is whole and synced, so a file that is not empty is a backup.
// What is wrong with path is told as the system says it: the advice of an
// UnavailableError is about the database.
func (s *Store) Backup(ctx context.Context, path string) (err error) {
	if err := s.w.takes(ctx); err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil { // never read as a URI then
		return err
	}
	place, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := place.Close(); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	defer part.Close()

	if err := s.vacuumInto(ctx, part.Name()); err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), path); err != nil {
		return err
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
	err = fault(ctx, err)
	if down, ok := errors.AsType[*storage.UnavailableError](err); ok && down.Reason == reasonFull {
		return fmt.Errorf("no room for %s: %w", path, down.Err)
	}
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Check implements [storage.Store].
func (s *Store) Check(ctx context.Context) error {
	said, err := list(s.reader(ctx), column[string], `PRAGMA quick_check(1)`)
	if err != nil {
		return err
	}
	if len(said) != 1 || said[0] != "ok" {
		return unavailable(reasonDamaged, fmt.Errorf("quick_check says %q", said))
	}
	return nil
}
