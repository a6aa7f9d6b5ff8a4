package httpapi

import (
	"cmp"
	"database/sql"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/storage"
)

// null is for no type what leaving out is: a null password is no wish for an
// account without one.
func TestNullIsRefused(t *testing.T) {
	a := start(t)
	for _, row := range []struct{ path, body, field string }{
		{"/v1/signup", `{"username":"zoe","password":null,"device":{"name":"d"}}`, "/password"},
		{"/v1/signup", `{"username":"zoe","device":{"name":null}}`, "/device/name"},
		{"/v1/login", `{"username":null,"password":"null","device":{}}`, "/username"},
		{"/v1/revoke", `{"token":"x","caveats":null}`, "/caveats"},
		{"/v1/login", `null`, ""},
	} {
		p := a.do(ask{method: "POST", path: row.path, body: row.body}).want(400, api.CodeBadRequest)
		if p.Field != row.field {
			t.Errorf("%s: field %q, want %q", row.body, p.Field, row.field)
		}
	}
	// The word itself is nothing bad.
	a.do(ask{method: "POST", path: "/v1/signup", body: `{"username":"null and void","device":{"name":"null"}}`}).want(201, "")
}

// A form's empty field is no wish for what leaving the member out means.
func TestEmptyIsRefused(t *testing.T) {
	a := start(t)
	chief := a.admin()
	_, shop := a.minter("shop")
	const device = `,"device":{"name":"d"}`
	for _, row := range []struct{ route, auth, body, field string }{
		{"POST /v1/signup", "", `{"username":"zoe","password":""` + device + "}", "/password"},
		{"POST /v1/signup", "", `{"username":"zoe","mode":""` + device + "}", "/mode"},
		{"POST /v1/signup", "", `{"username":""` + device + "}", "/username"}, // must be there, so "leave it out" would be no help
		{"POST /v1/signup", "", `{"username":"zoe","device":{"name":"d","install_id":""}}`, "/device/install_id"},
		{"POST /v1/login", basic("chief", password("chief")), `{"audience":""` + device + "}", "/audience"},
		{"POST /v1/link/claim", "", `{"claim":"lnk_x","mode":""}`, "/mode"},
		{"POST /v1/recovery-codes", "", `{"code":""}`, "/code"},
		{"POST /v1/recovery-codes", "", `{"password":""}`, "/password"},
		{"POST /v1/links", "", `{"code":""}`, "/code"},
		{"POST /v1/password", "", `{"password":"several loud magpies","current":""}`, "/current"},
		{"POST /v1/password", "", `{"password":"several loud magpies","code":""}`, "/code"},
		{"DELETE /v1/devices", "", `{"password":""}`, "/password"},
		{"DELETE /v1/devices/" + chief.Device.ID, "", `{"code":""}`, "/code"},
		{"DELETE /v1/user", "", `{"code":""}`, "/code"},
		{"POST /v1/ticket", "", `{"audience":"macaroond","path":""}`, "/path"},
		{"POST /v1/revoke", "", `{"token":"","caveats":["audience a"]}`, "/token"},
		{"POST /v1/mint", shop, `{"subject":"42","username":""` + device + "}", "/username"},
		{"POST /v1/mint", shop, `{"subject":"42","audience":""` + device + "}", "/audience"},
		{"POST /v1/admin/policies", "", `{"target":{"everyone":true,"user":""},"caveats":["method GET"],"reason":"r"}`, "/target/user"},
	} {
		method, path, _ := strings.Cut(row.route, " ")
		p := a.do(ask{method: method, path: path, auth: cmp.Or(row.auth, bearer(chief.Token)), body: row.body}).want(400, api.CodeBadRequest)
		if p.Field != row.field || p.Detail != "the member is empty: fill it in, or leave it out if it is optional" {
			t.Errorf("%s %s: field %q, want %q; %s", row.route, row.body, p.Field, row.field, p.Detail)
		}
	}
	// Nor is a time of which nothing is left a wish for the longest.
	for _, row := range []struct{ path, auth, body string }{
		{"/v1/login", basic("chief", password("chief")), `{"ttl":0` + device + "}"},
		{"/v1/login", basic("chief", password("chief")), `{"\u0074tl": -0` + device + "}"},
		{"/v1/mint", shop, `{"subject":"42","ttl":0` + device + "}"},
		{"/v1/admin/policies", "", `{"target":{"everyone":true},"caveats":["method GET"],"reason":"r","ttl":0}`},
	} {
		p := a.do(ask{method: "POST", path: row.path, auth: cmp.Or(row.auth, bearer(chief.Token)), body: row.body}).want(400, api.CodeBadRequest)
		if p.Field != "/ttl" {
			t.Errorf("%s %s: field %q", row.path, row.body, p.Field)
		}
	}
	// Where it says something, it is taken.
	a.post("/v1/recover", "", map[string]any{"username": "chief", "code": "", "device": map[string]string{"name": ""}}).want(401, api.CodeBadCredentials)
	a.do(ask{method: "POST", path: "/v1/admin/users", auth: bearer(chief.Token), body: `{"username":"bob","password":"several loud magpies","role":""}`}).want(201, "")
	a.do(ask{method: "POST", path: "/v1/verify", auth: bearer(chief.Token), body: `{"token":"` + chief.Token + `","request":{"origin":""}}`}).want(200, "")
}

