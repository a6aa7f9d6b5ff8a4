package verify_test

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"gopkg.in/macaroon.v2"

	"macaroond/service/token"
	"macaroond/service/verify"
)

// BenchmarkVerdict judges one token of six caveats on one core, side by side:
//
//   - macaroond: base64url, strict decoding, the chain, revocation and the
//     caveats' meaning, with the root key at hand as macaroon.v2 has it;
//   - macaroond-with-derivation: the same, the root key derived for each verdict;
//   - macaroon.v2: UnmarshalBinary and Verify, with a checker that looks the
//     caveat up in a map. No base64, no times, no revocation.
//
// ratio runs the first and the third in turns, so that a busy machine slows
// both: at most 1.0 is promised (docs/benchmarks.md).
func BenchmarkVerdict(b *testing.B) {
	holder := []string{"time-before 2026-11-21T13:00:00Z", "audience photos", "method GET HEAD"}
	m := library(b, append(append([]string(nil), mint...), holder...)...)
	text := textOf(b, m)
	data, err := m.MarshalBinary()
	if err != nil {
		b.Fatal(err)
	}
	key, _ := ring.RootKey(id)
	known := map[string]bool{}
	for _, c := range m.Caveats() {
		known[string(c.Id)] = true
	}
	if len(known) != 6 {
		b.Fatalf("%d caveats", len(known))
	}
	errUnknown := errors.New("unknown")
	check := func(caveat string) error {
		if known[caveat] {
			return nil
		}
		return errUnknown
	}
	derives := newVerifier(b)
	given := newVerifier(b)
	given.Keys = anyKey{key, true}
	q := verify.Question{Token: text, Request: request()}
	ours := func(v *verify.Verifier) {
		if got := v.Verify(q); !got.Allowed() {
			b.Fatal(got.Code)
		}
	}
	theirs := func() {
		var m macaroon.Macaroon
		if err := m.UnmarshalBinary(data); err != nil {
			b.Fatal(err)
		}
		if err := m.Verify(key[:], check, nil); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"macaroond", func() { ours(given) }},
		{"macaroond-with-derivation", func() { ours(derives) }},
		{"macaroon.v2", theirs},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.run()
			}
		})
	}
	b.Run("ratio", func(b *testing.B) {
		var our, derived, their time.Duration
		for b.Loop() {
			our += timed(func() { ours(given) })
			derived += timed(func() { ours(derives) })
			their += timed(theirs)
		}
		b.ReportMetric(float64(our)/float64(their), "x-of-macaroon.v2")
		b.ReportMetric(float64(derived)/float64(their), "x-with-derivation")
		b.ReportMetric(0, "ns/op")
	})
}

// BenchmarkFastPath judges one token of seven caveats on one core, as an
// authority does on every request: base64url, strict decoding, the root key's
// derivation, the chain, revocation and the caveats' meaning, into a verdict that
// is used again. Beside it:
//
//   - floor: the same ten HMACs over the same bytes, two calls of sha256.Sum256
//     each and nothing else;
//   - own-floor: the same by this project's code, which is faster than that;
//   - macaroon.v2: UnmarshalBinary and VerifySignature alone, the root key given.
//
// ratio runs them in turns. Promised: at most 1.5 of the floor, at most 0.45 of
// macaroon.v2, no allocation.
func BenchmarkFastPath(b *testing.B) {
	holder := []string{"time-before 2026-11-21T13:00:00Z", "audience photos", "time-before 2026-11-21T12:01:00Z", "path /photos/1"}
	m := library(b, append(append([]string(nil), mint...), holder...)...)
	text := textOf(b, m)
	data, err := m.MarshalBinary()
	if err != nil {
		b.Fatal(err)
	}
	key, _ := ring.RootKey(id)
	v := newVerifier(b)
	q := &verify.Question{Token: text, Request: request()}
	var verdict verify.Verdict
	ours := func() {
		if v.Judge(q, &verdict); !verdict.Allowed() {
			b.Fatal(verdict.Code)
		}
	}
	tok, err := token.Parse(text)
	if err != nil {
		b.Fatal(err)
	}
	steps := append([]string{id.String() + "\x01", "the root key of thirty-two bytes", id.String()}, tok.UnverifiedCaveats()...)
	floor := func() {
		var sum [32]byte
		for _, step := range steps {
			plainHMAC(&sum, &sum, step)
		}
	}
	var chain token.Chain
	ownFloor := func() {
		anchor, _ := ring.Anchor(tok)
		if !chain.Walk(tok, &anchor) {
			b.Fatal("does not hold")
		}
	}
	theirs := func() {
		var m macaroon.Macaroon
		if err := m.UnmarshalBinary(data); err != nil {
			b.Fatal(err)
		}
		if _, err := m.VerifySignature(key[:], nil); err != nil {
			b.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, ours); n != 0 {
		b.Fatalf("%v allocations", n)
	}
	for _, c := range []struct {
		name string
		run  func()
	}{{"macaroond", ours}, {"floor", floor}, {"own-floor", ownFloor}, {"macaroon.v2", theirs}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.run()
			}
		})
	}
	b.Run("ratio", func(b *testing.B) {
		var of [4][]float64
		for b.Loop() {
			for i, f := range []func(){ours, floor, theirs, ownFloor} {
				of[i] = append(of[i], timed(f).Seconds())
			}
		}
		b.ReportMetric(median(of[0])/median(of[1]), "x-of-floor")
		b.ReportMetric(median(of[0])/median(of[2]), "x-of-macaroon.v2")
		b.ReportMetric(median(of[0])/median(of[3]), "x-of-own-floor")
		b.ReportMetric(0, "ns/op")
	})
}

