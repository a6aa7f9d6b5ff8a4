package token

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

// Limits, checked before any cryptography.
const (
	MaxTextLen   = 4096 // characters of a token's text
	MaxCaveats   = 64   // mint caveats included
	MaxCaveatLen = 512  // bytes of one caveat
)

// ErrTooLarge and ErrMalformed are what [Parse] refuses with. The texts wrapped
// around them say what is wrong and never quote the token.
var (
	ErrTooLarge  = errors.New("token is too large")
	ErrMalformed = errors.New("token is malformed")
)

func malformed(why string) error { return fmt.Errorf("%w: %s", ErrMalformed, why) }

// Token is a parsed macaroon: well formed, and nobody's word yet. It is
// immutable and safe for concurrent use. It does not print.
type Token struct {
	location   string
	identifier string
	id         Identifier
	caveats    []caveat
	sig        Signature
}

// caveat is one caveat as it stands in the token. vid is empty for a
// first-party caveat; location is only ever there with a vid.
type caveat struct{ id, vid, location string }

// String keeps a token that strays into a log from being one.
func (Token) String() string { return redacted }

// Format is String for every verb.
func (Token) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// Parse reads the text form: base64url without padding of the version 2 binary
// form, or of its JSON form. Errors match [ErrTooLarge] or [ErrMalformed].
//
// Binary text has one spelling, which [Token.Text] gives back, except that a
// zero-length location, which pymacaroons writes, is read as none.
func Parse(text string) (*Token, error) {
	t, err := decode(text)
	if err != nil {
		return nil, err
	}
	if t.id, err = ParseIdentifier(t.identifier); err != nil {
		return nil, malformed(err.Error())
	}
	return t, nil
}

// decode is Parse for any identifier.
func decode(text string) (*Token, error) {
	switch {
	case len(text) > MaxTextLen:
		return nil, fmt.Errorf("%w: more than %d characters", ErrTooLarge, MaxTextLen)
	case text == "":
		return nil, malformed("empty")
	}
	data, err := decodeBase64(text)
	if err != nil {
		return nil, err
	}
	var t *Token
	switch {
	case len(data) > 0 && data[0] == 2:
		// The strings of the token are views into data, which nothing writes again.
		t, err = decodeBinary(unsafe.String(unsafe.SliceData(data), len(data)))
	case len(data) > 0 && data[0] == '{':
		t, err = decodeJSON(data)
	default:
		return nil, malformed("neither the version 2 binary form nor its JSON form")
	}
	if err != nil {
		return nil, err
	}
	for i := range t.location {
		if r, _ := utf8.DecodeRuneInString(t.location[i:]); r == utf8.RuneError || !unicode.IsPrint(r) {
			return nil, malformed("the location is not printable")
		}
	}
	return t, nil
}

// decodeBase64 takes the URL alphabet only. The library's own strict mode
// still skips CR and LF, which would give one token many spellings.
func decodeBase64(text string) ([]byte, error) {
	if strings.IndexByte(text, '\n') >= 0 || strings.IndexByte(text, '\r') >= 0 {
		return nil, malformed("not base64url without padding")
	}
	data := make([]byte, base64.RawURLEncoding.DecodedLen(len(text)))
	if _, err := b64.Decode(data, unsafe.Slice(unsafe.StringData(text), len(text))); err != nil {
		return nil, malformed("not base64url without padding")
	}
	return data, nil
}

// Fields of the version 2 binary form (libmacaroons doc/format.txt).
const (
	fieldEnd        = 0
	fieldLocation   = 1
	fieldIdentifier = 2
	fieldVID        = 4
	fieldSignature  = 6
)

// reader takes the binary form apart. Every length is at most MaxTextLen, so a
// minimal varint has one byte or two.
type reader struct{ rest string }

// next takes the field's data if the next field is of that type.
func (r *reader) next(field byte) (data string, present bool, err error) {
	if r.rest == "" {
		return "", false, malformed("it ends too early")
	}
	if r.rest[0] != field {
		return "", false, nil
	}
	b := r.rest[1:]
	if b == "" {
		return "", false, malformed("it ends too early")
	}
	n, size := int(b[0]), 1
	if n >= 0x80 {
		if len(b) < 2 || b[1] == 0 || b[1] >= 0x80 { // over-long, or beyond any limit
			return "", false, malformed("a length is not a minimal varint")
		}
		n, size = n&0x7f|int(b[1])<<7, 2
	}
	if len(b)-size < n {
		return "", false, malformed("it ends too early")
	}
	r.rest = b[size+n:]
	return b[size : size+n], true, nil
}

