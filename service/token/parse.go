package token

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
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

// Token is a parsed macaroon: well formed, and nobody's word yet. It does not
// print. One that [Parse] made is immutable and safe for concurrent use; one
// that is read into again and again belongs to one user at a time (see [Token.Read]).
type Token struct {
	data       []byte // the binary form, which everything else points into
	id         Identifier
	location   span
	identifier span
	caveats    []caveat
	sig        Signature
}

// span is a piece of a token's data.
type span struct{ from, to uint16 }

// caveat is one caveat as it stands in the token. vid is empty for a
// first-party caveat; end is where the next one begins.
type caveat struct {
	id, vid span
	end     uint16
}

func (c *caveat) thirdParty() bool { return c.vid.to > c.vid.from }

// view is a piece of the data as text, without a copy.
func (t *Token) view(s span) string {
	piece := t.data[s.from:s.to]
	return unsafe.String(unsafe.SliceData(piece), len(piece))
}

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
	t := new(Token)
	if err := t.Read(text); err != nil {
		return nil, err
	}
	return t, nil
}

// Read is [Parse] into a token that may have been used before, whose memory it
// uses again: nothing is allocated for the binary form. Every text that came
// out of the former token, or out of a [Chain] of it, changes under its reader,
// so whoever uses this must have let go of all of them. After an error it is no
// token: a chain of it does not hold.
func (t *Token) Read(text string) error {
	if err := t.decode(text); err != nil {
		return err
	}
	var err error
	if t.id, err = ParseIdentifier(t.view(t.identifier)); err != nil {
		return malformed(err.Error())
	}
	return nil
}

// decode is Read for any identifier.
func (t *Token) decode(text string) error {
	*t = Token{data: t.data[:0], caveats: t.caveats[:0]}
	switch {
	case len(text) > MaxTextLen:
		return fmt.Errorf("%w: more than %d characters", ErrTooLarge, MaxTextLen)
	case text == "":
		return malformed("empty")
	}
	var err error
	if t.data, err = appendBase64(t.data, text); err != nil {
		return err
	}
	if t.data[0] == '{' { // any text that decodes has a byte
		if t.data, err = binaryOfJSON(t.data); err != nil {
			return err
		}
	}
	if t.data[0] != 2 {
		return malformed("neither the version 2 binary form nor its JSON form")
	}
	if len(t.data) > 2 && t.data[1] == fieldLocation && t.data[2] == 0 { // pymacaroons writes one
		if t.data = append(t.data[:1], t.data[3:]...); len(t.data) > 1 && t.data[1] == fieldLocation {
			return malformed(unknown)
		}
	}
	if err := t.decodeBinary(); err != nil {
		return err
	}
	location := t.view(t.location)
	for i := range location {
		if c := location[i]; c >= ' ' && c < 0x7f {
			continue
		}
		if r, _ := utf8.DecodeRuneInString(location[i:]); r == utf8.RuneError || !unicode.IsPrint(r) {
			return malformed("the location is not printable")
		}
	}
	return nil
}

// sextets gives each character of the URL alphabet (RFC 4648 section 5) its six
// bits, at each of the four places that they can have in three bytes, and
// notSextet to everything else.
var sextets = func() (t [4][256]uint32) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for place := range t {
		for i := range t[place] {
			t[place][i] = notSextet
		}
		for i, c := range []byte(alphabet) {
			t[place][c] = uint32(i) << (18 - 6*place)
		}
	}
	return t
}()

const notSextet = 1 << 31

// sextet4 is the three bytes of four characters.
func sextet4(a, b, c, d byte) uint32 {
	return sextets[0][a] | sextets[1][b] | sextets[2][c] | sextets[3][d]
}

