package token

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

// RootKeyID names a root key: 16 random bytes. It is not secret.
type RootKeyID [16]byte

// NewRootKeyID draws a fresh one. crypto/rand does not fail (Go 1.24 and later).
func NewRootKeyID() (id RootKeyID) {
	rand.Read(id[:])
	return id
}

// ParseRootKeyID reads the 22 characters that String writes.
func ParseRootKeyID(s string) (id RootKeyID, err error) {
	const length = 22
	var room [length + 8]byte
	if len(s) == length {
		var raw []byte
		if raw, err = appendBase64(room[:0], s); err == nil {
			return RootKeyID(raw), nil
		}
	}
	return id, errors.New("a root key ID is 22 characters of base64url")
}

func (id RootKeyID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// Identifier is what a token's chain begins with: the format, the epoch whose
// secret derives the root key, and the root key ID. Its text is
// m1.<epoch>.<root key ID> in the format m1: ASCII, so that every macaroon library carries it.
type Identifier struct {
	Format    Format
	Epoch     uint32 // 1 and up
	RootKeyID RootKeyID
}

// maxIdentifier is the length of the longest: m1.4294967295. and 22 characters.
const maxIdentifier = 36

func (id Identifier) String() string { return string(id.AppendTo(nil)) }

// AppendTo appends the text to b.
func (id Identifier) AppendTo(b []byte) []byte {
	b = append(b, formats[id.Format].name...)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(id.Epoch), 10)
	b = append(b, '.')
	return base64.RawURLEncoding.AppendEncode(b, id.RootKeyID[:])
}

// ParseIdentifier reads the one spelling that String writes.
func ParseIdentifier(s string) (id Identifier, err error) {
	name, rest, _ := strings.Cut(s, ".")
	var ok bool
	if id.Format, ok = FormatNamed(name); !ok {
		return id, errors.New("the identifier is not m1.<epoch>.<root key ID>")
	}
	number, key, ok := strings.Cut(rest, ".")
	if !ok || number == "" || number[0] < '1' { // neither sign nor leading zero
		return id, errors.New("the identifier's epoch is not a decimal number from 1")
	}
	epoch, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return id, errors.New("the identifier's epoch is not a decimal number from 1")
	}
	id.Epoch = uint32(epoch)
	id.RootKeyID, err = ParseRootKeyID(key)
	return id, err
}

// Prefixes of opaque ids. An id is a prefix and 12 random bytes in base64url
// (16 characters): never a name, for anyone who holds a token can read it.
const (
	UserPrefix    = "usr_"
	ServicePrefix = "svc_"
	DevicePrefix  = "dev_"
)

// NewID draws a fresh id with the prefix.
func NewID(prefix string) string {
	var b [12]byte
	rand.Read(b[:])
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// IsID reports whether s is one of the prefixes and 16 characters of base64url.
func IsID(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(s, p); ok && len(rest) == 16 {
			var bad uint32
			for i := range len(rest) {
				bad |= sextets[0][rest[i]]
			}
			return bad&notSextet == 0
		}
	}
	return false
}
