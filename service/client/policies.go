package client

import (
	"context"
	"net/http"

	"macaroond/service/api"
)

// Policies lists the policies in force.
func (c *Client) Policies(ctx context.Context, admin Credential) ([]api.Policy, error) {
	var out api.Policies
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/admin/policies", cred: admin, want: http.StatusOK, out: &out})
	return out.Policies, err
}

// AddPolicy puts caveats on tokens that are out already. Code too_many.
func (c *Client) AddPolicy(ctx context.Context, admin Credential, in api.PolicyIn) (*api.Policy, error) {
	return ask[api.Policy](ctx, c, call{method: http.MethodPost, path: "/v1/admin/policies", cred: admin, in: in, want: http.StatusCreated})
}

// RemovePolicy gives back what a policy took.
func (c *Client) RemovePolicy(ctx context.Context, admin Credential, id string) error {
	path, err := below("/v1/admin/policies/", id, "pol_")
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodDelete, path: path, cred: admin, want: http.StatusNoContent})
}
