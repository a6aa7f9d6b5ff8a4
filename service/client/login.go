package client

import (
	"context"
	"net/http"

	"macaroond/service/api"
)

// Signup makes an account and logs this device in. The grant has the recovery
// codes, which are shown this once. Codes: signup_off, name_taken, bad_request.
func (c *Client) Signup(ctx context.Context, in api.SignupIn) (*api.Grant, error) {
	return c.grant(ctx, call{path: "/v1/signup", in: in, want: http.StatusCreated})
}

// Login answers a root token for a name and a password. Codes: bad_credentials
// (unknown user and wrong password alike), suspended, rate_limited, busy.
func (c *Client) Login(ctx context.Context, in api.LoginIn) (*api.Grant, error) {
	return c.grant(ctx, call{path: "/v1/login", in: in, want: http.StatusOK})
}

// Recover spends a one-time recovery code in place of a password. Every other
// device of the user is revoked. Codes as for [Client.Login].
func (c *Client) Recover(ctx context.Context, in api.RecoverIn) (*api.Grant, error) {
	return c.grant(ctx, call{path: "/v1/recover", in: in, want: http.StatusOK})
}

// Renew gives the successor of a bare root. An answer that was lost is had
// again by asking again, however late, as long as nobody has used the
// successor; so keep it before using it. Codes: session_over (the root is good
// until it expires; log in again by then), rate_limited.
func (c *Client) Renew(ctx context.Context, root Credential) (*api.Grant, error) {
	return c.grant(ctx, call{path: "/v1/renew", cred: root, want: http.StatusOK})
}

// grant does a call whose answer is a root token.
func (c *Client) grant(ctx context.Context, x call) (*api.Grant, error) {
	var out api.Grant
	x.method, x.out, x.sound = http.MethodPost, &out, func() bool { return out.Token != "" }
	if err := c.do(ctx, x); err != nil {
		return nil, err
	}
	return &out, nil
}

// Logout drops the root key of the device whose bare root is the credential:
// every token ever derived from it is dead when this returns nil.
func (c *Client) Logout(ctx context.Context, root Credential) error {
	return c.do(ctx, call{method: http.MethodPost, path: "/v1/logout", cred: root, want: http.StatusNoContent})
}
