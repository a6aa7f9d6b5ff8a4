package httpapi

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

// locked holds the database's write lock from another connection, as another
// process would, until the returned function lets it go.
func (a *authority) locked() (release func()) {
	a.t.Helper()
	db := must(sql.Open("sqlite", "file:"+a.path+"?_txlock=immediate"))
	tx := must(db.Begin())
	return func() { tx.Rollback(); db.Close() }
}

func (r *reply) wantUnavailable(name string) {
	r.t.Helper()
	if r.StatusCode != 503 {
		r.t.Errorf("%s:", name)
	}
	var p api.Problem
	if strings.HasPrefix(r.Request.URL.Path, "/oauth2/") {
		r.wantError(503, "temporarily_unavailable")
		var e api.OAuthError
		_ = json.Unmarshal(r.body, &e)
		p.Detail = e.ErrorDescription
	} else {
		p = r.want(503, "unavailable")
	}
	if r.Header.Get("Retry-After") == "" || p.Detail == "" || strings.Contains(p.Detail, "/") || strings.Contains(p.Detail, "SQL") {
		r.t.Errorf("%s: %v %q", name, r.Header, p.Detail)
	}
}

// While another process holds the database nothing that writes succeeds, and
// nothing has happened when it lets go; verdicts go on.
func TestDatabaseIsLocked(t *testing.T) {
	a := start(t, func(s *setup) { s.store.BusyTimeout = 20 * time.Millisecond; s.trust(proxy) })
	chief := a.admin()
	alice := into[api.Grant](a.post("/v1/signup", "", api.SignupIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "phone", InstallID: "i"}}), 201)
	svc, photos := a.service("photos", "photos")
	link := narrow(alice.Token, "audience backend")
	a.alive(alice, link, "backend", true)
	user := "/v1/admin/users/" + alice.User.ID
	release := a.locked()
	for _, q := range []ask{
		{method: "POST", path: "/v1/signup", body: `{"username":"bob","device":{"name":"d"}}`},
		{method: "POST", path: "/v1/login", auth: basic("alice", password("alice")), body: `{"device":{"name":"d","install_id":"i"}}`},
		{method: "POST", path: "/v1/recover", body: fmt.Sprintf(`{"username":"alice","code":%q,"device":{"name":"d"}}`, alice.RecoveryCodes[0])},
		{method: "POST", path: "/v1/logout", auth: bearer(alice.Token)},
		{method: "PATCH", path: "/v1/devices/" + alice.Device.ID, auth: bearer(alice.Token), body: `{"name":"n"}`},
		{method: "DELETE", path: "/v1/devices/" + alice.Device.ID, auth: bearer(alice.Token)},
		{method: "DELETE", path: "/v1/devices", auth: bearer(alice.Token)},
		{method: "POST", path: "/v1/revoke", body: fmt.Sprintf(`{"token":%q}`, link)},
		{method: "POST", path: "/v1/revoke", body: fmt.Sprintf(`{"token":%q}`, alice.Token)},
		{method: "POST", path: "/v1/revoke", auth: bearer(alice.Token), body: `{"caveats":["audience backend"]}`},
		{method: "POST", path: "/oauth2/revoke", body: "token=" + link, header: form},
		{method: "POST", path: "/oauth2/token", body: "grant_type=refresh_token&refresh_token=" + alice.Token, header: form},
		{method: "POST", path: "/v1/admin/users", auth: bearer(chief.Token), body: `{"username":"bob","password":"long enough"}`},
		{method: "POST", path: user + "/suspend", auth: bearer(chief.Token)},
		{method: "POST", path: user + "/resume", auth: bearer(chief.Token)},
		{method: "POST", path: user + "/password", auth: bearer(chief.Token), body: `{"password":"long enough"}`},
		{method: "POST", path: "/v1/admin/services", auth: bearer(chief.Token), body: `{"name":"bank"}`},
		{method: "DELETE", path: "/v1/admin/services/" + svc.ID, auth: bearer(chief.Token)},
	} {
		a.do(q).wantUnavailable(q.method + " " + q.path)
	}
	// What only reads goes on; a wrong password is one, whatever the audit can take.
	a.do(ask{method: "GET", path: "/authz/request/x", auth: bearer(link)}).wantVerdict("locked", 200, "")
	a.verify(photos, link, api.Request{Audience: "photos"}).want(200, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token)}).want(200, "")
	a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: "wrong guess", Device: api.DeviceIn{Name: "d"}}).want(401, "bad_credentials")
	if !strings.Contains(a.log.String(), `"msg":"audit entry lost"`) {
		t.Error("a lost audit entry is not in the log")
	}
	release()

	// Nothing of it was done.
	a.alive(alice, link, "backend", true)
	if d := a.devices(alice); len(d) != 1 || d[0].Name != "phone" || d[0].RevokedAt != nil {
		t.Errorf("%+v", d)
	}
	if users := a.users(chief); len(users) != 2 || users[0].SuspendedAt != nil {
		t.Errorf("%+v", users)
	}
	a.verify(photos, link, api.Request{Audience: "photos"}).want(200, "")
	// And now it can be.
	a.post("/v1/recover", "", api.RecoverIn{Username: "alice", Code: alice.RecoveryCodes[0], Device: api.DeviceIn{Name: "d"}}).want(200, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token)}).want(401, "revoked")
}

