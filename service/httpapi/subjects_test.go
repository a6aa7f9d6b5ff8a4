package httpapi

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"macaroond/service"
	"macaroond/service/api"
)

func (a *authority) minter(name string) (api.Service, string) {
	a.t.Helper()
	return a.credential(api.ServiceIn{Name: name, Rights: []string{"mint"}})
}

func (a *authority) mintFor(auth string, in api.MintIn) api.Grant {
	a.t.Helper()
	return into[api.Grant](a.post("/v1/mint", auth, in), 200)
}

func minting(subject string) api.MintIn {
	return api.MintIn{Subject: subject, Device: api.DeviceIn{Name: "phone"}}
}

// A grant is a user's root like any other, for a user whom the service alone
// speaks of.
func TestMintForOnesOwn(t *testing.T) {
	a := start(t)
	_, shop := a.minter("shop")
	g := a.mintFor(shop, api.MintIn{Subject: "42", Username: "Ana", Device: api.DeviceIn{Name: "Ana's phone", InstallID: "i-1"}, TTL: 3600, Audience: "photos"})
	if !strings.HasPrefix(g.User.ID, "usr_") || g.User.Username != "shop:Ana" || g.Device.Name != "Ana's phone" || g.ExpiresIn != 3600 || g.RecoveryCodes != nil || g.Access.Audience != "photos" {
		t.Errorf("%+v", g)
	}
	devices := into[api.Devices](a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}), 200).Devices
	if len(devices) != 1 || devices[0].ID != g.Device.ID {
		t.Errorf("%+v", devices)
	}
	a.alive(g, g.Access.Token, "photos", true)
	// The same user again: a second device, and the first once more.
	second := a.mintFor(shop, minting("42"))
	if second.User.ID != g.User.ID || second.User.Username != "shop:Ana" || second.Device.ID == g.Device.ID {
		t.Errorf("%+v", second)
	}
	again := a.mintFor(shop, api.MintIn{Subject: "42", Username: "Anna", Device: api.DeviceIn{Name: "p", InstallID: "i-1"}})
	if again.Device.ID != g.Device.ID || again.User.Username != "shop:Anna" {
		t.Errorf("%+v", again)
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}).want(401, "revoked")
	// Without a name nothing of the subject is shown.
	if x := a.mintFor(shop, minting("secret@example.com")); x.User.Username != "shop:"+x.User.ID {
		t.Errorf("%+v", x.User)
	}
	// At once: one user.
	var wait sync.WaitGroup
	users := make([]string, 8)
	for i := range users {
		wait.Go(func() { users[i] = a.mintFor(shop, minting("new")).User.ID })
	}
	wait.Wait()
	for _, id := range users {
		if id != users[0] {
			t.Errorf("one subject is the users %v", users)
			break
		}
	}
}

// A subject asks for its own devices to be removed like anybody; credentials of
// this authority's own are not for it.
func TestSubjectsHaveNoCredentialsHere(t *testing.T) {
	a := start(t)
	_, shop := a.minter("shop")
	g, other := a.mintFor(shop, minting("1")), a.mintFor(shop, minting("1"))
	for _, act := range acts(other.Device.ID) {
		q := act.ask(api.Proof{})
		q.auth = bearer(g.Token)
		switch act.name {
		case "codes", "link", "password":
			a.do(q).want(403, "forbidden")
		default:
			if d := later(a.do(q)); d.Act != "remove" {
				t.Errorf("%s: %+v", act.name, d)
			}
		}
	}
	if n := len(a.pending(g)); n != 3 {
		t.Errorf("%d acts wait, want 3", n)
	}
}

