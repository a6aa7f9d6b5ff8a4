package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"macaroond/service"
	"macaroond/service/api"
)

// Who made a request decides: each combination of what a browser says about it,
// on what changes something and on what does not.
func TestCrossSiteRequests(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.service.Settings.Browser = []string{"photos", "backend"} })
	p := a.browser("alice")
	own := "http://" + a.addr
	_, port, _ := strings.Cut(a.addr, ":")
	origins := []struct{ name, value string }{
		{"no origin", ""},
		{"own origin", own},
		{"another site", "https://evil.example"},
		{"another port", "http://127.0.0.1:1"},
		{"the same port of another name", "http://localhost:" + port},
		{"null", "null"},
		{"own host, in another scheme", "ftp://" + a.addr},
		{"a longer host", own + ".evil.example"},
		{"no URL", "http://%zz"},
		{"empty", "-"},
	}
	for _, site := range []string{"", "none", "same-origin", "same-site", "cross-site", "Same-Origin", "nonsense", "-"} {
		for _, origin := range origins {
			for _, method := range []string{"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"} {
				// By the letter of the design: fetch metadata where there is any, else
				// the origin, and nothing is held against GET and HEAD.
				want := method == "GET" || method == "HEAD" || site == "none" || site == "same-origin" ||
					site == "" && (origin.value == "" || origin.value == own)
				header := []string{"Cookie", cookieName + "=" + p.cookie, "X-CSRF-Token", p.CSRFToken}
				for name, value := range map[string]string{"Sec-Fetch-Site": site, "Origin": origin.value} {
					if value != "" {
						header = append(header, name, strings.Trim(value, "-"))
					}
				}
				name := fmt.Sprintf("%s, Sec-Fetch-Site %q, %s", method, site, origin.name)
				// At the authority's own endpoint.
				if method == "PATCH" {
					r := a.do(ask{method: method, path: "/v1/devices/" + p.Device.ID, header: header, body: `{"name":"renamed"}`})
					checkForeign(t, name, r, want)
					if got := slices.Contains(a.names(p), "renamed"); got != want {
						t.Errorf("%s: renamed: %v", name, got)
					}
					a.by(p, "PATCH", "/v1/devices/"+p.Device.ID, `{"name":"browser"}`).want(200, "")
				}
				if method == "GET" {
					checkForeign(t, name, a.do(ask{method: method, path: "/v1/devices", header: header}), want)
				}
				// Behind each kind of gateway, where the browser's method and host are
				// what the gateway says of them; Envoy's question has them as they are.
				checkForeign(t, "nginx: "+name, a.do(ask{method: "GET", path: "/authz/original?audience=photos", header: append(slices.Clone(header),
					"X-Original-Method", method, "X-Original-URI", "/x", "X-Original-Host", a.addr)}), want)
				checkForeign(t, "Caddy: "+name, a.do(ask{method: "GET", path: "/authz/forwarded?audience=photos", header: append(slices.Clone(header),
					"X-Forwarded-Method", method, "X-Forwarded-Uri", "/x", "X-Forwarded-Host", a.addr)}), want)
				checkForeign(t, "Envoy: "+name, a.do(ask{method: method, path: "/authz/request/x", header: header}), want)
			}
		}
	}
}

func checkForeign(t *testing.T, name string, r *reply, want bool) {
	t.Helper()
	if status := map[bool]int{true: 200, false: 403}[want]; r.StatusCode != status {
		t.Errorf("%s: %d, want %d: %s", name, r.StatusCode, status, r.body)
		return
	}
	if !want {
		r.want(403, "csrf")
	}
	if got := setCookie(r); got != "" {
		t.Errorf("%s: the cookie becomes %q", name, got)
	}
}

