package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
)

// New codes replace the old ones, also for users who were added without any.
func TestReplaceRecoveryCodes(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	left := func(want int) {
		t.Helper()
		if got := into[api.RecoveryCodesLeft](a.get("/v1/recovery-codes", alice), 200); got.Left != want {
			t.Errorf("%d are left, want %d", got.Left, want)
		}
	}
	left(0)
	first := into[api.RecoveryCodes](a.post("/v1/recovery-codes", bearer(alice.Token), api.Proof{}), 201).RecoveryCodes
	left(10)
	a.pass(time.Hour)
	second := into[api.RecoveryCodes](a.post("/v1/recovery-codes", bearer(alice.Token), api.Proof{Code: first[3]}), 201).RecoveryCodes
	left(10)
	for _, code := range first {
		if slices.Contains(second, code) {
			t.Errorf("%s is there again", code)
		}
	}
	recovery := func(code string) *reply {
		return a.post("/v1/recover", "", api.RecoverIn{Username: "alice", Code: code, Device: api.DeviceIn{Name: "new"}})
	}
	recovery(first[0]).want(401, "bad_credentials")
	alice = into[api.Grant](recovery(second[0]), 200)
	left(9)
	operators := must(a.svc.RecoveryCodesFor(t.Context(), alice.User.ID, service.ActorOperator, service.Source{}))
	recovery(second[1]).want(401, "bad_credentials")
	recovery(operators.RecoveryCodes[0]).want(200, "")
}

// A change of password ends every other device unless asked otherwise, and
// keeps the one that asks.
func TestChangePassword(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	laptop := a.login("alice", api.DeviceIn{Name: "laptop"})
	change := func(g api.Grant, in api.ChangePasswordIn) *reply {
		return a.post("/v1/password", bearer(g.Token), in)
	}
	login := func(pw string) *reply {
		return a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: pw, Device: api.DeviceIn{Name: "d"}})
	}
	const second, third = "several loud magpies", "one silent heron"
	change(alice, api.ChangePasswordIn{Password: second}).want(403, "proof_required")
	change(alice, api.ChangePasswordIn{Current: "wrong guess", Password: second}).want(403, "proof_refused")
	change(alice, api.ChangePasswordIn{Current: password("alice"), Password: "alice123"}).want(400, "bad_request")
	change(alice, api.ChangePasswordIn{Current: password("alice"), Password: ""}).want(400, "bad_request")
	a.post("/v1/password", bearer(narrow(alice.Token, "audience macaroond")), api.ChangePasswordIn{Current: password("alice"), Password: second}).want(403, "bare_root_required")
	a.get("/v1/devices", laptop).want(200, "")

	change(alice, api.ChangePasswordIn{Current: password("alice"), Password: second, KeepDevices: true}).want(204, "")
	a.get("/v1/devices", laptop).want(200, "")
	change(alice, api.ChangePasswordIn{Current: second, Password: third}).want(204, "")
	a.get("/v1/devices", laptop).want(401, "revoked")
	a.alive(alice, narrow(laptop.Token, "audience x"), "x", false)
	if d := a.devices(alice); d[1].RevokedReason != "password changed" && d[0].RevokedReason != "password changed" {
		t.Errorf("%+v", d)
	}
	for _, old := range []string{password("alice"), second} {
		login(old).want(401, "bad_credentials")
	}
	login(third).want(200, "")

	// Forgotten: a recovery code takes its place.
	codes := into[api.RecoveryCodes](a.post("/v1/recovery-codes", bearer(alice.Token), api.Proof{Password: third}), 201).RecoveryCodes
	change(alice, api.ChangePasswordIn{Code: codes[0], Password: second}).want(204, "")
	login(second).want(200, "")

	// A first password, without a proof: in a day, with the one that is sent then.
	bob := a.named("bob")
	later(a.post("/v1/password", bearer(bob.Token), api.ChangePasswordIn{Password: second}))
	a.pass(24 * time.Hour)
	change(bob, api.ChangePasswordIn{Password: third}).want(204, "")
	a.post("/v1/login", "", api.LoginIn{Username: "bob", Password: second, Device: api.DeviceIn{Name: "d"}}).want(401, "bad_credentials")
	a.post("/v1/login", "", api.LoginIn{Username: "bob", Password: third, Device: api.DeviceIn{Name: "d"}}).want(200, "")
}

