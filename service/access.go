package service

import (
	"crypto/rand"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
)

// accessTo are the limits of the access token that comes with a grant: none
// where no audience is asked for.
func accessTo(audience string) ([]caveats.Caveat, error) {
	if audience == "" {
		return nil, nil
	}
	limits, err := limitsOf(audience, nil)
	if err != nil {
		return nil, badField("/audience", "an audience is 1 to 128 printable ASCII characters without space")
	}
	return limits, nil
}

// limitsOf are the caveats of a token that the authority narrows for a client:
// the audience first, for what an edge can remember ends there; a random note
// last, so that two tokens of the same second are two branches, and revoking one
// does not end the other. Errors are a [*GrantError].
func limitsOf(audience string, actions []string) ([]caveats.Caveat, error) {
	aud, err := caveats.Audience(audience)
	if err != nil {
		return nil, &GrantError{GrantInvalidTarget, "the audience is not one"}
	}
	limits := []caveats.Caveat{aud}
	if len(actions) > 0 {
		allow, err := caveats.Allow(actions...)
		if err != nil {
			return nil, &GrantError{GrantInvalidScope, "the scope is not a list of actions"}
		}
		limits = append(limits, allow)
	}
	note, err := caveats.Note("access " + rand.Text()[:16])
	if err != nil {
		return nil, err
	}
	return append(limits, note), nil
}

// addAccess narrows the root for a client that does not narrow itself: to the
// limits, with a short time after the first. No limits, no access token.
func (s *Service) addAccess(g *api.Grant, limits []caveats.Caveat) error {
	if len(limits) == 0 {
		return nil
	}
	root, err := token.Parse(g.Token)
	if err != nil {
		return err
	}
	expires := s.soon(s.Settings().AccessTTL, g.ExpiresAt.Time)
	texts := []string{limits[0].String(), caveats.TimeBefore(expires).String()}
	for _, c := range limits[1:] {
		texts = append(texts, c.String())
	}
	t, err := token.Attenuate(root, texts...)
	if err != nil {
		return err
	}
	g.Access = &api.Access{Token: t.Text(), Audience: limits[0].Argument(), ExpiresAt: api.At(expires)}
	return nil
}

// soon is the end of a token that lives for so long, and not longer than what it
// is narrowed from: a whole second.
func (s *Service) soon(ttl time.Duration, end time.Time) time.Time {
	expires := s.now().Add(ttl).UTC().Truncate(time.Second)
	if end.Before(expires) {
		return end
	}
	return expires
}
