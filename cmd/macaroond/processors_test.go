package main

import (
	"runtime"
	"testing"
)

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