// With the database gone everything that asks it is a 503; what is known is
// said for max_staleness, and then nothing is.
func TestDatabaseIsGone(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	chief, alice := a.admin(), a.user("alice")
	_, photos := a.service("photos", "photos")
	link, photo := narrow(alice.Token, "audience backend"), narrow(alice.Token, "audience photos")
	revoked := narrow(photo, "note x")
	a.revoke("", revoked).want(200, "")
	a.do(ask{method: "GET", path: "/authz/request/x", auth: bearer(link)}).wantVerdict("before", 200, "")
	a.do(ask{method: "GET", path: "/readyz"}).want(200, "")
	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, q := range []ask{
		{method: "POST", path: "/v1/login", auth: basic("alice", password("alice")), body: `{"device":{"name":"d"}}`},
		{method: "POST", path: "/v1/login", auth: basic("nobody", "wrong guess"), body: `{"device":{"name":"d"}}`},
		{method: "POST", path: "/v1/login", auth: basic("alice", password("alice")), body: `{"device":{"name":"d","install_id":"0123456789abcdef"}}`},
		{method: "POST", path: "/v1/signup", body: `{"username":"bob","device":{"name":"d"}}`},
		{method: "POST", path: "/v1/recover", body: `{"username":"bob","code":"x","device":{"name":"d"}}`},
		{method: "GET", path: "/v1/devices", auth: bearer(alice.Token)},
		{method: "POST", path: "/v1/logout", auth: bearer(alice.Token)},
		{method: "POST", path: "/v1/revoke", body: fmt.Sprintf(`{"token":%q}`, link)},
		{method: "POST", path: "/oauth2/revoke", body: "token=" + link, header: form},
		{method: "POST", path: "/oauth2/token", body: "grant_type=refresh_token&refresh_token=" + alice.Token, header: form},
		{method: "GET", path: "/v1/admin/users", auth: bearer(chief.Token)},
		{method: "GET", path: "/v1/admin/services", auth: bearer(chief.Token)},
		{method: "GET", path: "/v1/admin/audit", auth: bearer(chief.Token)},
	} {
		a.do(q).wantUnavailable(q.method + " " + q.path)
	}
	if got := a.counted("macaroond_logins_total"); got["limited"] != 0 || got["ok"] == 0 {
		t.Errorf("the database's trouble is counted as guesses: %v", got)
	}
	a.do(ask{method: "GET", path: "/livez"}).health(200, "ok")
	a.do(ask{method: "GET", path: "/readyz"}).health(503, "unavailable", "database")
	decided := func(text, code string) {
		t.Helper()
		if d := into[api.Decision](a.verify(photos, text, api.Request{Audience: "photos"}), 200); d.Code != code || d.Allowed != (code == "ok") {
			t.Errorf("%s, want %s", d.Code, code)
		}
	}
	a.clock.drift(30 * time.Second)
	a.do(ask{method: "GET", path: "/authz/request/x", auth: bearer(link)}).wantVerdict("in time", 200, "")
	decided(photo, "ok")
	decided(revoked, "revoked")

	a.clock.drift(time.Second)
	for _, path := range []string{"/authz/request/x", "/authz/original", "/authz/forwarded"} {
		r := a.do(ask{method: "GET", path: path, auth: bearer(link), header: []string{"X-Original-Method", "GET", "X-Original-URI", "/x", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/x"}})
		r.wantVerdict("stale", 503, "stale")
		if r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		a.do(ask{method: "GET", path: path, auth: bearer("garbage"), header: []string{"X-Original-Method", "GET", "X-Original-URI", "/x", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/x"}}).wantVerdict("stale, and no token", 401, "malformed")
	}
	a.do(ask{method: "GET", path: "/authz/original", auth: bearer(link)}).wantVerdict("stale, and no headers", 403, "forbidden")
	decided(photo, "stale")
	decided(revoked, "stale")
	decided(narrow(photo, a.until(-time.Hour)), "stale")
	decided("garbage", "malformed")
	decided(forge(photo), "invalid")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token)}).want(503, "stale")
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(alice.Token)}).want(503, "stale")
	a.verify(bearer(alice.Token), photo, api.Request{}).want(503, "stale")
	a.do(ask{method: "GET", path: "/readyz"}).health(503, "unavailable", "database", "revocations")
	// Not knowing is not "not active", on which clients would log out.
	a.oauth("/oauth2/introspect", photos, "token", photo).wantError(503, "temporarily_unavailable")
}

func (r *reply) health(status int, word string, checks ...string) {
	r.t.Helper()
	h := into[api.Health](r, status)
	for _, c := range checks {
		if h.Checks[c] == "" {
			r.t.Errorf("%s does not name %s: %s", r.Request.URL.Path, c, r.body)
		}
	}
	if h.Status != word || len(h.Checks) != len(checks) {
		r.t.Errorf("%s: %s", r.Request.URL.Path, r.body)
	}
}

// Stale ends with the first reading.
func TestStaleEnds(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	link := bearer(narrow(alice.Token, "audience backend"))
	a.clock.drift(time.Minute)
	a.do(ask{method: "GET", path: "/authz/request/x", auth: link}).wantVerdict("stale", 503, "stale")
	a.pass(0)
	a.do(ask{method: "GET", path: "/authz/request/x", auth: link}).wantVerdict("fresh", 200, "")
	a.do(ask{method: "GET", path: "/version"}).want(200, "")
}

// What is not in the table is a 500 that says nothing; the log has the reason,
// under the id of the request.
func TestInternalError(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.MaxDevices = 0 }) // which the store takes for a bug
	r := a.post("/v1/signup", "", api.SignupIn{Username: "alice", Device: api.DeviceIn{Name: "d"}})
	p := r.want(500, "internal")
	if p.Detail != "something went wrong here" || p.RequestID == "" || !strings.Contains(a.log.String(), p.RequestID) {
		t.Errorf("%+v", p)
	}
}
