package httpapi

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/token"
)

const cookieName = "__Host-macaroon"

// tab is a page of the authority's own origin, in a browser that is logged in.
type tab struct {
	api.Grant
	cookie string // the token
}

// browser is a new user, logged in by a page.
func (a *authority) browser(name string) tab {
	a.t.Helper()
	a.user(name)
	return a.pageOf(name, "")
}

// pageOf logs a user in in a browser. install tells browsers apart.
func (a *authority) pageOf(name, install string) tab {
	a.t.Helper()
	r := a.post("/v1/login", "", api.LoginIn{Username: name, Password: password(name), Device: api.DeviceIn{Name: "browser", InstallID: install}, Mode: "cookie"})
	return tab{into[api.Grant](r, 200), setCookie(r)}
}

// setCookie is the token in the one cookie that an answer sets; "-" when it
// takes the cookie away, "" when it does neither.
func setCookie(r *reply) string {
	r.t.Helper()
	set := cookies(r.Header)
	if len(set) == 0 {
		return ""
	}
	value, found := strings.CutPrefix(set[0], cookieName+"=")
	value, attributes, _ := strings.Cut(value, "; ")
	if !found || len(set) != 1 || (value == "") != strings.Contains(attributes, "Max-Age=0;") {
		r.t.Errorf("the cookies are %q", set)
	}
	if value == "" {
		return "-"
	}
	return value
}

// own is what a page sends of itself: cookie, origin and synchronizer token.
func (a *authority) own(p tab) []string {
	return []string{"Cookie", cookieName + "=" + p.cookie, "Origin", "http://" + a.addr, "Sec-Fetch-Site", "same-origin", "X-CSRF-Token", p.CSRFToken}
}

// by is a request of a page, by its script.
func (a *authority) by(p tab, method, path, body string) *reply {
	a.t.Helper()
	return a.do(ask{method: method, path: path, body: body, header: a.own(p)})
}

func (a *authority) names(p tab) (out []string) {
	a.t.Helper()
	for _, d := range into[api.Devices](a.by(p, "GET", "/v1/devices", ""), 200).Devices {
		if d.RevokedAt == nil {
			out = append(out, d.Name)
		}
	}
	slices.Sort(out) // those of one moment have no order
	return out
}

