package token

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
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
