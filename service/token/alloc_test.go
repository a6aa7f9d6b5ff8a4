//go:build !race

package token

import (
	"strings"
	"testing"
)

// (Under the race detector a sync.Pool drops some of what it is given, by chance.)

// The walk along a chain takes one allocation: the list of its signatures.
func TestWalkAllocations(t *testing.T) {
	tok := new(Token)
	err := tok.decode("AgIbbTEuNy5BQUVDQXdRRkJnY0lDUW9MREEwT0R3AAIBeAACAXkAAAYgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	if err != nil {
		t.Fatal(err)
	}
	key := &RootKey{1}
	if n := testing.AllocsPerRun(100, func() { tok.Verify(key) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
	key32 := [32]byte{1}
	text := strings.Repeat("x", MaxCaveatLen)
	if n := testing.AllocsPerRun(100, func() { mac(&key32, text) }); n != 0 {
		t.Errorf("HMAC: %v allocations", n)
	}
}
