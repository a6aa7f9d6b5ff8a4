package httpapi

import (
	"strings"
	"testing"
)

// Browsers of the configured origins may call what browsers call; of others,
// nothing is said; and a gateway's question is never answered as a preflight.
func TestCORS(t *testing.T) {
	const app, evil = "https://app.example", "https://evil.example"
	a := start(t, func(s *setup) { s.http.CORSOrigins = []string{app}; s.trust(proxy) })
	alice := a.user("alice")
	preflight := func(path, origin, method string) *reply {
		return a.do(ask{method: "OPTIONS", path: path, header: []string{"Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization,content-type"}})
	}
	none := func(what string, r *reply) {
		t.Helper()
		for name := range r.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s: %s", what, name, r.Header.Get(name))
			}
		}
	}
	for _, path := range []string{"/v1/login", "/v1/devices", "/oauth2/revoke", "/.well-known/oauth-authorization-server"} {
		r := preflight(path, app, "POST")
		if r.StatusCode != 204 || r.Header.Get("Access-Control-Allow-Origin") != app || r.Header.Get("Access-Control-Allow-Credentials") != "" || !strings.EqualFold(r.Header.Get("Access-Control-Allow-Headers"), "authorization,content-type") {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		}
		for _, origin := range []string{evil, "null", "https://app.example.evil.example", "http://app.example", "https://app.example:8443", "https://APP.example.evil"} {
			none(path+" "+origin, preflight(path, origin, "POST"))
		}
		none(path+" PUT", preflight(path, app, "PUT"))
	}
	for _, method := range []string{"PATCH", "DELETE"} {
		if r := preflight("/v1/devices/"+alice.Device.ID, app, method); r.Header.Get("Access-Control-Allow-Methods") != method {
			t.Errorf("%s: %v", method, r.Header)
		}
	}
	r := a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token), header: []string{"Origin", app}})
	if r.want(200, ""); r.Header.Get("Access-Control-Allow-Origin") != app || !strings.Contains(r.Header.Get("Access-Control-Expose-Headers"), "Retry-After") || !strings.Contains(r.Header.Get("Vary"), "Origin") {
		t.Errorf("%v", r.Header)
	}
	r = a.do(ask{method: "GET", path: "/v1/devices", auth: bearer("garbage"), header: []string{"Origin", app}})
	if r.want(401, "malformed"); r.Header.Get("Access-Control-Allow-Origin") != app { // an application must be able to read why
		t.Errorf("%v", r.Header)
	}
	r = a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token), header: []string{"Origin", evil}})
	r.want(200, "")
	none("another origin", r)

	for _, path := range []string{"/authz/original", "/authz/forwarded", "/authz/request/v1/x"} {
		r := preflight(path, app, "GET")
		none(path, r)
		if r.StatusCode != 401 && r.StatusCode != 403 {
			t.Errorf("%s: a preflight is %d", path, r.StatusCode)
		}
	}
	none("/livez", preflight("/livez", app, "GET"))
	none("/version", a.do(ask{method: "GET", path: "/version", header: []string{"Origin", app}}))
}

// With no origin configured there is none.
func TestNoCORS(t *testing.T) {
	a := start(t)
	r := a.do(ask{method: "OPTIONS", path: "/v1/login", header: []string{"Origin", "https://app.example", "Access-Control-Request-Method", "POST"}})
	if r.want(405, "method_not_allowed"); r.Header.Get("Access-Control-Allow-Origin") != "" || r.Header.Get("Allow") != "POST" {
		t.Errorf("%v", r.Header)
	}
}
