package httpapi

import (
	"slices"
	"strings"
	"testing"

	"macaroond/service/api"
)

// Everything under /v1/admin is for a bare root of a user who has the role now.
func TestAdminIsForAdministrators(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	_, photos := a.service("photos", "photos")
	for _, q := range []ask{
		{method: "GET", path: "/v1/admin/users"},
		{method: "POST", path: "/v1/admin/users", body: `{"username":"eve","password":"long enough","role":"admin"}`},
		{method: "POST", path: "/v1/admin/users/" + chief.User.ID + "/suspend"},
		{method: "POST", path: "/v1/admin/users/" + chief.User.ID + "/resume"},
		{method: "POST", path: "/v1/admin/users/" + chief.User.ID + "/password", body: `{"password":"long enough"}`},
		{method: "GET", path: "/v1/admin/services"},
		{method: "POST", path: "/v1/admin/services", body: `{"name":"x","serves":["x"]}`},
		{method: "DELETE", path: "/v1/admin/services/svc_0123456789abcdef"},
		{method: "GET", path: "/v1/admin/audit"},
		{method: "GET", path: "/v1/admin/policies"},
		{method: "POST", path: "/v1/admin/policies", body: `{"target":{"everyone":true},"caveats":["audience x"],"reason":"r"}`},
		{method: "DELETE", path: "/v1/admin/policies/pol_0123456789abcdef"},
		{method: "GET", path: "/v1/admin/keys"},
		{method: "POST", path: "/v1/admin/keys/rotate"},
		{method: "POST", path: "/v1/admin/keys/1/retire"},
	} {
		for _, row := range []struct {
			auth   string
			status int
			code   string
		}{
			{"", 401, "no_token"},
			{photos, 401, "no_token"},
			{basic("chief", password("chief")), 401, "no_token"},
			{bearer("garbage"), 401, "malformed"},
			{bearer(forge(chief.Token)), 401, "invalid"},
			{bearer(alice.Token), 403, "forbidden"},
			{bearer(narrow(alice.Token, "user "+chief.User.ID)), 401, "wrong_audience"},
			{bearer(narrow(chief.Token, "audience macaroond")), 403, "bare_root_required"},
			{bearer(narrow(chief.Token, "audience macaroond", "allow admin")), 403, "bare_root_required"},
			{bearer(narrow(chief.Token, "audience photos")), 401, "wrong_audience"},
		} {
			q.auth = row.auth
			a.do(q).want(row.status, row.code)
		}
	}
	// None of that did anything, and each is audited.
	if users := a.users(chief); len(users) != 2 {
		t.Errorf("%+v", users)
	}
	audit := into[api.Audit](a.do(ask{method: "GET", path: "/v1/admin/audit", auth: bearer(chief.Token)}), 200)
	if n := count(audit, "admin_refused", alice.User.ID); n != 15 {
		t.Errorf("%d refusals in the audit, want 15", n)
	}
}

func count(a api.Audit, kind, user string) (n int) {
	for _, e := range a.Entries {
		if e.Type == kind && e.User == user {
			n++
		}
	}
	return n
}

func (a *authority) users(chief api.Grant) []api.User {
	a.t.Helper()
	return into[api.Users](a.do(ask{method: "GET", path: "/v1/admin/users", auth: bearer(chief.Token)}), 200).Users
}

