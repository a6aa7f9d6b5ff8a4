package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// Garbage is collected at 400 % of the live heap, unless the operator has said at
// how much.
func TestGarbage(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	for operator, want := range map[string]int{"": 400, "100": 100} {
		t.Setenv("GOGC", operator)
		_, end := beginServing()
		end()
		if got := debug.SetGCPercent(100); got != want {
			t.Errorf("GOGC=%s: %d, want %d", operator, got, want)
		}
	}
}

// Hashing gets processors of its own, at most as many as there are cores, unless
// the operator has said how many there are to be.
func TestShareProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	t.Setenv("GOMAXPROCS", "3")
	if shareProcessors(2); runtime.GOMAXPROCS(0) != before {
		t.Errorf("%d processors, against the operator's word", runtime.GOMAXPROCS(0))
	}
	t.Setenv("GOMAXPROCS", "")
	if shareProcessors(1); runtime.GOMAXPROCS(0) != before+1 {
		t.Errorf("%d processors for one hash at a time, want %d", runtime.GOMAXPROCS(0), before+1)
	}
	runtime.GOMAXPROCS(before)
	if shareProcessors(1 << 10); runtime.GOMAXPROCS(0) != before+runtime.NumCPU() {
		t.Errorf("%d processors for many hashes at a time, want %d", runtime.GOMAXPROCS(0), before+runtime.NumCPU())
	}
}
