package keyring

import (
	"slices"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealAny writes the documented box around any plaintext: version, key id,
// nonce, XChaCha20-Poly1305 bound to purpose and epoch.
func sealAny(t *testing.T, keys *SealingKeys, epoch byte, plain []byte) []byte {
	t.Helper()
	k := keys.keys[0]
	aead, err := chacha20poly1305.NewX(k.aead[:])
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 24)
	return slices.Concat([]byte{1}, k.id[:], nonce, aead.Seal(nil, nonce, plain, []byte("macaroond/epoch-secret/v1\x00\x00\x00\x00"+string(rune(epoch)))))
}

// What is stored of a link's code is of this key file, user and code, each of
// which makes another MAC of it; which keys come after the first does not.
func TestLinkCode(t *testing.T) {
	first, second := NewKeyText(), NewKeyText()
	keys := func(file string) *SealingKeys {
		k, err := ParseSealingKeys(file)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := keys(first)
	want := k.LinkCode("usr_a", "7k2m9xq4")
	if k.LinkCode("usr_a", "7k2m9xq4") != want || keys(first+"\n"+second).LinkCode("usr_a", "7k2m9xq4") != want {
		t.Error("not the same twice")
	}
	for name, got := range map[string][32]byte{
		"key": keys(second+"\n"+first).LinkCode("usr_a", "7k2m9xq4"), "user": k.LinkCode("usr_b", "7k2m9xq4"), "code": k.LinkCode("usr_a", "7k2m9xq5"),
		"split": k.LinkCode("usr_a7", "k2m9xq4"), "nothing": {},
	} {
		if got == want {
			t.Errorf("another %s: the same", name)
		}
	}
}

func TestStandIn(t *testing.T) {
	first, second := NewKeyText(), NewKeyText()
	point := func(file, name string) string {
		k, err := ParseSealingKeys(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(k.StandIn(name))
	}
	want := point(first, "ann")
	if len(want) != 12 || point(first+"\n"+second, "ann") != want {
		t.Error("not the same twice")
	}
	if point(first, "anne") == want || point(second, "ann") == want {
		t.Error("another name or key: the same")
	}
}