// A login in the mode "cookie" answers a grant without any token, and sets a
// cookie whose token is the mint caveats and "via cookie".
func TestCookieLogin(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.Signup = "password" })
	a.user("alice")
	const device = `"device":{"name":"browser"},"mode":"cookie"`
	signup := a.do(ask{method: "POST", path: "/v1/signup", body: `{"username":"bob","password":"a long password",` + device + `}`})
	code := into[api.Grant](signup, 201).RecoveryCodes[0]
	for _, row := range []struct {
		name string
		r    *reply
		user string
		ttl  int64
	}{
		{"login", a.do(ask{method: "POST", path: "/v1/login", body: fmt.Sprintf(`{"username":"alice","password":%q,%s}`, password("alice"), device)}), "alice", 30 * 24 * 3600},
		{"login by Basic, for an hour", a.do(ask{method: "POST", path: "/v1/login", auth: basic("alice", password("alice")), body: `{"ttl":3600,` + device + `}`}), "alice", 3600},
		{"sign-up", signup, "bob", 30 * 24 * 3600},
		{"recovery", a.do(ask{method: "POST", path: "/v1/recover", body: `{"username":"bob","code":"` + code + `",` + device + `}`}), "bob", 30 * 24 * 3600},
	} {
		status := map[bool]int{true: 201, false: 200}[row.name == "sign-up"]
		row.r.want(status, "")
		g := into[api.Grant](row.r, status)
		for _, member := range []string{`"token"`, `"token_type"`, `"access"`} {
			if bytes.Contains(row.r.body, []byte(member)) {
				t.Errorf("%s: the grant has %s", row.name, member)
			}
		}
		text := setCookie(row.r)
		want := []string{"time-before " + g.ExpiresAt.Format(time.RFC3339), "user " + g.User.ID, "device " + g.Device.ID, "via cookie"}
		if got := must(token.Parse(text)).UnverifiedCaveats(); !slices.Equal(got, want) {
			t.Errorf("%s: caveats %q, want %q", row.name, got, want)
		}
		wantCookie := cookieName + "=" + text + "; Path=/; Max-Age=" + strconv.FormatInt(row.ttl, 10) + "; Secure; HttpOnly; SameSite=Lax"
		if got := row.r.Header.Get("Set-Cookie"); got != wantCookie {
			t.Errorf("%s: the cookie is %q", row.name, got)
		}
		if g.User.Username != row.user || g.ExpiresIn != row.ttl || g.Device.Name != "browser" || g.CSRFToken == "" || len(g.RootKeyID) != 22 {
			t.Errorf("%s: %+v", row.name, g)
		}
		if strings.Contains(string(row.r.body), text) {
			t.Errorf("%s: the token is in the body", row.name)
		}
		p := tab{g, text}
		if row.name != "sign-up" { // the recovery has ended that one
			s := into[api.Session](a.by(p, "GET", "/v1/session", ""), 200)
			if s != (api.Session{User: g.User, Device: g.Device, ExpiresAt: g.ExpiresAt, CSRFToken: g.CSRFToken}) {
				t.Errorf("%s: the session is %+v", row.name, s)
			}
		}
		// Out of the cookie it is nobody's token.
		a.do(ask{method: "GET", path: "/v1/session", auth: bearer(text)}).want(map[bool]int{true: 401, false: 403}[row.name == "sign-up"], map[bool]string{true: "revoked", false: "refused"}[row.name == "sign-up"])
	}
	for _, row := range []struct{ name, path, body, field string }{
		{"an unknown mode", "/v1/login", `{"username":"alice","password":"x","device":{"name":"d"},"mode":"Cookie"}`, "/mode"},
		{"an unknown mode of a sign-up", "/v1/signup", `{"username":"carol","password":"a long password","device":{"name":"d"},"mode":"x"}`, "/mode"},
		{"an unknown mode of a recovery", "/v1/recover", `{"username":"bob","code":"x","device":{"name":"d"},"mode":"x"}`, "/mode"},
		{"a token for an audience", "/v1/login", fmt.Sprintf(`{"username":"alice","password":%q,"audience":"photos",%s}`, password("alice"), device), "/audience"},
	} {
		if p := a.do(ask{method: "POST", path: row.path, body: row.body}).want(400, "bad_request"); p.Field != row.field {
			t.Errorf("%s: field %q", row.name, p.Field)
		}
	}
	// In the mode "token", which is the default, there is no cookie.
	for _, mode := range []string{"", "token"} {
		r := a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "d"}, Mode: mode})
		if g := into[api.Grant](r, 200); g.Token == "" || g.CSRFToken != "" || setCookie(r) != "" {
			t.Errorf("mode %q: %+v, %q", mode, g, setCookie(r))
		}
	}
	// A login takes no user's token, so a dead cookie does not stand in its way.
	a.do(ask{method: "POST", path: "/v1/login", header: []string{"Cookie", cookieName + "=dead"}, body: fmt.Sprintf(`{"username":"alice","password":%q,%s}`, password("alice"), device)}).want(200, "")
	a.do(ask{method: "POST", path: "/v1/login", auth: basic("alice", password("alice")), header: []string{"Cookie", cookieName + "=dead"}, body: `{` + device + `}`}).want(400, "bad_request")
}

