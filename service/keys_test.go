package service

import (
	"errors"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/storage"
)

// Keys rotate when the signing epoch has the age that the settings name, once,
// and not when they name none.
func TestRotateWhenDue(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	signing := func() (number uint32, all int) {
		epochs, err := k.store.Epochs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range epochs {
			if e.State == storage.EpochSigning {
				number = e.Number
			}
		}
		return number, len(epochs)
	}
	now := time.Now()
	for _, row := range []struct {
		what  string
		every time.Duration
		at    time.Duration
		epoch uint32
	}{
		{"never", 0, 1000 * time.Hour, 1},
		{"not yet", 24 * time.Hour, 23 * time.Hour, 1},
		{"due", 24 * time.Hour, 25 * time.Hour, 2},
		{"due for as long, once", time.Hour, 30 * time.Minute, 2},
		{"due again", time.Hour, 2 * time.Hour, 3},
	} {
		k.SetSettings(Settings{MaxStaleness: time.Minute, RotateEvery: row.every})
		k.RotateWhenDue(t.Context(), now.Add(row.at))
		if got, all := signing(); got != row.epoch || all != int(row.epoch) {
			t.Errorf("%s: epoch %d of %d signs, want %d", row.what, got, all, row.epoch)
		}
	}
}

// What is done to the keys is in force here when it is done. An epoch that does
// not sign can be ended with any keys; another one begins with the right ones only.
func TestRetireKeys(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	others, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	if err != nil {
		t.Fatal(err)
	}
	command, err := Open(Config{Store: k.store, Keys: others, Now: time.Now, Hashing: Hashing{MemoryKiB: 8, Time: 1, Threads: 1, Pool: 1, Queue: 1}})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for want := range uint32(3) {
		if got := k.keyring.Signing(); got != want+1 {
			t.Errorf("epoch %d signs, want %d", got, want+1)
		}
		_, err := k.RotateKeys(t.Context(), ActorOperator, Source{})
		must(err)
	}
	must(command.RetireKeys(t.Context(), 1, ActorOperator, Source{}))
	if err := command.RetireKeys(t.Context(), 4, ActorOperator, Source{}); !errors.Is(err, keyring.ErrCannotOpen) {
		t.Errorf("with other keys: %v", err)
	}
	k.catchUp()
	dead := k.list.Len()
	must(k.RetireKeys(t.Context(), 2, ActorOperator, Source{}))
	if n := k.list.Len(); n != dead+1 || k.keyring.Signing() != 4 {
		t.Errorf("%d revocations, %d before; epoch %d signs", n, dead, k.keyring.Signing())
	}
	must(k.RetireKeys(t.Context(), 4, ActorOperator, Source{}))
	if n := k.list.Len(); n != dead+2 || k.keyring.Signing() != 5 {
		t.Errorf("%d revocations, %d at first; epoch %d signs", n, dead, k.keyring.Signing())
	}
}

// Nobody is logged out by a rotation, nor by having another process of the
// database judge the first tokens of the new epoch.
func TestFirstTokensOfAnEpochElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	here, there := newFeedKit(t, path), newFeedKit(t, path)
	here.run()
	there.run()
	for _, s := range []*feedKit{here, there} {
		s.SetSettings(Settings{
			Issuer: "https://auth.example", Audience: "macaroond", Signup: "device",
			RootTTL: time.Hour, MaxStaleness: time.Minute, MaxDevices: 10,
		})
	}
	for i := range 5 {
		if _, err := here.RotateKeys(t.Context(), ActorOperator, Source{}); err != nil {
			t.Fatal(err)
		}
		g, err := here.Signup(t.Context(), api.SignupIn{Username: "ann" + strconv.Itoa(i), Device: api.DeviceIn{Name: "d"}}, Source{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := there.Authorize(t.Context(), Shown{Token: g.Token, Facts: caveats.Request{Actions: []string{"devices:list"}}, Bare: true}); err != nil {
			t.Errorf("rotation %d: %v", i, err)
		}
	}
}
