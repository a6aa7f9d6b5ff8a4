package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
)

// The primitives, all of them. SHA-256 comes from the standard library; the
// HMAC of RFC 2104 is written out over it because hmac.New allocates and this
// runs once a caveat on every request. TestHMAC holds it against crypto/hmac.

// redacted is what a secret prints as. Format is there because String covers
// neither %d nor %#v, and MarshalText for a secret inside what is logged as JSON.
const redacted = "[redacted]"

// RootKey is the key that a token's chain starts from. It never leaves the
// authority, and it never prints.
type RootKey [32]byte

func (RootKey) String() string               { return redacted }
func (RootKey) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (RootKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (RootKey) LogValue() slog.Value         { return slog.StringValue(redacted) }

// Signature is the tail of a chain. Whoever has it can append caveats, so it
// is a bearer secret: stored or shown only as its [Fingerprint].
type Signature [32]byte

func (Signature) String() string               { return redacted }
func (Signature) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (Signature) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Signature) LogValue() slog.Value         { return slog.StringValue(redacted) }

// keyGenerator is libmacaroons' constant: it turns a root key of any length
// into the fixed length key of the first HMAC. HMAC pads it with zeros.
var keyGenerator = [32]byte([]byte("macaroons-key-generator\x00\x00\x00\x00\x00\x00\x00\x00\x00"))

// Start is the signature of a token with no caveats: the key that rootKey
// generates, over the identifier.
func Start(rootKey *RootKey, identifier string) Signature {
	key := mac((*[32]byte)(&keyGenerator), string(rootKey[:]))
	return mac((*[32]byte)(&key), identifier)
}

// Next is the signature after one more first-party caveat.
func (s *Signature) Next(caveat string) Signature { return mac((*[32]byte)(s), caveat) }

// nextThirdParty is libmacaroons' bound hash of a third-party caveat.
func (s *Signature) nextThirdParty(vid, id string) Signature {
	a, b := mac((*[32]byte)(s), vid), mac((*[32]byte)(s), id)
	return mac((*[32]byte)(s), string(a[:])+string(b[:]))
}

// mac is HMAC-SHA256 with a 32 byte key. Messages of up to 512 bytes, which is
// all that a parsed token has, take no allocation.
func mac(key *[32]byte, message string) Signature {
	var outer [64 + 32]byte
	pad((*[64]byte)(outer[:]), key, 0x5c5c5c5c5c5c5c5c)
	sum := inner(key, message)
	copy(outer[64:], sum[:])
	return sha256.Sum256(outer[:])
}

// inner is HMAC's first hash. Nearly every caveat fits the short buffer, which
// costs less to clear than the long one.
func inner(key *[32]byte, message string) [32]byte {
	if len(message) <= 64 {
		var b [64 + 64]byte
		pad((*[64]byte)(b[:]), key, 0x3636363636363636)
		return sha256.Sum256(b[:64+copy(b[64:], message)])
	}
	var b [64 + MaxCaveatLen]byte
	pad((*[64]byte)(b[:]), key, 0x3636363636363636)
	return sha256.Sum256(append(b[:64], message...))
}

// pad is RFC 2104's key block: the key, with zeros to the hash's block size,
// XOR a byte repeated.
func pad(block *[64]byte, key *[32]byte, with uint64) {
	for i := 0; i < 64; i += 8 {
		word := with
		if i < 32 {
			word ^= binary.LittleEndian.Uint64(key[i:])
		}
		binary.LittleEndian.PutUint64(block[i:], word)
	}
}

// ExpandKey is HKDF-Expand (RFC 5869 section 2.3) of one block: the 32 byte key
// that a pseudorandom key gives for info.
func ExpandKey(prk *[32]byte, info string) RootKey {
	return RootKey(mac(prk, info+"\x01"))
}

// equal compares signatures in constant time: a comparison that stops at the
// first wrong byte lets a forger find the right one byte by byte.
func equal(a, b *Signature) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// Fingerprint names a point of a chain without giving its signature away: the
// first 16 bytes of SHA-256("macaroond/branch/v1" ‖ signature).
type Fingerprint [16]byte

// Fingerprint is the signature's name on the revocation list.
func (s *Signature) Fingerprint() Fingerprint {
	const label = "macaroond/branch/v1"
	var b [len(label) + 32]byte
	copy(b[:], label)
	copy(b[len(label):], s[:])
	sum := sha256.Sum256(b[:])
	return Fingerprint(sum[:16])
}
