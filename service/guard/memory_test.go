package guard

import (
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/token"
	"macaroond/service/verify"
)

// What was learned takes memory as long as it is of use, which is until its
// window ends: of a device that comes back each hour one prefix is kept.
func TestMemoryGoesWithTheWindow(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	var m memory
	if err := m.init(0, func() time.Time { return now }); err != nil {
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
