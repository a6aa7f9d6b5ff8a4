package verify_test

import (
	"fmt"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/token"
	"macaroond/service/verify"
)

// What is read once for all tokens of an anchor changes no verdict: whatever the
// anchor covers and whatever is asked, it is the one that reads each caveat.
func TestCoveredChangesNothing(t *testing.T) {
	requests := map[string]func(*caveats.Request){
		"as it should be":      func(*caveats.Request) {},
		"another audience":     func(r *caveats.Request) { r.Audience = "mail" },
		"no audience":          func(r *caveats.Request) { r.Audience = "" },
		"another method":       func(r *caveats.Request) { r.Method = "DELETE" },
		"no time":              func(r *caveats.Request) { r.Time = time.Time{} },
		"the second before":    func(r *caveats.Request) { r.Time = now.Add(time.Hour - time.Second) },
		"the hour":             func(r *caveats.Request) { r.Time = now.Add(time.Hour) },
		"the nanosecond later": func(r *caveats.Request) { r.Time = now.Add(time.Hour + 1) },
		"after the mint's end": func(r *caveats.Request) { r.Time = till },
	}
	const hour = "time-before 2026-11-21T13:00:00Z"
	for _, holder := range [][]string{
		{"audience photos"},
		{hour, "audience photos", "time-before 2026-11-21T12:30:00Z", "path /photos/1"},
		{"time-before 2026-11-21T14:00:00Z", hour, "time-before 2026-11-21T15:00:00Z", "audience photos"},
		{"audience mail", "audience photos"},
		{"audience photos", "audience photos"},
		{"audience"},
		{"audience "},
		{"method GET", "audience photos", "method GET HEAD"},
		{"third-party " + hour, "audience photos"},
		{"third-party audience photos", "third-party user " + mallory},
		{"user " + mallory, "audience photos"},
		{"time-after 2026-11-21T12:30:00Z", hour, "audience photos"},
		{"x-tenant blue", "audience photos", "x-tenant red"},
		{"time-before tomorrow", "audience photos"},
		{"note a", hour, "via cookie", "once 1", "audience photos"},
		{hour, "note b"},
	} {
		text := tokenWith(t, holder...)
		tok, err := token.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		key, _ := ring.RootKey(id)
		chain, ok := tok.Verify(&key)
		if !ok {
			t.Fatal("the chain does not hold")
		}
		v := newVerifier(t)
		v.MaxStaleness = 100 * 24 * time.Hour
		for n := token.MintCaveats; n <= chain.Len(); n++ {
			anchor := token.Anchor{Caveats: n, Signature: *chain.Signature(n)}
			for i := token.MintCaveats + 1; i <= n; i++ {
				anchor.Fingerprints = append(anchor.Fingerprints, chain.Fingerprint(i))
			}
			covered, ok := verify.Cover(chain, n, "photos")
			if !ok || covered.Identity().User != alice || covered.Identity().Device != phone {
				t.Fatalf("%v, first %d: no identity", holder, n)
			}
			nowhere, ok := verify.Cover(chain, n, "")
			if !ok {
				t.Fatalf("%v, first %d: no identity", holder, n)
			}
			for name, change := range requests {
				q := verify.Question{Token: text, Request: request()}
				change(&q.Request)
				says := func(c *verify.Covered) string {
					var out verify.Verdict
					if !out.Read(text) {
						t.Fatal(out.Code)
					}
					v.JudgeFrom(&q, &anchor, c, &out)
					return fmt.Sprintln(out.Code, out.Reason(), out.Expires, out.Identity, out.Allowed())
				}
				want := says(nil)
				for _, c := range []*verify.Covered{covered, nowhere} {
					if got := says(c); got != want {
						t.Errorf("%v, first %d, %s:\n got %swant %s", holder, n, name, got, want)
					}
				}
			}
		}
	}
}

// A chain without the mint caveats, or a number of caveats that it does not
// have, covers nothing.
func TestCoverRefuses(t *testing.T) {
	key, _ := ring.RootKey(id)
	for _, c := range []struct {
		caveats []string
		n       int
	}{
		{append(mint[:3:3], "audience photos"), 2},
		{append(mint[:3:3], "audience photos"), 5},
		{mint[:2], 2},
		{[]string{mint[0], mint[2], mint[1], "audience photos"}, 4},
	} {
		tok, err := token.Parse(textOf(t, library(t, c.caveats...)))
		if err != nil {
			t.Fatal(err)
		}
		chain, ok := tok.Verify(&key)
		if !ok {
			t.Fatal("the chain does not hold")
		}
		if covered, ok := verify.Cover(chain, c.n, "photos"); ok || covered != nil {
			t.Errorf("the first %d of %v are covered", c.n, c.caveats)
		}
	}
}

// The texts of an identity stay when the token that they were read from is used
// again.
func TestCoveredTextsStay(t *testing.T) {
	key, _ := ring.RootKey(id)
	var tok token.Token
	if err := tok.Read(tokenWith(t, "audience photos")); err != nil {
		t.Fatal(err)
	}
	chain, _ := tok.Verify(&key)
	covered, ok := verify.Cover(chain, 4, "photos")
	if !ok {
		t.Fatal("nothing is covered")
	}
	other := textOf(t, library(t, mint[0], "user "+mallory, "device dev_MalloryMallory12", "audience photos"))
	if err := tok.Read(other); err != nil {
		t.Fatal(err)
	}
	if who := covered.Identity(); who.User != alice || who.Device != phone {
		t.Errorf("it is %+v now", who)
	}
}
