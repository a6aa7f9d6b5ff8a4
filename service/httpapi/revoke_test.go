package httpapi

import (
	"fmt"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
)

var noSource service.Source

func (a *authority) revoke(auth, text string) *reply {
	a.t.Helper()
	return a.post("/v1/revoke", auth, api.RevokeIn{Token: text})
}

func (a *authority) wantGrain(r *reply, grain string) {
	a.t.Helper()
	if got := into[api.RevokeOut](r, 200).Grain; got != grain {
		a.t.Errorf("revoked a %s, want a %s", got, grain)
	}
}

// A branch dies with its descendants; its parent and its siblings live on.
func TestRevokeBranch(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	laptop := a.login("alice", api.DeviceIn{Name: "laptop"})
	parent := narrow(alice.Token, "audience x")
	branch := narrow(parent, "note bob")
	child, sibling := narrow(branch, "note carol"), narrow(parent, "note dave")
	grandchild := narrow(child, "note erin")
	before := a.svc.Revocations()

	// Whoever has it may end it, and another site's cookie is no credential.
	a.wantGrain(a.do(ask{method: "POST", path: "/v1/revoke", header: []string{"Cookie", "theme=dark"}, body: `{"token":"` + branch + `"}`}), "branch")
	for text, want := range map[string]bool{alice.Token: true, parent: true, sibling: true, branch: false, child: false, grandchild: false} {
		audience := "x"
		if text == alice.Token {
			audience = ""
		}
		a.alive(laptop, text, audience, want)
	}
	// A child of what is revoked, and what is revoked, store nothing more.
	for _, text := range []string{child, grandchild, branch} {
		a.wantGrain(a.revoke("", text), "branch")
	}
	if n := a.svc.Revocations() - before; n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
	// Revoking the parent of a revoked branch is another entry; its caveats need not hold.
	a.wantGrain(a.revoke("", narrow(alice.Token, "audience nobody", "x-unknown")), "branch")
	a.wantGrain(a.revoke("", parent), "branch")
	a.alive(laptop, sibling, "x", false)
	a.alive(laptop, alice.Token, "", true)
}

// A holder of a delegated token never logs its owner out.
func TestRevokeDevice(t *testing.T) {
	a := start(t)
	phone := a.user("alice")
	a.pass(time.Second)
	laptop := a.login("alice", api.DeviceIn{Name: "laptop"})
	a.wantGrain(a.revoke("", phone.Token), "device")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(phone.Token)}).want(401, "revoked")
	a.alive(laptop, narrow(phone.Token, "audience x"), "x", false)
	a.wantGrain(a.revoke("", phone.Token), "device") // again is fine
	if d := a.devices(laptop); d[1].RevokedReason != "token" || d[0].RevokedAt != nil {
		t.Errorf("%+v", d)
	}
}

// The root of a device that has logged in again since ends nothing.
func TestRevokeReplacedRoot(t *testing.T) {
	a := start(t)
	a.user("alice")
	old := a.login("alice", api.DeviceIn{Name: "d", InstallID: "i"})
	now := a.login("alice", api.DeviceIn{Name: "d", InstallID: "i"})
	before := a.svc.Revocations()
	a.wantGrain(a.revoke("", old.Token), "device")
	a.wantGrain(a.revoke("", narrow(old.Token, "note x")), "branch")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(now.Token)}).want(200, "")
	if n := a.svc.Revocations(); n != before {
		t.Errorf("%d entries, before %d", n, before)
	}
}

// The owner names a branch by its holder caveats, without having the token.
func TestRevokeByCaveats(t *testing.T) {
	a := start(t)
	phone := a.user("alice")
	laptop := a.login("alice", api.DeviceIn{Name: "laptop"})
	link := narrow(phone.Token, "audience x", "note link")
	below, beside := narrow(link, "method GET"), narrow(phone.Token, "audience x", "note other")
	body := `{"caveats":["audience x","note link"]}`
	a.do(ask{method: "POST", path: "/v1/revoke", body: body}).want(401, "no_token")
	a.do(ask{method: "POST", path: "/v1/revoke", auth: bearer(link), body: body}).want(401, "wrong_audience")
	a.do(ask{method: "POST", path: "/v1/revoke", auth: bearer(laptop.Token), body: body}).want(200, "") // of the laptop, which has none
	a.alive(laptop, link, "x", true)
	a.wantGrain(a.do(ask{method: "POST", path: "/v1/revoke", auth: bearer(phone.Token), body: body}), "branch")
	a.alive(laptop, link, "x", false)
	a.alive(laptop, below, "x", false)
	a.alive(laptop, beside, "x", true)
}

