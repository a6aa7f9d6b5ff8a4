package httpapi

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

var form = []string{"Content-Type", "application/x-www-form-urlencoded"}

func (a *authority) oauth(path, auth string, kv ...string) *reply {
	a.t.Helper()
	v := url.Values{}
	for i := 0; i+1 < len(kv); i += 2 {
		v.Add(kv[i], kv[i+1])
	}
	return a.do(ask{method: "POST", path: path, auth: auth, body: v.Encode(), header: form})
}

// wantError is RFC 6749's error, with a challenge when it is about the client.
func (r *reply) wantError(status int, code string) {
	r.t.Helper()
	var e api.OAuthError
	_ = json.Unmarshal(r.body, &e)
	challenge := ""
	if status == 401 {
		challenge = `Basic realm="macaroond"`
	}
	if r.StatusCode != status || e.Error != code || r.Header.Get("WWW-Authenticate") != challenge || r.Header.Get("Cache-Control") != "no-store" {
		r.t.Errorf("%s: %d %s, want %d %s: %s %s", r.Request.URL.Path, r.StatusCode, e.Error, status, code, r.Header, r.body)
	}
}

// How a client authenticates, at both endpoints: Basic or body, never both.
func TestOAuthClients(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	svc, auth := a.service("photos", "photos")
	live := narrow(alice.Token, "audience photos")
	for _, row := range []struct {
		name, auth                string
		form                      []string
		introspection, revocation string // error, or "" for 200
	}{
		{"Basic", auth, nil, "", ""},
		{"Basic, form-encoded as RFC 6749 has it", basic(url.QueryEscape(svc.ID), url.QueryEscape(svc.Secret)), nil, "", ""},
		{"Basic and the same client_id", auth, []string{"client_id", svc.ID}, "", ""},
		{"body", "", []string{"client_id", svc.ID, "client_secret", svc.Secret}, "", ""},
		{"nobody", "", nil, "invalid_client", ""},
		{"a public client", "", []string{"client_id", "my-app"}, "invalid_client", ""},
		{"a public client by Basic", basic("my-app", ""), nil, "invalid_client", ""},
		{"a service's id alone", basic(svc.ID, ""), nil, "invalid_client", "invalid_client"},
		{"a bearer token only", bearer(alice.Token), nil, "invalid_client", ""},
		{"both", auth, []string{"client_id", svc.ID, "client_secret", svc.Secret}, "invalid_request", "invalid_request"},
		{"both, the same secret alone", auth, []string{"client_secret", svc.Secret}, "invalid_request", "invalid_request"},
		{"both, Basic without a name", basic("", svc.Secret), []string{"client_id", svc.ID, "client_secret", svc.Secret}, "invalid_request", "invalid_request"},
		{"Basic and another client_id", auth, []string{"client_id", "svc_0123456789abcdef"}, "invalid_client", "invalid_client"},
		{"a wrong secret", basic(svc.ID, "mds_wrong"), nil, "invalid_client", "invalid_client"},
		{"a wrong secret in the body", "", []string{"client_id", svc.ID, "client_secret", "mds_wrong"}, "invalid_client", "invalid_client"},
		{"no secret", "", []string{"client_id", svc.ID}, "invalid_client", "invalid_client"},
		{"an unknown client", basic("svc_0123456789abcdef", svc.Secret), nil, "invalid_client", "invalid_client"},
		{"bad escapes in Basic", basic("%zz", svc.Secret), nil, "invalid_client", "invalid_client"},
		{"bad escapes in a secret that nobody has", basic("my-app", "%zz"), nil, "invalid_client", "invalid_client"},
		{"a user", basic("alice", password("alice")), nil, "invalid_client", "invalid_client"},
	} {
		for path, want := range map[string]string{"/oauth2/introspect": row.introspection, "/oauth2/revoke": row.revocation} {
			text := live
			if path == "/oauth2/revoke" {
				text = narrow(live, "note "+row.name)
			}
			r := a.oauth(path, row.auth, append([]string{"token", text}, row.form...)...)
			if want == "" && r.StatusCode != 200 || want != "" && r.StatusCode == 200 {
				t.Errorf("in the row %q, %s: %d, want %q", row.name, path, r.StatusCode, want)
			}
			if want != "" {
				r.wantError(map[string]int{"invalid_client": 401, "invalid_request": 400}[want], want)
			}
		}
		a.alive(alice, narrow(live, "note "+row.name), "photos", row.revocation != "")
	}
}

// A description has no quote, no backslash and nothing but printable ASCII (RFC
// 6749 section 5.2).
func TestOAuthDescriptions(t *testing.T) {
	for detail, want := range map[string]string{
		"no token":             "no token",
		`caveats is "enforce"`: "caveats is 'enforce'",
		"a\\b\nc\u2026\x7f":    "a?b?c??",
	} {
		if got := errorDescription(detail); got != want {
			t.Errorf("%q is described as %q, want %q", detail, got, want)
		}
	}
	a := start(t)
	_, auth := a.service("photos", "photos")
	got := into[api.OAuthError](a.oauth("/oauth2/introspect", auth, "token", "x", "caveats", "x"), 400)
	if got.ErrorDescription != "caveats is 'enforce' or left out" {
		t.Error(got.ErrorDescription)
	}
}