// A cookie that browsers might not take is not set: the login fails before
// anything is stored.
func TestCookieTooLong(t *testing.T) {
	for _, row := range []struct {
		issuer int
		status int
		code   string
	}{{256, 200, ""}, {2830, 200, ""}, {2845, 500, "internal"}, {2900, 500, "internal"}, {4000, 500, "internal"}} {
		a := start(t)
		a.user("alice")
		set := *a.svc.Settings()
		set.Issuer = "https://" + strings.Repeat("a", row.issuer-8)
		a.svc.SetSettings(set)
		before := len(must(a.svc.UserDevices(t.Context(), a.userID("alice"), "")).Devices)
		r := a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "b"}, Mode: "cookie"})
		r.want(row.status, row.code)
		made := len(must(a.svc.UserDevices(t.Context(), a.userID("alice"), "")).Devices) - before
		if n := len(r.Header.Get("Set-Cookie")); n > 4096 || (n > 0) != (row.status == 200) || made != map[bool]int{true: 1, false: 0}[row.status == 200] {
			t.Errorf("an issuer of %d characters: a cookie of %d bytes, %d devices", row.issuer, n, made)
		}
	}
}

func (a *authority) userID(name string) string {
	a.t.Helper()
	id := ""
	for _, u := range must(a.svc.Users(a.t.Context(), "", 100)).Users {
		if u.Username == name {
			id = u.ID
		}
	}
	return id
}

// Who made a request decides: each combination of what a browser says about it,
// on what changes something and on what does not.
func TestCrossSiteRequests(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.service.Settings.Browser = []string{"photos"} })
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
				// what the gateway says of them.
				checkForeign(t, "nginx: "+name, a.do(ask{method: "GET", path: "/authz/original?audience=photos", header: append(slices.Clone(header),
					"X-Original-Method", method, "X-Original-URI", "/x", "X-Original-Host", a.addr)}), want)
				checkForeign(t, "Caddy: "+name, a.do(ask{method: "GET", path: "/authz/forwarded?audience=photos", header: append(slices.Clone(header),
					"X-Forwarded-Method", method, "X-Forwarded-Uri", "/x", "X-Forwarded-Host", a.addr)}), want)
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
	// A bearer has no use for one.
	d := a.login("alice", api.DeviceIn{Name: "phone"})
	if s := into[api.Session](a.do(ask{method: "GET", path: "/v1/session", auth: bearer(d.Token)}), 200); s.CSRFToken != "" || s.Device.Name != "phone" {
		t.Errorf("%+v", s)
	}
}