// What has expired is dead: nothing is stored for it, but for as long as some
// clock may be behind.
func TestRevokeExpired(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	before := a.svc.Revocations()
	a.wantGrain(a.revoke("", narrow(alice.Token, a.until(-11*time.Minute))), "branch")
	a.do(ask{method: "POST", path: "/v1/revoke", auth: bearer(alice.Token), body: `{"caveats":["` + a.until(-11*time.Minute) + `"]}`}).want(200, "")
	if n := a.svc.Revocations(); n != before {
		t.Errorf("%d entries for an expired token", n-before)
	}
	a.wantGrain(a.revoke("", narrow(alice.Token, a.until(-9*time.Minute))), "branch")
	if n := a.svc.Revocations(); n != before+1 {
		t.Errorf("%d entries for a token that expired nine minutes ago, want 1", n-before)
	}
	a.pass(31 * 24 * time.Hour)
	a.wantGrain(a.revoke("", alice.Token), "device")
	if n := a.svc.Revocations(); n != before+1 {
		t.Errorf("%d entries for an expired root", n-before-1)
	}
}

// Strangers may end 256 branches of a root key; the owner is never refused, and
// a user with a root of somebody else's is a stranger.
func TestBranchLimit(t *testing.T) {
	a := start(t)
	alice, bob := a.user("alice"), a.user("bob")
	for i := range 256 {
		a.wantGrain(a.revoke("", narrow(alice.Token, fmt.Sprint("note ", i))), "branch")
	}
	one, two := narrow(alice.Token, "note one more"), narrow(alice.Token, "note and another")
	a.revoke("", one).want(409, "branch_limit")
	a.revoke(bearer(bob.Token), one).want(409, "branch_limit")
	a.do(ask{method: "POST", path: "/oauth2/revoke", body: "token=" + one, header: form}).wantError(409, "invalid_request")
	a.alive(alice, narrow(one, "audience x"), "x", true)
	a.wantGrain(a.revoke("", narrow(alice.Token, "note 7")), "branch") // dead already: no entry
	a.wantGrain(a.revoke(bearer(alice.Token), one), "branch")
	a.do(ask{method: "POST", path: "/v1/revoke", auth: bearer(alice.Token), body: `{"caveats":["note and another"]}`}).want(200, "")
	a.alive(alice, narrow(one, "audience x"), "x", false)
	a.alive(alice, narrow(two, "audience x"), "x", false)
	a.wantGrain(a.revoke("", narrow(bob.Token, "note x")), "branch") // another's root key has its own
	a.wantGrain(a.revoke("", alice.Token), "device")                 // and the device can always go
}

// What is not a token of ours is no success; nor is a bad credential beside a
// good token.
func TestRevokeRefusals(t *testing.T) {
	a, other := start(t), start(t)
	alice, stranger := a.user("alice"), other.user("alice")
	branch := narrow(alice.Token, "audience x")
	a.revoke("", "garbage").want(401, "malformed")
	a.revoke("", forge(branch)).want(401, "invalid")
	a.revoke("", stranger.Token).want(401, "invalid")
	a.revoke(bearer("garbage"), branch).want(401, "malformed")
	a.revoke(bearer(forge(alice.Token)), branch).want(401, "invalid")
	a.revoke(bearer(narrow(alice.Token, "audience macaroond")), branch).want(403, "bare_root_required")
	a.alive(alice, branch, "x", true)
	if n := a.svc.Revocations(); n != 0 {
		t.Errorf("%d entries", n)
	}
}
