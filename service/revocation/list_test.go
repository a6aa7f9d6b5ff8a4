package revocation_test

import (
	"sync"
	"testing"
	"time"

	"macaroond/service/revocation"
	"macaroond/service/token"
	"macaroond/storage"
)

var (
	rootKey = token.RootKey([]byte("a root key of thirty-two bytes.."))
	now     = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	later   = now.Add(time.Hour)
)

// root mints a bare root under the root key ID that ends in last.
func root(t testing.TB, epoch uint32, last byte) *token.Token {
	t.Helper()
	tok, err := token.Mint(&rootKey, "https://auth.example.com", token.Identifier{Epoch: epoch, RootKeyID: token.RootKeyID{15: last}},
		token.Identity{User: "usr_AAAAAAAAAAAAAAAA", Device: "dev_AAAAAAAAAAAAAAAA", Expires: later})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func narrow(t testing.TB, tok *token.Token, texts ...string) *token.Token {
	t.Helper()
	out, err := token.Attenuate(tok, texts...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func chainOf(t testing.TB, tok *token.Token) token.Chain {
	t.Helper()
	c, ok := tok.Verify(&rootKey)
	if !ok {
		t.Fatal("the chain does not hold")
	}
	return c
}

// The three grains, as entries about a token.

func device(c token.Chain, until time.Time) storage.Revocation {
	return storage.Revocation{Grain: storage.GrainDevice, RootKeyID: c.Identifier().RootKeyID, ExpiresAt: until}
}

func branch(c token.Chain, until time.Time) storage.Revocation {
	f := c.Signature(c.Len()).Fingerprint()
	return storage.Revocation{Grain: storage.GrainBranch, RootKeyID: c.Identifier().RootKeyID, Fingerprint: f, ExpiresAt: until}
}

func epoch(n uint32, until time.Time) storage.Revocation {
	return storage.Revocation{Grain: storage.GrainEpoch, Epoch: n, ExpiresAt: until}
}

func add(t testing.TB, l *revocation.List, entries ...storage.Revocation) {
	t.Helper()
	if !l.Add(entries...) {
		t.Fatal("Add does not know an entry")
	}
}

// family is a root with two branches, a grandchild, a second device, and a
// device in another epoch.
func family(t testing.TB) map[string]token.Chain {
	phone := root(t, 1, 1)
	child := narrow(t, phone, "audience photos")
	return map[string]token.Chain{
		"phone":      chainOf(t, phone),
		"child":      chainOf(t, child),
		"grandchild": chainOf(t, narrow(t, child, "method GET")),
		"offspring":  chainOf(t, narrow(t, child, "method GET", "note x", "path /a")),
		"sibling":    chainOf(t, narrow(t, phone, "audience mail")),
		"lookalike":  chainOf(t, narrow(t, phone, "method GET", "audience photos")),
		"laptop":     chainOf(t, root(t, 1, 2)),
		"laptop's":   chainOf(t, narrow(t, root(t, 1, 2), "audience photos")),
		"tablet":     chainOf(t, root(t, 2, 3)),
		"renewed":    chainOf(t, root(t, 2, 1)), // the phone's successor, signed by the next epoch
	}
}

// What each grain kills, and that it kills nothing else.
func TestGrains(t *testing.T) {
	all := family(t)
	for name, c := range map[string]struct {
		entries []storage.Revocation
		dead    []string
	}{
		"nothing":             {nil, nil},
		"device":              {[]storage.Revocation{device(all["phone"], later)}, []string{"phone", "child", "grandchild", "offspring", "sibling", "lookalike", "renewed"}},
		"branch":              {[]storage.Revocation{branch(all["child"], later)}, []string{"child", "grandchild", "offspring"}},
		"branch of a branch":  {[]storage.Revocation{branch(all["grandchild"], later)}, []string{"grandchild", "offspring"}},
		"end of a branch":     {[]storage.Revocation{branch(all["offspring"], later)}, []string{"offspring"}},
		"epoch 1":             {[]storage.Revocation{epoch(1, later)}, []string{"phone", "child", "grandchild", "offspring", "sibling", "lookalike", "laptop", "laptop's"}},
		"epoch 2":             {[]storage.Revocation{epoch(2, later)}, []string{"tablet", "renewed"}},
		"epoch 3":             {[]storage.Revocation{epoch(3, later)}, nil},
		"branch then device":  {[]storage.Revocation{branch(all["child"], later), device(all["laptop"], later)}, []string{"child", "grandchild", "offspring", "laptop", "laptop's"}},
		"device and its twig": {[]storage.Revocation{device(all["laptop"], later), branch(all["laptop's"], later)}, []string{"laptop", "laptop's"}},
	} {
		l := revocation.New()
		add(t, l, c.entries...)
		dead := map[string]bool{}
		for _, d := range c.dead {
			dead[d] = true
		}
		for who, chain := range all {
			if got := l.Revoked(chain); got != dead[who] {
				t.Errorf("%s: %s revoked: %v", name, who, got)
			}
		}
		if l.Len() != len(c.entries) {
			t.Errorf("%s: %d live entries", name, l.Len())
		}
	}
}

// A branch entry is about a point after the mint caveats. One that names the
// root's own end, or an identifier, kills nothing: only a device entry does.
func TestBranchNeverKillsItsRoot(t *testing.T) {
	all := family(t)
	l := revocation.New()
	phone := all["phone"]
	for n := range token.MintCaveats + 1 {
		e := branch(phone, later)
		e.Fingerprint = phone.Signature(n).Fingerprint()
		add(t, l, e)
	}
	for who, chain := range all {
		if l.Revoked(chain) {
			t.Errorf("%s is revoked", who)
		}
	}
}

// Adding again changes nothing; a later expiry prolongs, an earlier one never shortens.
func TestAddIsIdempotent(t *testing.T) {
	all := family(t)
	kinds := map[string]struct {
		of   func(until time.Time) storage.Revocation
		kill string
	}{
		"device": {func(u time.Time) storage.Revocation { return device(all["phone"], u) }, "phone"},
		"branch": {func(u time.Time) storage.Revocation { return branch(all["child"], u) }, "grandchild"},
		"epoch":  {func(u time.Time) storage.Revocation { return epoch(1, u) }, "laptop"},
	}
	for name, k := range kinds {
		for what, order := range map[string][2]time.Duration{"later then earlier": {2 * time.Hour, time.Hour}, "earlier then later": {time.Hour, 2 * time.Hour}} {
			l := revocation.New()
			add(t, l, k.of(now.Add(order[0])))
			add(t, l, k.of(now.Add(order[1])), k.of(now.Add(order[0])))
			if l.Len() != 1 {
				t.Errorf("%s, %s: %d live entries", name, what, l.Len())
			}
			l.Sweep(now.Add(90 * time.Minute))
			if !l.Revoked(all[k.kill]) || l.Len() != 1 {
				t.Errorf("%s, %s: shortened", name, what)
			}
			l.Sweep(now.Add(3 * time.Hour))
			if l.Revoked(all[k.kill]) || l.Len() != 0 {
				t.Errorf("%s, %s: never ends, %d live", name, what, l.Len())
			}
		}
	}
	// A device's entry neither prolongs nor shortens those of its branches, nor they it.
	l := revocation.New()
	add(t, l, device(all["phone"], now.Add(time.Hour)), branch(all["child"], now.Add(3*time.Hour)))
	l.Sweep(now.Add(2 * time.Hour))
	if l.Revoked(all["phone"]) || !l.Revoked(all["child"]) || l.Len() != 1 {
		t.Errorf("device gone: phone %v, child %v, %d live", l.Revoked(all["phone"]), l.Revoked(all["child"]), l.Len())
	}
	l = revocation.New()
	add(t, l, device(all["phone"], now.Add(3*time.Hour)), branch(all["child"], now.Add(time.Hour)))
	l.Sweep(now.Add(2 * time.Hour))
	if !l.Revoked(all["phone"]) || !l.Revoked(all["child"]) || l.Len() != 1 {
		t.Errorf("branch gone: phone %v, child %v, %d live", l.Revoked(all["phone"]), l.Revoked(all["child"]), l.Len())
	}
	// The mark on a root outlives the shortest of its branches.
	l = revocation.New()
	add(t, l, branch(all["child"], now.Add(3*time.Hour)), branch(all["sibling"], now.Add(time.Hour)))
	l.Sweep(now.Add(2 * time.Hour))
	if !l.Revoked(all["child"]) || l.Revoked(all["sibling"]) || l.Len() != 1 {
		t.Errorf("sibling gone: child %v, sibling %v, %d live", l.Revoked(all["child"]), l.Revoked(all["sibling"]), l.Len())
	}
}

// An unknown grain is refused, and what is known beside it is kept.
func TestUnknownGrain(t *testing.T) {
	all := family(t)
	for _, g := range []storage.Grain{0, storage.GrainPolicy + 1, 255} {
		l := revocation.New()
		if l.Add(storage.Revocation{Grain: g, RootKeyID: all["tablet"].Identifier().RootKeyID, Epoch: 2, ExpiresAt: later}, device(all["phone"], later)) {
			t.Errorf("grain %d is known", g)
		}
		if !l.Revoked(all["phone"]) || l.Revoked(all["tablet"]) || l.Len() != 1 {
			t.Errorf("grain %d: phone %v, tablet %v, %d live", g, l.Revoked(all["phone"]), l.Revoked(all["tablet"]), l.Len())
		}
	}
	if !revocation.New().Add() {
		t.Error("no entries are refused")
	}
}

// A change of policies is understood, and kills nothing: of nobody, and not
// whoever has zeros for a root key ID.
func TestPolicyKillsNothing(t *testing.T) {
	all := family(t)
	l := revocation.New()
	if !l.Add(storage.Revocation{Grain: storage.GrainPolicy, Fingerprint: [16]byte{1}, ExpiresAt: later}) {
		t.Error("it is not understood")
	}
	for name, c := range all {
		if l.Revoked(c) {
			t.Errorf("%s is revoked", name)
		}
	}
	if l.Len() != 0 {
		t.Errorf("%d live", l.Len())
	}
}

// An entry stays through the last instant of its time; it never goes early.
func TestSweepBoundary(t *testing.T) {
	all := family(t)
	at := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
	half := at.Add(500 * time.Millisecond)
	far := time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name       string
		until, now time.Time
		stays      bool
	}{
		{"long before", at, at.Add(-time.Hour), true},
		{"a second before", at, at.Add(-time.Second), true},
		{"at it", at, at, true},
		{"within its second", at, at.Add(999 * time.Millisecond), true},
		{"a second after", at, at.Add(time.Second), false},
		{"half a second, at its second", half, at, true},
		{"half a second, at it", half, half, true},
		{"half a second, rounded up", half, at.Add(1999 * time.Millisecond), true},
		{"half a second, after", half, at.Add(2 * time.Second), false},
		{"a clock before 1970", at, time.Unix(-5, 0), true},
		{"beyond 2106 stays for good", far, far.AddDate(1, 0, 0), true},
		{"no time at all", time.Time{}, at, false},
		{"no time at all, at the beginning", time.Time{}, time.Unix(1, 0), true},
	} {
		for grain, e := range map[string]storage.Revocation{
			"phone": device(all["phone"], c.until), "child": branch(all["child"], c.until), "laptop": epoch(1, c.until),
		} {
			l := revocation.New()
			add(t, l, e)
			l.Sweep(c.now)
			if l.Revoked(all[grain]) != c.stays || (l.Len() == 1) != c.stays {
				t.Errorf("%s, %s: revoked %v, %d live", c.name, grain, l.Revoked(all[grain]), l.Len())
			}
		}
	}
}

// Sweep takes what is due and nothing else, out of a crowd.
func TestSweepCrowd(t *testing.T) {
	l := revocation.New()
	const n = 200_000 // three a bucket
	var chains []token.Chain
	for i := range byte(200) {
		chains = append(chains, chainOf(t, narrow(t, root(t, 1, i), "audience photos")))
	}
	for i := range n {
		until := now.Add(time.Duration(1+i%2) * time.Hour)
		e := storage.Revocation{Grain: storage.GrainDevice, ExpiresAt: until, RootKeyID: [16]byte{byte(i), byte(i >> 8), byte(i >> 16), 1}}
		if i%4 >= 2 {
			e.Grain, e.Fingerprint = storage.GrainBranch, e.RootKeyID
		}
		add(t, l, e)
	}
	for i, c := range chains {
		until := now.Add(time.Duration(1+i%2) * time.Hour)
		if i%4 >= 2 {
			add(t, l, branch(c, until))
		} else {
			add(t, l, device(c, until))
		}
	}
	check := func(want int, live func(i int) bool) {
		t.Helper()
		if l.Len() != want {
			t.Errorf("%d live, want %d", l.Len(), want)
		}
		for i, c := range chains {
			if l.Revoked(c) != live(i) {
				t.Errorf("token %d revoked: %v", i, l.Revoked(c))
			}
		}
	}
	check(n+200, func(int) bool { return true })
	l.Sweep(now)
	check(n+200, func(int) bool { return true })
	l.Sweep(now.Add(time.Hour + time.Second))
	check(n/2+100, func(i int) bool { return i%2 == 1 })
	l.Sweep(now.Add(2*time.Hour + time.Second))
	check(0, func(int) bool { return false })
}

// Checks, additions and sweeps at once: what was added before a check began is
// seen by it, and what lives is never lost to a sweep.
func TestConcurrent(t *testing.T) {
	l := revocation.New()
	var chains []token.Chain
	for i := range byte(100) {
		chains = append(chains, chainOf(t, narrow(t, root(t, 1, i), "audience photos")))
	}
	untouched := chainOf(t, narrow(t, root(t, 3, 200), "audience photos"))
	stop := make(chan struct{})
	var wg, readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, c := range chains {
					l.Revoked(c)
				}
				if l.Revoked(untouched) || l.Len() < 0 {
					t.Error("the innocent are revoked")
					return
				}
			}
		})
	}
	for w := range 2 {
		wg.Go(func() {
			for i, c := range chains {
				if i%2 != w {
					continue
				}
				if i%4 < 2 {
					l.Add(device(c, later), epoch(9, now.Add(time.Duration(i)*time.Minute)))
				} else {
					l.Add(branch(c, later))
				}
				if !l.Revoked(c) {
					t.Errorf("token %d is not revoked after Add", i)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 20 {
			l.Add(storage.Revocation{Grain: storage.GrainDevice, RootKeyID: [16]byte{0: byte(i), 1: 9}, ExpiresAt: now})
			l.Sweep(now.Add(time.Minute))
		}
	})
	wg.Wait()
	close(stop)
	readers.Wait()
	for i, c := range chains {
		if !l.Revoked(c) {
			t.Errorf("token %d is lost", i)
		}
	}
	l.Sweep(now.Add(time.Minute))
	if want := 101; l.Len() != want {
		t.Errorf("%d live, want %d", l.Len(), want)
	}
}

// Writers at once lose nothing of each other's, even where all of them replace
// the same slice and the same map.
func TestConcurrentWriters(t *testing.T) {
	l := revocation.New()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 250 {
				n := uint32(1 + i*4 + w)
				l.Add(epoch(n, later), storage.Revocation{Grain: storage.GrainBranch, Fingerprint: [16]byte{byte(n), byte(n >> 8)}, ExpiresAt: later})
			}
		})
	}
	wg.Wait()
	if l.Len() != 2000 {
		t.Errorf("%d live entries, want 2000", l.Len())
	}
	for n := range uint32(1000) {
		if !l.Revoked(chainOf(t, root(t, n+1, 1))) {
			t.Fatalf("epoch %d is lost", n+1)
		}
	}
}

func TestAsOf(t *testing.T) {
	l := revocation.New()
	if !l.AsOf().IsZero() {
		t.Errorf("a list that was never complete is of %v", l.AsOf())
	}
	l.SetAsOf(now)
	if !l.AsOf().Equal(now) {
		t.Errorf("%v", l.AsOf())
	}
}

// A check allocates nothing, whatever is on the list.
func TestCheckAllocatesNothing(t *testing.T) {
	all := family(t)
	l := revocation.New()
	add(t, l, device(all["laptop"], later), branch(all["child"], later), epoch(2, later))
	for who, c := range all {
		if n := testing.AllocsPerRun(100, func() { l.Revoked(c) }); n != 0 {
			t.Errorf("%s: %v allocations", who, n)
		}
	}
}
