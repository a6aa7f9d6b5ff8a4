package httpapi

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

// Where one feature meets another: what holds for each alone must hold for both.

// A browser can be the second device: its token goes into the cookie and
// nowhere else.
func TestLinkedBrowser(t *testing.T) {
	a := start(t)
	alice := a.named("alice")
	claim := func() string {
		t.Helper()
		open := a.openLink(alice, api.Proof{Code: alice.RecoveryCodes[0]})
		alice.RecoveryCodes = alice.RecoveryCodes[1:]
		pending := into[api.LinkPending](a.giveCode("alice", open.Code), 202)
		a.approve(alice, open.ID).want(204, "")
		return pending.Claim
	}
	text := claim()
	a.post("/v1/link/claim", "", api.ClaimIn{Claim: text, Mode: "jar"}).want(400, "bad_request") // and is not spent
	foreign := a.do(ask{method: "POST", path: "/v1/link/claim", body: `{"claim":"` + text + `","mode":"cookie"}`, header: []string{"Sec-Fetch-Site", "cross-site"}})
	foreign.want(403, "csrf")
	r := a.post("/v1/link/claim", "", api.ClaimIn{Claim: text, Mode: "cookie"})
	p := tab{into[api.Grant](r, 200), setCookie(r)}
	if p.Token != "" || p.TokenType != "" || p.CSRFToken == "" || p.cookie == "" || bytes.Contains(r.body, []byte(p.cookie)) {
		t.Fatalf("the token stands in the body, or nowhere: %s", r.body)
	}
	if got := a.names(p); strings.Join(got, " ") != "phone tablet" {
		t.Errorf("the page sees %q", got)
	}
	if r := a.post("/v1/link/claim", "", api.ClaimIn{Claim: claim()}); into[api.Grant](r, 200).Token == "" || setCookie(r) != "" {
		t.Errorf("without the mode: %s", r.body)
	}
}

// A policy gives back what it took, so it does not take a browser's cookie away,
// whatever the code is that it makes.
func TestPolicyLeavesTheCookie(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.service.Settings.Browser = []string{"photos"} })
	chief, p := a.admin(), a.browser("alice")
	id := a.policy(chief, api.PolicyTarget{User: p.User.ID}, a.until(-time.Minute))
	at := func(audience string) *reply {
		return a.do(ask{method: "GET", path: "/authz/original?audience=" + audience, header: []string{
			"X-Original-Method", "GET", "X-Original-URI", "/", "X-Original-Host", a.addr, "Cookie", cookieName + "=" + p.cookie,
		}})
	}
	for _, audience := range []string{"photos", "videos"} { // good there without the policy, and not
		r := at(audience)
		r.want(401, "expired")
		if c := setCookie(r); c != "" {
			t.Errorf("%s: the policy took the cookie: %q", audience, c)
		}
	}
	a.by(p, "GET", "/v1/devices", "").want(403, "forbidden")
	a.unpolicy(chief, id)
	at("photos").want(200, "")
	a.pass(31 * 24 * time.Hour)
	if c := setCookie(at("photos")); c != "-" {
		t.Errorf("a cookie that has expired stays: %q", c)
	}
}

// What is no WebSocket's handshake needs the synchronizer token, whatever
// headers make it look like one.
func TestNoHandshakeWithAPost(t *testing.T) {
	a := start(t)
	p := a.browser("alice")
	a.do(ask{method: "POST", path: "/v1/logout", header: []string{
		"Cookie", cookieName + "=" + p.cookie, "Origin", "http://" + a.addr, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
	}}).want(403, "csrf")
	a.by(p, "POST", "/v1/logout", "").want(204, "")
}

// A page whose user is gone has no cookie left.
func TestDeletedUserHasNoCookie(t *testing.T) {
	a := start(t)
	p := a.browser("alice")
	r := a.by(p, "DELETE", "/v1/user", `{"password":"`+password("alice")+`"}`)
	r.want(204, "")
	if c := setCookie(r); c != "-" {
		t.Errorf("the cookie stays: %q", c)
	}
}

// A service's one-time token is not used up by what the service may not do.
func TestServiceTokenIsNotUsedUpInVain(t *testing.T) {
	a := start(t)
	_, plain := a.credential(api.ServiceIn{Name: "plain", Serves: []string{"photos"}, Calls: []string{"macaroond"}})
	alice := a.user("alice")
	once := bearer(narrow(a.ownToken(plain, "macaroond"), "once "+nonce()))
	about := func(audience string) api.VerifyIn {
		return api.VerifyIn{Token: narrow(alice.Token, "audience photos"), Request: api.Request{Audience: audience}}
	}
	for range 2 {
		a.post("/v1/mint", once, minting("42")).want(403, "forbidden")
		a.do(ask{method: "GET", path: "/v1/subjects", auth: once}).want(403, "forbidden")
		a.post("/v1/verify", once, about("videos")).want(403, "forbidden")
		a.post("/v1/verify", once, api.VerifyIn{Request: api.Request{Audience: "photos"}}).want(400, "bad_request")
		a.do(ask{method: "GET", path: "/v1/revocations?after=x", auth: once}).want(400, "bad_request")
	}
	a.post("/v1/verify", once, about("photos")).want(200, "")
	a.post("/v1/verify", once, about("photos")).want(403, "replayed")
}

// A policy on a service is no reason for it to think that its token is none.
func TestPolicyOnAService(t *testing.T) {
	a := start(t)
	chief := a.admin()
	svc, secret := a.credential(api.ServiceIn{Name: "worker", Serves: []string{"photos"}, Calls: []string{"macaroond"}})
	own := bearer(a.ownToken(secret, "macaroond"))
	in := api.VerifyIn{Token: narrow(a.user("alice").Token, "audience photos"), Request: api.Request{Audience: "photos"}}
	a.post("/v1/verify", own, in).want(200, "")
	id := a.policy(chief, api.PolicyTarget{User: svc.ID}, a.until(-time.Minute))
	a.post("/v1/verify", own, in).want(403, "forbidden")
	a.unpolicy(chief, id)
	a.post("/v1/verify", own, in).want(200, "")
}

// A one-time token is not used up by an act whose proof is wrong.
func TestWrongProofUsesNothingUp(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	other := a.login("alice", api.DeviceIn{Name: "old phone"})
	a.pass(time.Hour) // no login is fresh
	for _, path := range []string{"/v1/devices/" + other.Device.ID, "/v1/devices?except=current"} {
		once := api.Grant{Token: narrow(alice.Token, a.until(time.Hour), "audience macaroond", "allow devices:revoke", "once "+nonce())}
		for range 2 {
			a.drop(path, once, api.Proof{Password: "wrong"}).want(400, "bad_request")
		}
		later(a.drop(path, once, api.Proof{}))
	}
}
