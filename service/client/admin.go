package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"macaroond/service/api"
	"macaroond/service/token"
)

// The credential of everything under /v1/admin is the bare root of a user with
// the role admin. Codes: forbidden, bare_root_required, not_found.

// Users gives a page of users, by name: after is the former page's Next, "" for
// the first; a limit of 0 is the server's own.
func (c *Client) Users(ctx context.Context, admin Credential, after string, limit int) (*api.Users, error) {
	return ask[api.Users](ctx, c, call{method: http.MethodGet, path: "/v1/admin/users", query: page(after, limit), cred: admin, want: http.StatusOK})
}

// AddUser makes a user. Code name_taken.
func (c *Client) AddUser(ctx context.Context, admin Credential, in api.UserIn) (*api.User, error) {
	return ask[api.User](ctx, c, call{method: http.MethodPost, path: "/v1/admin/users", cred: admin, in: in, want: http.StatusCreated})
}

// SuspendUser revokes all devices of a user and refuses further logins.
func (c *Client) SuspendUser(ctx context.Context, admin Credential, id string) error {
	return c.onUser(ctx, admin, id, "/suspend", nil)
}

// ResumeUser lets a suspended user log in again. Devices stay revoked.
func (c *Client) ResumeUser(ctx context.Context, admin Credential, id string) error {
	return c.onUser(ctx, admin, id, "/resume", nil)
}

// SetPassword gives a user another password.
func (c *Client) SetPassword(ctx context.Context, admin Credential, id, password string) error {
	return c.onUser(ctx, admin, id, "/password", api.PasswordIn{Password: password})
}

func (c *Client) onUser(ctx context.Context, admin Credential, id, verb string, in any) error {
	path, err := below("/v1/admin/users/", id, token.UserPrefix)
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodPost, path: path + verb, cred: admin, in: in, want: http.StatusNoContent})
}

// SetRole gives a user a role ("admin"), or takes it (""). Code last_admin.
func (c *Client) SetRole(ctx context.Context, admin Credential, id, role string) (*api.User, error) {
	path, err := below("/v1/admin/users/", id, token.UserPrefix)
	if err != nil {
		return nil, err
	}
	return ask[api.User](ctx, c, call{method: http.MethodPatch, path: path, cred: admin, in: api.RoleIn{Role: &role}, want: http.StatusOK})
}

// DeleteUser deletes a user and everything of theirs. Code last_admin.
func (c *Client) DeleteUser(ctx context.Context, admin Credential, id string) error {
	path, err := below("/v1/admin/users/", id, token.UserPrefix)
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodDelete, path: path, cred: admin, want: http.StatusNoContent})
}

// Services lists the service credentials, without their secrets.
func (c *Client) Services(ctx context.Context, admin Credential) ([]api.Service, error) {
	var out api.Services
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/admin/services", cred: admin, want: http.StatusOK, out: &out})
	return out.Services, err
}

// AddService makes a service credential; its secret is in this answer and
// nowhere else.
func (c *Client) AddService(ctx context.Context, admin Credential, in api.ServiceIn) (*api.Service, error) {
	return ask[api.Service](ctx, c, call{method: http.MethodPost, path: "/v1/admin/services", cred: admin, in: in, want: http.StatusCreated})
}

// RemoveService ends a service credential.
func (c *Client) RemoveService(ctx context.Context, admin Credential, id string) error {
	path, err := below("/v1/admin/services/", id, token.ServicePrefix)
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodDelete, path: path, cred: admin, want: http.StatusNoContent})
}

// AddServiceSecret gives a service another secret, which is in this answer and
// nowhere else. The credential is an administrator's bare root. Codes:
// not_found, too_many.
func (c *Client) AddServiceSecret(ctx context.Context, admin Credential, id string) (*api.ServiceSecret, error) {
	path, err := below("/v1/admin/services/", id, token.ServicePrefix)
	if err != nil {
		return nil, err
	}
	return ask[api.ServiceSecret](ctx, c, call{method: http.MethodPost, path: path + "/secrets", cred: admin, want: http.StatusCreated})
}

// RemoveServiceSecret ends a secret, and every token that was minted with it.
// Code not_found.
func (c *Client) RemoveServiceSecret(ctx context.Context, admin Credential, id, secretID string) error {
	path, err := below("/v1/admin/services/", id, token.ServicePrefix)
	if err == nil {
		path, err = below(path+"/secrets/", secretID, "sec_")
	}
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodDelete, path: path, cred: admin, want: http.StatusNoContent})
}

// Audit gives a page of the audit: entries with a number greater than after.
func (c *Client) Audit(ctx context.Context, admin Credential, after int64, limit int) (*api.Audit, error) {
	var from string
	if after > 0 {
		from = strconv.FormatInt(after, 10)
	}
	return ask[api.Audit](ctx, c, call{method: http.MethodGet, path: "/v1/admin/audit", query: page(from, limit), cred: admin, want: http.StatusOK})
}

func page(after string, limit int) url.Values {
	q := url.Values{}
	if after != "" {
		q.Set("after", after)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return q
}
