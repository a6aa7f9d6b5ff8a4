package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

// passes are the headers of a 200: all of them, always.
var passes = []string{"X-Auth-User", "X-Auth-Username", "X-Auth-Device", "X-Auth-Audience", "X-Auth-Expires", "X-Auth-Roles", "Remote-User"}

// wantVerdict holds a gateway's answer: nothing but 200, 401, 403 and 503, all
// of the headers on 200 and none of them otherwise.
func (r *reply) wantVerdict(name string, status int, code string) {
	r.t.Helper()
	if r.StatusCode != status {
		r.t.Errorf("in the row %q:", name)
	}
	r.want(status, code)
	for _, h := range passes {
		if got := r.Header.Values(h); status == 200 && (len(got) != 1 || got[0] == "") || status != 200 && len(got) != 0 {
			r.t.Errorf("%s: %d with %s: %q", name, status, h, got)
		}
	}
	if r.Header.Get("Location") != "" {
		r.t.Errorf("%s: a redirect", name)
	}
}

// Each dialect believes its own two headers and ignores the other family's.
func TestGatewayDialects(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	get := bearer(narrow(alice.Token, "audience backend", "method GET", "path /photos/**"))
	original := func(method, uri string) []string { return []string{"X-Original-Method", method, "X-Original-URI", uri} }
	forwarded := func(method, uri string) []string {
		return []string{"X-Forwarded-Method", method, "X-Forwarded-Uri", uri}
	}
	join := func(h ...[]string) (out []string) {
		for _, h := range h {
			out = append(out, h...)
		}
		return out
	}
	for _, row := range []struct {
		name, path, auth string
		header           []string
		status           int
		code             string
	}{
		{"nginx", "/authz/original", get, original("GET", "/photos/1"), 200, ""},
		{"Caddy", "/authz/forwarded", get, forwarded("GET", "/photos/1"), 200, ""},
		{"Envoy", "/authz/request/photos/1", get, nil, 200, ""},
		{"a query of the request is not its path", "/authz/original", get, original("GET", "/photos/1?x=/../y"), 200, ""},

		{"another method", "/authz/original", get, original("POST", "/photos/1"), 403, "refused"},
		{"another path", "/authz/forwarded", get, forwarded("GET", "/admin"), 403, "refused"},
		{"another path behind the prefix", "/authz/request/admin", get, nil, 403, "refused"},
		{"another method in small letters", "/authz/original", get, original("get", "/photos/1"), 403, "refused"},

		{"the other family says otherwise", "/authz/original", get, join(original("GET", "/photos/1"), forwarded("POST", "/admin")), 200, ""},
		{"the other family says otherwise", "/authz/forwarded", get, join(forwarded("GET", "/photos/1"), original("POST", "/admin")), 200, ""},
		{"both families say otherwise", "/authz/request/photos/1", get, join(forwarded("POST", "/admin"), original("POST", "/admin")), 200, ""},
		{"the other family would be allowed", "/authz/original", get, join(original("POST", "/admin"), forwarded("GET", "/photos/1")), 403, "refused"},
		{"the other family would be allowed", "/authz/forwarded", get, join(forwarded("POST", "/admin"), original("GET", "/photos/1")), 403, "refused"},
		{"both families would be allowed", "/authz/request/admin", get, join(forwarded("GET", "/photos/1"), original("GET", "/photos/1")), 403, "refused"},
		{"the other family alone", "/authz/original", get, forwarded("GET", "/photos/1"), 403, "forbidden"},
		{"the other family alone", "/authz/forwarded", get, original("GET", "/photos/1"), 403, "forbidden"},
		{"spelt with _", "/authz/original", get, []string{"X_Original_Method", "GET", "X_Original_URI", "/photos/1"}, 403, "forbidden"},

		{"no method", "/authz/original", get, []string{"X-Original-URI", "/photos/1"}, 403, "forbidden"},
		{"no target", "/authz/forwarded", get, []string{"X-Forwarded-Method", "GET"}, 403, "forbidden"},
		{"an empty method", "/authz/original", get, original("", "/photos/1"), 403, "forbidden"},
		{"an empty target", "/authz/original", get, original("GET", ""), 403, "forbidden"},
		{"a repeated method", "/authz/original", get, join(original("GET", "/photos/1"), []string{"X-Original-Method", "GET"}), 403, "forbidden"},
		{"a repeated target", "/authz/forwarded", get, join(forwarded("GET", "/photos/1"), []string{"X-Forwarded-Uri", "/admin"}), 403, "forbidden"},
		{"a repeated Authorization", "/authz/original", get, join(original("GET", "/photos/1"), []string{"Authorization", get}), 403, "forbidden"},
		{"a repeated Authorization", "/authz/request/photos/1", get, []string{"Authorization", get}, 403, "forbidden"},

		{"no token", "/authz/original", "", original("GET", "/photos/1"), 401, "no_token"},
		{"Basic", "/authz/original", basic("alice", password("alice")), original("GET", "/photos/1"), 401, "no_token"},
		{"garbage", "/authz/original", "Bearer garbage", original("GET", "/photos/1"), 401, "malformed"},
		{"forged", "/authz/forwarded", bearer(forge(alice.Token)), forwarded("GET", "/photos/1"), 401, "invalid"},
		{"a bare root", "/authz/original", bearer(alice.Token), original("GET", "/photos/1"), 401, "wrong_audience"},
		{"for another backend", "/authz/original", bearer(narrow(alice.Token, "audience photos")), original("GET", "/photos/1"), 401, "wrong_audience"},
		{"expired", "/authz/original", bearer(narrow(alice.Token, "audience backend", a.until(0))), original("GET", "/photos/1"), 401, "expired"},
		{"an unknown caveat", "/authz/original", bearer(narrow(alice.Token, "audience backend", "x-y")), original("GET", "/photos/1"), 403, "unknown_caveat"},

		{"an audience of the gateway's", "/authz/original?audience=photos", bearer(narrow(alice.Token, "audience photos")), original("GET", "/photos/1"), 200, ""},
		{"then the configured one is another", "/authz/original?audience=photos", get, original("GET", "/photos/1"), 401, "wrong_audience"},
		{"two audiences", "/authz/original?audience=backend&audience=photos", get, original("GET", "/photos/1"), 403, "forbidden"},
		{"a malformed query", "/authz/original?audience=backend;x", get, original("GET", "/photos/1"), 403, "forbidden"},
		{"actions", "/authz/forwarded?action=read&action=list", bearer(narrow(alice.Token, "audience backend", "allow read list")), forwarded("GET", "/x"), 200, ""},
		{"an action more", "/authz/forwarded?action=read&action=write", bearer(narrow(alice.Token, "audience backend", "allow read list")), forwarded("GET", "/x"), 403, "refused"},
		{"no action", "/authz/forwarded", bearer(narrow(alice.Token, "audience backend", "allow read")), forwarded("GET", "/x"), 403, "refused"},
		{"behind the prefix the query is the client's: no audience", "/authz/request/x?audience=photos", bearer(narrow(alice.Token, "audience photos")), nil, 401, "wrong_audience"},
		{"behind the prefix the query is the client's: no action", "/authz/request/x?action=read", bearer(narrow(alice.Token, "audience backend", "allow read")), nil, 403, "refused"},
		{"behind the prefix the query is the client's: nothing", "/authz/request/photos/1?audience=photos&audience=x&%zz;", get, nil, 200, ""},
	} {
		a.do(ask{method: "GET", path: row.path, auth: row.auth, header: row.header}).wantVerdict(row.name+" "+row.path, row.status, row.code)
	}
	// Revoked is so with the next question, for the branch and for the device.
	photos := original("GET", "/photos/1")
	a.revoke("", strings.TrimPrefix(get, "Bearer "))
	a.do(ask{method: "GET", path: "/authz/original", auth: get, header: photos}).wantVerdict("revoked branch", 401, "revoked")
	other := bearer(narrow(alice.Token, "audience backend"))
	a.do(ask{method: "GET", path: "/authz/original", auth: other, header: photos}).wantVerdict("sibling", 200, "")
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(alice.Token)}).want(204, "")
	a.do(ask{method: "GET", path: "/authz/original", auth: other, header: photos}).wantVerdict("revoked device", 401, "revoked")
}