// No subject, no name and no trick of writing is somebody else's user.
func TestTakeoverIsImpossible(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	_, shop := a.minter("shop")
	other, bank := a.minter("bank")
	theirs := a.mintFor(bank, api.MintIn{Subject: "42", Username: "Ana", Device: api.DeviceIn{Name: "d"}})
	mine := a.mintFor(shop, minting("42"))
	known := map[string]string{chief.User.ID: "the administrator", alice.User.ID: "alice", theirs.User.ID: "another's", mine.User.ID: "42"}
	if len(known) != 4 {
		t.Fatalf("two of them are one: %v", known)
	}
	names := map[string]bool{"chief": true, "alice": true, "bank:Ana": true}
	for _, in := range []api.MintIn{
		minting("chief"), minting("alice"), minting("ALICE"), minting(chief.User.ID), minting(alice.User.ID),
		minting(theirs.User.ID), minting(mine.User.ID), minting("S:" + alice.User.ID), minting("042"), minting("42."), minting("bank:42"),
		minting(other.ID + ":42"), minting("svc_"), minting("'; DROP TABLE users; --"[:1]), minting("4%2"[:1]),
		{Subject: "u1", Username: "alice"},
		{Subject: "u2", Username: "chief"},
		{Subject: "u3", Username: "ａｌｉｃｅ"},
		{Subject: "u4", Username: "bank"},
		{Subject: "u5", Username: "usr_0123456789abcdef"},
		{Subject: "u6", Username: alice.User.ID},
	} {
		in.Device.Name = "d"
		g := a.mintFor(shop, in)
		if who := known[g.User.ID]; who != "" {
			t.Errorf("%+v is %s", in, who)
		}
		if names[g.User.Username] || !strings.HasPrefix(g.User.Username, "shop:") {
			t.Errorf("%+v is shown as %q", in, g.User.Username)
		}
		known[g.User.ID] = in.Subject
		a.do(ask{method: "GET", path: "/v1/admin/users", auth: bearer(g.Token)}).want(403, "forbidden")
	}
	// What is no subject is none of anybody's.
	for _, subject := range []string{"", " ", "a b", "a/b", "a\\b", "a%62", "a?b", "a#b", "a;b", ".", "..", "é", "e\u0301", "\u202e42", "４２", "42\x00", "42\n", strings.Repeat("x", 129)} {
		if p := a.post("/v1/mint", shop, minting(subject)).want(400, "bad_request"); p.Field != "/subject" {
			t.Errorf("%q: %q", subject, p.Field)
		}
	}
	if p := a.post("/v1/mint", shop, api.MintIn{Subject: "1", Username: "bank:Ana", Device: api.DeviceIn{Name: "d"}}).want(400, "bad_request"); p.Field != "/username" {
		t.Errorf("a colon: %+v", p)
	}
	// None of them logs in, recovers, or is signed up for, by whatever name.
	for _, name := range []string{"shop:alice", "S:" + mine.User.ID, "s:" + mine.User.ID, mine.User.ID, "42", "bank:Ana", "Ana", other.ID + "/42"} {
		in := api.LoginIn{Username: name, Password: "", Device: api.DeviceIn{Name: "d"}}
		for _, pass := range []string{"", "x", password(name)} {
			in.Password = pass
			a.post("/v1/login", "", in).want(401, "bad_credentials")
		}
		a.post("/v1/recover", "", api.RecoverIn{Username: name, Code: "0000-0000-0000-0000", Device: in.Device}).want(401, "bad_credentials")
		if r := a.post("/v1/signup", "", api.SignupIn{Username: name, Device: in.Device}); r.StatusCode == 201 && name != "42" && name != "Ana" {
			t.Errorf("signed up as %q", name)
		}
	}
	// Nobody gives one a password, a code or a link, now or in a day, and one that has a role is nobody's to mint for.
	for path, body := range map[string]string{"/v1/password": `{"password":"long enough to be one"}`, "/v1/recovery-codes": "{}", "/v1/links": "{}"} {
		a.do(ask{method: "POST", path: path, auth: bearer(mine.Token), body: body}).want(403, "forbidden")
	}
	a.post("/v1/admin/users/"+mine.User.ID+"/password", bearer(chief.Token), api.PasswordIn{Password: "long enough to be one"}).want(403, "forbidden")
	db := must(sql.Open("sqlite", a.path))
	defer db.Close()
	must(db.Exec(`UPDATE users SET role = 'admin' WHERE id = ?`, mine.User.ID))
	a.post("/v1/mint", shop, minting("42")).want(403, "forbidden")
	a.do(ask{method: "GET", path: "/v1/admin/users", auth: bearer(mine.Token)}).want(403, "forbidden")
	_, photos := a.service("photos", "photos")
	for id, role := range map[string]string{mine.Token: "", chief.Token: "admin"} {
		if got := into[api.Introspection](a.oauth("/oauth2/introspect", photos, "token", narrow(id, "audience photos")), 200); got.Role != role || !got.Active {
			t.Errorf("%+v, want the role %q", got, role)
		}
	}
	must(db.Exec(`UPDATE users SET role = '' WHERE id = ?`, mine.User.ID))
	a.mintFor(shop, minting("42"))
}

