package sqlite

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"macaroond/storage"
)

// A device that is renewed for years leaves few rows: those whose predecessors
// would be theft anyway are forgotten.
func TestRenewalsAreForgotten(t *testing.T) {
	s, ctx, now := openTest(t, filepath.Join(t.TempDir(), "db"), Options{}), t.Context(), time.Now().UTC().Truncate(time.Second)
	event := func(kind string) storage.Event { return storage.Event{Time: now, Type: kind} }
	epoch, err := s.CreateEpoch(ctx, true, func(uint32) ([]byte, error) { return []byte{1}, nil }, event("epoch_created"))
	if err != nil {
		t.Fatal(err)
	}
	until := now.Add(time.Hour)
	first := storage.IssueDevice{
		Device: storage.Device{ID: "dev_AAAAAAAAAAAAAAAA", Name: "phone", CreatedAt: now}, MaxDevices: 1,
		RootKey: storage.RootKey{ID: [16]byte{1}, Epoch: epoch.Number, ExpiresAt: until},
	}
	if _, err := s.CreateUser(ctx, storage.User{ID: "usr_AAAAAAAAAAAAAAAA", Name: "a", NameKey: "a", CreatedAt: now}, nil, &first, event("signup")); err != nil {
		t.Fatal(err)
	}
	for range 5 * keptRenewals {
		now = now.Add(time.Minute)
		out, err := s.RenewDevice(ctx, storage.RenewDevice{
			UserID: "usr_AAAAAAAAAAAAAAAA", DeviceID: "dev_AAAAAAAAAAAAAAAA", RootKeyID: first.RootKey.ID, Epoch: epoch.Number, ExpiresAt: until,
			Signing: epoch.Number, RootTTL: time.Hour, Grace: time.Second,
		}, "renewal_theft", event("renewed"))
		if err != nil || out.Theft || !out.New {
			t.Fatalf("%+v, %v", out, err)
		}
		until = out.ExpiresAt
	}
	rows, err := one(s.reader(ctx), column[int], `SELECT COUNT(*) FROM renewals`)
	if err != nil || rows > keptRenewals+1 {
		t.Errorf("%d rows, %v: want at most %d", rows, err, keptRenewals+1)
	}
}

// However many rows there are to forget, the limit is not forgotten with them. Of
// rows that a former release wrote nobody knows how many there are.
func TestRenewalLimitAmongManyRows(t *testing.T) {
	for _, before := range []int{0, 40} { // a former release's
		s, ctx, now := openTest(t, filepath.Join(t.TempDir(), "db"), Options{}), t.Context(), time.Now().UTC().Truncate(time.Second)
		event := func(kind string) storage.Event { return storage.Event{Time: now, Type: kind} }
		epoch, err := s.CreateEpoch(ctx, true, func(uint32) ([]byte, error) { return []byte{1}, nil }, event("epoch_created"))
		must(t, err)
		until := now.Add(time.Hour)
		first := storage.IssueDevice{
			Device: storage.Device{ID: "dev_AAAAAAAAAAAAAAAA", Name: "phone", CreatedAt: now}, MaxDevices: 1,
			RootKey: storage.RootKey{ID: [16]byte{1}, Epoch: epoch.Number, ExpiresAt: until},
		}
		_, err = s.CreateUser(ctx, storage.User{ID: "usr_AAAAAAAAAAAAAAAA", Name: "a", NameKey: "a", CreatedAt: now}, nil, &first, event("signup"))
		must(t, err)
		const many = 16 * storage.MaxRenewals // more than one renewal forgets
		must(t, s.w.do(ctx, func(x *tx) error {
			for i := range int64(many) {
				r := renewal{expires: milli(until) + i, epoch: epoch.Number, next: milli(until) + i + 1, renewed: milli(now), rows: i + 1}
				if err := x.remember(first.RootKey.ID, r); err != nil {
					return err
				}
			}
			for i := range int64(before) {
				if _, err := x.exec(`INSERT INTO renewals (root_key_id, expires_at, next_epoch, next_expires_at, renewed_at, next_seen_at) VALUES (?, ?, ?, ?, ?, 0)`,
					first.RootKey.ID[:], milli(until)+many+i, epoch.Number, milli(until)+many+i+1, milli(now.Add(time.Hour))); err != nil {
					return err
				}
			}
			return nil
		}))
		until = fromMilli(milli(until) + many + int64(before))
		now = now.Add(time.Hour)
		renewed := 0
		for err == nil && renewed <= many {
			var out storage.Renewed
			out, err = s.RenewDevice(ctx, storage.RenewDevice{
				UserID: "usr_AAAAAAAAAAAAAAAA", DeviceID: "dev_AAAAAAAAAAAAAAAA", RootKeyID: first.RootKey.ID, Epoch: epoch.Number, ExpiresAt: until,
				Signing: epoch.Number, RootTTL: time.Hour, Grace: time.Minute,
			}, "renewal_theft", event("renewed"))
			if err == nil {
				renewed, until = renewed+1, out.ExpiresAt
			}
		}
		if !errors.Is(err, storage.ErrRenewalLimit) || renewed+before != storage.MaxRenewals {
			t.Errorf("after %d there are %d renewals in a moment, then %v: want %d", before, renewed, err, storage.MaxRenewals)
		}
	}
}

