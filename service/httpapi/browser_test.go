package httpapi

import (
	"bytes"
	"fmt"
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
