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
	return ask[api.Health](ctx, c, call{method: http.MethodGet, path: "/readyz", want: http.StatusOK, also: http.StatusServiceUnavailable})
}

// Version asks what the server runs.
func (c *Client) Version(ctx context.Context) (*api.Version, error) {
	return ask[api.Version](ctx, c, call{method: http.MethodGet, path: "/version", want: http.StatusOK})
}