// Its own, and only its own: list, revoke, suspend, resume.
func TestSubjectsAreTheOwners(t *testing.T) {
	a := start(t)
	chief := a.admin()
	_, shop := a.minter("shop")
	_, bank := a.minter("bank")
	_, plain := a.service("plain", "photos")
	var grants []api.Grant
	for i := range 3 {
		grants = append(grants, a.mintFor(shop, minting(fmt.Sprint("user", i))))
	}
	a.mintFor(bank, minting("user9"))
	var got []string
	for after := ""; ; {
		page := into[api.Subjects](a.do(ask{method: "GET", path: "/v1/subjects?limit=2&after=" + url.QueryEscape(after), auth: shop}), 200)
		for _, s := range page.Subjects {
			got = append(got, s.Subject+" "+s.ID)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if want := []string{"user0 " + grants[0].User.ID, "user1 " + grants[1].User.ID, "user2 " + grants[2].User.ID}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q, want %q", got, want)
	}
	a.do(ask{method: "GET", path: "/v1/subjects?limit=0", auth: shop}).want(400, "bad_request")

	path := "/v1/subjects/user0"
	for _, q := range []ask{
		{method: "GET", path: "/devices"},
		{method: "DELETE", path: "/devices"},
		{method: "DELETE", path: "/devices/" + grants[0].Device.ID},
		{method: "POST", path: "/suspend"},
		{method: "POST", path: "/resume"},
	} {
		q.path = path + q.path
		q.auth = bank
		a.do(q).want(404, "not_found")
		q.auth = plain
		a.do(q).want(403, "forbidden")
		q.auth = bearer(chief.Token)
		a.do(q).want(403, "forbidden")
		q.auth = ""
		a.do(q).want(401, "no_token")
	}
	alive := func(g api.Grant, want string) {
		t.Helper()
		r := a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)})
		if want == "" {
			r.want(200, "")
		} else {
			r.want(401, want)
		}
	}
	alive(grants[0], "")
	second := a.mintFor(shop, minting("user0"))
	list := into[api.Devices](a.do(ask{method: "GET", path: path + "/devices", auth: shop}), 200).Devices
	if len(list) != 2 || list[0].Current || list[1].Current {
		t.Errorf("%+v", list)
	}
	a.do(ask{method: "DELETE", path: path + "/devices/" + grants[1].Device.ID, auth: shop}).want(404, "not_found") // another of its users'
	a.do(ask{method: "DELETE", path: path + "/devices/" + grants[0].Device.ID, auth: shop}).want(204, "")
	alive(grants[0], "revoked")
	alive(second, "")
	a.do(ask{method: "DELETE", path: path + "/devices?except=current", auth: shop}).want(400, "bad_request")
	alive(second, "")
	a.do(ask{method: "DELETE", path: path + "/devices", auth: shop}).want(204, "")
	alive(second, "revoked")
	alive(grants[1], "")

	path = "/v1/subjects/user1"
	a.do(ask{method: "POST", path: path + "/suspend", auth: shop}).want(204, "")
	alive(grants[1], "revoked")
	a.post("/v1/mint", shop, minting("user1")).want(403, "suspended")
	a.do(ask{method: "POST", path: path + "/resume", auth: shop}).want(204, "")
	alive(a.mintFor(shop, minting("user1")), "")
	// What an administrator did, the service does not undo.
	a.do(ask{method: "POST", path: "/v1/admin/users/" + grants[1].User.ID + "/suspend", auth: bearer(chief.Token)}).want(204, "")
	a.do(ask{method: "POST", path: path + "/resume", auth: shop}).want(403, "forbidden")
	a.post("/v1/mint", shop, minting("user1")).want(403, "suspended")
	a.do(ask{method: "POST", path: "/v1/admin/users/" + grants[1].User.ID + "/resume", auth: bearer(chief.Token)}).want(204, "")
	a.mintFor(shop, minting("user1"))
}