// Suspending ends every device at once and refuses logins; resuming brings
// logins back and no device.
func TestSuspend(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	laptop := a.login("alice", api.DeviceIn{Name: "laptop", InstallID: "i"})
	_, photos := a.service("photos", "photos")
	do := func(verb string) {
		t.Helper()
		a.do(ask{method: "POST", path: "/v1/admin/users/" + alice.User.ID + "/" + verb, auth: bearer(chief.Token)}).want(204, "")
	}
	try := func(pw string) *reply {
		return a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: pw, Device: api.DeviceIn{Name: "laptop", InstallID: "i"}})
	}
	dead := func() {
		t.Helper()
		for _, g := range []api.Grant{alice, laptop} {
			a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}).want(401, "revoked")
			if d := into[api.Decision](a.verify(photos, narrow(g.Token, "audience photos"), api.Request{Audience: "photos"}), 200); d.Code != "revoked" {
				t.Errorf("at photos: %s", d.Code)
			}
		}
	}
	do("suspend")
	dead()
	try("not the right one").want(401, "bad_credentials")
	try(password("alice")).want(403, "suspended")
	do("suspend")
	users := a.users(chief)
	if i := slices.IndexFunc(users, func(u api.User) bool { return u.ID == alice.User.ID }); i < 0 || users[i].SuspendedAt == nil {
		t.Errorf("%+v", users)
	}
	do("resume")
	do("resume")
	dead()
	again := into[api.Grant](try(password("alice")), 200)
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(again.Token)}).want(200, "")
	dead()
	for _, verb := range []string{"suspend", "resume"} {
		for _, id := range []string{"usr_0123456789abcdef", "alice", chief.Device.ID} {
			a.do(ask{method: "POST", path: "/v1/admin/users/" + id + "/" + verb, auth: bearer(chief.Token)}).want(404, "not_found")
		}
	}
}

func TestSetPassword(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	path := "/v1/admin/users/" + alice.User.ID + "/password"
	a.post(path, bearer(chief.Token), api.PasswordIn{Password: "a New one entirely"}).want(204, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token)}).want(401, "revoked")
	a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "d"}}).want(401, "bad_credentials")
	a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: "a New one entirely", Device: api.DeviceIn{Name: "d"}}).want(200, "")
	a.post("/v1/admin/users/usr_0123456789abcdef/password", bearer(chief.Token), api.PasswordIn{Password: "a New one entirely"}).want(404, "not_found")
}

// Users come in pages by name.
func TestUsersInPages(t *testing.T) {
	a := start(t)
	chief := a.admin()
	for _, name := range []string{"Bob", "alice", "Élodie", "zoe"} {
		a.post("/v1/admin/users", bearer(chief.Token), api.UserIn{Username: name, Password: "long enough"}).want(201, "")
	}
	var names []string
	for after, pages := "", 0; ; pages++ {
		page := into[api.Users](a.do(ask{method: "GET", path: "/v1/admin/users?limit=2&after=" + after, auth: bearer(chief.Token)}), 200)
		for _, u := range page.Users {
			names = append(names, u.Username)
			if (u.Role == "admin") != (u.Username == "chief") {
				t.Errorf("%+v", u)
			}
		}
		if after = page.Next; after == "" {
			break
		}
		if pages > 3 {
			t.Fatal("no end")
		}
	}
	if got := strings.Join(names, " "); got != "alice Bob chief zoe Élodie" {
		t.Errorf("%s", got)
	}
}

// A service credential: made with a secret that is shown once, listed without,
// gone with the next request.
func TestServices(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	in := api.ServiceIn{Name: "photos", Serves: []string{"photos", "photos"}, Calls: []string{"bank"}, Actions: []string{"photos:*"}, Rights: []string{"mint"}}
	made := into[api.Service](a.post("/v1/admin/services", bearer(chief.Token), in), 201)
	if made.Secret == "" || strings.Join(made.Serves, " ") != "photos" {
		t.Errorf("%+v", made)
	}
	// Its users are photos:Ana, and many a backend knows no capitals.
	for _, name := range []string{"photos", "Photos", "PHOTOS", "ｐｈｏｔｏｓ"} {
		a.post("/v1/admin/services", bearer(chief.Token), api.ServiceIn{Name: name}).want(409, "name_taken")
	}
	for _, name := range []string{"photos:Ana", "photos：", ":"} {
		if p := a.post("/v1/admin/services", bearer(chief.Token), api.ServiceIn{Name: name}).want(400, "bad_request"); p.Field != "/name" {
			t.Errorf("%q: field %q", name, p.Field)
		}
	}
	r := a.do(ask{method: "GET", path: "/v1/admin/services", auth: bearer(chief.Token)})
	if list := into[api.Services](r, 200).Services; len(list) != 1 || list[0].Secret != "" || list[0].ID != made.ID || leaks(string(r.body), made.Secret) {
		t.Errorf("%s", r.body)
	}
	text := narrow(alice.Token, "audience photos")
	a.verify(basic(made.ID, made.Secret), text, api.Request{Audience: "photos"}).want(200, "")
	a.do(ask{method: "DELETE", path: "/v1/admin/services/" + made.ID, auth: bearer(chief.Token)}).want(204, "")
	a.verify(basic(made.ID, made.Secret), text, api.Request{Audience: "photos"}).want(401, "bad_credentials")
	a.oauth("/oauth2/introspect", basic(made.ID, made.Secret), "token", text).wantError(401, "invalid_client")
	a.do(ask{method: "DELETE", path: "/v1/admin/services/" + made.ID, auth: bearer(chief.Token)}).want(404, "not_found")
	a.post("/v1/admin/services", bearer(chief.Token), in).want(201, "") // the name is free again
}

