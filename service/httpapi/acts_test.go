package httpapi

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"macaroond/service/api"
)

// named is an account with a name only: no login has proved anything.
func (a *authority) named(name string) api.Grant {
	a.t.Helper()
	return into[api.Grant](a.post("/v1/signup", "", api.SignupIn{Username: name, Device: api.DeviceIn{Name: "phone"}}), 201)
}

func (a *authority) get(path string, g api.Grant) *reply {
	a.t.Helper()
	return a.do(ask{method: "GET", path: path, auth: bearer(g.Token)})
}

func (a *authority) drop(path string, g api.Grant, p api.Proof) *reply {
	a.t.Helper()
	return a.do(ask{method: "DELETE", path: path, auth: bearer(g.Token), body: string(must(json.Marshal(p)))})
}

// later is an act that was only written down.
func later(r *reply) api.Delayed {
	r.t.Helper()
	return into[api.DelayedOut](r, 202).Delayed
}

func (a *authority) pending(g api.Grant) []api.Delayed {
	a.t.Helper()
	return into[api.DelayedActs](a.get("/v1/delayed", g), 200).Delayed
}

// second links another device by a recovery code, to the end.
func (a *authority) second(owner api.Grant, name string, p api.Proof) api.Grant {
	a.t.Helper()
	code := into[api.LinkCode](a.post("/v1/links", bearer(owner.Token), p), 201)
	pending := into[api.LinkPending](a.post("/v1/link", "", api.LinkIn{Username: owner.User.Username, Code: code.Code, Device: api.DeviceIn{Name: name}}), 202)
	a.do(ask{method: "POST", path: "/v1/links/" + code.ID + "/approve", auth: bearer(owner.Token)}).want(204, "")
	return into[api.Grant](a.post("/v1/link/claim", "", api.ClaimIn{Claim: pending.Claim}), 200)
}

// acts are the things a root alone is not enough for, as one device asks for
// them; done is their status with a proof.
func acts(other string) []struct {
	name string
	ask  func(api.Proof) ask
	done int
} {
	body := func(v any) string { return string(must(json.Marshal(v))) }
	return []struct {
		name string
		ask  func(api.Proof) ask
		done int
	}{
		{"remove", func(p api.Proof) ask { return ask{method: "DELETE", path: "/v1/devices/" + other, body: body(p)} }, 204},
		{"others", func(p api.Proof) ask { return ask{method: "DELETE", path: "/v1/devices?except=current", body: body(p)} }, 204},
		{"all", func(p api.Proof) ask { return ask{method: "DELETE", path: "/v1/devices", body: body(p)} }, 204},
		{"codes", func(p api.Proof) ask { return ask{method: "POST", path: "/v1/recovery-codes", body: body(p)} }, 201},
		{"link", func(p api.Proof) ask { return ask{method: "POST", path: "/v1/links", body: body(p)} }, 201},
		{"password", func(p api.Proof) ask {
			return ask{method: "POST", path: "/v1/password", body: body(api.ChangePasswordIn{Current: p.Password, Code: p.Code, Password: "three quiet otters", KeepDevices: true})}
		}, 204},
	}
}

