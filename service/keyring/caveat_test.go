package keyring

import (
	"strings"
	"testing"

	"macaroond/service/token"
	"macaroond/storage"
)

// A sealed caveat opens under its identifier while the epoch lives, after a
// restart with the same secret too, and in no other way.
func TestSealedCaveat(t *testing.T) {
	keys := keysOf(t, keyA)
	ring := New(keys)
	epochs := []storage.Epoch{epoch(1, sealed(t, keys, 1), storage.EpochVerifying), epoch(2, sealed(t, keys, 2), storage.EpochSigning)}
	if err := ring.Load(epochs); err != nil {
		t.Fatal(err)
	}
	const text = "method GET"
	box, ok := ring.SealCaveat(id(1, 1), text)
	again, _ := ring.SealCaveat(id(1, 1), text)
	if !ok || box == again || strings.ContainsAny(box, "=+/ ") {
		t.Fatalf("%v, %q and %q", ok, box, again)
	}
	opens := func(what string, ring *Keyring, id token.Identifier, box string, want bool) {
		t.Helper()
		if got, ok := ring.OpenSealed(id, box); ok != want || want && got != text || !want && got != "" {
			t.Errorf("%s: %q, %v", what, got, ok)
		}
	}
	opens("its own", ring, id(1, 1), box, true)
	opens("another root key", ring, id(1, 2), box, false)
	opens("another epoch of the same secret", ring, id(2, 1), box, false)
	opens("an unknown epoch", ring, id(3, 1), box, false)
	opens("nothing", ring, id(1, 1), "", false)
	whole, _ := ring.SealCaveat(id(1, 1), text+"S") // of as many bytes as characters stand for
	for _, behind := range []string{"!", "=", "===="} {
		if got, ok := ring.OpenSealed(id(1, 1), whole+behind); ok {
			t.Errorf("with %q behind it: %q", behind, got)
		}
	}
	opens("half", ring, id(1, 1), box[:len(box)/2], false)
	for i := range len(box) - 1 { // the last character has bits that must be zero
		c := byte('A')
		if box[i] == c {
			c = 'B'
		}
		opens("changed", ring, id(1, 1), box[:i]+string(c)+box[i+1:], false)
	}
	if _, ok := ring.SealCaveat(id(3, 1), text); ok {
		t.Error("sealed for an unknown epoch")
	}
	reopened := New(keys)
	if err := reopened.Load(epochs); err != nil {
		t.Fatal(err)
	}
	opens("after a restart", reopened, id(1, 1), box, true)
	if err := ring.Load(epochs[1:]); err != nil {
		t.Fatal(err)
	}
	opens("when the epoch is gone", ring, id(1, 1), box, false)
	// Its key is no root key: what opens boxes verifies no token.
	root, _ := reopened.RootKey(id(1, 1))
	if prk, _ := reopened.prk(id(1, 1)); prk.Expand(caveatInfo+id(1, 1).String()) == root {
		t.Error("the key of boxes is the root key")
	}
}
