package httpapi

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
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

// Nor by one that would have to wait while as many wait as may. What need not
// wait goes ahead.
func TestNoRoomToWaitUsesNothingUp(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	var others []string
	for range 11 {
		others = append(others, "/v1/devices/"+a.login("alice", api.DeviceIn{Name: "old phone"}).Device.ID)
	}
	tablet := a.login("alice", api.DeviceIn{Name: "tablet"})
	a.pass(time.Hour) // no login is fresh
	for _, path := range others[1:] {
		later(a.drop(path, alice, api.Proof{}))
	}
	once := func() api.Grant {
		return api.Grant{Token: narrow(alice.Token, a.until(time.Hour), "audience macaroond", "once "+nonce())}
	}
	link := once()
	for range 2 {
		for _, path := range []string{others[0], "/v1/devices", "/v1/devices?except=current"} {
			a.drop(path, link, api.Proof{}).want(409, "too_many")
		}
	}
	theirs := api.Grant{Token: narrow(tablet.Token, a.until(time.Hour), "audience macaroond", "once "+nonce())}
	for range 2 {
		a.drop(others[1], theirs, api.Proof{}).want(409, "too_many") // another device's waits
	}
	later(a.drop(others[1], link, api.Proof{})) // it waits already
	a.drop(others[1], link, api.Proof{}).want(403, "replayed")
	set := *a.svc.Settings()
	set.FreshLogin = 2 * time.Hour
	a.svc.SetSettings(set)
	a.drop(others[0], once(), api.Proof{}).want(204, "")
	set.FreshLogin = time.Minute
	a.svc.SetSettings(set)
	a.drop(others[0], once(), api.Proof{}).want(204, "") // it is gone
	a.drop("/v1/devices?except=current", alice, api.Proof{Password: password("alice")}).want(204, "")
	a.drop("/v1/devices?except=current", once(), api.Proof{}).want(204, "") // there is none
	a.drop("/v1/devices/"+alice.Device.ID, once(), api.Proof{}).want(204, "")
}

// A bare root is bound to no key, so no endpoint takes it under the scheme of
// tokens that are: a client would believe that a thief could not use it.
func TestRootsAreNoTokensForDPoP(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	for path, body := range map[string]string{"/v1/renew": "", "/v1/logout": "", "/v1/links": "", "/v1/ticket": `{"audience":"macaroond"}`} {
		a.do(ask{method: "POST", path: path, auth: "DPoP " + alice.Token, body: body}).want(403, "refused")
	}
}

// A branch is one of a root's: what was derived before a renewal is named with
// the former root, for as long as that lives.
func TestBranchesOfARenewedRoot(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	holder := []string{"audience photos", "note for bob"}
	link := narrow(alice.Token, holder...)
	a.pass(time.Hour)
	next := a.renewed(alice.Token)
	a.alive(next, link, "photos", true)
	a.wantGrain(a.post("/v1/revoke", bearer(next.Token), api.RevokeIn{Caveats: &holder}), "branch")
	a.alive(next, link, "photos", false)

	// A root that is over by this clock is not over by every other one.
	short := into[api.Grant](a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "short"}, TTL: 600}), 200)
	a.pass(6 * time.Minute)
	longer := a.renewed(short.Token)
	a.pass(9 * time.Minute)
	before := a.svc.Revocations()
	a.post("/v1/revoke", bearer(longer.Token), api.RevokeIn{Caveats: &holder}).want(200, "")
	if n := a.svc.Revocations() - before; n != 2 {
		t.Errorf("%d entries, want one for each root that some clock may take", n)
	}

	// Across a rotation, from the middle, by the oldest: all the device's roots are one owner.
	for i := range 3 {
		a.pass(time.Hour)
		must(a.svc.RotateKeys(t.Context(), "test", service.Source{}))
		last := a.renewed(next.Token)
		holder := []string{"audience photos", fmt.Sprint("note ", i)}
		links := []string{narrow(alice.Token, holder...), narrow(next.Token, holder...), narrow(last.Token, holder...)}
		a.post("/v1/revoke", bearer([]string{alice.Token, next.Token, last.Token}[i]), api.RevokeIn{Caveats: &holder}).want(200, "")
		for j, link := range links {
			a.alive(last, link, "photos", false)
			a.alive(last, narrow(last.Token, "audience photos", fmt.Sprint("note beside ", j)), "photos", true)
		}
		next = last
	}

	// A child of what is listed already is not listed again; and a root of a
	// retired epoch needs nothing.
	a.post("/v1/revoke", bearer(next.Token), api.RevokeIn{Caveats: &holder}).want(200, "")
	before = a.svc.Revocations()
	child := append(slices.Clone(holder), "method GET")
	a.post("/v1/revoke", bearer(next.Token), api.RevokeIn{Caveats: &child}).want(200, "")
	if n := a.svc.Revocations() - before; n != 0 {
		t.Errorf("%d entries for the child of a revoked branch", n)
	}
	if err := a.svc.RetireKeys(t.Context(), 1, "test", service.Source{}); err != nil {
		t.Fatal(err)
	}
	a.pass(0)
	a.post("/v1/revoke", bearer(next.Token), api.RevokeIn{Caveats: &[]string{"note the last"}}).want(200, "")
}

