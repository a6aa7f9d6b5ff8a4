package caveats

import (
	"maps"
	"slices"
	"testing"
)

// A verdict on a built-in caveat allocates nothing, whatever it is.
func TestCheckAllocatesNothing(t *testing.T) {
	facts, none := full(), &Request{}
	texts := append(slices.Collect(maps.Values(example)),
		"", "nope x", "method", "method get", "note  x", "note \xff", "time-before soon", "path /a/../b", "origin null", "path /f\u00fcr/%2A")
	for _, text := range texts {
		for _, r := range []*Request{facts, none} {
			if n := testing.AllocsPerRun(50, func() { Check(text, r) }); n != 0 {
				t.Errorf("%q: %v allocations", text, n)
			}
			c, err := Parse(text)
			if err != nil {
				continue
			}
			if n := testing.AllocsPerRun(50, func() { c.Check(r) }); n != 0 {
				t.Errorf("%q parsed: %v allocations", text, n)
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	r := full()
	for _, name := range slices.Sorted(maps.Keys(example)) {
		text, want := example[name], Held
		if elsewhere(name) {
			want = Unknown
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if Check(text, r) != want {
					b.Fatal(text)
				}
			}
		})
	}
	b.Run("unknown", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if Check("nope x", r) != Unknown {
				b.Fatal("known")
			}
		}
	})
}
