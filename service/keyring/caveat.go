package keyring

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"

	"golang.org/x/crypto/chacha20poly1305"

	"macaroond/service/token"
)

// caveatInfo is what the key of a token's sealed caveats is derived for. No
// identifier begins with it, so no root key is ever one of these.
const caveatInfo = "macaroond/sealed/v1\x00"

// SealCaveat encrypts the text of a caveat so that only this authority reads it,
// and only in a token of this identifier: under another root key, or when the
// epoch is gone, it is rubbish. The key is HKDF-SHA256 of the epoch's secret,
// bound to the purpose and the whole identifier; the nonce is random and has 192
// bits, so that no number of them repeats. What comes out is base64url, 54
// characters and four for each three bytes. false: the epoch is unknown.
func (k *Keyring) SealCaveat(id token.Identifier, text string) (box string, ok bool) {
	aead, ok := k.caveatAEAD(id)
	if !ok {
		return "", false
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(text)+aead.Overhead())
	rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, []byte(text), nil)), true
}

// OpenSealed is the text that SealCaveat sealed for the identifier; false for
// anything else.
func (k *Keyring) OpenSealed(id token.Identifier, box string) (text string, ok bool) {
	aead, ok := k.caveatAEAD(id)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(box)
	if !ok || err != nil || len(raw) < chacha20poly1305.NonceSizeX {
		return "", false
	}
	out, err := aead.Open(nil, raw[:chacha20poly1305.NonceSizeX], raw[chacha20poly1305.NonceSizeX:], nil)
	return string(out), err == nil
}

// caveatAEAD seals and opens the caveats of an identifier's tokens. false: the
// epoch is unknown.
func (k *Keyring) caveatAEAD(id token.Identifier) (aead cipher.AEAD, ok bool) {
	prk, known := k.prk(id)
	key := prk.Expand(caveatInfo + id.String())
	aead, err := chacha20poly1305.NewX(key[:])
	return aead, known && err == nil
}
