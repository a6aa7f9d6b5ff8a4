package sqlite

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"macaroond/storage"
	"macaroond/storage/storagetest"
)

// A retired epoch's sealed secret is not in the file any more, in no piece. The
// same without secure_delete is what shows that it would be found.
func TestRetiredSecretIsOverwritten(t *testing.T) {
	if left := leftOfRetired(t); left != 0 {
		t.Errorf("%d pieces of a retired secret are still in the file", left)
	}
	was := writePragmas
	defer func() { writePragmas = was }()
	writePragmas = append(slices.Clone(was), "secure_delete(0)")
	writePragmas = slices.DeleteFunc(writePragmas, func(p string) bool { return p == "secure_delete(1)" })
	if left := leftOfRetired(t); left == 0 {
		t.Error("without secure_delete nothing is left either: this test does not find what it looks for")
	}
}

// leftOfRetired puts three epochs into a file, retires the first two, and
// counts the pieces of their secrets that the closed file still has.
func leftOfRetired(t *testing.T) (left int) {
	path := filepath.Join(t.TempDir(), "db")
	ev := storage.Event{Time: storagetest.T0, Type: "test"}
	pieces := func(secrets [][]byte) (n int) {
		if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the closed database has a WAL: %v", err)
		}
		file, err := os.ReadFile(path)
		must(t, err)
		for _, s := range secrets {
			for i := 0; i+8 <= len(s); i += 8 {
				n += bytes.Count(file, s[i:i+8])
			}
		}
		return n
	}
	s := openTest(t, path, Options{})
	var secrets [][]byte
	var numbers []uint32
	for range 3 {
		sealed := make([]byte, 96)
		rand.Read(sealed)
		e, err := s.CreateEpoch(t.Context(), false, func(uint32) ([]byte, error) { return sealed, nil }, ev)
		must(t, err)
		secrets, numbers = append(secrets, sealed), append(numbers, e.Number)
	}
	must(t, s.Close())
	if n := pieces(secrets); n != 3*96/8 {
		t.Fatalf("%d pieces of three secrets are in the file before", n)
	}
	s = openTest(t, path, Options{})
	for _, n := range numbers[:2] {
		_, err := s.RetireEpochs(t.Context(), storage.RetireEpochs{Number: n}, ev)
		must(t, err)
	}
	must(t, s.Close())
	if n := pieces(secrets[2:]); n != 96/8 {
		t.Errorf("%d pieces of the live secret are in the file", n)
	}
	return pieces(secrets[:2])
}