// Whatever is in the cookie that is not one good token: one clear answer, and
// the cookie goes when its token is dead.
func TestBadCookies(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	p := a.browser("alice")
	gone := a.pageOf("alice", "")
	a.by(gone, "POST", "/v1/logout", "").want(204, "")
	phone := a.login("alice", api.DeviceIn{Name: "phone"})
	cookie := func(v string) []string { return []string{"Cookie", cookieName + "=" + v} }
	last := byte('A')
	if p.cookie[len(p.cookie)-3] == last {
		last = 'B'
	}
	forged := p.cookie[:len(p.cookie)-3] + string(last) + p.cookie[len(p.cookie)-2:]
	for _, row := range []struct {
		name   string
		header []string
		status int
		code   string
		taken  bool
	}{
		{"the cookie", cookie(p.cookie), 200, "", false},
		{"among others", []string{"Cookie", "a=b; " + cookieName + "=" + p.cookie + "; c=d"}, 200, "", false},
		{"beside others", []string{"Cookie", "a=b", "Cookie", cookieName + "=" + p.cookie}, 200, "", false},
		{"with spaces around its name", []string{"Cookie", "a=b;\t " + cookieName + " =" + p.cookie}, 200, "", false},
		{"empty", cookie(""), 401, "malformed", true},
		{"no token", cookie("nonsense"), 401, "malformed", true},
		{"quoted", cookie(`"` + p.cookie + `"`), 401, "malformed", true},
		{"with a space before it", cookie(" " + p.cookie), 401, "malformed", true},
		{"truncated", cookie(p.cookie[:len(p.cookie)-2]), 401, "malformed", true},
		{"truncated to nearly nothing", cookie(p.cookie[:1]), 401, "malformed", true},
		{"forged", cookie(forged), 401, "invalid", true},
		{"too long", cookie(strings.Repeat("A", 4097)), 401, "too_large", true},
		{"logged out", cookie(gone.cookie), 401, "revoked", true},
		{"narrowed till before now", cookie(narrow(p.cookie, a.until(-time.Second))), 401, "expired", true},
		{"narrowed for later", cookie(narrow(p.cookie, "audience macaroond", "time-after 2999-01-01T00:00:00Z")), 401, "not_yet_valid", false},
		{"narrowed for elsewhere", cookie(narrow(p.cookie, "audience photos")), 401, "wrong_audience", false},
		{"narrowed to nothing", cookie(narrow(p.cookie, "note x")), 401, "wrong_audience", false},
		{"narrowed for here", cookie(narrow(p.cookie, "audience macaroond")), 200, "", false},
		{"narrowed, and not for this", cookie(narrow(p.cookie, "audience macaroond", "allow x")), 403, "refused", false},
		{"a bearer's root", cookie(phone.Token), 200, "", false}, // whoever has it may append via cookie, and win nothing
		{"two cookies", []string{"Cookie", cookieName + "=" + p.cookie + "; " + cookieName + "=" + p.cookie}, 400, "bad_request", false},
		{"two headers", append(cookie(p.cookie), cookie(phone.Token)...), 400, "bad_request", false},
		{"a good and an empty one", []string{"Cookie", cookieName + "=" + p.cookie + ";" + cookieName + "="}, 400, "bad_request", false},
		{"another spelling beside it", []string{"Cookie", cookieName + "=" + p.cookie + "; " + cookieName + "\t=x"}, 400, "bad_request", false},
		{"a cookie without a value", []string{"Cookie", cookieName}, 401, "no_token", false},
		{"and a bearer", append(cookie(p.cookie), "Authorization", bearer(phone.Token)), 400, "bad_request", false},
		{"and the same as a bearer", append(cookie(p.cookie), "Authorization", bearer(p.cookie)), 400, "bad_request", false},
		{"and Basic", append(cookie(p.cookie), "Authorization", basic("alice", password("alice"))), 400, "bad_request", false},
		{"and an empty bearer", append(cookie(p.cookie), "Authorization", "Bearer "), 400, "bad_request", false},
		{"an empty one, and a bearer", append(cookie(""), "Authorization", bearer(phone.Token)), 400, "bad_request", false},
	} {
		for _, q := range []ask{
			{method: "GET", path: "/v1/devices"},
			{method: "GET", path: "/authz/original?audience=macaroond", header: []string{"X-Original-Method", "GET", "X-Original-URI", "/x"}},
		} {
			gateway := len(q.header) > 0
			q.header = append(q.header, row.header...)
			status, code := row.status, row.code
			if gateway && status == 400 { // which no gateway understands
				status, code = 403, "forbidden"
			}
			r := a.do(q)
			if r.want(status, code); t.Failed() {
				t.Fatalf("in the row %q: %s", row.name, q.path)
			}
			if taken := setCookie(r) == "-"; taken != row.taken || !taken && setCookie(r) != "" {
				t.Errorf("%s: %s: the cookie becomes %q", row.name, q.path, setCookie(r))
			}
		}
	}
}

// Logging out drops the root key and takes the cookie away; a second time the
// cookie is dead, and goes all the same.
func TestCookieLogout(t *testing.T) {
	a := start(t)
	p := a.browser("alice")
	other := a.pageOf("alice", "")
	r := a.by(p, "POST", "/v1/logout", "")
	if r.want(204, ""); setCookie(r) != "-" {
		t.Errorf("the cookie becomes %q", setCookie(r))
	}
	for _, method := range []string{"GET", "POST"} {
		path := map[string]string{"GET": "/v1/session", "POST": "/v1/logout"}[method]
		r := a.by(p, method, path, "")
		if r.want(401, "revoked"); setCookie(r) != "-" {
			t.Errorf("%s: the cookie becomes %q", path, setCookie(r))
		}
	}
	if got := a.names(other); !slices.Equal(got, []string{"browser", "phone"}) {
		t.Errorf("the other devices are %q", got)
	}
	// Expired, it goes, too.
	a.pass(31 * 24 * time.Hour)
	if r := a.by(other, "POST", "/v1/logout", ""); setCookie(r) != "-" {
		t.Errorf("the cookie becomes %q", setCookie(r))
	} else {
		r.want(401, "expired")
	}
}

