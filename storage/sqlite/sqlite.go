// Package sqlite keeps everything in one SQLite file.
//
// Why it can be trusted with revocations: the file is in WAL mode with
// synchronous=FULL, so a COMMIT that succeeded has been synced; one goroutine
// writes, in immediate transactions, and answers a change only after the COMMIT
// that holds it (see writer). Sequence, revision and the head of the audit
// chain are one row that is read and written inside the same transaction, so
// another process that writes the same file is in the same order. Readers use
// connections that cannot write.
//
// What it leaves to others: the data directory, its owner and its mode; the
// clock.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"macaroond/storage"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

var _ storage.Store = (*Store)(nil)

// Options are what an operator or a test may want otherwise. The zero value is
// good.
type Options struct {
	BusyTimeout time.Duration // how long to wait for another process's lock; 0 is 5 s
	Readers     int           // connections for reading; 0 is 8

	// AllowReadOnly opens also what can only be read, because the disk is full or
	// another process holds the lock: each change then says so itself.
	AllowReadOnly bool

	uri url.Values // more parameters of the driver, for tests
}

// Store is a [storage.Store] on one SQLite file. Several processes may have the
// same file open.
type Store struct {
	file
	opt   Options
	alone bool    // no other process has it open: see dsn
	read  *sql.DB // query_only
	w     *writer
	rest  time.Duration // between two transactions of one change

	closing sync.Once
	err     error // of closing
}

// Open opens the database at path, creates it (mode 0600) when it is not there,
// and brings its schema up to date. The directory must exist. ctx bounds the
// opening only.
// Errors: [storage.NewerSchemaError] before anything is changed;
// [storage.UnavailableError].
func Open(ctx context.Context, path string, opt Options) (*Store, error) {
	if opt.BusyTimeout <= 0 {
		opt.BusyTimeout = 5 * time.Second
	}
	if opt.Readers <= 0 {
		opt.Readers = 8
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fileFault(err)
	}
	if err := createFile(path); err != nil {
		return nil, fileFault(err)
	}
	info, err := os.Stat(path) // before the first connection: none is to another file unseen
	if err != nil {
		return nil, fileFault(err)
	}
	s := &Store{file: file{path, info}, opt: opt, rest: rest}
	err = s.file.explain(s.open(ctx))
	if opt.AllowReadOnly && noIndex(err) {
		s = &Store{file: s.file, opt: opt, rest: rest, alone: true}
		err = s.file.explain(s.open(ctx))
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	if s.read, err = sql.Open("sqlite", s.dsn("rw", readPragmas)); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(s.opt.Readers)
	s.read.SetMaxIdleConns(s.opt.Readers)
	if err := s.migrate(ctx); err != nil {
		return errors.Join(err, s.read.Close())
	}
	ctx = context.WithoutCancel(ctx)
	s.w = newWriter(ctx, s.file, func() (*conn, error) { return connect(ctx, s.read.Driver(), s.dsn("rw", writePragmas)) })
	if s.opt.AllowReadOnly {
		if st, err := s.State(ctx); err == nil && st.Generation != "" {
			return nil
		}
	}
	if err := s.begin(ctx); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// Close waits until every change that was accepted is answered, then for the
// readers. Later calls of any method but Close fail.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.w.close()
		s.err = s.read.Close()
	})
	return s.err
}

// Writable implements [storage.Store].
func (s *Store) Writable(ctx context.Context) error {
	if err := s.w.takes(ctx); err != nil {
		return err
	}
	if down := s.w.down.Load(); down != nil {
		return down
	}
	return nil
}

// What every connection has, set by the driver when it opens one, so that none
// of a pool can be without.
var (
	anyPragmas   = []string{"foreign_keys(1)", "synchronous(FULL)", "trusted_schema(0)", "cell_size_check(1)"}
	readPragmas  = append([]string{"query_only(1)"}, anyPragmas...)
	writePragmas = append([]string{
		"journal_size_limit(67108864)", // a WAL that grew during a backup shrinks again
		"secure_delete(1)",             // an erased secret is overwritten, not only unlinked
	}, anyPragmas...)
	// The file keeps its mode, so it is set once, while opening: on a file that has
	// become empty it would begin a new database.
	openPragmas = append([]string{"journal_mode(WAL)"}, writePragmas...)
)

func (s *Store) dsn(mode string, pragmas []string) string {
	q := url.Values{
		"mode":       {mode},
		"_txlock":    {"immediate"},
		"_dqs":       {"0"},
		"_defensive": {"1"},
		"_error_rc":  {"1"},
		"_pragma":    append([]string{"busy_timeout(" + strconv.FormatInt(s.opt.BusyTimeout.Milliseconds(), 10) + ")"}, pragmas...),
	}
	if s.alone { // the log's index is in memory then, not in a file, and SQLite's own lock keeps other processes out
		q.Set("vfs", "unix-excl")
		q.Set("mode", "rw") // a connection that cannot write takes no such lock
	}
	for k, v := range s.opt.uri {
		if k == "mode" {
			q[k] = v
		} else {
			q[k] = append(q[k], v...)
		}
	}
	u := url.URL{Scheme: "file", Path: s.path, RawQuery: q.Encode()}
	return u.String()
}

// createFile makes sure that the file is there and is the owner's alone, before
// SQLite makes its companions in the same mode. An existing file is never
// opened here: closing it would drop the locks that this process has on it.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", filepath.Base(path))
	}
	mode := info.Mode().Perm() &^ 0o077 // the owner may have it read-only
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode().Perm() != mode {
			if err := os.Chmod(name, mode); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin checks that the database can be written, and names the history of a new
// one.
func (s *Store) begin(ctx context.Context) error {
	return s.w.do(ctx, func(t *tx) error {
		if err := touch(t); err != nil {
			return err
		}
		if t.st.generation == "" {
			t.st.generation = newGeneration()
		}
		return nil
	})
}