// Deleting a user makes the sealed addresses of all their entries unreadable, for
// the key is in the file no more, in no piece. Other people's stay.
func TestDeletedAddressKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, ctx := openTest(t, path, Options{}), t.Context()
	at := func(kind, actor, user string) storage.Event {
		return storage.Event{Time: storagetest.T0, Type: kind, Actor: actor, UserID: user, ClientIP: "192.0.2.1"}
	}
	alice, bob := "usr_AAAAAAAAAAAAAAAA", "usr_BBBBBBBBBBBBBBBB"
	epoch, err := s.CreateEpoch(ctx, true, func(uint32) ([]byte, error) { return []byte{1}, nil }, storage.Event{Time: storagetest.T0, Type: "epoch"})
	must(t, err)
	for i, id := range []string{alice, bob} {
		name := string(rune('a' + i))
		first := storage.IssueDevice{
			Device: storage.Device{ID: "dev_" + id[4:], Name: "phone", CreatedAt: storagetest.T0}, MaxDevices: 1,
			RootKey: storage.RootKey{ID: [16]byte{byte(i + 1)}, Epoch: epoch.Number, ExpiresAt: storagetest.T0.Add(time.Hour)},
		}
		_, err := s.CreateUser(ctx, storage.User{ID: id, Name: name, NameKey: name, CreatedAt: storagetest.T0}, nil, &first, at("signup", "", id))
		must(t, err)
	}
	_, err = s.RenewDevice(ctx, storage.RenewDevice{
		UserID: alice, DeviceID: "dev_" + alice[4:], RootKeyID: [16]byte{1}, Epoch: epoch.Number, ExpiresAt: storagetest.T0.Add(time.Hour),
		Signing: epoch.Number, RootTTL: 2 * time.Hour, Grace: time.Minute,
	}, "renewal_theft", at("renewed", alice, alice))
	must(t, err)
	must(t, s.AppendAudit(ctx, at("a stranger's try", "", alice), at("her own", alice, alice), at("hers to another", alice, bob),
		at("another's to her", bob, alice), at("a service's", "svc_AAAAAAAAAAAAAAAA", alice), at("nobody's", "", "")))
	key, err := one(s.reader(ctx), column[[]byte], `SELECT address_key FROM users WHERE id = ?`, alice)
	must(t, err)
	addresses := func(s *Store) (of []string) {
		t.Helper()
		all, err := s.Audit(ctx, 0, 100)
		must(t, err)
		for _, e := range all {
			if !e.Intact() {
				t.Errorf("%s is not intact", e.Type)
			}
			if e.Type != "epoch" && (e.ClientIP == "192.0.2.1") == e.Erased() {
				t.Errorf("%s: address %q, erased %v", e.Type, e.ClientIP, e.Erased())
			}
			if e.ClientIP != "" {
				of = append(of, e.Type)
			}
		}
		return of
	}
	want := []string{"signup", "signup", "renewed", "a stranger's try", "her own", "hers to another", "another's to her", "a service's", "nobody's"}
	if got := addresses(s); !slices.Equal(got, want) {
		t.Errorf("before: %q", got)
	}
	sealed, err := one(s.reader(ctx), column[int], `SELECT count(*) FROM audit WHERE client_ip = '' AND ip_salt = x'' AND length(ip_box) > 0`)
	if err != nil || sealed != 7 {
		t.Errorf("%d are sealed, %v", sealed, err)
	}
	for _, deleted := range []bool{false, true} {
		if deleted {
			_, err := s.DeleteUser(ctx, storage.DeleteUser{UserID: alice}, storage.Event{Time: storagetest.T0, Type: "user_deleted", Actor: "operator"})
			must(t, err)
		}
		must(t, s.Close())
		file, err := os.ReadFile(path)
		must(t, err)
		for piece := range slices.Chunk(key, 8) {
			if bytes.Contains(file, piece) == deleted {
				t.Errorf("deleted %v: a piece of the key is in the file: %v", deleted, !deleted)
			}
		}
		s = openTest(t, path, Options{})
	}
	all, err := s.Audit(ctx, 0, 100)
	if last := all[len(all)-1]; err != nil || last.Type != "user_deleted" {
		t.Errorf("%+v, %v", last, err)
	}
	must(t, s.AppendAudit(ctx, at("after", "", alice)))
	all, err = s.Audit(ctx, 10, 100)
	if err != nil || len(all) != 2 || all[1].ClientIP != "" || !all[1].Intact() {
		t.Errorf("of one who is gone: %+v, %v", all, err)
	}
	must(t, s.w.do(ctx, func(t *tx) error { _, err := t.exec(`DELETE FROM audit WHERE seq > 10`); return err }))
	if got := addresses(s); !slices.Equal(got, []string{"signup", "another's to her", "a service's", "nobody's"}) {
		t.Errorf("after: %q", got)
	}
}