// The service goes, and its users' devices with it.
func TestSubjectsEndWithTheService(t *testing.T) {
	a := start(t)
	svc, shop := a.minter("shop")
	_, bank := a.minter("bank")
	mine, theirs := a.mintFor(shop, minting("1")), a.mintFor(bank, minting("1"))
	// A secret that goes takes none of them: it was not what they were minted under.
	if _, err := a.svc.AddServiceSecret(t.Context(), svc.ID, service.ActorOperator, noSource); err != nil {
		t.Fatal(err)
	}
	if err := a.svc.RemoveServiceSecret(t.Context(), svc.ID, svc.SecretID, service.ActorOperator, noSource); err != nil {
		t.Fatal(err)
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(mine.Token)}).want(200, "")
	if err := a.svc.RemoveService(t.Context(), svc.ID, service.ActorOperator, noSource); err != nil {
		t.Fatal(err)
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(mine.Token)}).want(401, "revoked")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(theirs.Token)}).want(200, "")
	a.post("/v1/mint", shop, minting("1")).want(401, "bad_credentials")
}

// Bad bodies of a mint, and a count of devices that has an end.
func TestMintRefuses(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.MaxDevices = 2 })
	_, shop := a.minter("shop")
	_, plain := a.service("plain", "photos")
	for body, field := range map[string]string{
		`{"subject":"1","device":{"name":"d"},"ttl":-1}`:                                     "/ttl",
		`{"subject":"1","device":{"name":"d"},"ttl":2592001}`:                                "/ttl",
		`{"subject":"1","device":{"name":"d"},"audience":"two words"}`:                       "/audience",
		`{"subject":"1","device":{"name":"a\u0007b"}}`:                                       "/device/name",
		`{"subject":"1","device":{"name":"d","install_id":"a b"}}`:                           "/device/install_id",
		`{"subject":"1","device":{"name":"d"},"username":"` + strings.Repeat("x", 65) + `"}`: "/username",
		`{"subject":"1","device":{"name":"d"},"password":"x"}`:                               "/password",
		`{"subject":1,"device":{"name":"d"}}`:                                                "/subject",
	} {
		if p := a.do(ask{method: "POST", path: "/v1/mint", auth: shop, body: body}).want(400, "bad_request"); p.Field != field {
			t.Errorf("%s: %q", body, p.Field)
		}
	}
	if list := into[api.Subjects](a.do(ask{method: "GET", path: "/v1/subjects", auth: shop}), 200).Subjects; len(list) != 0 {
		t.Errorf("refused, and made: %+v", list)
	}
	a.post("/v1/mint", plain, minting("1")).want(403, "forbidden")
	a.post("/v1/mint", "", minting("1")).want(401, "no_token")
	a.post("/v1/mint", basic("svc_0123456789abcdef", "mds_x"), minting("1")).want(401, "bad_credentials")
	first := a.mintFor(shop, minting("1"))
	a.pass(time.Second)
	a.mintFor(shop, minting("1"))
	a.pass(time.Second)
	a.mintFor(shop, minting("1"))
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(first.Token)}).want(401, "revoked")
}
