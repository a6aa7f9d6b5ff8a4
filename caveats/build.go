package caveats

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// The builders write the caveat that they are named after and return what
// [Parse] makes of it: what they cannot write is an [ErrSyntax], never a wider
// caveat. An argument with a space in it is refused, not split in two.

// TimeBefore is the time-before caveat for t, in UTC, cut to the whole second
// (never later than t). Times outside the years 0000 to 9999 become the nearest
// second within.
func TimeBefore(t time.Time) Caveat { return written("time-before " + format(t)) }

// TimeAfter is the time-after caveat for t, in UTC, cut to the whole second (up
// to a second earlier than t, so that a token made "from now on" is valid now).
// Times outside the years 0000 to 9999 become the nearest second within.
func TimeAfter(t time.Time) Caveat { return written("time-after " + format(t)) }

// User is the condition that the token's own user is id.
func User(id string) (Caveat, error) { return build("user", id) }

// Device is the condition that the token's own device is id.
func Device(id string) (Caveat, error) { return build("device", id) }

// Audience binds to the one verifier that calls itself a.
func Audience(a string) (Caveat, error) { return build("audience", a) }

// Method lists the methods that a request may have, in upper case; at least one.
func Method(m ...string) (Caveat, error) { return build("method", m...) }

// Path lists patterns, one of which the request's canonical path must match; at
// least one. A pattern is a decoded path with "*" for one whole non-empty
// segment and a final "/**" for any rest; a space is written %20, a literal star
// %2A. [PatternFor] writes the pattern for one request.
func Path(p ...string) (Caveat, error) { return build("path", p...) }

// Allow lists the actions that a request may name; at least one. "photos:*"
// lists a namespace with all below it.
func Allow(a ...string) (Caveat, error) { return build("allow", a...) }

// ClientIP lists the networks that the client's address may be in; at least
// one. Bits beyond a prefix are cleared, which leaves the network the same.
func ClientIP(p ...netip.Prefix) (Caveat, error) {
	args := make([]string, len(p))
	for i := range p {
		args[i] = p[i].Masked().String()
	}
	return build("client-ip", args...)
}

// Origin lists the origins that a request may come from, as browsers write
// them; at least one.
func Origin(o ...string) (Caveat, error) { return build("origin", o...) }

// BodySHA256 binds to a request whose body has this SHA-256.
func BodySHA256(sum [32]byte) Caveat {
	return written("body-sha256 " + hex.EncodeToString(sum[:]))
}

// Once lets the token, or anything derived from it from here on, be accepted a
// single time. The nonce tells it from others under the same caveats: make it
// random. The authority refuses it unless a time-before stands at or before it
// that is near enough.
func Once(nonce string) (Caveat, error) { return build("once", nonce) }

// Cnf binds to a key: each request must carry a DPoP proof by the key with this
// RFC 7638 thumbprint (43 characters).
func Cnf(thumbprint string) (Caveat, error) { return build("cnf", thumbprint) }

// Sealed is an encrypted caveat, as the authority writes it.
func Sealed(box string) (Caveat, error) { return build("sealed", box) }

// ViaCookie binds to the cookie: in a header the token is refused.
func ViaCookie() Caveat { return written("via " + Cookie) }

// Note is a remark, in words separated by single spaces. Anybody who holds the
// token can read it, and it is shown in decisions, audit and listings.
func Note(text string) (Caveat, error) { return Parse("note " + text) }

func build(name string, args ...string) (Caveat, error) {
	for _, a := range args {
		if strings.IndexByte(a, ' ') >= 0 {
			return Caveat{}, fmt.Errorf("caveat %s: %w", name, flaw("wants arguments without a space"))
		}
	}
	return Parse(name + " " + strings.Join(args, " "))
}

// written parses text that this file knows to be right. Were it wrong all the
// same, the caveat is the zero one, which everybody refuses.
func written(text string) Caveat {
	c, err := Parse(text)
	if err != nil {
		return Caveat{}
	}
	return c
}

func format(t time.Time) string {
	t = t.UTC()
	switch {
	case t.Year() < 0:
		return "0000-01-01T00:00:00Z"
	case t.Year() > 9999:
		return "9999-12-31T23:59:59Z"
	}
	return t.Format(layout)
}