// Nobody but a trusted proxy is answered, whatever it sends.
func TestGatewayPeers(t *testing.T) {
	for _, trusted := range [][]string{nil, {"192.0.2.0/24"}, {"::1/128"}} {
		a := start(t, func(s *setup) { s.trust(trusted...) })
		alice := a.user("alice")
		token := bearer(narrow(alice.Token, "audience backend"))
		for _, path := range []string{"/authz/original", "/authz/forwarded", "/authz/request/x"} {
			for _, auth := range []string{token, "", "Bearer garbage"} {
				a.do(ask{method: "GET", path: path, auth: auth, header: []string{
					"X-Original-Method", "GET", "X-Original-URI", "/x", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/x",
					"X-Forwarded-For", "192.0.2.7", "X-Real-IP", "192.0.2.7", "Forwarded", "for=192.0.2.7",
				}}).wantVerdict("untrusted "+path, 403, "forbidden")
			}
		}
	}
}

// What the backend is told: percent-encoded where needed, never empty.
func TestGatewayHeaders(t *testing.T) {
	const odd = "Zoë, \"O'Hara\" & <co>; 50% =x"
	for _, remote := range []string{"", "id", "username"} {
		a := start(t, func(s *setup) { s.trust(proxy); s.http.RemoteUser = remote })
		ask := func(g api.Grant) http.Header {
			r := a.do(ask{method: "GET", path: "/authz/request/x", auth: bearer(narrow(g.Token, "audience backend", a.until(time.Hour)))})
			r.wantVerdict("headers", 200, "")
			if len(r.body) != 0 {
				t.Errorf("a body: %s", r.body)
			}
			return r.Header
		}
		zoe, chief := a.user(odd), a.admin()
		const encoded = "Zo%C3%AB%2C%20%22O%27Hara%22%20%26%20%3Cco%3E%3B%2050%25%20%3Dx"
		want := map[string]string{
			"X-Auth-User": zoe.User.ID, "X-Auth-Username": encoded, "X-Auth-Device": zoe.Device.ID, "X-Auth-Audience": "backend",
			"X-Auth-Expires": a.clock.Now().Add(time.Hour).UTC().Format(time.RFC3339), "X-Auth-Roles": "-", "Remote-User": zoe.User.ID,
		}
		if remote == "username" {
			want["Remote-User"] = encoded
		}
		h := ask(zoe)
		for name, v := range want {
			if h.Get(name) != v {
				t.Errorf("%s: %q, want %q", name, h.Get(name), v)
			}
		}
		if h := ask(chief); h.Get("X-Auth-Roles") != "admin" || h.Get("X-Auth-Username") != "chief" {
			t.Errorf("%v", h)
		}
	}
}