// Deleting a user ends everything at once and frees the name. The audit stays
// whole.
func TestDeleteUser(t *testing.T) {
	for _, by := range []string{"the user", "an administrator"} {
		t.Run(by, func(t *testing.T) {
			a := start(t, func(s *setup) { s.trust(proxy) })
			chief := a.admin()
			const from, name, install = "203.0.113.77", "Wilhelmina Przybylska", "install-of-wilhelmina"
			in := func(method, path, auth, body string) *reply {
				return a.do(ask{method: method, path: path, auth: auth, body: body, header: []string{"X-Forwarded-For", from}})
			}
			g := into[api.Grant](in("POST", "/v1/signup", "", fmt.Sprintf(`{"username":%q,"device":{"name":"Wilhelmina's phone","install_id":%q}}`, name, install)), 201)
			in("POST", "/v1/login", "", fmt.Sprintf(`{"username":%q,"password":"wrong guess","device":{"name":"d"}}`, name)).want(401, "bad_credentials")
			tablet := a.second(g, "Wilhelmina's tablet", api.Proof{Code: g.RecoveryCodes[0]})
			later(in("DELETE", "/v1/devices/"+tablet.Device.ID, bearer(g.Token), "{}"))
			into[api.LinkCode](in("POST", "/v1/links", bearer(g.Token), fmt.Sprintf(`{"code":%q}`, g.RecoveryCodes[1])), 201)
			a.drop("/v1/user", g, api.Proof{}).want(403, "proof_required")
			a.drop("/v1/user", g, api.Proof{Code: g.RecoveryCodes[0]}).want(403, "proof_refused")
			a.drop("/v1/admin/users/"+g.User.ID, g, api.Proof{}).want(403, "forbidden")
			a.get("/v1/devices", g).want(200, "")
			if by == "the user" {
				a.drop("/v1/user", g, api.Proof{Code: g.RecoveryCodes[2]}).want(204, "")
			} else {
				a.do(ask{method: "DELETE", path: "/v1/admin/users/" + g.User.ID, auth: bearer(chief.Token)}).want(204, "")
				a.do(ask{method: "DELETE", path: "/v1/admin/users/" + g.User.ID, auth: bearer(chief.Token)}).want(404, "not_found")
			}
			for _, dead := range []api.Grant{g, tablet} {
				a.get("/v1/devices", dead).want(401, "revoked")
			}
			a.post("/v1/recover", "", api.RecoverIn{Username: name, Code: g.RecoveryCodes[3], Device: api.DeviceIn{Name: "d"}}).want(401, "bad_credentials")
			for _, u := range a.users(chief) {
				if u.ID == g.User.ID {
					t.Error("the user is listed")
				}
			}
			log := into[api.Audit](a.do(ask{method: "GET", path: "/v1/admin/audit?limit=1000", auth: bearer(chief.Token)}), 200)
			events := 0
			for _, e := range log.Entries {
				if e.User == g.User.ID {
					events++
					if e.ClientIP == from {
						t.Errorf("%s has the address %s", e.Type, e.ClientIP)
					}
				}
			}
			if events < 8 {
				t.Errorf("the audit has %d entries of the user's", events)
			}
			if _, _, err := service.VerifyAudit(t.Context(), a.store); err != nil {
				t.Errorf("the audit's chain: %v", err)
			}
			again := a.named(name) // the name is free, and is somebody else
			if again.User.ID == g.User.ID {
				t.Error("the same id again")
			}
			if d := a.devices(again); len(d) != 1 {
				t.Errorf("the newcomer has %+v", d)
			}
		})
	}
}

