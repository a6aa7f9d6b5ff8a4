package keyring

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"testing"

	"macaroond/service/token"
)

// The synchronizer token is HKDF-Expand (RFC 5869 section 2.3) of the epoch's
// pseudorandom key, here written out; it differs with each thing that it is
// bound to, and an unknown epoch has none.
func TestCSRF(t *testing.T) {
	prk := [32]byte{1, 2, 3}
	k := New(nil)
	k.state.Store(&state{prk: map[slot]token.PRK{slotOf(7, 0): token.NewPRK(prk), slotOf(8, 0): token.NewPRK([32]byte{9})}, signing: 7})
	id := token.Identifier{Epoch: 7, RootKeyID: token.RootKeyID{5}}
	got, known := k.CSRF(id, "usr_a", "dev_b")
	mac := hmac.New(sha256.New, prk[:])
	mac.Write([]byte("macaroond/csrf/v1\x00" + id.String() + "\x00usr_a\x00dev_b\x01"))
	if !known || !bytes.Equal(got[:], mac.Sum(nil)) {
		t.Errorf("%x, %v", got, known)
	}
	seen := map[[32]byte]string{got: "itself"}
	for name, f := range map[string]func() ([32]byte, bool){
		"another user":    func() ([32]byte, bool) { return k.CSRF(id, "usr_c", "dev_b") },
		"another device":  func() ([32]byte, bool) { return k.CSRF(id, "usr_a", "dev_c") },
		"moved by a byte": func() ([32]byte, bool) { return k.CSRF(id, "usr_", "adev_b") },
		"another root key": func() ([32]byte, bool) {
			return k.CSRF(token.Identifier{Epoch: 7, RootKeyID: token.RootKeyID{6}}, "usr_a", "dev_b")
		},
		"another epoch": func() ([32]byte, bool) {
			return k.CSRF(token.Identifier{Epoch: 8, RootKeyID: token.RootKeyID{5}}, "usr_a", "dev_b")
		},
	} {
		sum, known := f()
		if was := seen[sum]; !known || was != "" {
			t.Errorf("%s: known %v, as with %q", name, known, was)
		}
		seen[sum] = name
	}
	if _, known := k.CSRF(token.Identifier{Epoch: 9, RootKeyID: token.RootKeyID{5}}, "usr_a", "dev_b"); known {
		t.Error("an unknown epoch has one")
	}
	key, _ := k.RootKey(id)
	if key == token.RootKey(got) {
		t.Error("it is the root key")
	}
}
