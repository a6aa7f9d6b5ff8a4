package httpapi

import (
	"fmt"
	"strings"
	"testing"
)

// envoy asks as Envoy does, byte for byte.
func (a *authority) envoy(method, target, auth string) *reply {
	a.t.Helper()
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: backend.example\r\n", method, target)
	if auth != "" {
		head += "Authorization: " + auth + "\r\n"
	}
	return a.raw(head + "Connection: close\r\n\r\n")
}

// Any method is judged like any other, in all three dialects; the client's own
// is the one that counts, and none of them is redirected or refused for itself.
func TestGatewayMethods(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "FOO", "PROPFIND", "M-SEARCH", "get"} {
		good, bad := bearer(narrow(alice.Token, "audience backend")), bearer(narrow(alice.Token, "audience backend", "method NONE"))
		if method != "get" { // which no caveat can name
			good = bearer(narrow(alice.Token, "audience backend", "method "+method))
		}
		a.envoy(method, "/authz/request/x", good).wantVerdict(method, 200, "")
		for _, row := range []struct{ path, name string }{{"/authz/original", "Original"}, {"/authz/forwarded", "Forwarded"}} {
			header := []string{"X-" + row.name + "-Method", "GET", "X-" + row.name + "-Uri", "/x"}
			if method == "CONNECT" { // a client library sends no path with it
				continue
			}
			get := bearer(narrow(alice.Token, "audience backend", "method GET"))
			r := a.do(ask{method: method, path: row.path, auth: get, header: header})
			r.wantVerdict(method+" "+row.path, 200, "") // the subrequest's own method means nothing here
		}
		if method == "HEAD" { // whose answers have no body to read a code in
			if r := a.envoy(method, "/authz/request/x", bad); r.StatusCode != 403 {
				t.Errorf("HEAD: %d", r.StatusCode)
			}
			continue
		}
		a.envoy(method, "/authz/request/x", bad).wantVerdict(method, 403, "refused")
		a.envoy(method, "/authz/request/x", "").wantVerdict(method, 401, "no_token")
	}
}

// Behind the prefix the target is judged as it came: what is not canonical is
// refused wherever a path caveat applies, and nothing is cleaned, decoded twice
// or redirected.
func TestGatewayTargets(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	auth := bearer(narrow(alice.Token, "audience backend", "path /photos/** /"))
	for _, row := range []struct {
		target string
		status int
		code   string
	}{
		{"/authz/request/photos/1", 200, ""},
		{"/authz/request/photos/", 200, ""},
		{"/authz/request/", 200, ""},
		{"/authz/request/photos/a%20b", 200, ""},
		{"/authz/request/%70hotos/1", 200, ""}, // one spelling of p, decoded once
		{"/authz/request/photos/1?x=//..;%2F", 200, ""},
		{"/authz/request/photos", 403, "refused"},
		{"/authz/request//photos/1", 403, "refused"},
		{"/authz/request/photos//1", 403, "refused"},
		{"/authz/request/photos/1//", 403, "refused"},
		{"/authz/request/photos%2F1", 403, "refused"},
		{"/authz/request/photos/%2F", 403, "refused"},
		{"/authz/request/photos/a%5Cb", 403, "refused"},
		{"/authz/request/photos/..", 403, "refused"},
		{"/authz/request/photos/../admin", 403, "refused"},
		{"/authz/request/photos/%2e%2e/admin", 403, "refused"},
		{"/authz/request/photos/%2E./admin", 403, "refused"},
		{"/authz/request/photos/%252e%252e/admin", 403, "refused"},
		{"/authz/request/./photos/1", 403, "refused"},
		{"/authz/request/photos/a;b", 403, "refused"},
		{"/authz/request/photos;x/1", 403, "refused"},
		{"/authz/request/photos/%3Fx", 403, "refused"},
		{"/authz/request/photos/%23x", 403, "refused"},
		{"/authz/request/photos/%00", 403, "refused"},
		{"/authz/request/photos/%0d%0aX-Auth-User:%20x", 403, "refused"},
		{"/authz/request/photos/%ff", 403, "refused"},
		{"/authz/request/PHOTOS/1", 403, "refused"},
		{"/authz/request/admin?/photos/1", 403, "refused"},
		{"/authz/request/../../v1/devices", 403, "refused"},
		{"/authz/request/authz/request/photos/1", 403, "refused"},
		{"/authz%2Frequest/photos/1", 403, "forbidden"},
		{"/%61uthz/request/photos/1", 403, "forbidden"},
		{"http://backend.example/authz/request/photos/1", 403, "forbidden"},
		{"http://backend.example/photos/1", 404, "not_found"},
		{"/authz/requests/photos/1", 404, "not_found"},
		{"/authz/original/", 404, "not_found"},
		{"/authz/", 404, "not_found"},
		{"//authz/request/photos/1", 404, "not_found"},
		{"/authz//request/photos/1", 404, "not_found"},
		{"/x/../authz/request/photos/1", 404, "not_found"},
	} {
		for _, method := range []string{"GET", "FOO"} {
			r := a.envoy(method, row.target, auth)
			r.wantVerdict(method+" "+row.target, row.status, row.code)
		}
	}
	// Without a path caveat the path is the backend's business.
	anywhere := bearer(narrow(alice.Token, "audience backend"))
	a.envoy("GET", "/authz/request/a//b/../c;d", anywhere).wantVerdict("anywhere", 200, "")
	if log := a.log.String(); strings.Contains(log, "photos") || strings.Contains(log, `"FOO"`) {
		t.Error("the log has a path or an invented method")
	}
}

