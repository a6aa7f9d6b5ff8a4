package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"os"

	"macaroond/storage"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. It looks with a connection that can
// change nothing before the first one that can is opened.
func (s *Store) migrate(ctx context.Context) (err error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", s.dsn("rw", openPragmas)) // connects when it is needed
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return err
	}
	sources := p.ListSources()
	know := sources[len(sources)-1].Version

	have, err := s.schemaVersion(ctx)
	if err != nil {
		return err
	}
	if have > know {
		return &storage.NewerSchemaError{Have: have, Know: know}
	}
	if have == know {
		return fault(ctx, db.PingContext(ctx)) // a backup is in another mode
	}
	// Another process may be creating the same database: whoever comes second
	// fails on what the first one made, and finds it done.
	for range 3 {
		if _, err = p.Up(ctx); err == nil {
			return nil
		}
		if have, verr := s.schemaVersion(ctx); verr == nil && have == know {
			return nil
		}
	}
	return fault(ctx, err)
}

// schemaVersion is 0 for a new file. A file with tables of somebody else is
// refused: migrating would only damage it.
func (s *Store) schemaVersion(ctx context.Context) (version int64, err error) {
	// An empty file cannot be opened read-only in every mode, and has no version.
	if info, err := os.Stat(s.path); err == nil && info.Size() == 0 {
		if _, err := os.Stat(s.path + "-wal"); errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
	}
	db, err := sql.Open("sqlite", s.dsn("ro", anyPragmas))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	r := reader{ctx, db}
	some, err := exists(r, `SELECT 1 FROM sqlite_master LIMIT 1`)
	if err != nil || !some {
		return 0, err
	}
	return one(r, column[int64], `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied = 1`)
}