// Whoever changes a sealed address, or puts another user's in its place, shows.
func TestSealedAddressIsCovered(t *testing.T) {
	s, ctx := openTest(t, filepath.Join(t.TempDir(), "db"), Options{}), t.Context()
	for i, id := range []string{"usr_AAAAAAAAAAAAAAAA", "usr_BBBBBBBBBBBBBBBB"} {
		name := string(rune('a' + i))
		u := storage.User{ID: id, Name: name, NameKey: name, CreatedAt: storagetest.T0}
		_, err := s.CreateUser(ctx, u, nil, nil, storage.Event{Time: storagetest.T0, Type: "signup", UserID: id, ClientIP: "192.0.2.1"})
		must(t, err)
		must(t, s.AppendAudit(ctx, storage.Event{Time: storagetest.T0, Type: "more", UserID: id, ClientIP: "192.0.2.9"}))
	}
	const box = `(SELECT ip_box FROM audit WHERE seq = `
	for name, c := range map[string]struct {
		change         string
		intact, erased bool
	}{
		"as it was":              {`ip_box = ip_box`, true, false},
		"taken away":             {`ip_box = x''`, true, true},
		"broken off":             {`ip_box = substr(ip_box, 1, length(ip_box) - 1)`, false, false},
		"of few bytes":           {`ip_box = x'00'`, false, false},
		"the user's of another":  {`ip_box = ` + box + `2)`, false, false},
		"another user's":         {`ip_box = ` + box + `3)`, false, false},
		"an address beside it":   {`client_ip = '192.0.2.7'`, false, false},
		"an address in place":    {`client_ip = '192.0.2.7', ip_box = x''`, false, false},
		"a salt in place":        {`ip_salt = x'00', ip_box = x''`, false, false},
		"address, salt and seal": {`client_ip = '192.0.2.7', ip_salt = x'00', ip_seal = zeroblob(32), ip_box = x''`, false, false},
	} {
		undo := errors.New("undo")
		err := s.w.do(ctx, func(x *tx) error {
			_, err := x.exec(`UPDATE audit SET ` + c.change + ` WHERE seq = 1`)
			must(t, err)
			e, err := one(x, scanEntry, selectEntries, 0, 1)
			must(t, err)
			if e.Intact() != c.intact || e.Erased() != c.erased {
				t.Errorf("%s: intact %v, erased %v", name, e.Intact(), e.Erased())
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
	}
}

// What former releases wrote of a user, and what one that still runs beside this
// one writes, has the address as it is: it is erased from each entry. The first
// form has it in its hash: whoever is deleted, it stays, or the chain would be
// broken.
func TestAddressesOfFormerReleases(t *testing.T) {
	for _, first := range []bool{false, true} {
		s, ctx := openTest(t, filepath.Join(t.TempDir(), "db"), Options{}), t.Context()
		u := storage.User{ID: "usr_AAAAAAAAAAAAAAAA", Name: "a", NameKey: "a", CreatedAt: storagetest.T0}
		_, err := s.CreateUser(ctx, u, nil, nil, storage.Event{Time: storagetest.T0, Type: "signup", UserID: u.ID})
		must(t, err)
		must(t, s.w.do(ctx, func(t *tx) error { _, err := t.exec(`UPDATE users SET address_key = x''`); return err }))
		must(t, s.AppendAudit(ctx,
			storage.Event{Time: storagetest.T0, Type: "login", UserID: u.ID, ClientIP: "192.0.2.1"},
			storage.Event{Time: storagetest.T0, Type: "user_suspended", Actor: u.ID, UserID: "usr_BBBBBBBBBBBBBBBB", ClientIP: "192.0.2.1"},
		))
		if first {
			must(t, s.w.do(ctx, func(t *tx) error { _, err := t.exec(`UPDATE audit SET ip_salt = x'', ip_seal = x''`); return err }))
		}
		as := func(when string, want string) {
			t.Helper()
			all, err := s.Audit(ctx, 1, 2)
			if err != nil || len(all) != 2 || all[0].ClientIP != want || all[1].ClientIP != want || !first && !(all[0].Intact() && all[1].Intact()) {
				t.Errorf("first form %v, %s: %+v, %v", first, when, all, err)
			}
		}
		as("before", "192.0.2.1")
		_, err = s.DeleteUser(ctx, storage.DeleteUser{UserID: u.ID}, storage.Event{Time: storagetest.T0, Type: "user_deleted"})
		must(t, err)
		as("after", map[bool]string{true: "192.0.2.1"}[first])
	}
}