// Of a deleted user nothing that says who it was is left in the file, in no
// freed page either: not the names, the installs or the addresses, whether of
// the user or of somebody who tried to be.
func TestDeletedIsOverwritten(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		a := start(t, func(s *setup) { s.trust(proxy) })
		const from, install = "203.0.113.77", "install-of-wilhelmina"
		in := func(method, path, auth, body string) *reply {
			return a.do(ask{method: method, path: path, auth: auth, body: body, header: []string{"X-Forwarded-For", from}})
		}
		g := into[api.Grant](in("POST", "/v1/signup", "", fmt.Sprintf(`{"username":"Wilhelmina P","device":{"name":"Wilhelmina's phone","install_id":%q}}`, install)), 201)
		in("POST", "/v1/login", "", `{"username":"wilhelmina p","password":"wrong guess","device":{"name":"d"}}`).want(401, "bad_credentials")
		open := into[api.LinkCode](in("POST", "/v1/links", bearer(g.Token), fmt.Sprintf(`{"code":%q}`, g.RecoveryCodes[1])), 201)
		in("POST", "/v1/link", "", fmt.Sprintf(`{"username":"Wilhelmina P","code":%q,"device":{"name":"Wilhelmina's tablet","install_id":%q}}`, open.Code, install)).want(202, "")
		a.named("somebody else")
		if deleted {
			in("DELETE", "/v1/user", bearer(g.Token), fmt.Sprintf(`{"code":%q}`, g.RecoveryCodes[0])).want(204, "")
		}
		if err := a.store.Close(); err != nil {
			t.Fatal(err)
		}
		file := must(os.ReadFile(a.path))
		for _, word := range []string{"Wilhelmina", "wilhelmina", from, install} {
			if bytes.Contains(file, []byte(word)) == deleted {
				t.Errorf("deleted %v: the file has %q %v", deleted, word, !deleted)
			}
		}
		if !bytes.Contains(file, []byte("somebody else")) || !bytes.Contains(file, []byte(g.User.ID)) {
			t.Error("the file has nothing at all: this test does not find what it looks for")
		}
	}
}

func (a *authority) role(chief api.Grant, id, role string) *reply {
	a.t.Helper()
	return a.do(ask{method: "PATCH", path: "/v1/admin/users/" + id, auth: bearer(chief.Token), body: fmt.Sprintf(`{"role":%q}`, role)})
}

// Roles are given and taken on the next request. The last administrator cannot
// be demoted, suspended or deleted by anybody but whoever owns the server.
func TestRoles(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	a.role(alice, alice.User.ID, "admin").want(403, "forbidden")
	a.role(chief, alice.User.ID, "king").want(400, "bad_request")
	a.do(ask{method: "PATCH", path: "/v1/admin/users/" + chief.User.ID, auth: bearer(chief.Token), body: `{}`}).want(400, "bad_request")
	a.role(chief, "usr_0123456789abcdef", "admin").want(404, "not_found")

	suspend := func(by api.Grant, id string) *reply {
		return a.do(ask{method: "POST", path: "/v1/admin/users/" + id + "/suspend", auth: bearer(by.Token)})
	}
	last := func(by api.Grant) {
		t.Helper()
		a.role(by, by.User.ID, "").want(409, "last_admin")
		suspend(by, by.User.ID).want(409, "last_admin")
		a.drop("/v1/user", by, api.Proof{Password: password(by.User.Username)}).want(409, "last_admin")
		a.drop("/v1/admin/users/"+by.User.ID, by, api.Proof{}).want(409, "last_admin")
	}
	last(chief)
	_, photos := a.service("photos", "photos")
	told := func(want string) {
		t.Helper()
		if in := into[api.Introspection](a.oauth("/oauth2/introspect", photos, "token", narrow(alice.Token, "audience photos")), 200); in.Role != want {
			t.Errorf("introspection tells the role %q, want %q", in.Role, want)
		}
	}
	told("")
	if u := into[api.User](a.role(chief, alice.User.ID, "admin"), 200); u.Role != "admin" || u.Username != "alice" {
		t.Errorf("%+v", u)
	}
	told("admin")
	a.get("/v1/admin/users", alice).want(200, "")
	into[api.User](a.role(alice, chief.User.ID, ""), 200)
	a.get("/v1/admin/users", chief).want(403, "forbidden")
	last(alice)
	// A suspended administrator is none.
	into[api.User](a.role(alice, chief.User.ID, "admin"), 200)
	suspend(alice, chief.User.ID).want(204, "")
	last(alice)
	if _, err := a.svc.SetRole(t.Context(), alice.User.ID, "", service.ActorOperator, true, service.Source{}); err != nil {
		t.Errorf("the operator: %v", err)
	}
	a.get("/v1/admin/users", alice).want(403, "forbidden")
}