// appendBase64 takes the URL alphabet without padding, in the one spelling that
// any bytes have. The library's strict mode still skips CR and LF, which would
// give one token many, and takes twice the time.
func appendBase64(to []byte, text string) ([]byte, error) {
	var bad uint32
	n := len(to)
	to = slices.Grow(to, len(text)/4*3+8) // eight bytes are written at a time, and six count
	room := to[:cap(to)]
	for len(text) >= 8 {
		first := sextet4(text[0], text[1], text[2], text[3])
		second := sextet4(text[4], text[5], text[6], text[7])
		bad |= first | second
		binary.BigEndian.PutUint64(room[n:n+8], uint64(first)<<40|uint64(second)<<16)
		n, text = n+6, text[8:]
	}
	if len(text) >= 4 {
		three := sextet4(text[0], text[1], text[2], text[3])
		bad |= three
		room[n], room[n+1], room[n+2] = byte(three>>16), byte(three>>8), byte(three)
		n, text = n+3, text[4:]
	}
	to = room[:n]
	switch len(text) {
	case 1:
		bad = notSextet
	case 2:
		three := sextet4(text[0], text[1], 'A', 'A')
		if bad |= three; three&0xffff != 0 { // bits that no byte has
			bad = notSextet
		}
		to = append(to, byte(three>>16))
	case 3:
		three := sextet4(text[0], text[1], text[2], 'A')
		if bad |= three; three&0xff != 0 {
			bad = notSextet
		}
		to = append(to, byte(three>>16), byte(three>>8))
	}
	if bad&notSextet != 0 {
		return to[:0], malformed("not base64url without padding")
	}
	return to, nil
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
// minimal varint has one byte or two, and a position fits 16 bits.
type reader struct {
	data []byte
	at   int
}

const (
	early   = "it ends too early"
	unknown = "a field is missing, unknown, twice there or out of order"
)

// next takes the field's data if the next field is of that type.
func (r *reader) next(field byte) (s span, present bool, err error) {
	rest := r.data[r.at:]
	if len(rest) < 2 {
		return s, false, malformed(early)
	}
	if rest[0] != field {
		return s, false, nil
	}
	n, head := int(rest[1]), 2
	if n >= 0x80 {
		if len(rest) < 3 || rest[2] == 0 || rest[2] >= 0x80 { // over-long, or beyond any limit
			return s, false, malformed("a length is not a minimal varint")
		}
		n, head = n&0x7f|int(rest[2])<<7, 3
	}
	if len(rest) < head+n {
		return s, false, malformed(early)
	}
	from := r.at + head
	r.at = from + n
	return span{uint16(from), uint16(r.at)}, true, nil
}

// must is next for a field that has to be there.
func (r *reader) must(field byte) (span, error) {
	s, ok, err := r.next(field)
	if err == nil && !ok {
		err = malformed(unknown)
	}
	return s, err
}

// end takes the end of a section, if it is there.
func (r *reader) end() (bool, error) {
	if r.at == len(r.data) {
		return false, malformed(early)
	}
	if r.data[r.at] != fieldEnd {
		return false, nil
	}
	r.at++
	return true, nil
}

func (r *reader) mustEnd() error {
	ok, err := r.end()
	if err == nil && !ok {
		err = malformed(unknown)
	}
	return err
}

// decodeBinary finds the pieces of the data.
func (t *Token) decodeBinary() (err error) {
	r := reader{t.data, 1}
	if t.location, _, err = r.next(fieldLocation); err != nil {
		return err
	}
	if t.identifier, err = r.must(fieldIdentifier); err != nil {
		return err
	}
	if err = r.mustEnd(); err != nil {
		return err
	}
	for {
		done, err := r.end()
		if err != nil {
			return err
		}
		if done {
			break
		}
		if err = t.nextCaveat(&r); err != nil {
			return err
		}
	}
	sig, err := r.must(fieldSignature)
	if err != nil {
		return err
	}
	if r.at != len(r.data) {
		return malformed("bytes after its end")
	}
	if int(sig.to-sig.from) != len(t.sig) {
		return malformed("the signature is not 32 bytes")
	}
	copy(t.sig[:], t.data[sig.from:])
	return nil
}

// nextCaveat takes a caveat within the limits.
func (t *Token) nextCaveat(r *reader) error {
	if len(t.caveats) == MaxCaveats {
		return fmt.Errorf("%w: more than %d caveats", ErrTooLarge, MaxCaveats)
	}
	c, ok := r.short()
	if !ok {
		var err error
		if c, err = r.caveat(); err != nil {
			return err
		}
	}
	if t.caveats == nil {
		t.caveats = make([]caveat, 0, 8)
	}
	t.caveats = append(t.caveats, c)
	return nil
}

// short is caveat for what nearly all are: first-party ones of less than 128
// bytes. It takes nothing when the next one is not.
func (r *reader) short() (c caveat, ok bool) {
	rest := r.data[r.at:]
	if len(rest) < 2 || rest[0] != fieldIdentifier || rest[1] >= 0x80 {
		return c, false
	}
	end := 2 + int(rest[1])
	if end >= len(rest) || rest[end] != fieldEnd {
		return c, false
	}
	c.id = span{uint16(r.at + 2), uint16(r.at + end)}
	r.at += end + 1
	c.end = uint16(r.at)
	return c, true
}

// caveat takes a caveat. A first-party caveat has no location: it would be
// unsigned bytes that mean nothing.
func (r *reader) caveat() (c caveat, err error) {
	location, located, err := r.next(fieldLocation)
	if err != nil {
		return c, err
	}
	if c.id, err = r.must(fieldIdentifier); err != nil {
		return c, err
	}
	identified := false
	if c.vid, identified, err = r.next(fieldVID); err != nil {
		return c, err
	}
	if located && location.from == location.to || identified && !c.thirdParty() {
		return c, malformed("a caveat has an empty field")
	}
	if err = r.mustEnd(); err != nil {
		return c, err
	}
	if max(c.id.to-c.id.from, c.vid.to-c.vid.from, location.to-location.from) > MaxCaveatLen {
		return c, fmt.Errorf("%w: a caveat has more than %d bytes", ErrTooLarge, MaxCaveatLen)
	}
	if located && !identified {
		return c, malformed("a first-party caveat has a location")
	}
	c.end = uint16(r.at)
	return c, nil
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
func (t *Token) Text() string { return base64.RawURLEncoding.EncodeToString(t.data) }

// UnverifiedLocation is the authority's public URL as the token has it. It is
// not signed: show it, never trust it.
func (t *Token) UnverifiedLocation() string { return t.view(t.location) }

// UnverifiedIdentifier names the root key that the token claims.
func (t *Token) UnverifiedIdentifier() Identifier { return t.id }

// UnverifiedLen is how many caveats there are.
func (t *Token) UnverifiedLen() int { return len(t.caveats) }

// UnverifiedCaveat is the text of the caveat at i. A third-party caveat's is
// its identifier.
func (t *Token) UnverifiedCaveat(i int) string { return t.view(t.caveats[i].id) }

// UnverifiedCaveats gives all the texts, mint caveats first.
func (t *Token) UnverifiedCaveats() []string {
	texts := make([]string, len(t.caveats))
	for i := range texts {
		texts[i] = t.UnverifiedCaveat(i)
	}
	return texts
}

// UnverifiedBegin is the identifier and the first n caveats as they are
// encoded: two tokens for which it is the same have the same chain up to there.
// n is at most UnverifiedLen.
func (t *Token) UnverifiedBegin(n int) []byte {
	end := t.identifier.to
	if n > 0 {
		end = t.caveats[n-1].end
	}
	return t.data[t.identifier.from:end:end]
}

// UnverifiedDigest names the token, its signature included and its location
// not: two tokens with the same digest are one, whatever form they came in.
func (t *Token) UnverifiedDigest() [32]byte {
	return sha256.Sum256(t.data[t.identifier.from:])
}

// UnverifiedSignature is the token's own, a bearer secret.
func (t *Token) UnverifiedSignature() Signature { return t.sig }
