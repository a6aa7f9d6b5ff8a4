package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"strings"
	"testing"
)

// reference is HMAC-SHA256 by the standard library.
func reference(key [32]byte, message string) Signature {
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(message))
	return Signature(h.Sum(nil))
}

// TestHMAC holds our HMAC against crypto/hmac for every length around the
// sizes that it treats apart, and against RFC 4231 (a shorter key is the same
// key padded with zeros).
func TestHMAC(t *testing.T) {
	for n := range 3 * MaxCaveatLen {
		key := sha256.Sum256([]byte{byte(n), byte(n >> 8)})
		message := strings.Repeat(string(key[:]), n/32+1)[:n]
		want := reference(key, message)
		if mac(&key, message) != want {
			t.Fatalf("differs for %d bytes", n)
		}
		h := newHasher()
		var got Signature
		if h.macKeyed(&got, newKeyed(key), message); got != want {
			t.Fatalf("differs for %d bytes, the key prepared", n)
		}
		h.free()
	}
	var key [32]byte
	copy(key[:], "Jefe")
	got := mac(&key, "what do ya want for nothing?")
	if want := "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"; hex.EncodeToString(got[:]) != want {
		t.Errorf("RFC 4231, case 2: %x", got[:])
	}
}

// other is the state of a hash whose layout is not the one that is known.
type other []byte

func (o other) AppendBinary(b []byte) ([]byte, error) { return append(b, o...), nil }

// Where the hash's state cannot be read, the sum is the same.
func TestHMACTheLongWay(t *testing.T) {
	for name, state := range map[string]encoding.BinaryAppender{
		"none": nil, "empty": other(""), "another name": other("sha\x04" + strings.Repeat("x", stateLen-4)), "shorter": other(stateName + strings.Repeat("x", stateLen-5)),
	} {
		for _, n := range []int{0, 1, 55, 56, 64, 512, 513} {
			h := newHasher()
			h.state = state
			key, message := [32]byte{1, 31: 2}, strings.Repeat("m", n)
			want := reference(key, message)
			var got Signature
			if h.mac(&got, &key, message); got != want {
				t.Errorf("%s: differs for %d bytes", name, n)
			}
			if h.macKeyed(&got, newKeyed(key), message); got != want {
				t.Errorf("%s: differs for %d bytes, the key prepared", name, n)
			}
			if h.after(h.inner[:64]) != [stateLen]byte{} {
				t.Errorf("%s: there is a state", name)
			}
			h = newHasher()
			if h.macKeyed(&got, &keyed{key: key}, message); got != want {
				t.Errorf("%s: differs for %d bytes, the key prepared without a state", name, n)
			}
			h.resume = nil
			if h.macKeyed(&got, newKeyed(key), message); got != want {
				t.Errorf("%s: differs for %d bytes, when the hash cannot go on", name, n)
			}
		}
	}
	h := newHasher()
	h.sha.Write(make([]byte, 64))
	if s, err := h.state.AppendBinary(nil); err != nil || len(s) != stateLen || string(s[:4]) != stateName {
		t.Error("the long way is always taken: this Go has another layout")
	}
	if k := newKeyed([32]byte{1}); !h.goOn(new([32]byte), &k.inner, h.outer[64:]) || !h.goOn(new([32]byte), &k.outer, h.outer[64:]) {
		t.Error("a prepared key is never used")
	}
}

// A hasher that is not in use has no key.
func TestHasherForgets(t *testing.T) {
	h := newHasher()
	var out Signature
	key := [32]byte([]byte("abcdefghijklmnopqrstuvwxyz012345"))
	h.mac(&out, &key, "m")
	h.macKeyed(&out, newKeyed(key), "m")
	h.free()
	var padded [32]byte
	for i := range key {
		padded[i] = key[i] ^ 0x36
	}
	if h.inner[0] == padded[0] || h.outer[0] == key[0]^0x5c || h.outer[64] != 0 || h.room != [stateLen]byte{} {
		t.Error("it still has the last key or sum")
	}
}

func FuzzHMAC(f *testing.F) {
	for _, m := range []string{"", "x", strings.Repeat("x", MaxCaveatLen), strings.Repeat("x", MaxCaveatLen+1)} {
		f.Add([]byte("key"), m)
	}
	f.Fuzz(func(t *testing.T, k []byte, message string) {
		var key [32]byte
		copy(key[:], k)
		if mac(&key, message) != reference(key, message) {
			t.Errorf("differs for key %x, message %q", key, message)
		}
	})
}

// Every bit of a signature counts in the comparison.
func TestEqual(t *testing.T) {
	a := Signature(sha256.Sum256([]byte("a")))
	b := a
	if !equal(&a, &b) {
		t.Error("equal ones differ")
	}
	for bit := range 256 {
		b := a
		b[bit/8] ^= 1 << (bit % 8)
		if equal(&a, &b) {
			t.Errorf("bit %d does not count", bit)
		}
	}
}
