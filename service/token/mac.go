package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"sync"
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
	h := newHasher()
	defer h.free()
	h.mac(&s, &keyGenerator, unsafe.String(&rootKey[0], len(rootKey)))
	h.mac(&s, (*[32]byte)(&s), identifier)
	return s
}

// Next is the signature after one more first-party caveat.
func (s *Signature) Next(caveat string) Signature { return mac((*[32]byte)(s), caveat) }

// mac is HMAC-SHA256 with a 32 byte key.
func mac(key *[32]byte, message string) (out Signature) {
	h := newHasher()
	defer h.free()
	h.mac(&out, key, message)
	return out
}

// hasher computes HMAC-SHA256 for one user at a time. Two things make it a
// quarter faster than two calls of sha256.Sum256, of which nearly half is not
// hashing: the blocks are laid out where they are hashed, RFC 2104's and SHA-256's
// own padding (FIPS 180-4 section 5.1.1) included, so that nothing is copied
// into the hash; and the sum is then read from the hash's state.
type hasher struct {
	sha   hash.Hash
	state encoding.BinaryAppender // the same hash
	room  [stateLen]byte
	inner [64 + MaxCaveatLen + 64]byte // key, message, padding
	outer [128]byte                    // key, inner sum, padding
}

// Of the state that crypto/sha256 marshals only the beginning counts here: its
// name and then the sum so far. Should a release of Go have another layout, it
// has another name, and the sum is computed the long way.
const (
	stateName = "sha\x03"
	stateLen  = 4 + 32 + 64 + 8
)

var hashers = sync.Pool{New: func() any {
	h := &hasher{sha: sha256.New()}
	h.state, _ = h.sha.(encoding.BinaryAppender) // documented; without it: the long way
	for i := 32; i < 64; i++ {                   // of what a 32 byte key is padded with, this half is always the same
		h.inner[i], h.outer[i] = 0x36, 0x5c
	}
	pad(h.outer[:], 64+32)
	return h
}}

func newHasher() *hasher { return hashers.Get().(*hasher) }

// free forgets the last key and sum.
func (h *hasher) free() {
	clear(h.inner[:32])
	clear(h.outer[:32])
	clear(h.outer[64 : 64+32])
	clear(h.room[:])
	h.sha.Reset()
	hashers.Put(h)
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
	in := h.inner[:]
	if len(message) > MaxCaveatLen {
		in = append(append(make([]byte, 0, 64+len(message)+128), h.inner[:64]...), message...)
		in = in[:cap(in)]
	}
	n := 64 + copy(in[64:], message)
	h.sum((*[32]byte)(h.outer[64:]), in[:pad(in, n)], n)
	h.sum((*[32]byte)(to), h.outer[:], 64+32)
}

// pad writes SHA-256's padding after the n bytes that are to be hashed, and
// says where it ends.
func pad(b []byte, n int) (end int) {
	end = (n + 1 + 8 + 63) &^ 63
	b[n] = 0x80
	clear(b[n+1 : end-8])
	binary.BigEndian.PutUint64(b[end-8:], uint64(n)*8)
	return end
}

// sum is the hash of the first n bytes of what has been padded.
func (h *hasher) sum(to *[32]byte, padded []byte, n int) {
	if h.state != nil {
		h.sha.Reset()
		h.sha.Write(padded)
		if s, err := h.state.AppendBinary(h.room[:0]); err == nil && len(s) == stateLen && string(s[:4]) == stateName {
			copy(to[:], s[4:])
			return
		}
	}
	*to = sha256.Sum256(padded[:n])
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
	h := newHasher()
	defer h.free()
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
