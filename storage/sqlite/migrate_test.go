package sqlite

import (
	"database/sql"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"macaroond/storage"
)

// A database of the first release, with something in every table, is brought up
// to date and loses nothing.
func TestMigrateFromTheFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=journal_mode(wal)")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	until := now.Add(time.Hour)
	key, branch, hash := [16]byte{1}, [16]byte{2}, [32]byte{3}
	for _, q := range []struct {
		query string
		args  []any
	}{
		{`UPDATE state SET generation = 'AAAAAAAAAAAAAAAAAAAAAA', sequence = 3, revision = 4, last_epoch = 5`, nil},
		{`INSERT INTO users VALUES ('usr_AAAAAAAAAAAAAAAA', 'Alice', 'alice', 'phc', 'admin', ?, 0)`, []any{milli(now)}},
		{`INSERT INTO recovery_codes VALUES ('usr_AAAAAAAAAAAAAAAA', ?)`, []any{hash[:]}},
		{`INSERT INTO epochs VALUES (5, x'00', 1, ?, ?)`, []any{milli(now), milli(until)}},
		{`INSERT INTO root_keys VALUES (?, 'usr_AAAAAAAAAAAAAAAA', 5, ?)`, []any{key[:], milli(until)}},
		{`INSERT INTO devices VALUES ('dev_AAAAAAAAAAAAAAAA', 'usr_AAAAAAAAAAAAAAAA', 'phone', 'install', ?, ?, ?, 0, '')`, []any{key[:], milli(now), milli(now)}},
		{
			`INSERT INTO revocations VALUES (1, 1, x'09090909090909090909090909090909', x'', 0, ?1), (2, 2, ?2, ?3, 0, ?1), (3, 3, x'', x'', 4, ?1)`,
			[]any{milli(until), key[:], branch[:]},
		},
		{`INSERT INTO services VALUES ('svc_AAAAAAAAAAAAAAAA', 'photos', '["photos"]', '[]', '[]', '[]', ?)`, []any{milli(now)}},
		{`INSERT INTO service_secrets VALUES ('svc_AAAAAAAAAAAAAAAA', 0, ?)`, []any{hash[:]}},
	} {
		if _, err := db.Exec(q.query, q.args...); err != nil {
			t.Fatalf("%s: %v", q.query, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s := openTest(t, path, Options{})
	ctx := t.Context()
	u, err := s.User(ctx, "usr_AAAAAAAAAAAAAAAA")
	if err != nil || u.Name != "Alice" || u.Role != "admin" {
		t.Errorf("user %+v, %v", u, err)
	}
	d, err := s.Device(ctx, u.ID, "dev_AAAAAAAAAAAAAAAA")
	if err != nil || d.RootKeyID != key || !d.ExpiresAt.Equal(until) || d.InstallID != "install" {
		t.Errorf("device %+v, %v", d, err)
	}
	services, err := s.Services(ctx)
	if err != nil || len(services) != 1 || len(services[0].Secrets) != 1 || services[0].Secrets[0].Hash != hash {
		t.Fatalf("services %+v, %v", services, err)
	}
	if made := services[0].Secrets[0]; len(made.ID) != 20 || len(made.DeviceID) != 20 || made.RootKeyID == [16]byte{} {
		t.Errorf("the secret of old is no credential: %+v", made)
	}
	var grains []storage.Grain
	for r, err := range s.Revocations(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		grains = append(grains, r.Grain)
	}
	if len(grains) != 3 || grains[0] != storage.GrainDevice || grains[1] != storage.GrainBranch || grains[2] != storage.GrainEpoch {
		t.Errorf("revocations of grains %v", grains)
	}
	if st, err := s.State(ctx); err != nil || st.Sequence != 3 || st.Generation != "AAAAAAAAAAAAAAAAAAAAAA" {
		t.Errorf("state %+v, %v", st, err)
	}
	if err := s.Check(ctx); err != nil {
		t.Error(err)
	}
	// The device is one like any other: what is done to it reaches its root key.
	gone, err := s.RevokeDevices(ctx, storage.RevokeDevices{UserID: u.ID, DeviceID: d.ID, Reason: "owner"}, storage.Event{Time: now, Type: "device_revoked"})
	if err != nil || len(gone) != 1 || gone[0].RootKeyID != key || gone[0].Seq != 4 {
		t.Errorf("revoked %+v, %v", gone, err)
	}
}
