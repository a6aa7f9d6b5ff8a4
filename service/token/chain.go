package token

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"macaroond/caveats"
)

// The authority puts MintCaveats caveats on every token, in this order:
// time-before T, user U, device D. A holder can only append, so these
// positions are the authority's word and no other position is.
const (
	ExpiryPosition = iota
	UserPosition
	DevicePosition
	MintCaveats
)

// Anchor is a point of a chain that is known beforehand, and from which the rest
// is walked: the start, which follows from the root key, or the prefix that an
// authority gave to a resource server. Whoever has one can make tokens that
// begin there, so it is a secret like the signature in it.
type Anchor struct {
	Caveats   int // how many the signature covers: 0 is the start
	Signature Signature
	// Fingerprints are those of the covered points that can be revoked: after
	// MintCaveats+1 caveats to the signature's own.
	Fingerprints []Fingerprint
}

// Chain is a token whose chain of HMACs held: its identifier and caveats are
// what somebody who knew the root key minted and holders appended to. Whether
// it is revoked and whether its caveats hold is not known yet. The zero value
// is of no token.
type Chain struct {
	token  *Token
	anchor int         // sigs[i] is after anchor+i caveats
	sigs   []Signature // ends with the token's own
	prints []Fingerprint
}

// String keeps the signatures out of logs.
func (Chain) String() string { return redacted }

// Format is String for every verb.
func (Chain) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// Verify walks the chain once from rootKey and compares its end with the
// token's signature in constant time.
func (t *Token) Verify(rootKey *RootKey) (c Chain, held bool) {
	anchor := Anchor{Signature: Start(rootKey, t.view(t.identifier))}
	if !c.Walk(t, &anchor) {
		return Chain{}, false
	}
	return c, true
}

// Walk makes c the chain of t from an anchor, whose caveats and identifier the
// caller knows to be t's own (see [Token.UnverifiedBegin]); a token with fewer
// caveats than the anchor covers does not hold. It uses c's memory again. When
// the end is not t's signature it returns false, and c is the zero Chain but
// for that memory.
func (c *Chain) Walk(t *Token, from *Anchor) bool {
	room := c.sigs[:0]
	*c = Chain{sigs: room}
	rest := len(t.caveats) - from.Caveats
	if rest < 0 {
		return false
	}
	sigs := append(slices.Grow(room, rest+1), from.Signature)
	h := newHasher()
	defer h.free()
	for i := from.Caveats; i < len(t.caveats); i++ {
		last := &sigs[len(sigs)-1]
		sigs = sigs[:len(sigs)+1]
		next := &sigs[len(sigs)-1]
		if caveat := &t.caveats[i]; !caveat.thirdParty() {
			h.mac(next, (*[32]byte)(last), t.view(caveat.id))
		} else {
			h.thirdParty(next, last, t.view(caveat.vid), t.view(caveat.id))
		}
	}
	if !equal(&sigs[rest], &t.sig) {
		clear(sigs)
		c.sigs = sigs[:0]
		return false
	}
	*c = Chain{t, from.Caveats, sigs, from.Fingerprints}
	return true
}

// Identifier names the root key that the chain was walked from.
func (c Chain) Identifier() Identifier { return c.token.id }

// Len is how many caveats there are.
func (c Chain) Len() int { return len(c.token.caveats) }

// Caveat is the text of the caveat at i, counted from 0. thirdParty says that
// it asks for a discharge, which nobody here can judge: it is refused.
func (c Chain) Caveat(i int) (text string, thirdParty bool) {
	caveat := &c.token.caveats[i]
	return c.token.view(caveat.id), caveat.thirdParty()
}

// Signature is the one after the first n caveats. Those before an anchor are
// not known: it panics.
func (c Chain) Signature(n int) *Signature { return &c.sigs[n-c.anchor] }

// Fingerprint is that of the signature after the first n caveats: more than
// MintCaveats, at most Len.
func (c Chain) Fingerprint(n int) Fingerprint {
	if n <= c.anchor {
		return c.prints[n-MintCaveats-1]
	}
	return c.Signature(n).Fingerprint()
}

// viaCookie is the text of [caveats.ViaCookie].
const viaCookie = "via " + caveats.Cookie

// Bare reports whether there is nothing but the mint caveats, or those and
// "via cookie", which is the bare root of a browser: its cookie's token. A
// holder may make the one of the other, and gains nothing: the caveat refuses
// wherever the token is not taken from the cookie.
func (c Chain) Bare() bool {
	switch len(c.token.caveats) {
	case MintCaveats:
		return true
	case MintCaveats + 1:
		return c.mint(MintCaveats, viaCookie) == viaCookie
	}
	return false
}

// Identity is who a token was minted for. The texts are the token's own: see
// [Token.Read] for how long they are good.
type Identity struct {
	User    string // usr_… or svc_…
	Device  string // dev_…
	Expires time.Time
}

// Clone is the identity in texts of its own.
func (id Identity) Clone() Identity {
	return Identity{strings.Clone(id.User), strings.Clone(id.Device), id.Expires}
}

// Identity reads the mint caveats at positions 0 to 2, and is the only place
// where identity comes from: a holder who appends "user usr_admin…" adds a
// condition that fails, not a claim. It is false when the positions hold
// anything else, which no token of the authority does.
func (c Chain) Identity() (id Identity, ok bool) {
	if c.token == nil || len(c.token.caveats) < MintCaveats {
		return Identity{}, false
	}
	id.Expires, ok = caveats.Before(c.mint(ExpiryPosition, "time-before "))
	id.User = strings.TrimPrefix(c.mint(UserPosition, "user "), "user ")
	id.Device = strings.TrimPrefix(c.mint(DevicePosition, "device "), "device ")
	if !ok || !IsID(id.User, UserPrefix, ServicePrefix) || !IsID(id.Device, DevicePrefix) {
		return Identity{}, false
	}
	return id, true
}

// mint is the caveat at i if it is first-party and begins so, or nothing.
func (c Chain) mint(i int, begin string) string {
	if text, thirdParty := c.Caveat(i); !thirdParty && strings.HasPrefix(text, begin) {
		return text
	}
	return ""
}