// The policy of proofs: which of them lets which act go ahead at once, which is
// refused, and what waits.
func TestProofs(t *testing.T) {
	for i, act := range acts("") {
		t.Run(act.name, func(t *testing.T) {
			a := start(t)
			stranger := a.named("stranger")
			alice := a.named("alice")
			tablet := a.second(alice, "tablet", api.Proof{Code: alice.RecoveryCodes[0]})
			ask := func(g api.Grant, p api.Proof) *reply {
				q := acts(tablet.Device.ID)[i].ask(p)
				q.auth = bearer(g.Token)
				return a.do(q)
			}
			// A root alone, and a proof that is none. Nothing of it happens, and none of it is consumed.
			ask(alice, api.Proof{Code: alice.RecoveryCodes[0]}).want(403, "proof_refused")                     // used
			ask(alice, api.Proof{Code: stranger.RecoveryCodes[0]}).want(403, "proof_refused")                  // another's
			ask(alice, api.Proof{Code: "0000-0000-0000-0000"}).want(403, "proof_refused")                      // guessed
			ask(alice, api.Proof{Code: alice.RecoveryCodes[1][:18]}).want(403, "proof_refused")                // cut
			ask(alice, api.Proof{Password: "no password is set"}).want(403, "proof_refused")                   // of an account without one
			ask(alice, api.Proof{Password: "x", Code: alice.RecoveryCodes[1]}).want(400, "bad_request")        // both
			a.do(acts(tablet.Device.ID)[i].ask(api.Proof{Code: alice.RecoveryCodes[1]})).want(401, "no_token") // a code, and no root
			if d := later(ask(alice, api.Proof{})); d.Device != alice.Device.ID || !d.Current || !d.DueAt.Equal(a.clock.Now().Add(24*time.Hour)) {
				t.Errorf("%+v", d)
			}
			a.get("/v1/devices", tablet).want(200, "")
			if n := into[api.RecoveryCodesLeft](a.get("/v1/recovery-codes", alice), 200); n.Left != 9 {
				t.Errorf("%d codes are left, want 9", n.Left)
			}
			// A code: at once, and it is spent. What waited does not wait any more.
			r := ask(alice, api.Proof{Code: alice.RecoveryCodes[1]})
			if r.StatusCode != act.done {
				t.Fatalf("with a code: %d %s", r.StatusCode, r.body)
			}
			if act.name == "all" {
				a.get("/v1/devices", alice).want(401, "revoked")
				return
			}
			if w := a.pending(alice); len(w) != 0 {
				t.Errorf("still waiting: %+v", w)
			}
			if act.name == "link" || act.name == "password" { // of the others nothing is left to do, or to prove it with
				ask(alice, api.Proof{Code: alice.RecoveryCodes[1]}).want(403, "proof_refused")
			}
		})
	}
}

// With a password: it is a proof, and so is having logged in with one, for a
// while. Changing a password takes the present one, however fresh the login.
func TestFreshLogin(t *testing.T) {
	for i, act := range acts("") {
		t.Run(act.name, func(t *testing.T) {
			a := start(t)
			alice := a.user("alice")
			other := func() api.Grant { return a.login("alice", api.DeviceIn{Name: "tablet"}) }
			ask := func(p api.Proof) *reply {
				q := acts(other().Device.ID)[i].ask(p)
				q.auth = bearer(alice.Token)
				return a.do(q)
			}
			a.pass(10*time.Minute + time.Second)
			if act.name == "password" {
				ask(api.Proof{}).want(403, "proof_required") // changing one never waits
			} else {
				later(ask(api.Proof{}))
			}
			ask(api.Proof{Password: "not hers at all"}).want(403, "proof_refused")
			if r := ask(api.Proof{Password: password("alice")}); r.StatusCode != act.done {
				t.Fatalf("with the password: %d %s", r.StatusCode, r.body)
			}
			if act.name == "password" {
				return
			}
			alice = a.login("alice", api.DeviceIn{Name: "phone"})
			a.pass(10 * time.Minute)
			if r := ask(api.Proof{}); r.StatusCode != act.done {
				t.Fatalf("ten minutes after a login: %d %s", r.StatusCode, r.body)
			}
			alice = a.login("alice", api.DeviceIn{Name: "phone"})
			set := *a.svc.Settings()
			set.FreshLogin = 0
			a.svc.SetSettings(set)
			later(ask(api.Proof{}))
		})
	}
}

// So is having signed up with one. But no account is deleted for that.
func TestFreshSignup(t *testing.T) {
	a := start(t)
	g := into[api.Grant](a.post("/v1/signup", "", api.SignupIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "phone"}}), 201)
	a.openLink(g, api.Proof{})
	a.drop("/v1/user", g, api.Proof{}).want(403, "proof_required")
	a.pass(10*time.Minute + time.Second)
	later(a.post("/v1/links", bearer(g.Token), api.Proof{}))
	a.drop("/v1/user", g, api.Proof{Password: password("alice")}).want(204, "")
}

// Going oneself needs nothing, and neither does what removes nobody.
func TestOwnDeviceNeedsNoProof(t *testing.T) {
	a := start(t)
	alice := a.named("alice")
	a.drop("/v1/devices?except=current", alice, api.Proof{}).want(204, "")
	tablet := a.second(alice, "tablet", api.Proof{Code: alice.RecoveryCodes[0]})
	a.drop("/v1/devices/"+tablet.Device.ID, tablet, api.Proof{}).want(204, "")
	a.drop("/v1/devices/"+tablet.Device.ID, alice, api.Proof{}).want(204, "") // gone already
	a.drop("/v1/devices", alice, api.Proof{}).want(204, "")
	a.get("/v1/devices", alice).want(401, "revoked")
}

