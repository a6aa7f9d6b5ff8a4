package client

import (
	"context"
	"net/http"
	"net/url"

	"macaroond/service/api"
)

// Revoke kills the token and everything derived from it: a bare root's device
// (grain "device"), or the branch that begins with it (grain "branch"). Having
// the token is the right to, so owner may be the zero Credential. Code
// branch_limit when strangers have revoked too many of a device's branches;
// with the bare root of the same user as owner there is no such limit.
func (c *Client) Revoke(ctx context.Context, owner Credential, token string) (grain string, err error) {
	return c.revoke(ctx, owner, api.RevokeIn{Token: token})
}

// RevokeBranch kills the branch that begins with these holder caveats, in
// order, on the bare root that is the credential. Nobody needs to have the
// token any more.
func (c *Client) RevokeBranch(ctx context.Context, root Credential, caveats []string) (grain string, err error) {
	return c.revoke(ctx, root, api.RevokeIn{Caveats: &caveats})
}

func (c *Client) revoke(ctx context.Context, cred Credential, in api.RevokeIn) (string, error) {
	var out api.RevokeOut
	err := c.do(ctx, call{
		method: http.MethodPost, path: "/v1/revoke", cred: cred, in: in, want: http.StatusOK, out: &out,
		sound: func() bool { return out.Grain == api.GrainDevice || out.Grain == api.GrainBranch },
	})
	if err != nil {
		return "", err
	}
	return out.Grain, nil
}

// RevokeOAuth is [Client.Revoke] by RFC 7009, for a service credential. The
// answer does not tell a token that was revoked from one that was none.
func (c *Client) RevokeOAuth(ctx context.Context, service Credential, token string) error {
	form := url.Values{"token": {token}}
	return c.do(ctx, call{method: http.MethodPost, path: "/oauth2/revoke", cred: service, form: form, want: http.StatusOK})
}
