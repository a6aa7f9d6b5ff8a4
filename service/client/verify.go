package client

import (
	"context"
	"net/http"
	"net/url"

	"macaroond/service/api"
)

// Verify asks the authority to judge a token against a request and to explain.
// The credential is a service's that serves the request's audience, or a bare
// root of the token's own user. A refused token is a decision, not an error.
func (c *Client) Verify(ctx context.Context, cred Credential, in api.VerifyIn) (*api.Decision, error) {
	var out api.Decision
	err := c.do(ctx, call{
		method: http.MethodPost, path: "/v1/verify", cred: cred, in: in, want: http.StatusOK, out: &out,
		sound: func() bool { return out.Code != "" },
	})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// Introspect asks whether a token is active (RFC 7662). There is no request to
// judge, so a token with a caveat about one is not. The credential is a
// service's that serves the token's audience.
func (c *Client) Introspect(ctx context.Context, service Credential, token string) (*api.Introspection, error) {
	return c.introspect(ctx, service, url.Values{"token": {token}})
}

// IntrospectToEnforce is Introspect by a resource server that judges every
// caveat and every policy itself: it is given all of them, and perhaps a prefix.
func (c *Client) IntrospectToEnforce(ctx context.Context, service Credential, token string) (*api.Introspection, error) {
	return c.introspect(ctx, service, url.Values{"token": {token}, "caveats": {"enforce"}, "policies": {"enforce"}})
}

func (c *Client) introspect(ctx context.Context, service Credential, form url.Values) (*api.Introspection, error) {
	return ask[api.Introspection](ctx, c, call{method: http.MethodPost, path: "/oauth2/introspect", cred: service, form: form, want: http.StatusOK})
}