// What the authority cannot know of, it does not say it has ended: the branch of
// a root that was forgotten, or that a restored database never had.
func TestBranchesOfForgottenRoots(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	holder := []string{"audience photos", "note for bob"}
	oldest, newest := narrow(alice.Token, holder...), alice
	for range 3 * storage.KnownRoots {
		a.pass(2 * time.Minute)
		newest = a.renewed(newest.Token)
	}
	link := narrow(newest.Token, holder...)
	a.post("/v1/revoke", bearer(newest.Token), api.RevokeIn{Caveats: &holder}).want(409, "too_many")
	a.alive(newest, link, "photos", false) // what can be ended is
	a.alive(newest, oldest, "photos", true)
	a.wantGrain(a.revoke(bearer(newest.Token), oldest), "branch") // as it says
	a.alive(newest, oldest, "photos", false)

	bob := a.user("bob")
	backup := a.backup()
	a.pass(time.Hour)
	between := a.renewed(bob.Token)
	a.pass(time.Hour)
	later := a.renewed(between.Token)
	a.restore(backup)
	links := []string{narrow(bob.Token, holder...), narrow(between.Token, holder...), narrow(later.Token, holder...)}
	a.post("/v1/revoke", bearer(bob.Token), api.RevokeIn{Caveats: &holder}).want(409, "too_many") // the one that the database knows
	a.post("/v1/revoke", bearer(later.Token), api.RevokeIn{Caveats: &holder}).want(409, "too_many")
	for i, dead := range []bool{true, false, true} {
		a.alive(later, links[i], "photos", !dead)
	}
	after := a.renewed(later.Token) // which the database knows again
	a.post("/v1/revoke", bearer(after.Token), api.RevokeIn{Caveats: &holder}).want(409, "too_many")
	a.alive(after, links[1], "photos", true)
}

// Whoever comes together: one of two gets what there is one of, and the other is
// told no more than anybody.
func TestOneOfTwo(t *testing.T) {
	a := start(t)
	alice := a.named("alice")
	together := func(ask func() *reply) (statuses []int) {
		replies := make([]*reply, 8)
		var all sync.WaitGroup
		for i := range replies {
			all.Go(func() { replies[i] = ask() })
		}
		all.Wait()
		for _, r := range replies {
			if r.StatusCode != 200 && r.StatusCode != 202 {
				r.want(401, "bad_credentials")
			}
			statuses = append(statuses, r.StatusCode)
		}
		slices.Sort(statuses)
		return statuses
	}
	want := func(what string, got []int, first int) {
		t.Helper()
		if !slices.Equal(got, []int{first, 401, 401, 401, 401, 401, 401, 401}) {
			t.Errorf("%s: %v", what, got)
		}
	}
	open := a.openLink(alice, api.Proof{Code: alice.RecoveryCodes[0]})
	var claim atomic.Value
	want("a code given", together(func() *reply {
		r := a.giveCode("alice", open.Code)
		if r.StatusCode == 202 {
			claim.Store(into[api.LinkPending](r, 202).Claim)
		}
		return r
	}), 202)
	a.approve(alice, open.ID).want(204, "")
	want("a claim traded", together(func() *reply { return a.trade(claim.Load().(string)) }), 200)
	want("a recovery code", together(func() *reply {
		return a.post("/v1/recover", "", api.RecoverIn{Username: "alice", Code: alice.RecoveryCodes[1], Device: api.DeviceIn{Name: "new"}})
	}), 200)
}

// A renewal that races a suspension, a deletion, a new password or the end of its
// epoch leaves no token that lives.
func TestRenewalRacesItsEnd(t *testing.T) {
	a := start(t)
	chief := a.admin()
	for i, row := range []struct {
		end  func(api.Grant) *reply
		code string
	}{
		{func(g api.Grant) *reply {
			return a.do(ask{method: "POST", path: "/v1/admin/users/" + g.User.ID + "/suspend", auth: bearer(chief.Token)})
		}, "revoked"},
		{func(g api.Grant) *reply {
			return a.do(ask{method: "DELETE", path: "/v1/admin/users/" + g.User.ID, auth: bearer(chief.Token)})
		}, "revoked"},
		{func(g api.Grant) *reply {
			return a.do(ask{method: "POST", path: "/v1/admin/users/" + g.User.ID + "/password", auth: bearer(chief.Token), body: `{"password":"quite another one"}`})
		}, "revoked"},
		{func(api.Grant) *reply {
			return a.do(ask{method: "POST", path: "/v1/admin/keys/1/retire", auth: bearer(chief.Token)})
		}, "invalid"}, // its keys are gone
	} {
		g := a.user("user" + string(rune('a'+i)))
		roots := make(chan string, 16)
		var all sync.WaitGroup
		for range cap(roots) / 2 {
			all.Go(func() {
				root := g.Token
				for range 4 {
					r := a.renewing(root)
					if r.StatusCode != 200 {
						break
					}
					root = into[api.Grant](r, 200).Token
				}
				roots <- root
			})
		}
		all.Go(func() { row.end(g).want(204, "") })
		all.Wait()
		close(roots)
		a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}).want(401, row.code)
		for root := range roots {
			a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(root)}).want(401, row.code)
		}
	}
}

// A retired epoch is counted as what it is.
func TestRevocationsAreCountedByGrain(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	a.wantGrain(a.revoke("", narrow(alice.Token, "note x")), "branch")
	a.wantGrain(a.revoke("", alice.Token), "device")
	if err := a.svc.RetireKeys(t.Context(), 1, service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	got := a.counted("macaroond_revocations_total")
	if want := map[string]float64{"branch": 1, "device": 1, "epoch": 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
