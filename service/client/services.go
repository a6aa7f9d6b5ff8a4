package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"macaroond/service/api"
	"macaroond/service/token"
)

// ServiceToken gets a token of the service itself (OAuth's client_credentials)
// for the audience, limited to the actions if any are given. It is good for as
// long as its answer says; ask again then. An OAuth client does the same.
func (c *Client) ServiceToken(ctx context.Context, service Credential, audience string, actions ...string) (*api.OAuthToken, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if audience != "" {
		form.Set("audience", audience)
	}
	if len(actions) > 0 {
		form.Set("scope", strings.Join(actions, " "))
	}
	return ask[api.OAuthToken](ctx, c, call{method: http.MethodPost, path: "/oauth2/token", cred: service, form: form, want: http.StatusOK})
}

// The credential of what follows is a service's that has the right mint: Basic,
// or Bearer and a token of its own. Codes: forbidden, not_found.

// Mint makes a root token for a user of the service's own, whom the service has
// checked. Codes: bad_request, suspended.
func (c *Client) Mint(ctx context.Context, service Credential, in api.MintIn) (*api.Grant, error) {
	return c.grant(ctx, call{path: "/v1/mint", cred: service, in: in, want: http.StatusOK})
}

// Subjects gives a page of the service's users: those after the subject, "" for
// the first page; a limit of 0 is the server's own.
func (c *Client) Subjects(ctx context.Context, service Credential, after string, limit int) (*api.Subjects, error) {
	return ask[api.Subjects](ctx, c, call{method: http.MethodGet, path: "/v1/subjects", query: page(after, limit), cred: service, want: http.StatusOK})
}

// SubjectDevices lists the devices of one of the service's users.
func (c *Client) SubjectDevices(ctx context.Context, service Credential, subject string) ([]api.Device, error) {
	path, err := ofSubject(subject)
	if err != nil {
		return nil, err
	}
	var out api.Devices
	err = c.do(ctx, call{method: http.MethodGet, path: path + "/devices", cred: service, want: http.StatusOK, out: &out})
	return out.Devices, err
}

// RevokeSubjectDevice drops a device of one of the service's users.
func (c *Client) RevokeSubjectDevice(ctx context.Context, service Credential, subject, id string) error {
	path, err := ofSubject(subject)
	if err == nil {
		path, err = below(path+"/devices/", id, token.DevicePrefix)
	}
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodDelete, path: path, cred: service, want: http.StatusNoContent})
}

// RevokeSubjectDevices drops all devices of one of the service's users.
func (c *Client) RevokeSubjectDevices(ctx context.Context, service Credential, subject string) error {
	path, err := ofSubject(subject)
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodDelete, path: path + "/devices", cred: service, want: http.StatusNoContent})
}

// SuspendSubject revokes all devices of a user, and refuses to mint for it.
func (c *Client) SuspendSubject(ctx context.Context, service Credential, subject string) error {
	return c.onSubject(ctx, service, subject, "/suspend")
}

// ResumeSubject lets the service mint for the user again. Devices stay revoked.
// Code forbidden when it was an administrator who suspended the user.
func (c *Client) ResumeSubject(ctx context.Context, service Credential, subject string) error {
	return c.onSubject(ctx, service, subject, "/resume")
}

func (c *Client) onSubject(ctx context.Context, service Credential, subject, verb string) error {
	path, err := ofSubject(subject)
	if err != nil {
		return err
	}
	return c.do(ctx, call{method: http.MethodPost, path: path + verb, cred: service, want: http.StatusNoContent})
}

// ofSubject is the path of a subject. It takes nothing but what the authority
// takes for one, so that a request is never about something else.
func ofSubject(subject string) (string, error) {
	if err := api.CheckSubject(subject); err != nil {
		return "", fmt.Errorf("%w: %w", ErrID, err)
	}
	return "/v1/subjects/" + subject, nil
}
