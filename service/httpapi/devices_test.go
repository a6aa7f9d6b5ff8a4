package httpapi

import (
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

func (a *authority) devices(g api.Grant) []api.Device {
	a.t.Helper()
	return into[api.Devices](a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}), 200).Devices
}

func TestDevices(t *testing.T) {
	a := start(t)
	phone := a.user("alice")
	bob := a.user("bob")
	begin := a.clock.Now()
	a.pass(time.Minute)
	laptop := a.login("alice", api.DeviceIn{Name: "laptop"})
	a.pass(time.Minute)
	tablet := a.login("alice", api.DeviceIn{Name: "tablet"})

	list := a.devices(laptop)
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
		if d.Current != (d.ID == laptop.Device.ID) || d.RevokedAt != nil {
			t.Errorf("%+v", d)
		}
	}
	if !slices.Equal(names, []string{"tablet", "laptop", "phone"}) {
		t.Errorf("newest first: %v", names)
	}
	if d := list[2]; d.ID != phone.Device.ID || d.RootKeyID != phone.RootKeyID || !d.CreatedAt.Equal(begin) || !d.ExpiresAt.Equal(phone.ExpiresAt.Time) {
		t.Errorf("%+v, want %+v", d, phone)
	}

	renamed := into[api.Device](a.do(ask{method: "PATCH", path: "/v1/devices/" + phone.Device.ID, auth: bearer(laptop.Token), body: `{"name":"old phone"}`}), 200)
	if renamed.Name != "old phone" || renamed.Current || a.devices(phone)[2].Name != "old phone" {
		t.Errorf("%+v", renamed)
	}

	// Somebody else's is not there, and stays as it is.
	for _, id := range []string{bob.Device.ID, "dev_0123456789abcdef", "dev_x", "usr_0123456789abcdef", "%2e%2e", "current", "all", "others", strings.Repeat("a", 1000)} {
		a.do(ask{method: "PATCH", path: "/v1/devices/" + id, auth: bearer(laptop.Token), body: `{"name":"mine"}`}).want(404, "not_found")
		a.do(ask{method: "DELETE", path: "/v1/devices/" + id, auth: bearer(laptop.Token)}).want(404, "not_found")
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(laptop.Token)}).want(200, "")
	if d := a.devices(bob); d[0].Name != "phone" || d[0].RevokedAt != nil {
		t.Errorf("%+v", d)
	}

	// One is dropped: dead at once, listed with the reason, and that only.
	a.do(ask{method: "DELETE", path: "/v1/devices/" + phone.Device.ID, auth: bearer(laptop.Token)}).want(204, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(phone.Token)}).want(401, "revoked")
	if d := a.devices(tablet)[2]; d.RevokedReason != "owner" || d.RevokedAt == nil || !d.RevokedAt.Equal(a.clock.Now()) {
		t.Errorf("%+v", d)
	}
	a.do(ask{method: "DELETE", path: "/v1/devices/" + phone.Device.ID, auth: bearer(laptop.Token)}).want(204, "")
	a.do(ask{method: "PATCH", path: "/v1/devices/" + phone.Device.ID, auth: bearer(laptop.Token), body: `{"name":"ghost"}`}).want(404, "not_found")

	// All but this one.
	a.do(ask{method: "DELETE", path: "/v1/devices?except=current", auth: bearer(laptop.Token)}).want(204, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(tablet.Token)}).want(401, "revoked")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(laptop.Token)}).want(200, "")
	// All.
	again := a.login("alice", api.DeviceIn{Name: "again"})
	a.do(ask{method: "DELETE", path: "/v1/devices", auth: bearer(again.Token)}).want(204, "")
	for _, g := range []api.Grant{laptop, again} {
		a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}).want(401, "revoked")
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(bob.Token)}).want(200, "")
}

func TestLogout(t *testing.T) {
	a := start(t)
	phone := a.user("alice")
	a.pass(time.Second)
	laptop := a.login("alice", api.DeviceIn{Name: "laptop"})
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(phone.Token)}).want(204, "")
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(phone.Token)}).want(401, "revoked")
	a.alive(laptop, narrow(phone.Token, "audience x"), "x", false)
	if d := a.devices(laptop); d[1].RevokedReason != "logout" {
		t.Errorf("%+v", d)
	}
}