// plainHMAC is HMAC-SHA256 as one writes it down, without an allocation.
func plainHMAC(to, key *[32]byte, message string) {
	var inner [64 + 128]byte
	var outer [64 + 32]byte
	copy(inner[:], key[:])
	copy(outer[:], key[:])
	for i := range 64 {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := sha256.Sum256(inner[:64+copy(inner[64:], message)])
	copy(outer[64:], sum[:])
	*to = sha256.Sum256(outer[:])
}

// BenchmarkLinear judges tokens of 4 to 64 caveats. Promised: 64 cost at most 1.1
// of what the line through 4 and 32 says.
func BenchmarkLinear(b *testing.B) {
	v := newVerifier(b)
	counts := []int{4, 16, 32, 64}
	var run []func()
	for _, n := range counts {
		holder := []string{"audience photos"}
		for len(holder)+len(mint) < n {
			holder = append(holder, []string{"time-before 2026-11-21T13:00:00Z", "path /photos/*", "method GET HEAD", "note abcdefgh"}[len(holder)%4])
		}
		q := &verify.Question{Token: tokenWith(b, holder...), Request: request()}
		var verdict verify.Verdict
		run = append(run, func() {
			if v.Judge(q, &verdict); !verdict.Allowed() || verdict.Chain.Len() != n {
				b.Fatal(verdict.Code)
			}
		})
	}
	of := make([][]float64, len(counts))
	for b.Loop() {
		for i, f := range run {
			of[i] = append(of[i], timed(f).Seconds()*1e9/2000) // ns each
		}
	}
	at4, at32, at64 := median(of[0]), median(of[2]), median(of[3])
	slope := (at32 - at4) / 28
	b.ReportMetric(slope, "ns/caveat")
	b.ReportMetric(at64/(at32+32*slope), "x-of-line-at-64")
	b.ReportMetric(0, "ns/op")
}

func median(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }

// timed runs f often enough that each collects its own garbage.
func timed(f func()) time.Duration {
	start := time.Now()
	for range 2000 {
		f()
	}
	return time.Since(start)
}

// BenchmarkParts is what a verdict is made of.
func BenchmarkParts(b *testing.B) {
	text := tokenWith(b, "time-before 2026-11-21T13:00:00Z", "audience photos", "method GET HEAD")
	v := newVerifier(b)
	tok, err := token.Parse(text)
	if err != nil {
		b.Fatal(err)
	}
	key, _ := ring.RootKey(id)
	chain, _ := tok.Verify(&key)
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"parse", func() { token.Parse(text) }},
		{"derive", func() { ring.RootKey(id) }},
		{"chain", func() { tok.Verify(&key) }},
		{"identity", func() { chain.Identity() }},
		{"revocation", func() { v.Revoked.Revoked(chain) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.run()
			}
		})
	}
}