func TestOAuthBadForms(t *testing.T) {
	a := start(t)
	_, auth := a.service("photos", "photos")
	for _, path := range []string{"/oauth2/introspect", "/oauth2/revoke"} {
		for _, row := range []struct{ media, body string }{
			{form[1], ""},
			{form[1], "token="},
			{form[1], "tok=x"},
			{form[1], "Token=x"},
			{form[1], "token=x&token=x"},
			{form[1], "token=x&token_type_hint=a&token_type_hint=b"},
			{form[1], "token=%zz"},
			{form[1], "token=x;y"},
			{"application/json", `{"token":"x"}`},
			{"text/plain", "token=x"},
			{"multipart/form-data; boundary=x", "--x"},
			{"", "token=x"},
		} {
			a.do(ask{method: "POST", path: path, auth: auth, body: row.body, header: []string{"Content-Type", row.media}}).wantError(400, "invalid_request")
		}
		a.do(ask{method: "POST", path: path, auth: auth, body: "token=x", header: []string{"Content-Type", form[1] + "; charset=utf-8"}}).want(200, "")
		a.do(ask{method: "POST", path: path, auth: auth, body: "token=x", header: append(form, "Authorization", auth)}).wantError(400, "invalid_request")
		a.do(ask{method: "GET", path: path + "?token=x", auth: auth}).want(405, "method_not_allowed")
	}
}

// Introspection has no request: what needs one is not active, nor is what the
// caller does not serve. Not active is said with nothing beside it.
func TestIntrospection(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	_, auth := a.service("photos", "photos", "thumbnails")
	hour := a.clock.Now().Add(time.Hour).Truncate(time.Second)
	expiry := "time-before " + hour.UTC().Format(time.RFC3339)

	got := into[api.Introspection](a.oauth("/oauth2/introspect", auth, "token", narrow(alice.Token, expiry, "audience photos", "note x"), "token_type_hint", "access_token"), 200)
	want := api.Introspection{
		Active: true, TokenType: "Bearer", Exp: hour.Unix(), Sub: alice.User.ID, Username: "alice", Aud: "photos",
		Iss: "https://auth.example", Device: alice.Device.ID, RootKeyID: alice.RootKeyID,
	}
	if gotJSON, wantJSON := string(must(json.Marshal(got))), string(must(json.Marshal(want))); gotJSON != wantJSON {
		t.Errorf("got  %s\nwant %s", gotJSON, wantJSON)
	}
	revoked := narrow(alice.Token, "audience photos", "note revoked")
	a.revoke("", revoked).want(200, "")
	for name, text := range map[string]string{
		"garbage": "garbage", "forged": forge(narrow(alice.Token, "audience photos")), "too large": narrow(alice.Token, "audience photos") + form[1],
		"a bare root": alice.Token, "no audience": narrow(alice.Token, "note x"),
		"an audience not served": narrow(alice.Token, "audience bank"), "the authority's": narrow(alice.Token, "audience macaroond"),
		"two audiences": narrow(alice.Token, "audience photos", "audience bank"), "two audiences, both served": narrow(alice.Token, "audience photos", "audience thumbnails"),
		"expired": narrow(alice.Token, "audience photos", a.until(0)), "not yet": narrow(alice.Token, "audience photos", "time-after 2999-01-01T00:00:00Z"),
		"revoked": revoked, "a child of it": narrow(revoked, "note child"),
		"another user's claim": narrow(alice.Token, "audience photos", "user usr_0123456789abcdef"),
		"needs a method":       narrow(alice.Token, "audience photos", "method GET"), "needs a path": narrow(alice.Token, "audience photos", "path /**"),
		"needs an action": narrow(alice.Token, "audience photos", "allow read"), "needs an address": narrow(alice.Token, "audience photos", "client-ip ::/0"),
		"needs an origin": narrow(alice.Token, "audience photos", "origin https://app.example"), "needs a body": narrow(alice.Token, "audience photos", "body-sha256 "+hexSum("")),
		"once": narrow(alice.Token, a.until(time.Minute), "audience photos", "once n"), "cnf": narrow(alice.Token, "audience photos", "cnf "+strings.Repeat("A", 43)), "sealed": narrow(alice.Token, "audience photos", "sealed AAAA"),
		"a service's own": narrow(alice.Token, "audience photos", "x-y z"), "unknown": narrow(alice.Token, "audience photos", "colour blue"),
	} {
		if r := a.oauth("/oauth2/introspect", auth, "token", text); r.StatusCode != 200 || string(r.body) != "{\"active\":false}\n" {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
}

// RFC 7009: 200 for what is revoked now, before, or never was a token.
func TestOAuthRevocation(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	laptop := a.login("alice", api.DeviceIn{Name: "laptop"})
	branch := narrow(alice.Token, "audience x")
	for range 2 {
		if r := a.oauth("/oauth2/revoke", "", "token", branch, "token_type_hint", "refresh_token"); r.StatusCode != 200 || len(r.body) != 0 {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	a.alive(laptop, branch, "x", false)
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token)}).want(200, "")
	for _, text := range []string{"garbage", forge(alice.Token)} {
		if r := a.oauth("/oauth2/revoke", "", "token", text); r.StatusCode != 200 {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	a.oauth("/oauth2/revoke", "", "token", alice.Token).want(200, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token)}).want(401, "revoked")
}