// An origin counts as the host that the browser asked for, over TLS or on this
// machine: a page that came over the network without TLS is another origin.
func TestOwnOrigin(t *testing.T) {
	for _, row := range []struct {
		host, origin string
		want         bool
	}{
		{"app.example", "https://app.example", true},
		{"app.example:8443", "https://app.example:8443", true},
		{"app.example", "http://app.example", false},
		{"app.example", "https://app.example:8443", false},
		{"app.example", "https://www.app.example", false},
		{"app.example", "https://APP.example", false},
		{"app.example", "wss://app.example", false},
		{"app.example", "https://app.example@evil.example", false},
		{"localhost:8080", "http://localhost:8080", true},
		{"a.localhost:8080", "http://a.localhost:8080", true},
		{"localhost.evil.example", "http://localhost.evil.example", false},
		{"127.0.0.1:80", "http://127.0.0.1:80", true},
		{"[::1]:80", "http://[::1]:80", true},
		{"192.0.2.1:80", "http://192.0.2.1:80", false},
		{"", "https://", false},
		{"", "null", false},
		{"", "", true}, // no browser says nothing
	} {
		r := &http.Request{Header: http.Header{}}
		if row.origin != "" {
			r.Header.Set("Origin", row.origin)
		}
		if err := sameOrigin(r, row.host); (err == nil) != row.want {
			t.Errorf("%s asked by %s: %v", row.host, row.origin, err)
		}
	}
	// Of two, another reader may take the other one.
	for _, header := range []http.Header{
		{"Sec-Fetch-Site": {"same-origin", "cross-site"}},
		{"Origin": {"https://app.example", "https://evil.example"}},
		{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://app.example", "https://app.example"}},
	} {
		if sameOrigin(&http.Request{Header: header}, "app.example") == nil {
			t.Errorf("%v is taken", header)
		}
	}
}

// The host that a page's origin is held against is the one that the gateway says
// the browser asked for, and not that of its own question.
func TestOriginBehindAGateway(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.service.Settings.Browser = []string{"photos"} })
	p := a.browser("alice")
	for _, row := range []struct {
		origin string
		host   []string
		want   bool
	}{
		{"https://app.example", []string{"app.example"}, true},
		{"http://" + a.addr, []string{"app.example"}, false},
		{"https://app.example", nil, false},
		{"http://" + a.addr, nil, false},
		{"https://app.example", []string{""}, false},
		{"https://app.example", []string{"app.example", "app.example"}, false},
		{"https://app.example", []string{"evil.example", "app.example"}, false},
	} {
		for path, family := range map[string]string{"/authz/original": "X-Original-", "/authz/forwarded": "X-Forwarded-"} {
			header := []string{"Cookie", cookieName + "=" + p.cookie, "X-CSRF-Token", p.CSRFToken, "Origin", row.origin, family + "Method", "POST", family + "Uri", "/x"}
			for _, host := range row.host {
				header = append(header, family+"Host", host)
			}
			checkForeign(t, fmt.Sprintf("%s: %s asked %q", path, row.origin, row.host), a.do(ask{method: "GET", path: path + "?audience=photos", header: header}), row.want)
		}
	}
}