// Two Authorization headers, and headers that repeat in other ways, on the wire.
func TestGatewaySmuggling(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	good := bearer(narrow(alice.Token, "audience backend", "path /photos/**"))
	for _, row := range []struct {
		name, head string
		status     int
		code       string
	}{
		{"a good one", "Authorization: %s\r\nX-Original-Method: GET\r\nX-Original-URI: /photos/1\r\n", 200, ""},
		{"two, the second bad", "Authorization: %s\r\nAuthorization: Bearer x\r\nX-Original-Method: GET\r\nX-Original-URI: /photos/1\r\n", 403, "forbidden"},
		{"two, the first empty", "Authorization:\r\nAuthorization: %s\r\nX-Original-Method: GET\r\nX-Original-URI: /photos/1\r\n", 403, "forbidden"},
		{"two, in another case", "authorization: %s\r\nAUTHORIZATION: Bearer x\r\nX-Original-Method: GET\r\nX-Original-URI: /photos/1\r\n", 403, "forbidden"},
		{"two targets in another case", "Authorization: %s\r\nX-Original-Method: GET\r\nX-Original-URI: /photos/1\r\nx-original-uri: /admin\r\n", 403, "forbidden"},
		{"two targets in one", "Authorization: %s\r\nX-Original-Method: GET\r\nX-Original-URI: /photos/1, /admin\r\n", 403, "forbidden"},
		{"an absolute target", "Authorization: %s\r\nX-Original-Method: GET\r\nX-Original-URI: http://x/photos/1\r\n", 403, "refused"},
		{"no path", "Authorization: %s\r\nX-Original-Method: OPTIONS\r\nX-Original-URI: *\r\n", 403, "refused"},
		{"identity sent along", "Authorization: %s\r\nX-Original-Method: GET\r\nX-Original-URI: /photos/1\r\nX-Auth-User: root\r\nX_Auth_User: root\r\nRemote-User: root\r\n", 200, ""},
	} {
		r := a.raw("GET /authz/original HTTP/1.1\r\nHost: x\r\n" + fmt.Sprintf(row.head, good) + "\r\n")
		r.wantVerdict(row.name, row.status, row.code)
		if row.status == 200 && (r.Header.Get("X-Auth-User") != alice.User.ID || r.Header.Get("Remote-User") != alice.User.ID) {
			t.Errorf("%s: %v", row.name, r.Header)
		}
	}
}
