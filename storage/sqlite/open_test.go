package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"macaroond/storage"
	"macaroond/storage/storagetest"
)

// Every connection of a pool has every setting, not only its first.
func TestPragmas(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "db"), Options{BusyTimeout: 1234 * time.Millisecond})
	writers, err := sql.Open("sqlite", s.dsn("rw", writePragmas)) // the store's own pool has one connection, and it is taken
	if err != nil {
		t.Fatal(err)
	}
	defer writers.Close()
	for _, pool := range []struct {
		name      string
		db        *sql.DB
		queryOnly int
	}{{"read", s.read, 1}, {"write", writers, 0}} {
		for i := range 2 { // held at the same time, so two connections
			c, err := pool.db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for pragma, want := range map[string]any{
				"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 1234, "query_only": pool.queryOnly,
			} {
				var got string
				if err := c.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil {
					t.Fatal(err)
				}
				if got != fmt.Sprint(want) {
					t.Errorf("%s connection %d: %s is %s, want %v", pool.name, i, pragma, got, want)
				}
			}
		}
	}
	if _, err := s.read.ExecContext(t.Context(), `UPDATE state SET sequence = 9`); err == nil {
		t.Error("a reader can write")
	}
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a ?%#& name")
	s := openTest(t, path, Options{})
	appendOne(t, s)
	check := func() {
		t.Helper()
		for _, suffix := range []string{"", "-wal", "-shm"} {
			info, err := os.Stat(path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != 0o600 {
				t.Errorf("%q has mode %v", suffix, info.Mode())
			}
			if err := os.Chmod(path+suffix, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	check()
	openTest(t, path, Options{})
	check()
}

func TestDirectoryMustExist(t *testing.T) {
	_, err := Open(t.Context(), filepath.Join(t.TempDir(), "no", "db"), Options{})
	wantUnavailable(t, err, reasonNoOpen)
}

func appendOne(t *testing.T, s *Store) {
	t.Helper()
	if err := s.AppendAudit(t.Context(), storage.Event{Time: storagetest.T0, Type: "test"}); err != nil {
		t.Fatal(err)
	}
}

// wantUnavailable also holds that the reason is one line without a path.
func wantUnavailable(t *testing.T, err error, reason string) {
	t.Helper()
	var u *storage.UnavailableError
	if !errors.As(err, &u) {
		t.Fatalf("error %v, want unavailable: %s", err, reason)
	}
	if u.Reason != reason || strings.ContainsAny(u.Reason, "/\n") {
		t.Fatalf("reason %q, want %q (%v)", u.Reason, reason, u.Err)
	}
}

func TestNewerSchemaIsRefusedUntouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := openTest(t, path, Options{})
	must(t, s.Close())
	other, err := sql.Open("sqlite", path)
	must(t, err)
	_, err = other.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (7000, 1)`)
	must(t, err)
	_, err = other.Exec(`PRAGMA journal_mode = DELETE`) // as a backup is
	must(t, err)
	must(t, other.Close())
	before, err := os.ReadFile(path)
	must(t, err)

	_, err = Open(t.Context(), path, Options{})
	var newer *storage.NewerSchemaError
	if !errors.As(err, &newer) || newer.Have != 7000 || newer.Know < 1 {
		t.Fatalf("error %v", err)
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !reflect.DeepEqual(before, after) {
		t.Error("the file was changed")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSomebodyElsesDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	other, err := sql.Open("sqlite", path)
	must(t, err)
	_, err = other.Exec(`CREATE TABLE theirs (x)`)
	must(t, err)
	must(t, other.Close())
	_, err = Open(t.Context(), path, Options{})
	wantUnavailable(t, err, reasonNotOurs)
}

// The migrations are numbered without a gap, and say what the code reads: the
// same data is there after closing and opening.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := openTest(t, path, Options{})
	appendOne(t, s)
	before, err := s.State(t.Context())
	must(t, err)
	must(t, s.Close())
	s = openTest(t, path, Options{})
	after, err := s.State(t.Context())
	must(t, err)
	if before != after {
		t.Errorf("state %+v, was %+v", after, before)
	}
	all, err := s.Audit(t.Context(), 0, 10)
	must(t, err)
	if len(all) != 1 {
		t.Errorf("%d entries", len(all))
	}
}

func TestManyOpenOneNewFileAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	errs := make(chan error)
	for range 4 {
		go func() {
			s, err := Open(t.Context(), path, Options{})
			if err == nil {
				err = errors.Join(s.AppendAudit(t.Context(), storage.Event{Time: storagetest.T0, Type: "test"}), s.Close())
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	all, err := openTest(t, path, Options{}).Audit(t.Context(), 0, 10)
	must(t, err)
	if len(all) != 4 {
		t.Errorf("%d entries", len(all))
	}
}

func TestBackupIsTheDatabase(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "db"), Options{})
	appendOne(t, s)
	before, err := s.State(t.Context())
	must(t, err)
	must(t, s.Backup(t.Context(), filepath.Join(dir, "file:backup?mode=memory")))
	copied := openTest(t, filepath.Join(dir, "file:backup?mode=memory"), Options{})
	after, err := copied.State(t.Context())
	must(t, err)
	if before != after {
		t.Errorf("state %+v, was %+v", after, before)
	}
	all, err := copied.Audit(t.Context(), 0, 10)
	must(t, err)
	if len(all) != 1 {
		t.Errorf("%d entries", len(all))
	}
}