// Every security event is in the audit, with ids and without anything secret.
func TestAuditTellsAll(t *testing.T) {
	a := start(t)
	chief := a.admin()
	g := into[api.Grant](a.post("/v1/signup", "", api.SignupIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "d"}}), 201)
	a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: "wrong guess", Device: api.DeviceIn{Name: "d"}}).want(401, "bad_credentials")
	a.post("/v1/recover", "", api.RecoverIn{Username: "alice", Code: "0000-0000", Device: api.DeviceIn{Name: "d"}}).want(401, "bad_credentials")
	g = into[api.Grant](a.post("/v1/recover", "", api.RecoverIn{Username: "alice", Code: g.RecoveryCodes[0], Device: api.DeviceIn{Name: "d"}}), 200)
	a.do(ask{method: "PATCH", path: "/v1/devices/" + g.Device.ID, auth: bearer(g.Token), body: `{"name":"n"}`}).want(200, "")
	a.revoke("", narrow(g.Token, "audience x")).want(200, "")
	made := into[api.Service](a.post("/v1/admin/services", bearer(chief.Token), api.ServiceIn{Name: "s"}), 201)
	a.verify(basic(made.ID, "wrong"), "x", api.Request{}).want(401, "bad_credentials")
	a.do(ask{method: "DELETE", path: "/v1/admin/services/" + made.ID, auth: bearer(chief.Token)}).want(204, "")
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(g.Token)}).want(204, "")
	user := "/v1/admin/users/" + g.User.ID
	a.post(user+"/password", bearer(chief.Token), api.PasswordIn{Password: "long enough"}).want(204, "")
	a.do(ask{method: "POST", path: user + "/suspend", auth: bearer(chief.Token)}).want(204, "")
	a.do(ask{method: "POST", path: user + "/resume", auth: bearer(chief.Token)}).want(204, "")

	r := a.do(ask{method: "GET", path: "/v1/admin/audit?limit=1000", auth: bearer(chief.Token)})
	all := into[api.Audit](r, 200)
	for _, kind := range []string{"signup", "login_failed", "recovery_failed", "recovered", "device_renamed", "device_revoked", "branch_revoked", "password_set", "user_suspended", "user_resumed"} {
		if count(all, kind, g.User.ID) == 0 {
			t.Errorf("no %s of alice in the audit", kind)
		}
	}
	for _, kind := range []string{"service_added", "service_refused", "service_removed"} {
		if count(all, kind, made.ID) != 1 {
			t.Errorf("%d %s", count(all, kind, made.ID), kind)
		}
	}
	for s := range a.log.secrets {
		if leaks(string(r.body), s) {
			t.Errorf("the audit has %q", s)
		}
	}
	for i, e := range all.Entries {
		if e.Seq != int64(i+1) || e.Type == "login" && (e.Device == "" || e.RootKeyID == "" || e.ClientIP != "127.0.0.1") {
			t.Errorf("%+v", e)
		}
	}
	page := into[api.Audit](a.do(ask{method: "GET", path: "/v1/admin/audit?after=3&limit=2", auth: bearer(chief.Token)}), 200)
	if len(page.Entries) != 2 || page.Entries[0].Seq != 4 || page.Next != 5 {
		t.Errorf("%+v", page)
	}
}