// What waits: due after a day and not before, for a week and not after, by the
// device that asked and no other, unless any device cancels it.
func TestDelay(t *testing.T) {
	a := start(t)
	alice := a.named("alice")
	tablet := a.second(alice, "tablet", api.Proof{Code: alice.RecoveryCodes[0]})
	laptop := a.second(alice, "laptop", api.Proof{Code: alice.RecoveryCodes[1]})
	bob := a.named("bob")
	path := "/v1/devices/" + laptop.Device.ID

	first := later(a.drop(path, alice, api.Proof{}))
	if first.Act != "remove" || first.Target != laptop.Device.ID {
		t.Errorf("%+v", first)
	}
	for _, d := range a.devices(tablet) {
		if (d.RemovalDueAt != nil) != (d.ID == laptop.Device.ID) || d.RemovalDueAt != nil && !d.RemovalDueAt.Equal(first.DueAt.Time) {
			t.Errorf("listed: %+v", d)
		}
	}
	a.pass(24*time.Hour - time.Millisecond)
	if again := later(a.drop(path, alice, api.Proof{})); again != first {
		t.Errorf("asked again: %+v, want %+v", again, first)
	}
	second := later(a.drop(path, tablet, api.Proof{})) // another device's is another act
	if second.ID == first.ID {
		t.Error("two devices share an act")
	}
	a.pass(time.Millisecond)
	a.drop(path, alice, api.Proof{}).want(204, "")
	a.get("/v1/devices", laptop).want(401, "revoked")

	// Not done in time: it begins anew.
	path = "/v1/devices/" + tablet.Device.ID
	third := later(a.drop(path, alice, api.Proof{}))
	a.pass(8 * 24 * time.Hour)
	if w := a.pending(tablet); len(w) != 0 {
		t.Errorf("past its time: %+v", w)
	}
	fourth := later(a.drop(path, alice, api.Proof{}))
	if fourth.ID == third.ID {
		t.Error("it did not begin anew")
	}
	// Any device of the user cancels, narrowed for that if need be; nobody else.
	if w := a.pending(tablet); len(w) != 1 || w[0].ID != fourth.ID || w[0].Current {
		t.Errorf("the other device sees %+v", w)
	}
	cancel := ask{method: "DELETE", path: "/v1/delayed/" + fourth.ID}
	for _, row := range []struct {
		token, code string
		status      int
	}{
		{bob.Token, "not_found", 404},
		{narrow(tablet.Token, "audience macaroond", "allow delayed:list"), "refused", 403},
		{narrow(tablet.Token, "audience photos"), "wrong_audience", 401},
		{narrow(tablet.Token, "audience macaroond", "allow delayed:cancel"), "", 204},
		{tablet.Token, "not_found", 404},
	} {
		cancel.auth = bearer(row.token)
		a.do(cancel).want(row.status, row.code)
	}
	a.pass(24 * time.Hour)
	later(a.drop(path, alice, api.Proof{})) // what was cancelled is not done
	a.get("/v1/devices", tablet).want(200, "")

	// A device that goes takes with it what it asked for.
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(alice.Token)}).want(204, "")
	if w := a.pending(tablet); len(w) != 0 {
		t.Errorf("of a device that has gone: %+v", w)
	}
}

// A narrowed token removes devices under the same rule as the root.
func TestDelayOfNarrowedTokens(t *testing.T) {
	a := start(t)
	alice := a.named("alice")
	tablet := a.second(alice, "tablet", api.Proof{Code: alice.RecoveryCodes[0]})
	q := ask{method: "DELETE", path: "/v1/devices/" + tablet.Device.ID, auth: bearer(narrow(alice.Token, "audience macaroond", "allow devices:revoke"))}
	later(a.do(q))
	q.body = fmt.Sprintf(`{"code":%q}`, alice.RecoveryCodes[1])
	a.do(q).want(204, "")
	for _, path := range []string{"/v1/recovery-codes", "/v1/links"} {
		a.do(ask{method: "POST", path: path, auth: q.auth, body: q.body}).want(403, "refused")
		a.do(ask{method: "POST", path: path, auth: bearer(narrow(alice.Token, "audience macaroond")), body: q.body}).want(403, "bare_root_required")
	}
}