// A ticket is the page's root for thirty seconds, one audience, one use: what a
// page without a token cannot make by itself.
func TestTicket(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.Browser = []string{"photos"} })
	p := a.browser("alice")
	phone := a.login("alice", api.DeviceIn{Name: "phone"})
	mint := []string{"time-before " + p.ExpiresAt.Format(time.RFC3339), "user " + p.User.ID, "device " + p.Device.ID}
	soon := a.clock.Now().Add(30 * time.Second).UTC()
	seen := map[string]bool{}
	for _, row := range []struct {
		body string
		want []string
	}{
		{`{"audience":"photos"}`, []string{"audience photos"}},
		{`{"audience":"photos"}`, []string{"audience photos"}}, // another one
		{`{"audience":"macaroond"}`, []string{"audience macaroond"}},
		{`{"audience":"photos","path":"/live/**"}`, []string{"audience photos", "path /live/**"}},
	} {
		out := into[api.Ticket](a.by(p, "POST", "/v1/ticket", row.body), 200)
		texts := must(token.Parse(out.Ticket)).UnverifiedCaveats()
		want := slices.Concat(mint, []string{"time-before " + soon.Format(time.RFC3339)}, row.want)
		nonce, found := strings.CutPrefix(texts[len(texts)-1], "once ")
		if !slices.Equal(texts[:len(texts)-1], want) || !found || len(nonce) != 26 || seen[nonce] || !out.ExpiresAt.Equal(soon) {
			t.Errorf("%s: %q until %s", row.body, texts, out.ExpiresAt)
		}
		seen[nonce] = true
	}
	for _, row := range []struct {
		name, body, field string
	}{
		{"another audience", `{"audience":"mail"}`, "/audience"},
		{"none", `{}`, "/audience"},
		{"two", `{"audience":"photos mail"}`, "/audience"},
		{"no path", `{"audience":"photos","path":"live"}`, "/path"},
		{"two paths", `{"audience":"photos","path":"/live /more"}`, "/path"},
		{"a path that is none", `{"audience":"photos","path":"/a/../b"}`, "/path"},
	} {
		if got := a.by(p, "POST", "/v1/ticket", row.body).want(400, "bad_request"); got.Field != row.field {
			t.Errorf("%s: field %q", row.name, got.Field)
		}
	}
	a.do(ask{method: "POST", path: "/v1/ticket", body: `{"audience":"photos"}`, auth: bearer(phone.Token)}).want(200, "")
	a.do(ask{method: "POST", path: "/v1/ticket", body: `{"audience":"photos"}`, auth: bearer(narrow(phone.Token, "audience macaroond"))}).want(403, "bare_root_required")
	a.do(ask{method: "POST", path: "/v1/ticket", body: `{"audience":"photos"}`}).want(401, "no_token")
	// Never longer than its root.
	short := a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "b"}, Mode: "cookie", TTL: 5})
	s := tab{into[api.Grant](short, 200), setCookie(short)}
	if out := into[api.Ticket](a.by(s, "POST", "/v1/ticket", `{"audience":"photos"}`), 200); !out.ExpiresAt.Equal(s.ExpiresAt.Time) {
		t.Errorf("a ticket until %s of a root until %s", out.ExpiresAt, s.ExpiresAt)
	}
}

