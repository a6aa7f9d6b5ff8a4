package token

import (
	"fmt"
	"io"
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

// Chain is a token whose chain of HMACs held: its identifier and caveats are
// what somebody who knew the root key minted and holders appended to. Whether
// it is revoked and whether its caveats hold is not known yet.
type Chain struct {
	token *Token
	sigs  []Signature // sigs[i] is after i caveats
}

// String keeps the signatures out of logs.
func (Chain) String() string { return redacted }

// Format is String for every verb.
func (Chain) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// Verify walks the chain once from rootKey and compares its end with the
// token's signature in constant time.
func (t *Token) Verify(rootKey *RootKey) (Chain, bool) {
	sigs := make([]Signature, len(t.caveats)+1)
	sigs[0] = Start(rootKey, t.identifier)
	for i := range t.caveats {
		if c := &t.caveats[i]; c.vid == "" {
			sigs[i+1] = sigs[i].Next(c.id)
		} else {
			sigs[i+1] = sigs[i].nextThirdParty(c.vid, c.id)
		}
	}
	if !equal(&sigs[len(t.caveats)], &t.sig) {
		return Chain{}, false
	}
	return Chain{t, sigs}, true
}

// Identifier names the root key that the chain was walked from.
func (c Chain) Identifier() Identifier { return c.token.id }

// Len is how many caveats there are.
func (c Chain) Len() int { return len(c.token.caveats) }

// Caveat is the text of the caveat at i, counted from 0. thirdParty says that
// it asks for a discharge, which nobody here can judge: it is refused.
func (c Chain) Caveat(i int) (text string, thirdParty bool) {
	return c.token.caveats[i].id, c.token.caveats[i].vid != ""
}

// Signature is the one after the first n caveats.
func (c Chain) Signature(n int) *Signature { return &c.sigs[n] }

// Bare reports whether there is nothing but the mint caveats.
func (c Chain) Bare() bool { return len(c.token.caveats) == MintCaveats }

// Identity is who a token was minted for.
type Identity struct {
	User    string // usr_… or svc_…
	Device  string // dev_…
	Expires time.Time
}

// Identity reads the mint caveats at positions 0 to 2, and is the only place
// where identity comes from: a holder who appends "user usr_admin…" adds a
// condition that fails, not a claim. It is false when the positions hold
// anything else, which no token of the authority does.
func (c Chain) Identity() (id Identity, ok bool) {
	if len(c.token.caveats) < MintCaveats {
		return Identity{}, false
	}
	expires, err := caveats.Parse(c.mint(ExpiryPosition, "time-before "))
	if err != nil {
		return Identity{}, false
	}
	id.Expires, ok = expires.Time()
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
