package client

import (
	"context"
	"net/http"
	"strconv"

	"macaroond/service/api"
)

// Keys lists the epochs, without their secrets.
func (c *Client) Keys(ctx context.Context, admin Credential) ([]api.Epoch, error) {
	var out api.Epochs
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/admin/keys", cred: admin, want: http.StatusOK, out: &out})
	return out.Epochs, err
}

// RotateKeys begins another epoch, which signs from now on. Nobody is logged out.
func (c *Client) RotateKeys(ctx context.Context, admin Credential) (*api.Epoch, error) {
	return ask[api.Epoch](ctx, c, call{method: http.MethodPost, path: "/v1/admin/keys/rotate", cred: admin, want: http.StatusCreated})
}

// RetireKeys ends an epoch and every token that was minted in it, at once.
func (c *Client) RetireKeys(ctx context.Context, admin Credential, number uint32) error {
	path := "/v1/admin/keys/" + strconv.FormatUint(uint64(number), 10) + "/retire"
	return c.do(ctx, call{method: http.MethodPost, path: path, cred: admin, want: http.StatusNoContent})
}