// A page of another site cannot log a browser in, which would make its user
// work in somebody else's account.
func TestCrossSiteLogin(t *testing.T) {
	a := start(t)
	a.user("mallory")
	body := fmt.Sprintf(`{"username":"mallory","password":%q,"device":{"name":"b"},"mode":"cookie"}`, password("mallory"))
	for _, row := range []struct {
		name   string
		header []string
		status int
	}{
		{"no browser", nil, 200},
		{"own page", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://" + a.addr}, 200},
		{"own page, in an older browser", []string{"Origin", "http://" + a.addr}, 200},
		{"another site", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		{"another site, in an older browser", []string{"Origin", "https://evil.example"}, 403},
		{"a neighbour", []string{"Sec-Fetch-Site", "same-site", "Origin", "https://www.auth.example"}, 403},
	} {
		for _, path := range []string{"/v1/login", "/v1/signup", "/v1/recover", "/v1/link/claim"} {
			body := body
			switch path {
			case "/v1/recover":
				body = `{"username":"mallory","code":"x","device":{"name":"b"},"mode":"cookie"}`
			case "/v1/link/claim":
				body = `{"claim":"x","mode":"cookie"}`
			}
			r := a.do(ask{method: "POST", path: path, header: row.header, body: body})
			if row.status == 403 {
				r.want(403, "csrf")
			} else if path == "/v1/login" {
				r.want(200, "")
			}
			if (setCookie(r) != "") != (row.status == 200 && path == "/v1/login") {
				t.Errorf("%s, %s: %q", row.name, path, setCookie(r))
			}
		}
		// One that keeps the token itself may be anywhere.
		a.do(ask{method: "POST", path: "/v1/login", header: row.header, body: strings.Replace(body, `,"mode":"cookie"`, "", 1)}).want(200, "")
	}
}

// The synchronizer token: whatever is not exactly this session's is refused, on
// everything but GET and HEAD, and the refusal changes nothing.
func TestSynchronizerToken(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.service.Settings.Browser = []string{"photos"} })
	p := a.browser("alice")
	elsewhere := a.pageOf("alice", "") // the same user's other browser
	bob := a.browser("bob")
	epoch, sum, _ := strings.Cut(p.CSRFToken, ".")
	flipped := []byte(sum)
	flipped[0] ^= 1
	for _, row := range []struct {
		name string
		csrf []string
		want bool
	}{
		{"its own", []string{p.CSRFToken}, true},
		{"none", nil, false},
		{"an empty one", []string{""}, false},
		{"twice", []string{p.CSRFToken, p.CSRFToken}, false},
		{"of another device of the user", []string{elsewhere.CSRFToken}, false},
		{"of another user", []string{bob.CSRFToken}, false},
		{"cut", []string{p.CSRFToken[:len(p.CSRFToken)-1]}, false},
		{"longer", []string{p.CSRFToken + "A"}, false},
		{"changed at its beginning", []string{epoch + "." + string(flipped)}, false},
		{"without its epoch", []string{sum}, false},
		{"of an epoch that is none", []string{"9." + sum}, false},
		{"of epoch zero", []string{"0." + sum}, false},
		{"of a negative epoch", []string{"-1." + sum}, false},
		{"of an epoch too far", []string{"4294967296." + sum}, false},
		{"its epoch in another spelling", []string{"0" + p.CSRFToken}, false},
		{"the token itself", []string{p.cookie}, false},
		{"its root key's ID", []string{p.RootKeyID}, false},
		{"a list", []string{p.CSRFToken + ", " + p.CSRFToken}, false},
	} {
		header := []string{"Cookie", cookieName + "=" + p.cookie, "Sec-Fetch-Site", "same-origin"}
		for _, c := range row.csrf {
			header = append(header, "X-CSRF-Token", c)
		}
		status, code := 403, "csrf"
		if row.want {
			status, code = 200, ""
		}
		for _, q := range []ask{
			{method: "PATCH", path: "/v1/devices/" + p.Device.ID, body: `{"name":"renamed"}`},
			{method: "POST", path: "/v1/ticket", body: `{"audience":"photos"}`},
			{method: "POST", path: "/v1/verify", body: `{"token":"` + narrow(p.cookie, "audience photos") + `","request":{"audience":"photos","via":"cookie"}}`},
			{method: "POST", path: "/v1/revoke", body: `{"caveats":["via cookie","audience nobody"]}`},
			{method: "POST", path: "/authz/request/x"},
		} {
			q.header = header
			if strings.HasPrefix(q.path, "/authz") {
				q.path, q.header = "/authz/original?audience=photos", append(slices.Clone(header), "X-Original-Method", "POST", "X-Original-URI", "/x")
			}
			if r := a.do(q); r.want(status, code).Code != code {
				t.Errorf("in the row %q: %s", row.name, q.path)
			}
		}
		if !row.want {
			for _, q := range []ask{{method: "POST", path: "/v1/logout"}, {method: "DELETE", path: "/v1/devices"}, {method: "DELETE", path: "/v1/devices/" + p.Device.ID}} {
				q.header = header
				if r := a.do(q); r.want(403, "csrf").Code != "csrf" || setCookie(r) != "" {
					t.Errorf("in the row %q: %s %s", row.name, q.method, q.path)
				}
			}
		}
		if got := slices.Contains(a.names(p), "renamed"); got != row.want {
			t.Errorf("%s: renamed: %v", row.name, got)
		}
		a.by(p, "PATCH", "/v1/devices/"+p.Device.ID, `{"name":"browser"}`).want(200, "")
		// What changes nothing needs none.
		a.do(ask{method: "GET", path: "/v1/devices", header: header}).want(200, "")
		a.do(ask{method: "HEAD", path: "/v1/session", header: header}).want(200, "")
	}
	// Each session has its own, the same after a reload and after a rotation, for as
	// long as its epoch verifies.
	if p.CSRFToken == elsewhere.CSRFToken || p.CSRFToken == bob.CSRFToken {
		t.Error("two sessions have one synchronizer token")
	}
	if _, err := a.svc.RotateKeys(t.Context(), service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	again := into[api.Session](a.by(p, "GET", "/v1/session", ""), 200)
	if again.CSRFToken != p.CSRFToken {
		t.Errorf("%q became %q", p.CSRFToken, again.CSRFToken)
	}
	a.by(p, "PATCH", "/v1/devices/"+p.Device.ID, `{"name":"after"}`).want(200, "")
	// A bearer has no use for one, whatever other cookie it sends.
	d := a.login("alice", api.DeviceIn{Name: "phone"})
	if s := into[api.Session](a.do(ask{method: "GET", path: "/v1/session", auth: bearer(d.Token), header: []string{"Cookie", "theme=dark"}}), 200); s.CSRFToken != "" || s.Device.Name != "phone" {
		t.Errorf("%+v", s)
	}
}

// A WebSocket's handshake is a GET that a page of another origin can make with
// the cookie: it must be of the own origin. So is a CONNECT over HTTP/2; what is
// neither is no handshake, whatever its headers say, and needs the synchronizer
// token.
func TestHandshakes(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.service.Settings.Browser = []string{"photos"} })
	p := a.browser("alice")
	for _, row := range []struct {
		name   string
		header []string
		want   bool
	}{
		{"own page", []string{"Origin", "http://" + a.addr, "Sec-Fetch-Site", "same-origin"}, true},
		{"own page, in an older browser", []string{"Origin", "http://" + a.addr}, true},
		{"a neighbour", []string{"Origin", "http://127.0.0.1:1", "Sec-Fetch-Site", "same-site"}, false},
		{"a neighbour, in an older browser", []string{"Origin", "http://127.0.0.1:1"}, false},
		{"another site", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, false},
		{"no origin", nil, false},
		{"no origin, but its metadata", []string{"Sec-Fetch-Site", "same-origin"}, false},
	} {
		for _, mark := range [][]string{{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}, {"Upgrade", "WebSocket"}, {"Sec-Fetch-Mode", "websocket"}} {
			for _, method := range []string{"GET", "CONNECT", "POST"} {
				r := a.do(ask{method: "GET", path: "/authz/original?audience=photos", header: slices.Concat(row.header, mark,
					[]string{"X-Original-Method", method, "X-Original-URI", "/live", "X-Original-Host", a.addr, "Cookie", cookieName + "=" + p.cookie})})
				checkForeign(t, method+" "+row.name+" "+mark[0], r, row.want && method != "POST")
			}
		}
	}
}
