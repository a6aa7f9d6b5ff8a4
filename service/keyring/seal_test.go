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