// What is missing is named as the endpoint names it: a password, or HTTP Basic, is
// nothing for a recovery or a link.
func TestNoNameAtAll(t *testing.T) {
	a := start(t)
	for path, want := range map[string]string{
		"/v1/login":   "no name: send username and password, or HTTP Basic",
		"/v1/recover": "no name: send username and code",
		"/v1/link":    "no name: send username and code",
	} {
		p := a.do(ask{method: "POST", path: path, body: "{}"}).want(400, api.CodeBadRequest)
		if p.Field != "/username" || p.Detail != want {
			t.Errorf("%s: %s %q, want %q", path, p.Field, p.Detail, want)
		}
	}
}

// The gateway's operator writes the query of these two: a misspelt parameter
// would judge for another audience, or for no action.
func TestGatewayQueryIsStrict(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	token := bearer(narrow(a.user("zoe").Token, "audience backend"))
	header := []string{"X-Original-Method", "GET", "X-Original-Uri", "/", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/"}
	for _, path := range []string{"/authz/original", "/authz/forwarded"} {
		for query, status := range map[string]int{"": 200, "?audience=backend": 200, "?audience=backend&action=a": 200, "?audiance=backend": 403, "?audience=backend&actions=a": 403, "?x": 403} {
			a.do(ask{method: "GET", path: path + query, auth: token, header: header}).wantVerdict(path+query, status, map[bool]string{false: api.CodeForbidden}[status == 200])
		}
	}
	r := a.do(ask{method: "FOO", path: "/authz/original?audience=backend", auth: token, header: header})
	if r.StatusCode != 200 || r.Header.Get("Allow") != "" {
		t.Errorf("an unknown method: %s, Allow %q", r.Status, r.Header.Get("Allow"))
	}
}

// A root that the database does not know, as after a backup was restored with
// its tokens kept, can still be ended, by its holder and by whoever finds it.
func TestRevokeUnknownRoot(t *testing.T) {
	a := start(t)
	phone := a.user("alice")
	a.pass(time.Second)
	laptop := a.login("alice", api.DeviceIn{Name: "laptop"})
	db := must(sql.Open("sqlite", a.path))
	for _, statement := range []string{`DELETE FROM devices`, `DELETE FROM root_keys`} {
		must(db.Exec(statement))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(phone.Token)}).want(200, "")
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(phone.Token)}).want(204, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(phone.Token)}).want(401, api.CodeRevoked)
	a.wantGrain(a.revoke("", laptop.Token), "device")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(laptop.Token)}).want(401, api.CodeRevoked)
}

// Nor does whoever deletes the account with such a root keep it.
func TestDeleteUserWithUnknownRoot(t *testing.T) {
	a := start(t)
	phone := a.user("alice")
	db := must(sql.Open("sqlite", a.path))
	for _, statement := range []string{`DELETE FROM devices`, `DELETE FROM root_keys`} {
		must(db.Exec(statement))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	a.drop("/v1/user", phone, api.Proof{Password: password("alice")}).want(204, "")
	a.get("/v1/devices", phone).want(401, api.CodeRevoked)
	a.pass(storage.MaxRootTTL)
	a.svc.Sweep(t.Context(), a.clock.Now())
	if n := a.svc.Revocations(); n != 1 {
		t.Errorf("%d entries while a successor of the root may live", n)
	}
}

// Ending an unknown root ends its successors, which the database does not know
// either, for as long as they live.
func TestRevokeUnknownRootWithSuccessor(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	a.pass(29 * 24 * time.Hour)
	next := into[api.Grant](a.do(ask{method: "POST", path: "/v1/renew", auth: bearer(alice.Token)}), 200)
	db := must(sql.Open("sqlite", a.path))
	for _, statement := range []string{`DELETE FROM renewals`, `DELETE FROM devices`, `DELETE FROM root_keys`} {
		must(db.Exec(statement))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	a.wantGrain(a.revoke("", alice.Token), "device")
	for range 2 {
		a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(next.Token)}).want(401, api.CodeRevoked)
		a.pass(2 * 24 * time.Hour) // the predecessor has expired, and its entry with it
		a.svc.Sweep(t.Context(), a.clock.Now())
	}
}

// HEAD is answered as GET is, without a body.
func TestHead(t *testing.T) {
	a := start(t)
	root := bearer(a.user("zoe").Token)
	for _, path := range []string{"/livez", "/readyz", "/version", "/openapi.json", "/v1/devices"} {
		r := a.do(ask{method: "HEAD", path: path, auth: root})
		if r.StatusCode != 200 || len(r.body) != 0 {
			t.Errorf("HEAD %s: %s, %d bytes", path, r.Status, len(r.body))
		}
	}
}

// A good credential beside a bad token is no reason to log in again, and the
// token itself is no credential beside itself.
func TestRevokeBesideACredential(t *testing.T) {
	a := start(t)
	root := a.user("zoe").Token
	link := narrow(root, "audience photos")
	p := a.revoke(bearer(root), "garbage").want(400, api.CodeBadRequest)
	if p.Field != "/token" {
		t.Errorf("field %q", p.Field)
	}
	a.revoke(bearer("garbage"), link).want(401, api.CodeMalformed)
	a.wantGrain(a.revoke(bearer(link), link), "branch")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(root)}).want(200, "")
}

// A lifetime is never shorter than what was asked for, whatever the fraction of
// a second it begins in.
func TestLifetimeIsWhole(t *testing.T) {
	a := start(t)
	a.user("zoe")
	a.pass(700 * time.Millisecond)
	g := into[api.Grant](a.post("/v1/login", basic("zoe", password("zoe")), api.LoginIn{TTL: 60, Device: api.DeviceIn{Name: "d"}}), 200)
	if left := g.ExpiresAt.Sub(a.clock.Now()); g.ExpiresIn != 60 || left < time.Minute || left > time.Minute+time.Second {
		t.Errorf("expires_in %d, %s left", g.ExpiresIn, left)
	}
}
