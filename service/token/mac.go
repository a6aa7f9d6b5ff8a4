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

// All the primitives are here. SHA-256 comes from the standard library. The HMAC of
// RFC 2104 is written out over it, because hmac.New allocates and this runs once a
// caveat on every request; TestHMAC holds it against crypto/hmac. unsafe only shows
// bytes as text.

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
var keyGenerator = newKeyed([32]byte([]byte("macaroons-key-generator\x00\x00\x00\x00\x00\x00\x00\x00\x00")))

// Start is the signature of a token with no caveats: the key that rootKey
// generates, over the identifier.
func Start(rootKey *RootKey, identifier string) (s Signature) {
	h := newHasher()
	defer h.free()
	h.start(&s, rootKey, identifier)
	return s
}

func (h *hasher) start(to *Signature, rootKey *RootKey, identifier string) {
	h.macKeyed(to, keyGenerator, unsafe.String(&rootKey[0], len(rootKey)))
	h.mac(to, (*[32]byte)(to), identifier)
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
	sha    hash.Hash
	state  encoding.BinaryAppender    // the same hash
	resume encoding.BinaryUnmarshaler // the same hash
	room   [stateLen]byte
	inner  [64 + MaxCaveatLen + 64]byte // key, message, padding
	outer  [128]byte                    // key, inner sum, padding
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
	h.state, _ = h.sha.(encoding.BinaryAppender) // documented, as is the next; without them: the long way
	h.resume, _ = h.sha.(encoding.BinaryUnmarshaler)
	for i := 32; i < 64; i++ { // of what a 32 byte key is padded with, this half is always the same
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
	h.sha.Reset()
	h.sha.Write(padded)
	if !h.read(to) {
		*to = sha256.Sum256(padded[:n])
	}
}

// read takes the sum out of the hash's state.
func (h *hasher) read(to *[32]byte) bool {
	if h.state == nil {
		return false
	}
	s, err := h.state.AppendBinary(h.room[:0])
	if err != nil || len(s) != stateLen || string(s[:4]) != stateName {
		return false
	}
	copy(to[:], s[4:])
	return true
}

// keyed is a key that much is hashed under: what an HMAC begins with, the blocks
// that follow from the key alone, is hashed once (RFC 2104 section 4). That is
// half of the HMAC of a short message.
type keyed struct {
	key          [32]byte
	inner, outer [stateLen]byte
}

func newKeyed(key [32]byte) *keyed {
	h := newHasher()
	defer h.free()
	k := &keyed{key: key}
	var sum Signature
	h.mac(&sum, &key, "") // lays the blocks out
	k.inner, k.outer = h.after(h.inner[:64]), h.after(h.outer[:64])
	return k
}

// after is the hash's state after one block; zero, which is no state, where it
// cannot be had.
func (h *hasher) after(block []byte) (state [stateLen]byte) {
	h.sha.Reset()
	h.sha.Write(block)
	var sum [32]byte
	if h.read(&sum) {
		state = h.room
	}
	return state
}

// macKeyed is mac under such a key.
func (h *hasher) macKeyed(to *Signature, k *keyed, message string) {
	if len(message) <= MaxCaveatLen {
		n := 64 + copy(h.inner[64:], message)
		end := pad(h.inner[:], n)
		if h.goOn((*[32]byte)(h.outer[64:]), &k.inner, h.inner[64:end]) && h.goOn((*[32]byte)(to), &k.outer, h.outer[64:]) {
			return
		}
	}
	h.mac(to, &k.key, message)
}

// goOn is the hash of what comes after a state; false where it cannot be had.
func (h *hasher) goOn(to *[32]byte, from *[stateLen]byte, padded []byte) bool {
	if h.resume == nil || h.resume.UnmarshalBinary(from[:]) != nil {
		return false
	}
	h.sha.Write(padded)
	return h.read(to)
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

// PRK is HKDF's pseudorandom key (RFC 5869) of an epoch: what all other keys of
// that epoch are derived from. It never leaves the authority, and it never prints.
type PRK struct{ key *keyed }

// NewPRK makes one of what HKDF-Extract gave.
func NewPRK(key [32]byte) PRK { return PRK{newKeyed(key)} }

func (PRK) String() string               { return redacted }
func (PRK) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (PRK) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (PRK) LogValue() slog.Value         { return slog.StringValue(redacted) }

// Expand is HKDF-Expand (RFC 5869 section 2.3) of one block. info says what the
// key is for: two purposes must never share one.
func (k PRK) Expand(info string) (key [32]byte) {
	h := newHasher()
	defer h.free()
	h.expand(&key, k, []byte(info))
	return key
}

// RootKey is the key that the whole identifier as info gives.
func (k PRK) RootKey(id Identifier) (key RootKey) {
	h := newHasher()
	defer h.free()
	var room [maxIdentifier + 1]byte
	h.expand((*[32]byte)(&key), k, id.AppendTo(room[:0]))
	return key
}

func (h *hasher) expand(to *[32]byte, k PRK, info []byte) {
	info = append(info, 1) // the block's number
	h.macKeyed((*Signature)(to), k.key, unsafe.String(&info[0], len(info)))
}

// Anchor is the start of a token's chain, under the root key of its identifier.
func (k PRK) Anchor(t *Token) (a Anchor) {
	h := newHasher()
	defer h.free()
	identifier := t.view(t.identifier) // an identifier has one spelling
	var room [maxIdentifier + 1]byte
	var key RootKey
	h.expand((*[32]byte)(&key), k, append(room[:0], identifier...))
	h.start(&a.Signature, &key, identifier)
	return a
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