// Renewal in the cookie: the successor comes in the cookie as well, and nobody is
// logged out by tabs that renew at once, nor by one that still has the former
// cookie or synchronizer token.
func TestCookieRenewal(t *testing.T) {
	a := start(t)
	p := a.browser("alice")
	a.pass(10 * 24 * time.Hour)
	renew := func(p tab) (tab, *reply) {
		r := a.by(p, "POST", "/v1/renew", "")
		g := into[api.Grant](r, 200)
		if bytes.Contains(r.body, []byte(`"token"`)) || g.Token != "" || g.RootKeyID != p.RootKeyID || g.Device.ID != p.Device.ID {
			t.Errorf("%s", r.body)
		}
		return tab{g, setCookie(r)}, r
	}
	for name, header := range map[string][]string{
		"without a synchronizer token": {"Cookie", cookieName + "=" + p.cookie},
		"by another site":              append(a.own(p), "Sec-Fetch-Site", "cross-site"),
	} {
		if r := a.do(ask{method: "POST", path: "/v1/renew", header: header}); r.want(403, "csrf").Code == "" || setCookie(r) != "" {
			t.Errorf("%s: %q", name, setCookie(r))
		}
	}
	a.do(ask{method: "POST", path: "/v1/renew", auth: bearer(p.cookie)}).want(403, "refused") // out of the cookie, it does not become a bearer's

	if _, err := a.svc.RotateKeys(t.Context(), service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	next, r := renew(p)
	want := []string{"time-before " + next.ExpiresAt.Format(time.RFC3339), "user " + p.User.ID, "device " + p.Device.ID, "via cookie"}
	if got := must(token.Parse(next.cookie)).UnverifiedCaveats(); !slices.Equal(got, want) || !next.ExpiresAt.After(p.ExpiresAt.Time) {
		t.Errorf("the successor is %q", got)
	}
	if set := r.Header.Get("Set-Cookie"); !strings.Contains(set, "Max-Age="+strconv.FormatInt(next.ExpiresIn, 10)+";") {
		t.Errorf("the cookie is %q", set)
	}
	// The other tabs have renewed, too: by the same cookie, or the former one.
	for range 3 {
		if again, _ := renew(p); again.cookie != next.cookie || again.CSRFToken != next.CSRFToken {
			t.Errorf("a second successor: %+v", again)
		}
	}
	// Each mixture of former and new goes on: the epoch has changed in between.
	if next.CSRFToken == p.CSRFToken {
		t.Error("the epoch has not changed")
	}
	for _, cookie := range []string{p.cookie, next.cookie} {
		for _, csrf := range []string{p.CSRFToken, next.CSRFToken} {
			mixed := tab{api.Grant{Device: p.Device, CSRFToken: csrf}, cookie}
			a.by(mixed, "PATCH", "/v1/devices/"+p.Device.ID, `{"name":"browser"}`).want(200, "")
		}
	}
	// Long after its successor was seen the former cookie is a thief's: the device is
	// revoked, and both browsers lose their cookie.
	a.pass(time.Hour)
	a.by(next, "GET", "/v1/session", "").want(200, "")
	r = a.by(p, "POST", "/v1/renew", "")
	if r.want(401, "revoked"); setCookie(r) != "-" {
		t.Errorf("the cookie becomes %q", setCookie(r))
	}
	r = a.by(next, "GET", "/v1/session", "")
	if r.want(401, "revoked"); setCookie(r) != "-" {
		t.Errorf("the cookie becomes %q", setCookie(r))
	}
	// A bearer's root that was put into the cookie is one for the cookie then.
	phone := a.login("alice", api.DeviceIn{Name: "phone"})
	s := into[api.Session](a.do(ask{method: "GET", path: "/v1/session", header: []string{"Cookie", cookieName + "=" + phone.Token}}), 200)
	moved, _ := renew(tab{api.Grant{Device: phone.Device, RootKeyID: phone.RootKeyID, CSRFToken: s.CSRFToken}, phone.Token})
	if got := must(token.Parse(moved.cookie)).UnverifiedCaveats(); len(got) != 4 || got[3] != "via cookie" {
		t.Errorf("%q", got)
	}
}

// A ticket is accepted once, wherever it goes, and dies with its session.
func TestTicketIsGoodOnce(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.Browser = []string{"photos"} })
	p := a.browser("alice")
	_, svc := a.service("photos", "photos")
	ticket := func(body string) string { return into[api.Ticket](a.by(p, "POST", "/v1/ticket", body), 200).Ticket }
	here := api.Request{Audience: "photos", Method: "GET", Path: "/live"}
	verdict := func(text string, r api.Request) string {
		return into[api.Decision](a.verify(svc, text, r), 200).Code
	}
	text := ticket(`{"audience":"photos","path":"/live"}`)
	for _, row := range []struct {
		name, text string
		request    api.Request
		code       string
	}{
		{"elsewhere, which uses nothing up", text, api.Request{Audience: "photos", Path: "/other"}, "refused"},
		{"narrowed, to be refused", narrow(text, "method POST"), here, "refused"},
		{"here", text, here, "ok"},
		{"again", text, here, "replayed"},
		{"narrowed", narrow(text, "note x"), here, "replayed"},
		{"another one", ticket(`{"audience":"photos"}`), here, "ok"},
	} {
		if got := verdict(row.text, row.request); got != row.code {
			t.Errorf("%s: %s, want %s", row.name, got, row.code)
		}
	}
	// Alone it is no session: not for what needs a root, and at all only once.
	own := ticket(`{"audience":"macaroond"}`)
	a.do(ask{method: "POST", path: "/v1/ticket", body: `{"audience":"photos"}`, auth: bearer(own)}).want(403, "bare_root_required")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(own)}).want(200, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(own)}).want(403, "replayed")
	late, last := ticket(`{"audience":"photos"}`), ticket(`{"audience":"photos"}`)
	a.by(p, "POST", "/v1/logout", "").want(204, "")
	if got := verdict(last, here); got != "revoked" {
		t.Errorf("after the logout: %s", got)
	}
	a.pass(31 * time.Second)
	if got := verdict(late, here); got != "revoked" {
		t.Errorf("after the logout and its time: %s", got)
	}
	p = a.pageOf("alice", "")
	late = ticket(`{"audience":"photos"}`)
	a.pass(30 * time.Second)
	if got := verdict(late, here); got != "expired" {
		t.Errorf("after thirty seconds: %s", got)
	}
}