// At the authority a token is a bare root, or names the authority and holds in
// all its caveats, the endpoint's action among them.
func TestDelegatedTokensAtTheAuthority(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	const here = "audience macaroond"
	list, rename, drop := ask{method: "GET", path: "/v1/devices"},
		ask{method: "PATCH", path: "/v1/devices/" + alice.Device.ID, body: `{"name":"n"}`},
		ask{method: "DELETE", path: "/v1/devices/dev_0123456789abcdef"}
	logout, verify := ask{method: "POST", path: "/v1/logout"},
		ask{method: "POST", path: "/v1/verify", body: `{"token":"x","request":{}}`}
	byCaveats := ask{method: "POST", path: "/v1/revoke", body: `{"caveats":["audience x"]}`}
	for _, row := range []struct {
		name    string
		q       ask
		caveats []string
		status  int
		code    string
	}{
		{"for here", list, []string{here}, 200, ""},
		{"for here and this", list, []string{here, "allow devices:list"}, 200, ""},
		{"for here and all of it", list, []string{here, "allow devices:*"}, 200, ""},
		{"for here, in any order", list, []string{"allow devices:list", "note x", here, a.until(time.Minute)}, 200, ""},
		{"for here, by everything known of it", list, []string{here, "method GET", "path /v1/*", "client-ip 127.0.0.0/8"}, 200, ""},
		{"for nobody", list, []string{"allow devices:list"}, 401, "wrong_audience"},
		{"for nobody, with a note", list, []string{"note x"}, 401, "wrong_audience"},
		{"for another", list, []string{"audience photos"}, 401, "wrong_audience"},
		{"for both", list, []string{here, "audience photos"}, 401, "wrong_audience"},
		{"for another action", list, []string{here, "allow devices:rename"}, 403, "refused"},
		{"for two actions apart", list, []string{here, "allow devices:list", "allow devices:rename"}, 403, "refused"},
		{"for another method", list, []string{here, "method POST"}, 403, "refused"},
		{"for another path", list, []string{here, "path /v1/devices/*"}, 403, "refused"},
		{"from elsewhere", list, []string{here, "client-ip 192.0.2.0/24"}, 403, "refused"},
		{"from a page", list, []string{here, "origin https://app.example"}, 403, "refused"},
		{"unknown", list, []string{here, "colour blue"}, 403, "unknown_caveat"},
		{"for the cookie", list, []string{here, "via cookie"}, 403, "refused"},
		{"for the cookie, and nothing more", list, []string{"via cookie"}, 403, "refused"},
		{"a service's own", list, []string{here, "x-colour blue"}, 403, "unknown_caveat"},
		{"over", list, []string{here, a.until(-time.Second)}, 401, "expired"},
		{"not begun", list, []string{here, "time-after 2999-01-01T00:00:00Z"}, 401, "not_yet_valid"},
		{"claiming to be another", list, []string{here, "user usr_0123456789abcdef"}, 403, "refused"},
		{"claiming to be on another device", list, []string{here, "device dev_0123456789abcdef"}, 403, "refused"},
		{"saying who it is", list, []string{here, "user " + alice.User.ID}, 200, ""},
		{"with several refusals, the first in order", list, []string{"audience photos", "method POST", a.until(-time.Second), "x-y"}, 403, "unknown_caveat"},

		{"renaming", rename, []string{here, "allow devices:rename"}, 200, ""},
		{"renaming by the list's", rename, []string{here, "allow devices:list"}, 403, "refused"},
		{"renaming with this body", rename, []string{here, "body-sha256 " + hexSum(`{"name":"n"}`)}, 200, ""},
		{"renaming with another body", rename, []string{here, "body-sha256 " + hexSum(`{"name":"m"}`)}, 403, "refused"},
		{"dropping", drop, []string{here, "allow devices:revoke"}, 404, "not_found"},
		{"dropping by the list's", drop, []string{here, "allow devices:list"}, 403, "refused"},

		{"logging out", logout, []string{here}, 403, "bare_root_required"},
		{"logging out, allowed or not", logout, []string{here, "allow logout"}, 403, "bare_root_required"},
		{"renewing, by everything known of the request", ask{method: "POST", path: "/v1/renew"}, []string{here, "allow renew", "method POST", "path /v1/*", "client-ip 127.0.0.0/8"}, 403, "bare_root_required"},
		{"renewing by another method", ask{method: "POST", path: "/v1/renew"}, []string{here, "method GET"}, 403, "refused"},
		{"asking about others", verify, []string{here, "allow verify"}, 403, "bare_root_required"},
		{"naming a branch", byCaveats, []string{here, "allow revoke"}, 403, "bare_root_required"},
		{"administering", ask{method: "GET", path: "/v1/admin/users"}, []string{here, "allow admin"}, 403, "bare_root_required"},
	} {
		row.q.auth = bearer(narrow(alice.Token, row.caveats...))
		if r := a.do(row.q); r.StatusCode != row.status {
			t.Errorf("in the row %q", row.name)
			r.want(row.status, row.code)
		} else {
			r.want(row.status, row.code)
		}
	}
	// Whatever keeps an account, or lets somebody into it, takes the root itself, with the password, too.
	link := a.openLink(alice, api.Proof{})
	a.giveCode("alice", link.Code).want(202, "")
	proof := `{"password":"` + password("alice") + `"}`
	for _, q := range []ask{
		{method: "POST", path: "/v1/links/" + link.ID + "/approve"},
		{method: "GET", path: "/v1/links"},
		{method: "DELETE", path: "/v1/links/" + link.ID},
		{method: "POST", path: "/v1/links", body: proof},
		{method: "GET", path: "/v1/recovery-codes"},
		{method: "POST", path: "/v1/recovery-codes", body: proof},
		{method: "POST", path: "/v1/password", body: `{"current":"` + password("alice") + `","password":"three quiet otters"}`},
		{method: "POST", path: "/v1/ticket", body: `{"audience":"macaroond"}`},
		{method: "POST", path: "/v1/renew"},
		{method: "DELETE", path: "/v1/user", body: proof},
	} {
		for _, narrower := range []string{here, "note mine"} {
			q.auth = bearer(narrow(alice.Token, narrower))
			if r := a.do(q); narrower == here {
				r.want(403, "bare_root_required")
			} else {
				r.want(401, "wrong_audience")
			}
		}
	}
	a.get("/v1/links", alice).want(200, "")
}

