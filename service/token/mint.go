package token

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"gopkg.in/macaroon.v2"

	"macaroond/caveats"
)

// Mint makes a root macaroon: the mint caveats for who, then what else limits
// the credential. The location is the authority's public URL; it is shown to
// holders and not signed. Expiry is cut to whole seconds.
func Mint(rootKey *RootKey, location string, id Identifier, who Identity, limits ...caveats.Caveat) (*Token, error) {
	if !IsID(who.User, UserPrefix, ServicePrefix) || !IsID(who.Device, DevicePrefix) {
		return nil, errors.New("mint: not an identity")
	}
	m, err := macaroon.New(rootKey[:], []byte(id.String()), location, macaroon.V2)
	if err != nil {
		return nil, fmt.Errorf("mint: %w", err)
	}
	texts := []string{caveats.TimeBefore(who.Expires).String(), "user " + who.User, "device " + who.Device}
	for _, c := range limits {
		texts = append(texts, c.String())
	}
	return appended(m, texts)
}

// Attenuate narrows a token by appending caveats, offline, with one HMAC each
// and nothing but the token. It takes texts, not parsed caveats, because a
// resource server may have its own x- caveats; what no verifier can read is
// refused by all of them. Errors match [ErrTooLarge] when a limit is met.
func Attenuate(t *Token, texts ...string) (*Token, error) {
	var m macaroon.Macaroon // fresh: UnmarshalBinary appends to a used one
	if err := m.UnmarshalBinary(t.data); err != nil {
		return nil, fmt.Errorf("attenuate: %w", err)
	}
	return appended(&m, texts)
}

// appended adds the caveats and reads the result back through Parse, so that
// nothing leaves this package that it would not take.
func appended(m *macaroon.Macaroon, texts []string) (*Token, error) {
	for _, text := range texts {
		// The library drops what is not UTF-8 from a version 1 macaroon and says
		// nothing; a dropped caveat is a lost restriction.
		if text == "" || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, errors.New("a caveat is empty, not UTF-8, or has control characters")
		}
		if err := m.AddFirstPartyCaveat([]byte(text)); err != nil {
			return nil, fmt.Errorf("adding a caveat: %w", err)
		}
	}
	b, err := m.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encoding a token: %w", err)
	}
	return Parse(base64.RawURLEncoding.EncodeToString(b))
}
