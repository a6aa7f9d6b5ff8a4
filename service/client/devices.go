package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"macaroond/service/api"
	"macaroond/service/token"
)

// Devices lists the devices of the token's user.
func (c *Client) Devices(ctx context.Context, cred Credential) ([]api.Device, error) {
	var out api.Devices
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/devices", cred: cred, want: http.StatusOK, out: &out})
	return out.Devices, err
}

// RenameDevice names a device anew. Code not_found for somebody else's.
func (c *Client) RenameDevice(ctx context.Context, cred Credential, id, name string) (*api.Device, error) {
	path, err := below("/v1/devices/", id, token.DevicePrefix)
	if err != nil {
		return nil, err
	}
	return ask[api.Device](ctx, c, call{method: http.MethodPatch, path: path, cred: cred, in: api.RenameIn{Name: name}, want: http.StatusOK})
}

// RevokeDevice drops a device's root key, and with it every token derived from
// it. Code not_found for somebody else's. Revoking another device than the
// credential's takes a proof unless that one has just logged in: [DelayedError].
func (c *Client) RevokeDevice(ctx context.Context, cred Credential, id string, proof ...api.Proof) error {
	path, err := below("/v1/devices/", id, token.DevicePrefix)
	if err != nil {
		return err
	}
	return c.remove(ctx, cred, path, nil, proof)
}

// RevokeOtherDevices drops the root keys of all devices but the credential's,
// as RevokeDevice does.
func (c *Client) RevokeOtherDevices(ctx context.Context, cred Credential, proof ...api.Proof) error {
	return c.remove(ctx, cred, "/v1/devices", url.Values{"except": {"current"}}, proof)
}

// RevokeAllDevices drops the root keys of all devices, the credential's too, as
// RevokeDevice does.
func (c *Client) RevokeAllDevices(ctx context.Context, cred Credential, proof ...api.Proof) error {
	return c.remove(ctx, cred, "/v1/devices", nil, proof)
}

// remove is a DELETE that may wait.
func (c *Client) remove(ctx context.Context, cred Credential, path string, query url.Values, proof []api.Proof) error {
	return c.do(ctx, call{method: http.MethodDelete, path: path, query: query, cred: cred, in: proofOf(proof), want: http.StatusNoContent, delays: true})
}

// below is the path of one thing with an id. It takes nothing but an id,
// because with "" or ".." in its place the request would be about the whole
// collection: DELETE of one device would be DELETE of all.
func below(collection, id string, prefixes ...string) (string, error) {
	if !token.IsID(id, prefixes...) {
		return "", fmt.Errorf("%w: want %s and 16 characters of base64url", ErrID, prefixes[0])
	}
	return collection + id, nil
}
