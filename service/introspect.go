package service

import (
	"context"
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf8"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// Enforces is what an asker undertakes to judge itself, of whatever it verifies
// from the answer.
type Enforces uint8

const (
	EnforcesNothing  Enforces = iota
	EnforcesCaveats           // every caveat
	EnforcesPolicies          // and every policy
)

// Introspect answers RFC 7662: whether a token is active for an audience that
// the asking credential serves and the token names. There is no request to
// judge. So a token with a caveat that needs one is not active, unless the
// caller undertakes to enforce every caveat itself: then it is given all of
// them, in order, with what it takes to see a revoked branch, and where the
// token allows it the prefix with which to verify others like it.
// A stale list is an error, not an inactive token.
//
// Policies are judged likewise; a caller that undertakes to enforce them, too, is
// given them instead, whether they hold or not. So it can say what refuses, and
// refuses later tokens without a question. One that knows of no policies gets
// no token that needs them.
func (s *Service) Introspect(ctx context.Context, text string, enforces Enforces, svc storage.Service) (api.Introspection, error) {
	enforce := enforces != EnforcesNothing
	no := api.Introspection{}
	// The position is taken before the list is looked at: an asker that has
	// followed the feed beyond it knows at least what this answer does.
	position := s.FeedPosition()
	now := s.now()
	ver := s.verifier()
	chain, who, code := ver.Authenticate(text)
	audience, expires := "", time.Time{}
	var policies []string
	var until time.Time
	switch {
	case code != "":
	case now.Sub(s.list.AsOf()) > ver.MaxStaleness:
		code = api.CodeStale
	case s.list.Revoked(chain):
		code = api.CodeRevoked
	default:
		policies, until = s.policies.Load().of(nil, who, now)
		audience, expires, code = s.enforceable(chain, who, now, enforces, svc, policies)
	}
	s.count(code)
	if code == api.CodeStale { // nobody is told that a good token is not
		return no, &api.Refusal{Code: code, Reason: "the list of revocations is too old to know whether the token is revoked"}
	}
	if code != api.CodeOK {
		return no, nil
	}
	s.saw(chain, &who, now)
	s.accepted(chain.Identifier())
	// An edge keeps the name for as long as the prefix: it is worth a wait.
	info := s.nameWithin(ctx, who.User, time.Second)
	out := api.Introspection{
		Active: true, TokenType: "Bearer", Exp: expires.Unix(), Sub: who.User,
		Username: info.name, Role: info.role, Aud: audience, Iss: s.Settings().Issuer,
		Device: who.Device, RootKeyID: chain.Identifier().RootKeyID.String(),
	}
	if enforce {
		s.teach(&out, chain, svc)
		out.Feed = &position
		if enforces == EnforcesPolicies {
			out.Policies, out.PoliciesUntil = policies, apiTime(until)
		}
	}
	return out, nil
}

// enforceable judges what can be judged without a request, and says for which
// audience and how long the token is active. What this authority does not know,
// a resource server's own x- caveats among it, is left to a caller that
// undertook to judge every caveat; but one that is not UTF-8 cannot be told in
// JSON. A policy never names the audience.
func (s *Service) enforceable(chain token.Chain, who token.Identity, now time.Time, enforces Enforces, svc storage.Service, policies []string) (audience string, expires time.Time, code string) {
	for i := range chain.Len() {
		text, _ := chain.Caveat(i)
		if rest, ok := strings.CutPrefix(text, "audience "); ok && audience == "" && s.serves(svc, rest) {
			audience = rest
		}
	}
	if audience == "" {
		return "", expires, api.CodeWrongAudience
	}
	facts := caveats.Request{Time: now, Audience: audience, User: who.User, Device: who.Device}
	expires = who.Expires
	for i := range chain.Len() + len(policies) {
		text, thirdParty, policy := "", false, i >= chain.Len()
		if policy {
			text = policies[i-chain.Len()]
		} else {
			text, thirdParty = chain.Caveat(i)
		}
		enforced := enforces == EnforcesPolicies || enforces == EnforcesCaveats && !policy
		c, err := caveats.Parse(text)
		if policy && enforces == EnforcesCaveats && c.Name() == "time-before" {
			return "", expires, api.CodeUnknownCaveat // it would go on from a prefix that has none of this
		}
		if thirdParty || !utf8.ValidString(text) || (err != nil || c.NeedsRequest()) && !enforced {
			return "", expires, api.CodeUnknownCaveat
		}
		if err != nil || c.NeedsRequest() {
			continue
		}
		// Whose the token is says the answer: a caveat that names somebody else
		// refuses the request with a 403, and does not make the token none.
		if outcome := c.Check(&facts); outcome != caveats.Held && !(enforced && (policy || outcome == caveats.Refused)) {
			return "", expires, outcome.String()
		}
		if t, ok := caveats.Before(text); ok && t.Before(expires) {
			expires = t
		}
	}
	return audience, expires, api.CodeOK
}

// teach adds what lets the asker verify without asking. The prefix goes to
// whoever serves the one audience that the token names: to be the verifier of
// that audience is all that it is good for. With several audiences the token is
// good at none, and a prefix would cover what another one relies on.
func (s *Service) teach(out *api.Introspection, chain token.Chain, svc storage.Service) {
	named, at := 0, 0
	expires := time.Time{}
	for i := range chain.Len() {
		text, _ := chain.Caveat(i)
		out.Caveats = append(out.Caveats, text)
		if i >= token.MintCaveats {
			f := chain.Fingerprint(i + 1)
			out.Fingerprints = append(out.Fingerprints, base64.RawURLEncoding.EncodeToString(f[:]))
		}
		if audience, ok := strings.CutPrefix(text, "audience "); ok {
			named++
			if s.serves(svc, audience) && i >= token.MintCaveats {
				at = i + 1
			}
		}
		if t, ok := caveats.Before(text); ok && at == 0 && (expires.IsZero() || t.Before(expires)) {
			expires = t // the earliest that the prefix covers
		}
	}
	if named != 1 || at == 0 || expires.Sub(s.now()) > s.Settings().MaxPrefixTTL {
		return
	}
	sig := chain.Signature(at)
	out.Prefix = &api.Prefix{Caveats: at, Signature: base64.RawURLEncoding.EncodeToString(sig[:])}
}