// A page has the rights of a bare root.
func TestPageMayWhatARootMay(t *testing.T) {
	a := start(t)
	p := a.browser("alice")
	phone := a.login("alice", api.DeviceIn{Name: "tablet"})
	a.by(p, "DELETE", "/v1/devices/"+phone.Device.ID, "").want(204, "")
	if got := a.names(p); !slices.Equal(got, []string{"browser", "phone"}) {
		t.Errorf("devices %q", got)
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(phone.Token)}).want(401, "revoked")
	// A branch of its own root, by its caveats, and the token of another device.
	a.by(p, "POST", "/v1/revoke", `{"caveats":["audience photos","note x"]}`).want(200, "")
	a.by(p, "POST", "/v1/revoke", `{"caveats":["via cookie"]}`).want(400, "bad_request")
	a.by(p, "POST", "/v1/revoke", `{"caveats":[]}`).want(400, "bad_request")
	tablet := a.login("alice", api.DeviceIn{Name: "tablet"})
	if out := into[api.RevokeOut](a.by(p, "POST", "/v1/revoke", `{"token":"`+tablet.Token+`"}`), 200); out.Grain != "device" {
		t.Errorf("%+v", out)
	}
	// The cookie's own token, found in some log: it is the device's root.
	if out := into[api.RevokeOut](a.do(ask{method: "POST", path: "/v1/revoke", body: `{"token":"` + p.cookie + `"}`}), 200); out.Grain != "device" {
		t.Errorf("%+v", out)
	}
	a.by(p, "GET", "/v1/session", "").want(401, "revoked")
}

