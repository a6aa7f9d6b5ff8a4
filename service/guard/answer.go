package guard

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/service/verify"
)

// understand turns an answer into a point to walk from. An answer that is not
// about this very token, or contradicts itself, is an error.
func (g *Guard) understand(in *api.Introspection, t *token.Token) (*prefix, error) {
	n := t.UnverifiedLen()
	if in.Aud != g.o.Audience || len(in.Caveats) != n || len(in.Fingerprints) != max(0, n-token.MintCaveats) {
		return nil, errors.New("it is about another token or audience")
	}
	for i, text := range in.Caveats {
		if text != t.UnverifiedCaveat(i) {
			return nil, errors.New("it is about another token")
		}
	}
	p := &prefix{whole: in.Prefix == nil, username: in.Username, role: in.Role, policies: in.Policies}
	if in.Feed != nil { // without one it knew of no change of policies
		p.generation, p.sequence = in.Feed.Generation, in.Feed.Sequence
	}
	if in.PoliciesUntil != nil {
		p.until = in.PoliciesUntil.Time
	}
	if in.Username == "" && strings.HasPrefix(in.Sub, token.UserPrefix) { // its database was slow
		if soon := g.o.Now().Add(keepRefused); p.until.IsZero() || soon.Before(p.until) {
			p.until = soon
		}
	}
	for _, text := range in.Policies {
		p.address = p.address || strings.HasPrefix(text, "client-ip ")
	}
	var err error
	if p.anchor, p.covered, err = g.anchorOf(in, t); err != nil {
		return nil, err
	}
	p.begin = bytes.Clone(t.UnverifiedBegin(p.anchor.Caveats))
	return p, nil
}

// anchorOf is the point to walk from, tried on the token, and what it covers:
// from a wrong one every good token would be refused for hours.
func (g *Guard) anchorOf(in *api.Introspection, t *token.Token) (at token.Anchor, covered *verify.Covered, err error) {
	n := t.UnverifiedLen()
	at.Caveats, at.Signature = n, t.UnverifiedSignature() // the authority found the whole chain good
	if in.Prefix != nil {
		at.Caveats = in.Prefix.Caveats
		if at.Caveats <= token.MintCaveats || at.Caveats > n {
			return at, nil, errors.New("the prefix covers another number of caveats than there are")
		}
		if err := decode(at.Signature[:], in.Prefix.Signature); err != nil {
			return at, nil, err
		}
	}
	prints := make([]token.Fingerprint, len(in.Fingerprints)) // after 4 caveats and on
	for i, text := range in.Fingerprints {
		if err := decode(prints[i][:], text); err != nil {
			return at, nil, err
		}
	}
	prefixed := at.Caveats - token.MintCaveats
	if prefixed < 1 || prints[prefixed-1] != at.Signature.Fingerprint() {
		return at, nil, errors.New("the signature has another fingerprint")
	}
	at.Fingerprints = slices.Clone(prints[:prefixed])
	// Of what the prefix covers only the last fingerprint can be held against
	// anything; after it, each.
	var chain token.Chain
	if !chain.Walk(t, &at) {
		return at, nil, errors.New("the token does not go on from the signature")
	}
	for i := at.Caveats + 1; i <= n; i++ {
		if chain.Fingerprint(i) != prints[i-token.MintCaveats-1] {
			return at, nil, errors.New("a caveat has another fingerprint")
		}
	}
	covered, ok := verify.Cover(chain, at.Caveats, g.o.Audience)
	if !ok || in.Sub != covered.Identity().User || in.Device != covered.Identity().Device || in.RootKeyID != chain.Identifier().RootKeyID.String() {
		return at, nil, errors.New("it is about somebody else")
	}
	return at, covered, nil
}

// decode reads base64url of just the length of to: at most 32 bytes.
func decode(to []byte, text string) error {
	var source [43]byte // a million entries of the feed go through here
	n := copy(source[:], text)
	if n == len(text) && n == strict.EncodedLen(len(to)) {
		if got, err := strict.Decode(to, source[:n]); err == nil && got == len(to) {
			return nil
		}
	}
	return errors.New("a member is not base64url of the right length")
}

var strict = base64.RawURLEncoding.Strict()