// A row speaks for all root macaroons from its own to its successor's, and for
// none before the first row: those were forgotten.
func TestChainOf(t *testing.T) {
	c := chain{{expires: 10, next: 20}, {expires: 20, next: 30}, {expires: 30, next: 50}}
	for from, want := range map[int64]int{9: -1, 10: 0, 19: 0, 20: 1, 29: 1, 30: 2, 49: 2, 50: -1, 51: -1} {
		i, known := c.of(from)
		if !known {
			i = -1
		}
		if i != want {
			t.Errorf("%d: row %d, want %d", from, i, want)
		}
	}
	if _, known := chain(nil).of(10); known {
		t.Error("without a row something is known")
	}
}

// A renewal has no savepoint of its own: what it had written when it failed goes
// with its group.
func TestRenewalThatFailsHalfWay(t *testing.T) {
	s, ctx, now := openTest(t, filepath.Join(t.TempDir(), "db"), Options{}), t.Context(), time.Now().UTC().Truncate(time.Second)
	event := func(kind string) storage.Event { return storage.Event{Time: now, Type: kind} }
	epoch, err := s.CreateEpoch(ctx, true, func(uint32) ([]byte, error) { return []byte{1}, nil }, event("epoch_created"))
	if err != nil {
		t.Fatal(err)
	}
	first := storage.IssueDevice{
		Device: storage.Device{ID: "dev_AAAAAAAAAAAAAAAA", Name: "phone", CreatedAt: now}, MaxDevices: 1,
		RootKey: storage.RootKey{ID: [16]byte{1}, Epoch: epoch.Number, ExpiresAt: now.Add(time.Hour)},
	}
	if _, err := s.CreateUser(ctx, storage.User{ID: "usr_AAAAAAAAAAAAAAAA", Name: "a", NameKey: "a", CreatedAt: now}, nil, &first, event("signup")); err != nil {
		t.Fatal(err)
	}
	if err := s.w.do(ctx, func(t *tx) error {
		_, err := t.exec(`CREATE TRIGGER fails BEFORE INSERT ON audit WHEN NEW.type = 'renewed' BEGIN SELECT RAISE(ABORT, 'it fails'); END`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if out, err := s.RenewDevice(ctx, storage.RenewDevice{
		UserID: "usr_AAAAAAAAAAAAAAAA", DeviceID: first.Device.ID, RootKeyID: first.RootKey.ID, Epoch: epoch.Number, ExpiresAt: first.RootKey.ExpiresAt,
		Signing: epoch.Number, RootTTL: 2 * time.Hour, Grace: time.Minute,
	}, "renewal_theft", event("renewed")); err == nil {
		t.Fatalf("renewed: %+v", out)
	}
	d, err := s.Device(ctx, "usr_AAAAAAAAAAAAAAAA", first.Device.ID)
	if err != nil || !d.ExpiresAt.Equal(first.RootKey.ExpiresAt) {
		t.Errorf("its root expires at %s, %v: want %s", d.ExpiresAt, err, first.RootKey.ExpiresAt)
	}
	epochs, err := s.Epochs(ctx)
	if err != nil || !epochs[0].ExpiresAt.Equal(first.RootKey.ExpiresAt) {
		t.Errorf("the epoch %+v, %v: want its end at %s", epochs, err, first.RootKey.ExpiresAt)
	}
}
