//go:build !race

package keyring

import (
	"testing"

	"macaroond/storage"
)

// Neither a known epoch's root key nor the decoy allocates. (Under the race
// detector a sync.Pool drops some of what it is given, by chance.)
func TestRootKeyAllocatesNothing(t *testing.T) {
	keys := keysOf(t, keyA)
	ring := New(keys)
	if err := ring.Load([]storage.Epoch{epoch(1, sealed(t, keys, 1), storage.EpochSigning)}); err != nil {
		t.Fatal(err)
	}
	for n := range uint32(3) {
		if got := testing.AllocsPerRun(100, func() { ring.RootKey(id(n, 1)) }); got != 0 {
			t.Errorf("epoch %d: %v allocations", n, got)
		}
	}
}
