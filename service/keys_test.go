package service

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
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
