package client

import (
	"context"
	"net/http"

	"macaroond/service/api"
)

// Live asks whether the server runs.
func (c *Client) Live(ctx context.Context) error {
	return c.do(ctx, call{method: http.MethodGet, path: "/livez", want: http.StatusOK, out: new(api.Health)})
}

// Ready asks whether the server can do its work now: the status is "ok", or
// "unavailable" with what is wrong in the checks.
func (c *Client) Ready(ctx context.Context) (*api.Health, error) {
	var out api.Health
	err := c.do(ctx, call{method: http.MethodGet, path: "/readyz", want: http.StatusOK, also: http.StatusServiceUnavailable, out: &out})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// Version asks what the server runs.
func (c *Client) Version(ctx context.Context) (*api.Version, error) {
	var out api.Version
	err := c.do(ctx, call{method: http.MethodGet, path: "/version", want: http.StatusOK, out: &out})
	if err != nil {
		return nil, err
	}
	return &out, nil
}
