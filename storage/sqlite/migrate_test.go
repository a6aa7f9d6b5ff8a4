package sqlite

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"macaroond/storage"
)

// old is a database as a former release left it, with these rows.
func old(t *testing.T, version int64, rows []rowsOf) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "db")
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
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	for _, q := range rows {
		if _, err := db.Exec(q.query, q.args...); err != nil {
			t.Fatalf("%s: %v", q.query, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

type rowsOf struct {
	query string
	args  []any
}

// A database of the first release, with something in every table, is brought up
// to date and loses nothing.
func TestMigrateFromTheFirst(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	until := now.Add(time.Hour)
	key, branch, hash := [16]byte{1}, [16]byte{2}, [32]byte{3}
	path := old(t, 1, []rowsOf{
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
	})

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

// What the second release knew of renewals and one-time tokens is known after it.
func TestMigrateFromTheSecond(t *testing.T) {
	begin := time.Now().UTC().Truncate(time.Second)
	end := func(hours int) int64 { return milli(begin.Add(time.Duration(hours) * time.Hour)) }
	key, point := [16]byte{1}, [32]byte{2}
	path := old(t, 2, []rowsOf{
		{`INSERT INTO users (id, name, name_key, password_hash, role, created_at, suspended_at) VALUES ('usr_AAAAAAAAAAAAAAAA', 'Alice', 'alice', 'phc', '', 1, 0)`, nil},
		{`INSERT INTO epochs VALUES (1, x'00', 1, 1, ?)`, []any{end(2)}},
		{`INSERT INTO root_keys VALUES (?, 'usr_AAAAAAAAAAAAAAAA', 1, ?)`, []any{key[:], end(2)}},
		{`INSERT INTO devices (id, user_id, name, install_id, root_key_id, created_at, last_seen_at, revoked_at, revoked_reason, root_expires_at)
			VALUES ('dev_AAAAAAAAAAAAAAAA', 'usr_AAAAAAAAAAAAAAAA', 'phone', '', ?, 1, 1, 0, '', ?)`, []any{key[:], end(2)}},
		{`INSERT INTO renewals VALUES (?, ?, 1, ?, ?, 0)`, []any{key[:], end(1), end(2), milli(begin)}},
		{`INSERT INTO accepted VALUES (?, ?)`, []any{point[:], end(1)}},
	})
	s, ctx := openTest(t, path, Options{}), t.Context()
	// It may have forgotten renewals of roots that live: until the last of them has expired that is said.
	for at, want := range map[time.Duration]bool{0: false, 2*time.Hour - 1: false, 2 * time.Hour: true} {
		if _, all, err := s.Roots(ctx, key, begin.Add(at)); err != nil || all != want {
			t.Errorf("after %v all roots are known: %v, %v", at, all, err)
		}
	}
	in := storage.RenewDevice{
		UserID: "usr_AAAAAAAAAAAAAAAA", DeviceID: "dev_AAAAAAAAAAAAAAAA", RootKeyID: key, Epoch: 1, ExpiresAt: begin.Add(time.Hour),
		Signing: 1, RootTTL: 3 * time.Hour, Grace: time.Minute,
	}
	ev := storage.Event{Time: begin, Type: "renewed"}
	again, err := s.RenewDevice(ctx, in, "renewal_theft", ev)
	if err != nil || again.New || milli(again.ExpiresAt) != end(2) {
		t.Errorf("the predecessor: %+v, %v", again, err)
	}
	in.ExpiresAt = again.ExpiresAt
	next, err := s.RenewDevice(ctx, in, "renewal_theft", ev)
	if err != nil || !next.New || milli(next.ExpiresAt) != end(3) {
		t.Errorf("the latest: %+v, %v", next, err)
	}
	if d, err := s.Device(ctx, in.UserID, in.DeviceID); err != nil || !d.ExpiresAt.Equal(next.ExpiresAt) {
		t.Errorf("the device: %+v, %v", d, err)
	}
	if err := s.Accept(ctx, []storage.AcceptedPoint{{Point: point, ExpiresAt: begin.Add(time.Hour)}}); !errors.Is(err, storage.ErrReplayed) {
		t.Errorf("the point that was accepted: %v", err)
	}
	gone, err := s.Expire(ctx, storage.Expire{Now: begin.Add(90 * time.Minute), Limit: 10})
	if err != nil || gone != (storage.Expired{Accepted: 1}) {
		t.Errorf("expired %+v, %v", gone, err)
	}
}

// Where a successor had died with its epoch, and nobody had used it, the second
// release wrote its replacement behind it. That must not look like its use: the
// holder whose answer was lost would be taken for a thief.
func TestMigrateDeadSuccessors(t *testing.T) {
	begin := time.Now().UTC().Truncate(time.Second)
	end := func(hours int) int64 { return milli(begin.Add(time.Duration(hours) * time.Hour)) }
	key := [16]byte{1}
	path := old(t, 2, []rowsOf{
		{`INSERT INTO users (id, name, name_key, password_hash, role, created_at, suspended_at) VALUES ('usr_AAAAAAAAAAAAAAAA', 'Alice', 'alice', 'phc', '', 1, 0)`, nil},
		{`INSERT INTO epochs VALUES (1, x'00', 2, 1, ?), (2, x'', 3, 1, ?), (3, x'00', 1, 1, ?)`, []any{end(1), end(2), end(6)}},
		{`INSERT INTO root_keys VALUES (?, 'usr_AAAAAAAAAAAAAAAA', 3, ?)`, []any{key[:], end(6)}},
		{`INSERT INTO devices (id, user_id, name, install_id, root_key_id, created_at, last_seen_at, revoked_at, revoked_reason, root_expires_at)
			VALUES ('dev_AAAAAAAAAAAAAAAA', 'usr_AAAAAAAAAAAAAAAA', 'phone', '', ?, 1, 1, 0, '', ?)`, []any{key[:], end(6)}},
		// An old one was renewed and its successor used; that one's two successors died unused, and the third lives.
		{
			`INSERT INTO renewals VALUES (?1, ?2, 1, ?3, ?7, ?7), (?1, ?3, 2, ?4, ?8, 0), (?1, ?4, 2, ?5, ?8, 0), (?1, ?5, 3, ?6, ?8, 0)`,
			[]any{key[:], end(0), end(1), end(2), end(3), end(6), milli(begin) - 9, milli(begin)},
		},
	})
	s, ctx := openTest(t, path, Options{}), t.Context()
	rows, err := list(s.reader(ctx), scanRenewal, `SELECT expires_at, next_epoch, next_expires_at, renewed_at, next_seen_at FROM renewals ORDER BY expires_at`)
	want := []renewal{{end(0), 1, end(1), milli(begin) - 9, milli(begin) - 9, 0}, {end(1), 3, end(6), milli(begin), 0, 0}}
	if err != nil || !slices.Equal(rows, want) {
		t.Errorf("%v, %v: want %v", rows, err, want)
	}
	out, err := s.RenewDevice(ctx, storage.RenewDevice{
		UserID: "usr_AAAAAAAAAAAAAAAA", DeviceID: "dev_AAAAAAAAAAAAAAAA", RootKeyID: key, Epoch: 1, ExpiresAt: begin.Add(time.Hour),
		Signing: 3, RootTTL: 3 * time.Hour,
	}, "renewal_theft", storage.Event{Time: begin.Add(10 * time.Minute), Type: "renewed"})
	if err != nil || out.Theft || milli(out.ExpiresAt) != end(6) || out.Epoch != 3 {
		t.Errorf("the holder whose answer was lost: %+v, %v", out, err)
	}
	// A process of the second release that still runs can delete nothing: to it a
	// key that was renewed since is expired.
	err = s.w.do(ctx, func(t *tx) error {
		_, err := t.exec(`DELETE FROM devices WHERE root_key_id IN (SELECT id FROM root_keys WHERE expires_at < ? ORDER BY expires_at, id LIMIT ?)`, end(9), 10)
		return err
	})
	if _, ok := errors.AsType[*storage.UnavailableError](err); !ok {
		t.Errorf("the former release's janitor: %v", err)
	}
}

// Each user that there is gets a key of their own, so that what is noted about
// them from now on goes with them.
func TestMigrateAddressKeys(t *testing.T) {
	path := old(t, 6, []rowsOf{
		{`INSERT INTO users (id, name, name_key, password_hash, role, created_at, suspended_at) VALUES
			('usr_AAAAAAAAAAAAAAAA', 'Alice', 'alice', 'phc', '', 1, 0), ('usr_BBBBBBBBBBBBBBBB', 'Bob', 'bob', 'phc', '', 1, 0)`, nil},
		{`INSERT INTO audit (seq, time, type, actor, user_id, device_id, root_key_id, client_ip, detail, prev, hash, ip_salt, ip_seal)
			VALUES (1, 1, 'login', '', 'usr_AAAAAAAAAAAAAAAA', '', x'', '192.0.2.1', '', zeroblob(32), zeroblob(32), x'00', ?)`, []any{make([]byte, 32)}},
		{`UPDATE state SET audit_seq = 1`, nil},
	})
	s, ctx := openTest(t, path, Options{}), t.Context()
	keys, err := list(s.reader(ctx), column[[]byte], `SELECT DISTINCT address_key FROM users WHERE length(address_key) = 32`)
	if err != nil || len(keys) != 2 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	must(t, s.AppendAudit(ctx, storage.Event{Time: time.UnixMilli(2), Type: "login", UserID: "usr_AAAAAAAAAAAAAAAA", ClientIP: "192.0.2.1"}))
	for _, want := range []string{"192.0.2.1", ""} {
		all, err := s.Audit(ctx, 0, 2)
		if err != nil || len(all) != 2 || all[0].ClientIP != want || all[1].ClientIP != want {
			t.Errorf("want %q: %+v, %v", want, all, err)
		}
		_, err = s.DeleteUser(ctx, storage.DeleteUser{UserID: "usr_AAAAAAAAAAAAAAAA"}, storage.Event{Time: time.UnixMilli(3), Type: "user_deleted"})
		if want != "" {
			must(t, err)
		}
	}
}
