package verify_test

import (
	"errors"
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

// timed runs f a hundred times: the clock is then no part of what is measured.
func timed(f func()) time.Duration {
	start := time.Now()
	for range 100 {
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
