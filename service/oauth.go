package service

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// GrantError refuses a token in the words of RFC 6749 section 5.2 and RFC 8707
// section 2.
type GrantError struct{ Code, Detail string }

func (e *GrantError) Error() string { return e.Code + ": " + e.Detail }

// What a grant is refused for.
const (
	GrantInvalidRequest = "invalid_request"
	GrantInvalidGrant   = "invalid_grant"
	GrantInvalidScope   = "invalid_scope"
	GrantInvalidTarget  = "invalid_target"
)

// TokenIn is what an OAuth client asks for: an audience, and a scope, which is a
// list of actions. Both may be empty.
type TokenIn struct{ Audience, Scope string }

// ClientCredentials mints a token of the service itself: for one audience that
// it may call, limited to the actions that it may allow. It is good for
// access_ttl, and dies with the secret that it was asked for with.
func (s *Service) ClientCredentials(ctx context.Context, id, secret string, in TokenIn, src Source) (api.OAuthToken, error) {
	svc, with, err := s.authenticate(ctx, id, secret, src)
	if err != nil {
		return api.OAuthToken{}, err
	}
	set := s.Settings()
	audience, err := targetOf(in.Audience, svc, set.Audience)
	if err != nil {
		return api.OAuthToken{}, err
	}
	actions, err := scopeOf(in.Scope, svc.Actions)
	if err != nil {
		return api.OAuthToken{}, err
	}
	limits, err := limitsOf(audience, actions)
	if err != nil {
		return api.OAuthToken{}, err
	}
	expires := s.now().Add(set.AccessTTL).UTC().Truncate(time.Second)
	tok, err := s.mintService(ctx, svc, with, expires, limits, src)
	if errors.Is(err, storage.ErrServiceGone) {
		err = errWrongSecret()
	}
	if err != nil {
		return api.OAuthToken{}, err
	}
	s.metrics.logins.WithLabelValues("service").Inc()
	return s.oauthOut(tok.Text(), expires, actions), nil
}

// Refresh renews a bare root, and narrows its successor for a client that cannot:
// the successor is the refresh token, and what it narrows to the access token.
// The root is the credential, so no client needs another. Without a successor there
// is no refresh token in the answer, and the client goes on with the one that it
// has (RFC 6749 section 6). What is asked for is looked at before anything is renewed.
func (s *Service) Refresh(ctx context.Context, root string, in TokenIn, src Source) (api.OAuthToken, error) {
	if root == "" {
		return api.OAuthToken{}, &GrantError{GrantInvalidRequest, "no refresh_token"}
	}
	audience := in.Audience
	if audience == "" {
		audience = s.Settings().Audience
	}
	actions, err := scopeOf(in.Scope, nil)
	if err != nil {
		return api.OAuthToken{}, err
	}
	limits, err := limitsOf(audience, actions)
	if err != nil {
		return api.OAuthToken{}, err
	}
	grant, err := s.Renew(ctx, root, caveats.Request{ClientIP: src.ClientIP}, src)
	renewed := grant.Token
	if err != nil && AsError(err).Code == api.CodeSessionOver {
		grant, err = unrenewed(root)
	}
	if err != nil {
		return api.OAuthToken{}, invalidGrant(err)
	}
	if err := s.addAccess(&grant, limits); err != nil {
		return api.OAuthToken{}, err
	}
	out := s.oauthOut(grant.Access.Token, grant.Access.ExpiresAt.Time, actions)
	out.RefreshToken = renewed
	return out, nil
}

// unrenewed is a root that renewing has found good, and has no successor for. It is
// good until it expires, which can be weeks, and an OAuth client that is told
// anything else throws it away.
func unrenewed(root string) (api.Grant, error) {
	t, err := token.Parse(root)
	if err != nil {
		return api.Grant{}, err
	}
	expires, ok := caveats.Before(t.UnverifiedCaveats()[0])
	if !ok {
		return api.Grant{}, errors.New("a root macaroon does not begin with its expiry")
	}
	return api.Grant{Token: t.Text(), ExpiresAt: api.At(expires)}, nil
}

// invalidGrant says in OAuth's words that a root is not one, or not any more:
// there all of it is one code. What may be tried again stays what it is.
func invalidGrant(err error) error {
	if refused, ok := errors.AsType[*api.Refusal](err); ok {
		if refused.Code == api.CodeStale {
			return err
		}
		return &GrantError{GrantInvalidGrant, refused.Reason}
	}
	switch e := AsError(err); e.Code {
	case api.CodeBareRootRequired, api.CodeForbidden, api.CodeSuspended, api.CodeRevoked, api.CodeNotFound:
		return &GrantError{GrantInvalidGrant, e.Detail}
	}
	return err
}

func (s *Service) oauthOut(text string, expires time.Time, actions []string) api.OAuthToken {
	return api.OAuthToken{
		AccessToken: text, TokenType: "Bearer", ExpiresIn: int64(expires.Sub(s.now()) / time.Second), Scope: strings.Join(actions, " "),
	}
}

// targetOf is the one audience that the service's token is for.
func targetOf(asked string, svc storage.Service, own string) (string, error) {
	switch {
	case asked == "" && len(svc.Calls) == 1:
		return svc.Calls[0], nil
	case asked == "":
		return "", &GrantError{GrantInvalidRequest, "say for which audience: the credential calls none or several"}
	case asked != own && !slices.Contains(svc.Calls, asked):
		return "", &GrantError{GrantInvalidTarget, "the credential does not call this audience"}
	}
	return asked, nil
}

// scopeOf are the actions that a token is limited to: those that are asked for,
// each within what may be had, or, when none is, all that may be had. may empty
// is no limit.
func scopeOf(scope string, may []string) ([]string, error) {
	if scope == "" {
		return may, nil
	}
	asked := strings.Split(scope, " ")
	if _, err := caveats.Allow(asked...); err != nil {
		return nil, &GrantError{GrantInvalidScope, "a scope is a list of actions with one space between them, and not too long"}
	}
	for _, a := range asked {
		if len(may) > 0 && !slices.ContainsFunc(may, func(m string) bool { return covers(m, a) }) {
			return nil, &GrantError{GrantInvalidScope, "the credential may not allow all of these actions"}
		}
	}
	return unique(asked), nil
}

// covers reports whether a listed action holds all that another one does: it is
// the same, or a namespace that the other is within.
func covers(listed, other string) bool {
	namespace, whole := strings.CutSuffix(listed, "*")
	return listed == other || whole && len(other) > len(namespace) && strings.HasPrefix(other, namespace)
}
