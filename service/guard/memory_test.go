package guard

import (
	"log/slog"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/client"
	"macaroond/service/revocation"
	"macaroond/service/token"
	"macaroond/service/verify"
	"macaroond/storage"
)

// What was learned takes memory as long as it is of use, which is until its
// window ends: of a device that comes back each hour one prefix is kept.
func TestMemoryGoesWithTheWindow(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	var m memory
	if err := m.init(100, func() time.Time { return now }); err != nil {
		t.Fatal(err)
	}
	defer m.close()
	h := new(history)
	id := token.Identifier{Epoch: 1, RootKeyID: token.NewRootKeyID()}
	learned := func(ends time.Time) *prefix {
		var key token.RootKey
		root, err := token.Mint(&key, "x", id, token.Identity{User: token.NewID(token.UserPrefix), Device: token.NewID(token.DevicePrefix), Expires: now.AddDate(0, 1, 0)})
		if err != nil {
			t.Fatal(err)
		}
		narrowed, err := token.Attenuate(root, caveats.TimeBefore(ends).String(), "audience photos")
		if err != nil {
			t.Fatal(err)
		}
		chain, held := narrowed.Verify(&key)
		covered, ok := verify.Cover(chain, narrowed.UnverifiedLen(), "photos")
		if !held || !ok {
			t.Fatal("the token is not good")
		}
		return &prefix{history: h, covered: covered, begin: narrowed.UnverifiedBegin(5)}
	}
	kept := func() (int, time.Duration) {
		e, ok := m.prefixes.GetEntryQuietly(id.RootKeyID)
		if !ok {
			t.Fatal("nothing is kept")
		}
		return len(e.Value), e.ExpiresAfter().Round(time.Minute)
	}
	for hour := range 3 {
		m.keep(id.RootKeyID, learned(now.Add(time.Hour)))
		if n, left := kept(); n != 1 || left != time.Hour {
			t.Errorf("hour %d: %d prefixes, for another %s", hour, n, left)
		}
		now = now.Add(time.Hour)
	}
	m.keep(id.RootKeyID, learned(now.Add(70*time.Minute)))
	m.keep(id.RootKeyID, learned(now.Add(10*time.Minute)))
	if n, left := kept(); n != 2 || left != 70*time.Minute {
		t.Errorf("two windows: %d prefixes, for another %s", n, left)
	}
	for ends, want := range map[time.Duration]time.Duration{time.Minute: time.Minute, 7 * 24 * time.Hour: keepKnown, -time.Hour: time.Second} {
		m.whole.Set([32]byte{1}, learned(now.Add(ends)))
		if e, ok := m.whole.GetEntryQuietly([32]byte{1}); !ok || e.ExpiresAfter().Round(time.Second) != want {
			t.Errorf("a token that ends in %s is kept for %s, want %s", ends, e.ExpiresAfter(), want)
		}
	}
}

// A machine whose clock is set ahead takes the authority with it, if that is on it,
// too: both say that entries are over which are not when the clock is set right.
func TestNothingIsSweptWhileTheClockIsAhead(t *testing.T) {
	now := time.Now()
	g := new(Guard)
	g.history.Store(&history{list: revocation.New()})
	list := g.history.Load().list
	list.Add(storage.Revocation{Grain: storage.GrainDevice, RootKeyID: [16]byte{1}, ExpiresAt: now.Add(-time.Hour)})
	g.clock.Start(now.Add(-time.Minute), now.Add(-2*time.Hour)) // by the monotonic clock, and by the wall's
	if g.sweepBy(now, now); list.Len() != 1 {
		t.Error("it is gone")
	}
	g.clock.Start(now.Add(-time.Minute), now.Add(-time.Minute))
	if g.sweepBy(now.Add(-2*time.Hour), now); list.Len() != 1 {
		t.Error("it is gone before the authority's time")
	}
	if g.sweepBy(now, now.Add(-2*time.Hour)); list.Len() != 1 {
		t.Error("it is gone before the guard's own time")
	}
	if g.sweepBy(now, now); list.Len() != 0 {
		t.Error("it stays")
	}
	made, err := New(t.Context(), Options{Authority: "http://127.0.0.1:1", Credential: client.Basic("svc_0000000000000000", "secret"), Audience: "photos", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	if _, elapsed := made.clock.Jumped(time.Now().Add(time.Hour)); elapsed < time.Hour {
		t.Error("a guard's clock has no start")
	}
}
