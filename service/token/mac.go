package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"unsafe"
)

// The primitives, all of them. SHA-256 comes from the standard library; the
// HMAC of RFC 2104 is written out over it because hmac.New allocates and this
// runs once a caveat on every request; unsafe shows bytes as text and nothing else. TestHMAC holds it against crypto/hmac.

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
func Start(rootKey *RootKey, identifier string) (s Signature) {
	var h hasher
	h.init()
	h.mac(&s, &keyGenerator, unsafe.String(&rootKey[0], len(rootKey)))
	h.mac(&s, (*[32]byte)(&s), identifier)
	return s
}

// Next is the signature after one more first-party caveat.
func (s *Signature) Next(caveat string) Signature { return mac((*[32]byte)(s), caveat) }

// mac is HMAC-SHA256 with a 32 byte key.
func mac(key *[32]byte, message string) (out Signature) {
	var h hasher
	h.init()
	h.mac(&out, key, message)
	return out
}

// hasher has the blocks that HMAC-SHA256 hashes. They are laid out once for
// all the HMACs of a chain: of what RFC 2104 pads a 32 byte key with, the half
// that is always the same is written by init.
type hasher struct {
	inner [64 + MaxCaveatLen]byte
	outer [64 + 32]byte
}

func (h *hasher) init() {
	for i := 32; i < 64; i++ {
		h.inner[i], h.outer[i] = 0x36, 0x5c
	}
}

// mac writes the HMAC of a message under a 32 byte key, which it may overwrite.
// A message of up to 512 bytes, which is all that a parsed token has, takes no
// allocation.
func (h *hasher) mac(to *Signature, key *[32]byte, message string) {
	for i := 0; i < 32; i += 8 {
		word := binary.LittleEndian.Uint64(key[i:])
		binary.LittleEndian.PutUint64(h.inner[i:], word^0x3636363636363636)
		binary.LittleEndian.PutUint64(h.outer[i:], word^0x5c5c5c5c5c5c5c5c)
	}
	sum := sha256.Sum256(append(h.inner[:64], message...)) // in place, if there is room
	copy(h.outer[64:], sum[:])
	*to = sha256.Sum256(h.outer[:])
}

// thirdParty is libmacaroons' bound hash of a third-party caveat.
func (h *hasher) thirdParty(to, key *Signature, vid, id string) {
	var both [64]byte
	var part Signature
	h.mac(&part, (*[32]byte)(key), vid)
	copy(both[:], part[:])
	h.mac(&part, (*[32]byte)(key), id)
	copy(both[32:], part[:])
	h.mac(to, (*[32]byte)(key), unsafe.String(&both[0], len(both)))
}

// DeriveRootKey is HKDF-Expand (RFC 5869 section 2.3) of one block: the root key
// that an epoch's pseudorandom key gives for the whole identifier as info.
func DeriveRootKey(prk *[32]byte, id Identifier) (k RootKey) {
	var room [maxIdentifier + 1]byte
	info := append(id.AppendTo(room[:0]), 1) // the block's number
	var h hasher
	h.init()
	h.mac((*Signature)(&k), prk, unsafe.String(&info[0], len(info)))
	return k
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