// At most ten wait, so that nobody fills the table; a proof is still enough.
func TestDelayedActsAreFew(t *testing.T) {
	a := start(t)
	alice := a.named("alice")
	var others []api.Grant
	for i := range 9 {
		others = append(others, a.second(alice, fmt.Sprint(i), api.Proof{Code: alice.RecoveryCodes[i]}))
	}
	for _, o := range others {
		later(a.drop("/v1/devices/"+o.Device.ID, alice, api.Proof{}))
	}
	later(a.drop("/v1/devices", alice, api.Proof{}))
	a.post("/v1/recovery-codes", bearer(alice.Token), api.Proof{}).want(409, "too_many")
	// All others are not all, and are refused before anything is used up.
	once := api.Grant{Token: narrow(alice.Token, a.until(time.Hour), "audience macaroond", "once "+nonce())}
	for range 2 {
		a.drop("/v1/devices?except=current", once, api.Proof{}).want(409, "too_many")
	}
	later(a.drop("/v1/devices", once, api.Proof{})) // that waits already
	a.post("/v1/recovery-codes", bearer(alice.Token), api.Proof{Code: alice.RecoveryCodes[9]}).want(201, "")
}

// What is refused for another reason consumes no code.
func TestRefusedActsConsumeNothing(t *testing.T) {
	a := start(t)
	alice, bob := a.named("alice"), a.named("bob")
	proof := api.Proof{Code: alice.RecoveryCodes[0]}
	a.drop("/v1/devices/"+bob.Device.ID, alice, proof).want(404, "not_found")
	a.drop("/v1/devices/dev_0123456789abcdef", alice, proof).want(404, "not_found")
	a.drop("/v1/devices/"+alice.Device.ID+"x", alice, proof).want(404, "not_found")
	a.post("/v1/password", bearer(alice.Token), api.ChangePasswordIn{Code: proof.Code, Password: "12345678"}).want(400, "bad_request")
	a.drop("/v1/user", bob, proof).want(403, "proof_refused")
	if n := into[api.RecoveryCodesLeft](a.get("/v1/recovery-codes", alice), 200); n.Left != 10 {
		t.Errorf("%d codes are left", n.Left)
	}
}

// Somebody had the phone of a user without a password for a minute, and has a
// copy of its root. All that would keep the account theirs waits a day; the
// owner sees it on the other device, cancels it, and ends the copy with a code.
func TestThiefWithThePhone(t *testing.T) {
	a := start(t)
	phone := a.named("alice")
	tablet := a.second(phone, "tablet", api.Proof{Code: phone.RecoveryCodes[0]})
	a.pass(time.Hour)
	thief := phone

	for _, act := range acts(tablet.Device.ID) {
		q := act.ask(api.Proof{})
		q.auth = bearer(thief.Token)
		later(a.do(q))
	}
	a.drop("/v1/user", thief, api.Proof{}).want(403, "proof_required")
	a.pass(23 * time.Hour)
	for _, act := range acts(tablet.Device.ID) { // asking again makes nothing sooner
		q := act.ask(api.Proof{})
		q.auth = bearer(thief.Token)
		later(a.do(q))
	}
	found := a.pending(tablet)
	if len(found) != 6 {
		t.Errorf("the owner sees %+v", found)
	}
	for _, d := range found {
		if d.Device != phone.Device.ID || d.Current {
			t.Errorf("%+v", d)
		}
		a.do(ask{method: "DELETE", path: "/v1/delayed/" + d.ID, auth: bearer(tablet.Token)}).want(204, "")
	}
	a.pass(2 * time.Hour)
	for _, act := range acts(tablet.Device.ID) {
		q := act.ask(api.Proof{})
		q.auth = bearer(thief.Token)
		later(a.do(q)) // a day from now, again
	}
	a.drop("/v1/devices/"+phone.Device.ID, tablet, api.Proof{Code: phone.RecoveryCodes[1]}).want(204, "")
	a.get("/v1/devices", thief).want(401, "revoked")
	a.get("/v1/devices", tablet).want(200, "")
	if w := a.pending(tablet); len(w) != 0 {
		t.Errorf("the thief's acts outlive the device: %+v", w)
	}
	a.post("/v1/recover", "", api.RecoverIn{Username: "alice", Code: phone.RecoveryCodes[2], Device: api.DeviceIn{Name: "d"}}).want(200, "")
}

// The same install logging in anew has another root; what the former one asked
// for, perhaps by a thief, is forgotten.
func TestANewRootForgetsWhatTheFormerAskedFor(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	phone := a.login("alice", api.DeviceIn{Name: "phone", InstallID: "an-install"})
	a.pass(time.Hour)
	later(a.drop("/v1/devices/"+alice.Device.ID, phone, api.Proof{}))
	a.login("alice", api.DeviceIn{Name: "phone", InstallID: "an-install"})
	if w := a.pending(alice); len(w) != 0 {
		t.Errorf("%+v", w)
	}
}
