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

// An audit entry of the first form has its address in its hash: whoever is
// deleted, it stays, or the chain would be broken.
func TestAddressesOfTheFirstFormStay(t *testing.T) {
	s, ctx := openTest(t, filepath.Join(t.TempDir(), "db"), Options{}), t.Context()
	u := storage.User{ID: "usr_AAAAAAAAAAAAAAAA", Name: "a", NameKey: "a", CreatedAt: storagetest.T0}
	if _, err := s.CreateUser(ctx, u, nil, nil, storage.Event{Time: storagetest.T0, Type: "signup", UserID: u.ID, ClientIP: "192.0.2.1"}); err != nil {
		t.Fatal(err)
	}
	other := storage.Event{Time: storagetest.T0, Type: "user_suspended", Actor: u.ID, UserID: "usr_BBBBBBBBBBBBBBBB", ClientIP: "192.0.2.1"}
	if err := s.AppendAudit(ctx, other); err != nil {
		t.Fatal(err)
	}
	if err := s.w.do(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE audit SET ip_salt = x'', ip_seal = x''`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteUser(ctx, storage.DeleteUser{UserID: u.ID}, storage.Event{Time: storagetest.T0, Type: "user_deleted"}); err != nil {
		t.Fatal(err)
	}
	all, err := s.Audit(ctx, 0, 2)
	if err != nil || len(all) != 2 || all[0].ClientIP == "" || all[1].ClientIP == "" {
		t.Errorf("%+v, %v", all, err)
	}
}
