package service

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/service/token"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// A whole life of epochs on a schedule: each hour another one signs, the former
// ones verify until the last token that they minted has expired, and then they
// are gone. Nobody is logged out before their time.
func TestRotationOnSchedule(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
		if err != nil {
			t.Fatal(err)
		}
		const lives, each = 5 * time.Hour / 2, time.Hour
		s, err := New(t.Context(), Config{
			Store: store, Keys: keys, Now: time.Now, Log: slog.New(slog.DiscardHandler), Limits: DefaultLimits,
			Hashing: Hashing{MemoryKiB: 8, Time: 1, Threads: 1, Pool: 1, Queue: 1},
			Settings: Settings{
				Issuer: "https://auth.example", Audience: "macaroond", Signup: "device", RootTTL: lives,
				MaxStaleness: 1000 * time.Hour, MaxDevices: 10, RotateEvery: each,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var house sync.WaitGroup
		house.Go(func() { s.keepHouse(ctx) })
		defer func() { stop(); house.Wait() }()

		type device struct {
			text  string
			epoch uint32
			ends  time.Time
		}
		var devices []device
		begun := time.Now()
		names := []string{"ann", "ben", "cat", "dan", "eva", "fay", "gus", "hal", "ida", "jon"}
		for len(devices) < len(names) {
			g, err := s.Signup(t.Context(), api.SignupIn{Username: names[len(devices)], Device: api.DeviceIn{Name: "d"}}, Source{})
			if err != nil {
				t.Fatal(err)
			}
			tok, err := token.Parse(g.Token)
			if err != nil {
				t.Fatal(err)
			}
			devices = append(devices, device{g.Token, tok.UnverifiedIdentifier().Epoch, g.ExpiresAt.Time})
			for range 30 {
				time.Sleep(time.Minute)
				for _, d := range devices {
					_, err := s.Authorize(t.Context(), Shown{Token: d.text, Facts: caveats.Request{Actions: []string{"devices:list"}}, Bare: true})
					if (err == nil) != time.Now().Before(d.ends) {
						t.Fatalf("%v after the start, a token of epoch %d that ends after %v: %v", time.Since(begun), d.epoch, d.ends.Sub(begun), err)
					}
				}
			}
		}
		if last := devices[len(devices)-1]; devices[0].epoch != 1 || last.epoch < 5 {
			t.Errorf("epochs %d to %d in five hours", devices[0].epoch, last.epoch)
		}
		if err := s.CatchUp(t.Context()); err != nil { // the follower does not run here
			t.Fatal(err)
		}
		epochs, err := store.Epochs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if first := epochs[0].Number; first == 1 || len(epochs) > 5 || s.keyring.Epochs() != len(epochs) {
			t.Errorf("the first epoch is %d of %d, %d on the ring: those without tokens go", first, len(epochs), s.keyring.Epochs())
		}
		for i, e := range epochs {
			if want := storage.EpochVerifying; i < len(epochs)-1 && e.State != want {
				t.Errorf("epoch %d is in state %d", e.Number, e.State)
			} else if i == len(epochs)-1 && e.State != storage.EpochSigning {
				t.Errorf("the last one, %d, does not sign", e.Number)
			}
		}
	})
}

// What is minted in a new epoch waits until other processes have heard of that
// epoch; nothing else waits.
func TestNewEpochIsHeardElsewhere(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	ended, end := context.WithCancel(t.Context())
	end()
	heard := func(what string, epoch uint32, want error) {
		t.Helper()
		if err := k.heardElsewhere(ended, epoch); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	first := k.keyring.Signing()
	heard("the first epoch", first, nil)
	if _, err := k.ResealKeys(t.Context(), "", Source{}); err != nil {
		t.Fatal(err)
	}
	k.catchUp()
	heard("after another change of the keys", first, nil)
	if _, err := k.RotateKeys(t.Context(), "", Source{}); err != nil {
		t.Fatal(err)
	}
	k.catchUp()
	heard("a new epoch", k.keyring.Signing(), context.Canceled)
	heard("the one before", first, nil)
}

// Another history is read whole, though its revision and its sequence are by
// chance those of the one that it takes the place of.
func TestOtherHistoryIsReadWhole(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.catchUp()
	now, err := k.store.Restored(t.Context(), false, storage.Event{Time: time.Now(), Type: "test"})
	if err != nil {
		t.Fatal(err)
	}
	k.follow.state.Revision, k.follow.state.Sequence = now.Revision, now.Sequence
	k.catchUp()
	if n := k.keyring.Epochs(); n != 0 {
		t.Errorf("%d epochs verify: they are retired in the history that was restored", n)
	}
	if k.list.Len() != 1 {
		t.Errorf("%d entries on the list, want that of the epoch", k.list.Len())
	}
}

// Another history's entries have the numbers of the former's, and are fed in
// their place.
func TestOtherHistoryIsFed(t *testing.T) {
	k, other := newFeedKit(t, filepath.Join(t.TempDir(), "db")), newFeedKit(t, filepath.Join(t.TempDir(), "other"))
	k.revoke(1)
	k.revoke(2)
	k.catchUp()
	other.revoke(3)
	var want []storage.Revocation
	for e, err := range other.store.Revocations(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, e)
	}
	k.Service.store = other.store
	k.catchUp()
	got, all := k.feed.at.Load().tail.read(make([]storage.Revocation, 0, 8), 0, 8)
	if !all || !slices.Equal(got, want) {
		t.Errorf("%+v, %v: want %+v", got, all, want)
	}
}
