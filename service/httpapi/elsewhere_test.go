package httpapi

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
)

// What is revoked by another process is on the list in the database, and not yet
// in memory here. Whoever then revokes it here, by itself or with everything
// else, has nothing left to store, and is answered when it is refused here all
// the same.
func TestRevokedElsewhere(t *testing.T) {
	a := start(t)
	chief := a.admin()
	_, photos := a.service("photos", "photos")
	revoked := func(a *authority, text string, want bool) {
		a.t.Helper()
		if d := a.decides(photos, text, api.Request{Audience: "photos"}); (d.Code == api.CodeRevoked) != want {
			a.t.Errorf("%s, want revoked %v", d.Code, want)
		}
	}
	_, backend := a.credential(api.ServiceIn{Name: "backend", Rights: []string{service.RightMint}})
	branch := []string{"audience photos", "note grandma"}
	n := 0
	for name, row := range map[string]struct {
		branch bool
		end    func(a *authority, owner, victim api.Grant, text string)
	}{
		"its root": {false, func(a *authority, _, _ api.Grant, text string) { a.wantGrain(a.revoke("", text), "device") }},
		"its root, by an operator": {false, func(a *authority, _, _ api.Grant, text string) {
			must(a.svc.RevokeAsOperator(a.t.Context(), text))
		}},
		"logout": {false, func(a *authority, _, victim api.Grant, _ string) {
			a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(victim.Token)}).want(204, "")
		}},
		"another device": {false, func(a *authority, owner, victim api.Grant, _ string) {
			r := a.drop("/v1/devices/"+victim.Device.ID, owner, api.Proof{Password: password(owner.User.Username)})
			if r.StatusCode != 204 && r.StatusCode != 404 { // 404 promises nothing
				a.t.Errorf("%s %s", r.Status, r.body)
			}
		}},
		"all devices": {false, func(a *authority, owner, _ api.Grant, _ string) {
			a.drop("/v1/devices", owner, api.Proof{Password: password(owner.User.Username)}).want(204, "")
		}},
		"a suspension": {false, func(a *authority, owner, _ api.Grant, _ string) {
			a.do(ask{method: "POST", path: "/v1/admin/users/" + owner.User.ID + "/suspend", auth: bearer(chief.Token)}).want(204, "")
		}},
		"an administrator's password": {false, func(a *authority, owner, _ api.Grant, _ string) {
			a.post("/v1/admin/users/"+owner.User.ID+"/password", bearer(chief.Token), map[string]string{"password": "another password altogether"}).want(204, "")
		}},
		"another password": {false, func(a *authority, owner, _ api.Grant, _ string) {
			a.post("/v1/password", bearer(owner.Token), api.ChangePasswordIn{Current: password(owner.User.Username), Password: "another password altogether"}).want(204, "")
		}},
		"a deletion": {false, func(a *authority, owner, _ api.Grant, _ string) {
			a.do(ask{method: "DELETE", path: "/v1/admin/users/" + owner.User.ID, auth: bearer(chief.Token)}).want(204, "")
		}},
		"a recovery": {false, func(a *authority, owner, _ api.Grant, _ string) {
			codes := into[api.RecoveryCodes](a.post("/v1/recovery-codes", bearer(owner.Token), api.Proof{Password: password(owner.User.Username)}), 201)
			into[api.Grant](a.post("/v1/recover", "", api.RecoverIn{Username: owner.User.Username, Code: codes.RecoveryCodes[0], Device: api.DeviceIn{Name: "new"}}), 200)
		}},
		"its branch": {true, func(a *authority, _, _ api.Grant, text string) { a.wantGrain(a.revoke("", text), "branch") }},
		"its branch, by name": {true, func(a *authority, _, victim api.Grant, _ string) {
			a.wantGrain(a.post("/v1/revoke", bearer(victim.Token), api.RevokeIn{Caveats: &branch}), "branch")
		}},
		"a branch of its branch": {true, func(a *authority, _, _ api.Grant, text string) {
			a.wantGrain(a.revoke("", narrow(text, "note her tablet")), "branch")
		}},
	} {
		n++
		user := fmt.Sprintf("user%d", n)
		a.in(name, func(a *authority) {
			owner := a.user(user)
			victim := a.login(user, api.DeviceIn{Name: "phone"})
			text := victim.Token
			if row.branch {
				text = narrow(text, branch...)
			}
			a.revokedElsewhere(text)
			revoked(a, text, false) // only there
			row.end(a, owner, victim, text)
			revoked(a, text, true)
		})
	}

	a.in("a device that logged in again", func(a *authority) {
		a.user("again")
		first := a.login("again", api.DeviceIn{Name: "phone", InstallID: "install-1"})
		owner := a.login("again", api.DeviceIn{Name: "laptop"})
		other := must(service.New(a.t.Context(), a.made.service))
		must(other.Login(a.t.Context(), api.LoginIn{Username: "again", Password: password("again"), Device: api.DeviceIn{Name: "phone", InstallID: "install-1"}}, service.Source{}))
		revoked(a, first.Token, false)
		a.drop("/v1/devices/"+first.Device.ID, owner, api.Proof{Password: password("again")}).want(204, "")
		revoked(a, first.Token, true)
	})

	a.in("a service", func(a *authority) {
		svc, auth := a.credential(api.ServiceIn{Name: "caller", Calls: []string{"photos"}})
		text := a.ownToken(auth, "photos")
		other := must(service.New(a.t.Context(), a.made.service))
		if err := other.RemoveServiceSecret(a.t.Context(), svc.ID, a.secretsOf(svc.ID)[0].ID, "test", service.Source{}); err != nil {
			a.t.Fatal(err)
		}
		revoked(a, text, false)
		if err := a.svc.RemoveService(a.t.Context(), svc.ID, "test", service.Source{}); err != nil {
			a.t.Fatal(err)
		}
		revoked(a, text, true)
	})

	a.in("a backend's user", func(a *authority) {
		mint := func(device string) api.Grant {
			return into[api.Grant](a.post("/v1/mint", backend, api.MintIn{Subject: "7", Device: api.DeviceIn{Name: device, InstallID: "install-" + device}}), 200)
		}
		one, two := mint("one"), mint("two")
		other := must(service.New(a.t.Context(), a.made.service))
		svc := must(a.svc.Services(a.t.Context())).Services
		i := slices.IndexFunc(svc, func(s api.Service) bool { return s.Name == "backend" })
		must(other.MintFor(a.t.Context(), storage.Service{ID: svc[i].ID, Name: "backend"}, 0, api.MintIn{Subject: "7", Device: api.DeviceIn{Name: "two", InstallID: "install-two"}}, service.Source{}))
		revoked(a, two.Token, false) // its device has another root key now, there
		a.do(ask{method: "DELETE", path: "/v1/subjects/7/devices/" + two.Device.ID, auth: backend}).want(204, "")
		revoked(a, two.Token, true)
		a.revokedElsewhere(one.Token)
		revoked(a, one.Token, false)
		a.do(ask{method: "POST", path: "/v1/subjects/7/suspend", auth: backend}).want(204, "")
		revoked(a, one.Token, true)
		revoked(a, two.Token, true)
	})
}

// revokedElsewhere is what another process on the same database does.
func (a *authority) revokedElsewhere(text string) {
	a.t.Helper()
	other := must(service.New(a.t.Context(), a.made.service))
	must(other.RevokeAsOperator(a.t.Context(), text))
}

// Many who revoke the same at once: whichever is answered first, the token is
// refused from then on.
func TestRevokedByManyAtOnce(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	for i := range 100 {
		text := narrow(alice.Token, "audience macaroond", fmt.Sprintf("note %d", i))
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() {
				if _, err := a.svc.Revoke(t.Context(), text, nil, service.Source{}); err != nil {
					t.Error(err)
				}
				if _, err := a.svc.Authorize(t.Context(), service.Shown{Token: text}); err == nil {
					t.Error("let in after an answer")
				}
			})
		}
		all.Wait()
	}
}