// What is no token of ours is a 401 that says no more than that.
func TestTokensThatAreNone(t *testing.T) {
	a, other := start(t), start(t)
	alice, stranger := a.user("alice"), other.user("alice")
	flipped := []byte(alice.Token)
	if at := len(flipped) - 5; flipped[at] == 'A' { // still of the alphabet: another token, not another text
		flipped[at] = 'B'
	} else {
		flipped[at] = 'A'
	}
	for _, row := range []struct{ name, auth, code string }{
		{"none", "", "no_token"},
		{"an empty one", "Bearer ", "no_token"},
		{"Basic", basic("alice", password("alice")), "no_token"},
		{"another scheme", "Digest " + alice.Token, "no_token"},
		{"no scheme", alice.Token, "no_token"},
		{"garbage", "Bearer garbage", "malformed"},
		{"with padding", bearer(alice.Token + "="), "malformed"},
		{"cut", bearer(alice.Token[:len(alice.Token)-4]), "malformed"},
		{"with a space", bearer(alice.Token[:9] + " " + alice.Token[9:]), "malformed"},
		{"two in one", bearer(alice.Token + "," + alice.Token), "malformed"},
		{"too large", bearer(alice.Token + strings.Repeat("A", 4096)), "too_large"},
		{"one bit off", bearer(string(flipped)), "invalid"},
		{"another authority's", bearer(stranger.Token), "invalid"},
	} {
		if r := a.do(ask{method: "GET", path: "/v1/devices", auth: row.auth}); r.StatusCode != 401 {
			t.Errorf("%s: %d", row.name, r.StatusCode)
		} else {
			r.want(401, row.code)
		}
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: "bearer  " + alice.Token}).want(200, "") // RFC 9110: any case, some spaces
}
