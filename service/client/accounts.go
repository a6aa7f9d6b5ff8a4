package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"macaroond/service/api"
)

// DelayedError says that what was asked for only waits: the server has written
// it down, and the same call from the same device does it from DueAt on. A
// password or a recovery code (an [api.Proof]) would have done it at once.
type DelayedError struct{ api.Delayed }

func (e *DelayedError) Error() string {
	return fmt.Sprintf("nothing is done yet: without the password or a recovery code it waits until %s (%s), and any device can cancel it",
		e.DueAt.Format(time.RFC3339), e.ID)
}

func delayed(body []byte) error {
	var out api.DelayedOut
	if err := json.Unmarshal(body, &out); err != nil || out.Delayed.ID == "" {
		return errors.New("the answer is not the JSON that was expected")
	}
	return &DelayedError{out.Delayed}
}

// proofOf is the one proof that a call may have, as its body; nil for none.
func proofOf(proof []api.Proof) any {
	if len(proof) == 0 || proof[0] == (api.Proof{}) {
		return nil
	}
	return proof[0]
}

// Delayed lists the acts of the token's user that wait.
func (c *Client) Delayed(ctx context.Context, cred Credential) ([]api.Delayed, error) {
	var out api.DelayedActs
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/delayed", cred: cred, want: http.StatusOK, out: &out})
	return out.Delayed, err
}

// CancelDelayed forgets one, whichever device asked for it.
func (c *Client) CancelDelayed(ctx context.Context, cred Credential, id string) error {
	path, err := below("/v1/delayed/", id, "act_")
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodDelete, path: path, cred: cred, want: http.StatusNoContent})
}

// RecoveryCodes makes new ones; those before are void. A proof is needed unless
// the device has just logged in: [DelayedError].
func (c *Client) RecoveryCodes(ctx context.Context, root Credential, proof ...api.Proof) ([]string, error) {
	var out api.RecoveryCodes
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/recovery-codes", cred: root, in: proofOf(proof), want: http.StatusCreated, out: &out, delays: true})
	return out.RecoveryCodes, err
}

// RecoveryCodesLeft counts those that are unused.
func (c *Client) RecoveryCodesLeft(ctx context.Context, root Credential) (int, error) {
	var out api.RecoveryCodesLeft
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/recovery-codes", cred: root, want: http.StatusOK, out: &out})
	return out.Left, err
}

// ChangePassword sets the user's own password. A first one may wait:
// [DelayedError]. Codes: proof_required, proof_refused.
func (c *Client) ChangePassword(ctx context.Context, root Credential, in api.ChangePasswordIn) error {
	return c.do(ctx, call{method: http.MethodPost, path: "/v1/password", cred: root, in: in, want: http.StatusNoContent, delays: true})
}

// DeleteAccount deletes the user and everything of theirs. It cannot be undone.
func (c *Client) DeleteAccount(ctx context.Context, root Credential, proof api.Proof) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/v1/user", cred: root, in: proof, want: http.StatusNoContent})
}

// OpenLink makes the code that another device gives to [Client.ClaimLink]. A
// proof is needed unless the device has just logged in: [DelayedError].
func (c *Client) OpenLink(ctx context.Context, root Credential, proof ...api.Proof) (*api.LinkCode, error) {
	return ask[api.LinkCode](ctx, c, call{method: http.MethodPost, path: "/v1/links", cred: root, in: proofOf(proof), want: http.StatusCreated, delays: true})
}

// Links is the user's link, if one is open: at most one.
func (c *Client) Links(ctx context.Context, root Credential) ([]api.Link, error) {
	var out api.Links
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/links", cred: root, want: http.StatusOK, out: &out})
	return out.Links, err
}

// ApproveLink lets the waiting device in. Only the device that opened the link
// can. Code not_found when nobody waits.
func (c *Client) ApproveLink(ctx context.Context, root Credential, id string) error {
	path, err := below("/v1/links/", id, "lnk_")
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodPost, path: path + "/approve", cred: root, want: http.StatusNoContent})
}

// CloseLink refuses whoever waits, and ends the link.
func (c *Client) CloseLink(ctx context.Context, root Credential, id string) error {
	path, err := below("/v1/links/", id, "lnk_")
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodDelete, path: path, cred: root, want: http.StatusNoContent})
}

// ClaimLink gives the code that the user's other device shows. Code
// bad_credentials for whatever is wrong with it.
func (c *Client) ClaimLink(ctx context.Context, in api.LinkIn) (*api.LinkPending, error) {
	return ask[api.LinkPending](ctx, c, call{method: http.MethodPost, path: "/v1/link", in: in, want: http.StatusAccepted})
}

// TradeClaim asks for the grant once. It is nil while nobody has approved; code
// bad_credentials when nobody will any more.
func (c *Client) TradeClaim(ctx context.Context, claim string) (*api.Grant, error) {
	var out api.Grant
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/link/claim", in: api.ClaimIn{Claim: claim}, want: http.StatusOK, also: http.StatusAccepted, out: &out})
	if err != nil || out.Token == "" {
		return nil, err
	}
	return &out, nil
}