// Two administrators who demote one another at once: one remains.
func TestOneAdministratorRemains(t *testing.T) {
	a := start(t)
	chief := a.admin()
	for range 5 {
		other := a.userOf(fmt.Sprint("other ", a.clock.Now().UnixNano()), service.RoleAdmin)
		var wg sync.WaitGroup
		wg.Go(func() { a.role(chief, other.User.ID, "") })
		wg.Go(func() { a.role(other, chief.User.ID, "") })
		wg.Wait()
		admins := 0
		for _, g := range []api.Grant{chief, other} {
			if a.get("/v1/admin/users", g).StatusCode == 200 {
				admins++
			}
		}
		if admins != 1 {
			t.Fatalf("%d administrators", admins)
		}
		if _, err := a.svc.SetRole(t.Context(), chief.User.ID, service.RoleAdmin, service.ActorOperator, true, service.Source{}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.svc.SetRole(t.Context(), other.User.ID, "", service.ActorOperator, true, service.Source{}); err != nil {
			t.Fatal(err)
		}
		a.pass(time.Second)
	}
}

// An attacker from many addresses uses up the account's tries. The owner still
// gets in from their own install, whose id the attacker does not know; and from
// nowhere else, so that an id tells nothing but to its owner.
func TestOwnInstallIsNotLockedOut(t *testing.T) {
	a := start(t, func(s *setup) {
		s.service.Limits = service.DefaultLimits
		s.service.Limits.Account = service.Rate{Burst: 30, Interval: time.Hour}
		s.trust(proxy)
	})
	a.user("alice")
	const own = "3f9c2b6c4e8a4f0c9d51"
	try := func(from, name, install, pw string) *reply {
		in := api.LoginIn{Username: name, Password: pw, Device: api.DeviceIn{Name: "d", InstallID: install}}
		return a.do(ask{method: "POST", path: "/v1/login", header: []string{"X-Forwarded-For", from}, body: string(must(json.Marshal(in)))})
	}
	try("192.0.2.200", "alice", own, password("alice")).want(200, "")
	try("192.0.2.200", "alice", "short", password("alice")).want(200, "")
	for _, name := range []string{"alice", "nobody"} {
		for i := range 30 {
			try(fmt.Sprintf("192.0.2.%d", i), name, fmt.Sprintf("guess-0123456789abcdef-%d", i), "wrong guess").want(401, "bad_credentials")
		}
		for _, install := range []string{"", "short", "another-0123456789abcdef", own + "0", own[:19]} { // known or not, alike
			try("198.51.100.1", name, install, password("alice")).want(429, "rate_limited")
		}
	}
	try("198.51.100.1", "nobody", own, password("alice")).want(429, "rate_limited")
	try("198.51.100.1", "alice", own, password("alice")).want(200, "")
	try("192.0.2.1", "alice", own, password("alice")).want(200, "") // from the attacker's own network, too
	a.do(ask{
		method: "POST", path: "/v1/recover", header: []string{"X-Forwarded-For", "198.51.100.1"},
		body: fmt.Sprintf(`{"username":"alice","code":"0000-0000-0000-0000","device":{"name":"d","install_id":%q}}`, own),
	}).want(401, "bad_credentials")

	// The bucket has a bottom, and is nobody else's.
	for range 9 {
		try("198.51.100.1", "alice", own, "wrong guess").want(401, "bad_credentials")
	}
	try("198.51.100.1", "alice", own, password("alice")).want(429, "rate_limited")
	a.pass(10 * time.Second)
	try("198.51.100.1", "alice", own, password("alice")).want(200, "")
}

// A proof from a device is limited by that device: a thief of the phone gets no
// more tries than a stranger, and strangers use up none of its owner's.
func TestProofAttempts(t *testing.T) {
	a := start(t, func(s *setup) {
		s.service.Limits = service.DefaultLimits
		s.service.Limits.Account = service.Rate{Burst: 5, Interval: time.Hour}
		s.trust(proxy)
	})
	alice := a.user("alice")
	tablet := a.login("alice", api.DeviceIn{Name: "tablet"})
	for i := range 5 {
		a.loginFrom(fmt.Sprintf("192.0.2.%d", i), "alice", "wrong guess").want(401, "bad_credentials")
	}
	a.loginFrom("198.51.100.1", "alice", password("alice")).want(429, "rate_limited")
	for i := range 10 {
		p := api.Proof{Password: "wrong guess"}
		if i%2 == 0 {
			p = api.Proof{Code: "0000-0000-0000-0000"}
		}
		a.post("/v1/recovery-codes", bearer(alice.Token), p).want(403, "proof_refused")
	}
	a.post("/v1/recovery-codes", bearer(alice.Token), api.Proof{Password: password("alice")}).want(429, "rate_limited")
	a.post("/v1/recovery-codes", bearer(tablet.Token), api.Proof{Password: password("alice")}).want(201, "")
}

// Whoever was lent a token for removing devices does not use up its owner's
// tries, and gets no more of their own for narrowing it further.
func TestLentTokensUseUpNoProofsOfTheOwner(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Limits = service.DefaultLimits })
	alice := a.user("alice")
	tablet := a.login("alice", api.DeviceIn{Name: "tablet"})
	remove := func(token, pw string) *reply {
		return a.do(ask{method: "DELETE", path: "/v1/devices/" + tablet.Device.ID, auth: bearer(token), body: fmt.Sprintf(`{"password":%q}`, pw)})
	}
	lent := func(note string) string {
		return narrow(alice.Token, "audience macaroond", "allow devices:revoke", "note "+note)
	}
	got := a.atOnce(100, func(i int) *reply { return remove(lent(fmt.Sprint(i)), "wrong guess") })
	if got[403] != 10 || got[429]+got[503] != 90 {
		t.Errorf("guesses with lent tokens: %v, want 10 of 100 judged", got)
	}
	remove(lent("another"), password("alice")).want(429, "rate_limited")
	a.post("/v1/recovery-codes", bearer(alice.Token), api.Proof{Password: password("alice")}).want(201, "")
	for range 10 {
		remove(alice.Token, "wrong guess").want(403, "proof_refused")
	}
	remove(alice.Token, password("alice")).want(429, "rate_limited")
	a.pass(10 * time.Second)
	remove(lent("again"), password("alice")).want(204, "")
}

// A suspended user's device is refused on the next request, whatever it asks,
// and a deleted one's; resuming brings no device back.
func TestSuspendedUserIsRefused(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	a.do(ask{method: "POST", path: "/v1/admin/users/" + alice.User.ID + "/suspend", auth: bearer(chief.Token)}).want(204, "")
	for _, act := range acts(alice.Device.ID) {
		q := act.ask(api.Proof{Password: password("alice")})
		q.auth = bearer(alice.Token)
		a.do(q).want(401, "revoked")
	}
	a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "d"}}).want(403, "suspended")
	a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: "wrong guess", Device: api.DeviceIn{Name: "d"}}).want(401, "bad_credentials")
	a.do(ask{method: "POST", path: "/v1/admin/users/" + alice.User.ID + "/resume", auth: bearer(chief.Token)}).want(204, "")
	a.get("/v1/devices", alice).want(401, "revoked")
	a.login("alice", api.DeviceIn{Name: "d"})
}