// must is next for a field that has to be there.
func (r *reader) must(field byte) (string, error) {
	data, ok, err := r.next(field)
	if err == nil && !ok {
		err = malformed("a field is missing, unknown, twice there or out of order")
	}
	return data, err
}

// end takes the end of a section.
func (r *reader) end() (bool, error) {
	if r.rest == "" {
		return false, malformed("it ends too early")
	}
	if r.rest[0] != fieldEnd {
		return false, nil
	}
	r.rest = r.rest[1:]
	return true, nil
}

func (r *reader) mustEnd() error {
	ok, err := r.end()
	if err == nil && !ok {
		err = malformed("a field is missing, unknown, twice there or out of order")
	}
	return err
}

func decodeBinary(data string) (t *Token, err error) {
	r := reader{data[1:]}
	t = &Token{caveats: make([]caveat, 0, 8)}
	if t.location, _, err = r.next(fieldLocation); err != nil {
		return nil, err
	}
	if t.identifier, err = r.must(fieldIdentifier); err != nil {
		return nil, err
	}
	if err = r.mustEnd(); err != nil {
		return nil, err
	}
	for {
		done, err := r.end()
		if err != nil {
			return nil, err
		}
		if done {
			break
		}
		var c caveat
		located, identified := false, false
		if c.location, located, err = r.next(fieldLocation); err != nil {
			return nil, err
		}
		if c.id, err = r.must(fieldIdentifier); err != nil {
			return nil, err
		}
		if c.vid, identified, err = r.next(fieldVID); err != nil {
			return nil, err
		}
		if located && c.location == "" || identified && c.vid == "" {
			return nil, malformed("a caveat has an empty field")
		}
		if err = r.mustEnd(); err != nil {
			return nil, err
		}
		if err = t.add(c); err != nil {
			return nil, err
		}
	}
	sig, err := r.must(fieldSignature)
	if err != nil {
		return nil, err
	}
	if r.rest != "" {
		return nil, malformed("bytes after its end")
	}
	if len(sig) != len(t.sig) {
		return nil, malformed("the signature is not 32 bytes")
	}
	copy(t.sig[:], sig)
	return t, nil
}

// add appends a decoded caveat within the limits. A first-party caveat has no
// location: it would be unsigned bytes that mean nothing.
func (t *Token) add(c caveat) error {
	if len(t.caveats) == MaxCaveats {
		return fmt.Errorf("%w: more than %d caveats", ErrTooLarge, MaxCaveats)
	}
	if max(len(c.id), len(c.vid), len(c.location)) > MaxCaveatLen {
		return fmt.Errorf("%w: a caveat has more than %d bytes", ErrTooLarge, MaxCaveatLen)
	}
	if c.vid == "" && c.location != "" {
		return malformed("a first-party caveat has a location")
	}
	t.caveats = append(t.caveats, c)
	return nil
}

// appendField appends one field of the binary form.
func appendField(b []byte, field byte, data string) []byte {
	b = append(b, field)
	if n := len(data); n < 0x80 {
		b = append(b, byte(n))
	} else {
		b = append(b, byte(n)|0x80, byte(n>>7))
	}
	return append(b, data...)
}

// Text is the binary text form: what Parse reads and the service writes.
func (t *Token) Text() string { return base64.RawURLEncoding.EncodeToString(t.binary()) }

func (t *Token) binary() []byte {
	b := append(make([]byte, 0, 512), 2)
	if t.location != "" {
		b = appendField(b, fieldLocation, t.location)
	}
	b = append(appendField(b, fieldIdentifier, t.identifier), fieldEnd)
	for _, c := range t.caveats {
		if c.location != "" {
			b = appendField(b, fieldLocation, c.location)
		}
		b = appendField(b, fieldIdentifier, c.id)
		if c.vid != "" {
			b = appendField(b, fieldVID, c.vid)
		}
		b = append(b, fieldEnd)
	}
	return appendField(append(b, fieldEnd), fieldSignature, string(t.sig[:]))
}

// UnverifiedLocation is the authority's public URL as the token has it. It is
// not signed: show it, never trust it.
func (t *Token) UnverifiedLocation() string { return t.location }

// UnverifiedIdentifier names the root key that the token claims.
func (t *Token) UnverifiedIdentifier() Identifier { return t.id }

// UnverifiedCaveats gives the texts, mint caveats first. A third-party
// caveat's text is its identifier.
func (t *Token) UnverifiedCaveats() []string {
	texts := make([]string, len(t.caveats))
	for i, c := range t.caveats {
		texts[i] = c.id
	}
	return texts
}
