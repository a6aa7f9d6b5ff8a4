package token_test

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"macaroond/service/token"
)

// rubbish is what somebody could send instead of a token: n bytes each.
func rubbish(n int) map[string]string {
	r := rand.New(rand.NewChaCha8([32]byte{1}))
	noise := make([]byte, n)
	for i := range noise {
		noise[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[r.IntN(64)]
	}
	fit := func(s string) string { return s[:min(n, len(s))] }
	head := version2 + ident(identifier) + eos
	return map[string]string{
		"letters":               strings.Repeat("A", n),
		"newlines":              strings.Repeat("\n", n),
		"NULs":                  strings.Repeat("\x00", n),
		"noise":                 string(noise),
		"empty caveats":         fit(encode(head + strings.Repeat(first(""), n/3))),
		"third-party caveats":   fit(encode(head + strings.Repeat(ident("")+vid("v")+eos, n/6))),
		"large caveats":         fit(encode(head + strings.Repeat(first(strings.Repeat("x", 512)), n/512+1))),
		"one huge field":        fit(encode(version2 + "\x02\xff\x7f" + strings.Repeat("x", n))),
		"JSON of nesting":       fit(encode(`{"c":` + strings.Repeat("[", n))),
		"JSON of objects":       fit(encode(`{"c":[` + strings.Repeat(`{"i":`, n/5))),
		"JSON of caveats":       fit(encode(`{"c":[` + strings.Repeat(`{"i":""},`, n/9))),
		"JSON of members":       fit(encode(`{` + strings.Repeat(`"i":"",`, n/7))),
		"JSON of escapes":       fit(encode(`{"i":"` + strings.Repeat(`\u0041`, n/6))),
		"JSON of whitespace":    fit(encode(`{` + strings.Repeat(" ", n))),
		"JSON of digits":        fit(encode(`{"v":` + strings.Repeat("9", n))),
		"a long epoch":          fit(encode(version2 + "\x02\xb8\x17m1." + strings.Repeat("9", n))),
		"a long location":       fit(encode(version2 + "\x01\xb8\x17" + strings.Repeat("\u00e4", n))),
		"a token and much more": fit(wrapped("") + strings.Repeat("A", n)),
	}
}

// Any byte string is refused in less than a millisecond.
func TestRubbishIsRefusedFast(t *testing.T) {
	for _, n := range []int{1, 64, 4096, 4097, 1 << 20} {
		for what, text := range rubbish(n) {
			best := time.Hour // of several: a busy machine is not the parser's fault
			for range 20 {
				start := time.Now()
				_, err := token.Parse(text)
				best = min(best, time.Since(start))
				if err == nil {
					t.Fatalf("%s of %d bytes is a token", what, n)
				}
			}
			if best > slower*time.Millisecond {
				t.Errorf("%s of %d bytes: refused in %v", what, n, best)
			}
		}
	}
}

// What is allocated does not grow with the input beyond its cap.
func TestRubbishAllocatesWithinCap(t *testing.T) {
	const limit = slower * 64 << 10 // bytes, for 4 KiB of the worst JSON
	worst := uint64(0)
	for what, text := range rubbish(4096) {
		n := allocated(func() { token.Parse(text) })
		worst = max(worst, n)
		if n > limit {
			t.Errorf("%s of 4 KiB allocates %d bytes", what, n)
		}
	}
	for what, text := range rubbish(1 << 20) {
		if n := allocated(func() { token.Parse(text) }); n > 512 {
			t.Errorf("%s of 1 MiB allocates %d bytes", what, n)
		}
		if n := testing.AllocsPerRun(20, func() { token.Parse(text) }); n > 5 {
			t.Errorf("%s of 1 MiB: %v allocations", what, n)
		}
	}
	t.Logf("at most %d bytes for 4 KiB", worst)
}

// allocated is how many bytes a run of f allocates.
func allocated(f func()) uint64 {
	const runs = 20
	var before, after runtime.MemStats
	f()
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / runs
}

func BenchmarkRefuse(b *testing.B) {
	for _, n := range []struct {
		name string
		size int
	}{{"4KiB", 4096}, {"1MiB", 1 << 20}} {
		for _, what := range []string{"letters", "empty caveats", "JSON of caveats"} {
			text := rubbish(n.size)[what]
			b.Run(what+"/"+n.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := token.Parse(text); err == nil {
						b.Fatal("accepted")
					}
				}
			})
		}
	}
}
