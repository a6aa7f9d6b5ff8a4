//go:build !race

package revocation_test

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"macaroond/service/revocation"
	"macaroond/service/token"
	"macaroond/storage"
)

const million = 1_000_000

// mixes are what a million entries may be: a branch under a root key of its own
// is the dearest.
var mixes = []struct {
	name string
	kind func(i int) storage.Grain
}{
	{"devices", func(int) storage.Grain { return storage.GrainDevice }},
	{"branches", func(int) storage.Grain { return storage.GrainBranch }},
	{"mixed", func(i int) storage.Grain { return storage.GrainDevice + storage.Grain(i%2) }},
}

// entries draws n of them, the same ones each time.
func entries(n int, kind func(i int) storage.Grain) func(yield func(storage.Revocation) bool) {
	return func(yield func(storage.Revocation) bool) {
		r := rand.New(rand.NewPCG(1, 2))
		for i := range n {
			e := storage.Revocation{Seq: int64(i + 1), Grain: kind(i), ExpiresAt: later.Add(time.Duration(i) * time.Second)}
			binary.BigEndian.PutUint64(e.RootKeyID[:], r.Uint64())
			binary.BigEndian.PutUint64(e.RootKeyID[8:], r.Uint64())
			if e.Grain == storage.GrainBranch {
				binary.BigEndian.PutUint64(e.Fingerprint[:], r.Uint64())
				binary.BigEndian.PutUint64(e.Fingerprint[8:], r.Uint64())
			}
			if !yield(e) {
				return
			}
		}
	}
}

// heap is what is alive after two collections (the second takes what
// finalizers kept).
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// filled is a list of n entries, what an entry of it takes, and how long it
// took to fill one at a time, as the follower does.
func filled(t testing.TB, n int, kind func(i int) storage.Grain) (l *revocation.List, perEntry float64, took time.Duration) {
	t.Helper()
	before := heap()
	start := time.Now()
	l = revocation.New()
	for e := range entries(n, kind) {
		if !l.Add(e) {
			t.Fatal("unknown grain")
		}
	}
	took = time.Since(start)
	after := heap()
	if l.Len() != n {
		t.Fatalf("%d live entries, want %d", l.Len(), n)
	}
	return l, (float64(after) - float64(before)) / float64(n), took
}

// TestMillion holds the promise of at most 64 bytes an entry. (The race detector
// has nothing to find in it and would take a minute: TestConcurrent is for that.)
func TestMillion(t *testing.T) {
	for _, mix := range mixes {
		l, perEntry, took := filled(t, million, mix.kind)
		t.Logf("%s: %.1f bytes an entry, added in %v", mix.name, perEntry, took)
		if perEntry > 64 || perEntry < 20 { // less than an id and a time is a wrong measurement
			t.Errorf("%s: %.1f bytes an entry, want at most 64", mix.name, perEntry)
		}
		runtime.KeepAlive(l)
	}
}

// BenchmarkMillion is a check against a million live entries: of a token that
// nothing is known of, of one whose root key has a revoked branch (which costs
// a fingerprint a caveat), and of a revoked device.
func BenchmarkMillion(b *testing.B) {
	var chains []token.Chain
	for i := range byte(250) {
		chains = append(chains, chainOf(b, narrow(b, root(b, 1, i), "time-before 2026-11-21T12:30:00Z", "audience photos", "method GET")))
	}
	for _, mix := range mixes {
		l, perEntry, took := filled(b, million, mix.kind)
		run := func(name string, l *revocation.List, want bool) {
			b.Run(mix.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if l.Revoked(chains[i%len(chains)]) != want {
						b.Fatal("wrong")
					}
					i++
				}
				b.ReportMetric(perEntry, "bytes/entry")
				b.ReportMetric(took.Seconds(), "s-to-load")
			})
		}
		run("unknown", l, false)
		for _, c := range chains {
			l.Add(branch(chainOf(b, narrow(b, root(b, 1, c.Identifier().RootKeyID[15]), "audience mail")), later))
		}
		run("branch-of-another", l, false)
		for _, c := range chains {
			l.Add(device(c, later))
		}
		run("revoked", l, true)
	}
}

// BenchmarkSweep is a sweep over a million entries of which none is due.
func BenchmarkSweep(b *testing.B) {
	l, _, _ := filled(b, million, mixes[2].kind)
	for b.Loop() {
		l.Sweep(now)
	}
}