// At a resource server the cookie's bare root is good for the audiences of
// browser mode and the authority's own, from the cookie, and nowhere else.
func TestCookieAudiences(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.service.Settings.Browser = []string{"photos"} })
	p := a.browser("alice")
	phone := a.login("alice", api.DeviceIn{Name: "phone"})
	_, svc := a.service("both", "photos", "mail")
	for _, row := range []struct {
		name, text, audience, via, code string
	}{
		{"the cookie's root", p.cookie, "photos", "cookie", "ok"},
		{"not from the cookie", p.cookie, "photos", "", "wrong_audience"},
		{"not from the cookie, it says", p.cookie, "photos", "header", "wrong_audience"},
		{"where browsers are not meant", p.cookie, "mail", "cookie", "wrong_audience"},
		{"a bearer's root", phone.Token, "photos", "", "wrong_audience"},
		{"a bearer's root, in the cookie", phone.Token, "photos", "cookie", "ok"},
		{"narrowed", narrow(p.cookie, "audience photos"), "photos", "cookie", "ok"},
		{"narrowed, not from the cookie", narrow(p.cookie, "audience photos"), "photos", "", "refused"},
		{"narrowed for mail", narrow(p.cookie, "audience mail"), "mail", "cookie", "ok"},
		{"narrowed to nothing", narrow(p.cookie, "note x"), "photos", "cookie", "wrong_audience"},
		{"twice for the cookie", narrow(p.cookie, "via cookie"), "photos", "cookie", "wrong_audience"},
		{"for the cookie at last", narrow(phone.Token, "note x", "via cookie"), "photos", "cookie", "wrong_audience"},
		{"by another way", narrow(phone.Token, "via header"), "photos", "header", "unknown_caveat"},
	} {
		d := into[api.Decision](a.verify(svc, row.text, api.Request{Audience: row.audience, Via: row.via}), 200)
		if d.Code != row.code || d.Allowed != (row.code == "ok") {
			t.Errorf("%s: %s, want %s: %s", row.name, d.Code, row.code, d.Reason)
		}
	}
	for _, row := range []struct {
		audience string
		status   int
		code     string
	}{{"photos", 200, ""}, {"macaroond", 200, ""}, {"mail", 401, "wrong_audience"}, {"", 401, "wrong_audience"}} {
		q := "/authz/original"
		if row.audience != "" {
			q += "?audience=" + row.audience
		}
		r := a.do(ask{method: "GET", path: q, header: []string{"X-Original-Method", "GET", "X-Original-URI", "/x", "Cookie", cookieName + "=" + p.cookie}})
		r.wantVerdict(row.audience, row.status, row.code)
		if got := r.Header.Get("X-Auth-User"); row.status == 200 && got != p.User.ID || setCookie(r) != "" {
			t.Errorf("%s: user %q, cookie %q", row.audience, got, setCookie(r))
		}
		a.do(ask{method: "GET", path: q, auth: bearer(phone.Token), header: []string{"X-Original-Method", "GET", "X-Original-URI", "/x"}}).wantVerdict(row.audience, 401, "wrong_audience")
	}
	// Introspection has no request, so nothing that came from a cookie.
	if out := into[api.Introspection](a.oauth("/oauth2/introspect", svc, "token", narrow(p.cookie, "audience photos")), 200); out.Active {
		t.Error("a token for the cookie is active without a request")
	}
}

// A WebSocket's handshake is a GET that a page of another origin can make with
// the cookie: it must be of the own origin.
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
			r := a.do(ask{method: "GET", path: "/authz/original?audience=photos", header: slices.Concat(row.header, mark,
				[]string{"X-Original-Method", "GET", "X-Original-URI", "/live", "X-Original-Host", a.addr, "Cookie", cookieName + "=" + p.cookie})})
			checkForeign(t, row.name+" "+mark[0], r, row.want)
		}
	}
}