// The client's address is what the trusted proxies say, from the right; what
// the client put on the left is nobody's word.
func TestForwardedFor(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy, "10.0.0.0/8", "fd00::/8") })
	alice := a.user("alice")
	auth := bearer(narrow(alice.Token, "audience backend", "client-ip 192.0.2.7/32 2001:db8::7/128"))
	for _, row := range []struct {
		name    string
		header  []string
		allowed bool
	}{
		{"the client", []string{"192.0.2.7"}, true},
		{"the client, IPv6", []string{"2001:db8::7"}, true},
		{"the client, mapped", []string{"::ffff:192.0.2.7"}, true},
		{"the client behind two of ours", []string{"192.0.2.7, 10.1.2.3"}, true},
		{"the client behind three of ours", []string{"192.0.2.7,10.1.2.3 , fd00::1"}, true},
		{"in two headers", []string{"192.0.2.7", "10.1.2.3"}, true},
		{"a spoofed address on the left", []string{"1.1.1.1, 192.0.2.7"}, true},
		{"garbage on the left", []string{"unknown, 192.0.2.7, 10.1.2.3"}, true},

		{"a port", []string{"192.0.2.7:4711"}, true},
		{"IPv6 and a port", []string{"[2001:db8::7]:4711"}, true},
		{"a port, behind ours with one", []string{"192.0.2.7:4711, 10.1.2.3:80"}, true},
		{"mapped, with a port", []string{"[::ffff:192.0.2.7]:4711"}, true},

		{"none", nil, false},
		{"an empty one", []string{""}, false},
		{"another", []string{"192.0.2.8"}, false},
		{"spoofed", []string{"192.0.2.7, 192.0.2.8"}, false},
		{"spoofed behind ours", []string{"192.0.2.7, 192.0.2.8, 10.1.2.3"}, false},
		{"spoofed in a header of its own", []string{"192.0.2.7", "192.0.2.8"}, false},
		{"spoofed as one of ours", []string{"192.0.2.7, 10.9.9.9, 192.0.2.8"}, false},
		{"only ours", []string{"10.1.2.3"}, false},
		{"an empty hop", []string{"192.0.2.7,"}, false},
		{"another's port", []string{"192.0.2.8:4711"}, false},
		{"ports, spoofed", []string{"192.0.2.7:4711, 192.0.2.8:4711"}, false},
		{"half a port", []string{"192.0.2.7:"}, false},
		{"a port that is a word", []string{"192.0.2.7:http"}, false},
		{"a port that is none", []string{"192.0.2.7:65536"}, false},
		{"IPv6 and a port, ambiguous", []string{"::ffff:192.0.2.7:4711"}, false},
		{"brackets around IPv4", []string{"[192.0.2.7]:4711"}, false},
		{"a zone", []string{"2001:db8::7%eth0"}, false},
		{"a zone and a port", []string{"[2001:db8::7%eth0]:4711"}, false},
		{"a name", []string{"localhost"}, false},
		{"garbage on the right", []string{"192.0.2.7, unknown"}, false},
	} {
		var header []string
		for _, v := range row.header {
			header = append(header, "X-Forwarded-For", v)
		}
		header = append(header, "X-Real-IP", "192.0.2.7", "Forwarded", "for=192.0.2.7")
		status, code := 403, "refused"
		if row.allowed {
			status, code = 200, ""
		}
		a.do(ask{method: "GET", path: "/authz/request/x", auth: auth, header: header}).wantVerdict(row.name, status, code)
	}
	// Who says nothing of a client is one itself, but for a gateway that asks.
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(narrow(alice.Token, "audience macaroond", "client-ip "+proxy))}).want(200, "")
	a.do(ask{method: "GET", path: "/authz/request/x", auth: bearer(narrow(alice.Token, "audience backend", "client-ip "+proxy))}).wantVerdict("the gateway itself", 403, "refused")
}

// A gateway that is not trusted, or that writes what is no address, is told of
// in the log, once: to the limits its clients are one.
func TestForwardedForIsTold(t *testing.T) {
	for _, row := range []struct {
		name    string
		trusted []string
		header  string
		client  string // of each request, in the log
		want    string // in the log; empty: nothing
	}{
		{"a trusted proxy", []string{proxy}, "192.0.2.7", "192.0.2.7", ""},
		{"a trusted proxy that writes ports", []string{proxy}, "192.0.2.7:4711", "192.0.2.7", ""},
		{"not trusted", nil, "192.0.2.7", "127.0.0.1", "its sender is not in trusted_proxies"},
		{"another is trusted", []string{"10.0.0.0/8"}, "192.0.2.7", "127.0.0.1", "its sender is not in trusted_proxies"},
		{"a trusted proxy that does not say", []string{proxy}, "unknown", "", "cannot be read as addresses"},
	} {
		a := start(t, func(s *setup) { s.trust(row.trusted...) })
		for range 3 {
			a.do(ask{method: "GET", path: "/v1/devices", header: []string{"X-Forwarded-For", row.header}}).want(401, "no_token")
		}
		if n := strings.Count(a.log.String(), `"level":"WARN"`); (n == 1) != (row.want != "") || n > 1 || !strings.Contains(a.log.String(), row.want) {
			t.Errorf("%s: %d warnings, want %q:\n%s", row.name, n, row.want, a.log)
		}
		if n := strings.Count(a.log.String(), `"client_ip":"`+row.client+`"`); n != 3 {
			t.Errorf("%s: %d of 3 requests are from %q:\n%s", row.name, n, row.client, a.log)
		}
	}
}

// Origin: exactly one, and equal.
func TestGatewayOrigin(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	auth := bearer(narrow(alice.Token, "audience backend", "origin https://app.example"))
	for header, status := range map[string]int{"": 403, "https://app.example": 200, "https://evil.example": 403, "null": 403, "https://app.example|https://app.example": 403} {
		var h []string
		for _, v := range strings.FieldsFunc(header, func(r rune) bool { return r == '|' }) {
			h = append(h, "Origin", v)
		}
		code := map[int]string{200: "", 403: "refused"}[status]
		a.do(ask{method: "GET", path: "/authz/request/x", auth: auth, header: h}).wantVerdict(fmt.Sprint("origin ", header), status, code)
	}
}
