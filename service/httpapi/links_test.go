package httpapi

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
)

func (a *authority) openLink(g api.Grant, p api.Proof) api.LinkCode {
	a.t.Helper()
	return into[api.LinkCode](a.post("/v1/links", bearer(g.Token), p), 201)
}

func (a *authority) giveCode(name, code string) *reply {
	a.t.Helper()
	return a.post("/v1/link", "", api.LinkIn{Username: name, Code: code, Device: api.DeviceIn{Name: "tablet"}})
}

func (a *authority) trade(claim string) *reply {
	a.t.Helper()
	return a.post("/v1/link/claim", "", api.ClaimIn{Claim: claim})
}

func (a *authority) approve(g api.Grant, id string) *reply {
	a.t.Helper()
	return a.do(ask{method: "POST", path: "/v1/links/" + id + "/approve", auth: bearer(g.Token)})
}

// A second device, by a code from the first and the first one's approval.
func TestLink(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.named("alice")
	if l := into[api.Links](a.get("/v1/links", alice), 200).Links; len(l) != 0 {
		t.Errorf("nobody has asked: %+v", l)
	}
	open := a.openLink(alice, api.Proof{Code: alice.RecoveryCodes[0]})
	if !open.ExpiresAt.Equal(a.clock.Now().Add(5*time.Minute)) || len(open.Code) != 9 {
		t.Errorf("%+v", open)
	}
	if l := into[api.Links](a.get("/v1/links", alice), 200).Links; len(l) != 1 || l[0].Waiting || l[0].Approved || l[0].Device != alice.Device.ID {
		t.Errorf("nobody has come: %+v", l)
	}
	a.approve(alice, open.ID).want(404, "not_found") // nobody to approve

	written := strings.ToUpper(strings.NewReplacer("-", " ", "0", "O", "1", "l").Replace(open.Code))
	r := a.do(ask{
		method: "POST", path: "/v1/link", header: []string{"X-Forwarded-For", "198.51.100.7"},
		body: fmt.Sprintf(`{"username":"ALICE","code":%q,"device":{"name":"tablet","install_id":"tablet-install"}}`, written),
	})
	pending := into[api.LinkPending](r, 202)
	a.trade(pending.Claim).want(202, "")
	l := into[api.Links](a.get("/v1/links", alice), 200).Links
	if len(l) != 1 || !l[0].Waiting || l[0].Name != "tablet" || l[0].ClientIP != "198.51.100.7" {
		t.Errorf("the first device sees %+v", l)
	}
	a.giveCode("alice", open.Code).want(401, "bad_credentials") // it was given
	a.approve(alice, open.ID).want(204, "")
	a.approve(alice, open.ID).want(204, "")
	got := into[api.Grant](a.trade(pending.Claim), 200)
	// It asked for no lifetime of its own: renewed, it lives as long as is configured then.
	if d := must(a.store.Device(t.Context(), got.User.ID, got.Device.ID)); d.TTL != 0 {
		t.Errorf("the linked device is held to %v", d.TTL)
	}
	if got.User != alice.User || got.Device.Name != "tablet" || got.RecoveryCodes != nil || got.RootKeyID == alice.RootKeyID {
		t.Errorf("%+v", got)
	}
	a.trade(pending.Claim).want(401, "bad_credentials") // traded
	a.approve(alice, open.ID).want(404, "not_found")
	if d := a.devices(got); len(d) != 2 || d[0].ID != got.Device.ID && d[1].ID != got.Device.ID {
		t.Errorf("%+v", d)
	}
	// Being let in is no proof of anything.
	later(a.drop("/v1/devices/"+alice.Device.ID, got, api.Proof{}))
}

// Every way in which a code or a claim is no good is one answer; an unknown
// user, one without a link and a wrong code are the same to the byte.
func TestLinkRefusals(t *testing.T) {
	a := start(t)
	alice, bob := a.user("alice"), a.user("bob")
	body := func(r *reply) string {
		r.want(401, "bad_credentials")
		i := bytes.Index(r.body, []byte(`"request_id"`))
		return string(r.body[:i])
	}
	one := body(a.giveCode("nobody", "0000-0000"))
	code := a.openLink(alice, api.Proof{})
	other := code.Code[:8] + "0"
	if other == code.Code {
		other = code.Code[:8] + "2"
	}
	for name, r := range map[string]*reply{
		"no link":      a.giveCode("bob", code.Code),
		"wrong code":   a.giveCode("alice", "0000-0000"),
		"nearly right": a.giveCode("alice", other),
		"empty":        a.giveCode("alice", ""),
		"two codes":    a.giveCode("alice", code.Code+code.Code),
		"long":         a.giveCode("alice", strings.Repeat("0", 10_000)),
		"the id":       a.giveCode("alice", code.ID),
	} {
		if got := body(r); got != one {
			t.Errorf("%s: %s, and an unknown user: %s", name, got, one)
		}
	}
	claim := into[api.LinkPending](a.giveCode("alice", code.Code), 202).Claim
	for _, wrong := range []string{
		"x", ".", code.ID, code.ID + ".", claim[:len(claim)-1], claim + "A", strings.ToUpper(claim), " " + claim,
		code.ID + "." + strings.Repeat("A", 43), "lnk_0123456789abcdef" + claim[20:], alice.Token, strings.Repeat("a", 10_000),
	} {
		a.trade(wrong).want(401, "bad_credentials")
	}
	a.trade("").want(400, "bad_request")

	// Only the device that opened it approves; any of the user's refuses.
	laptop := a.login("alice", api.DeviceIn{Name: "laptop"})
	a.approve(bob, code.ID).want(404, "not_found")
	a.approve(laptop, code.ID).want(404, "not_found")
	a.do(ask{method: "DELETE", path: "/v1/links/" + code.ID, auth: bearer(bob.Token)}).want(404, "not_found")
	a.do(ask{method: "POST", path: "/v1/links/" + code.ID + "/approve", auth: bearer(narrow(alice.Token, "audience macaroond"))}).want(403, "bare_root_required")
	a.trade(claim).want(202, "")
	if l := into[api.Links](a.get("/v1/links", laptop), 200).Links; len(l) != 1 || l[0].Device != alice.Device.ID {
		t.Errorf("the other device sees %+v", l)
	}
	a.do(ask{method: "DELETE", path: "/v1/links/" + code.ID, auth: bearer(laptop.Token)}).want(204, "")
	a.trade(claim).want(401, "bad_credentials")

	// Five minutes, also once it is approved.
	code = a.openLink(alice, api.Proof{})
	claim = into[api.LinkPending](a.giveCode("alice", code.Code), 202).Claim
	a.approve(alice, code.ID).want(204, "")
	a.pass(5 * time.Minute)
	a.trade(claim).want(401, "bad_credentials")
	code = a.openLink(alice, api.Proof{})
	a.pass(5 * time.Minute)
	a.giveCode("alice", code.Code).want(401, "bad_credentials")

	// A second one voids the first; a suspension voids all, as does a logout of the opener.
	old := a.openLink(alice, api.Proof{Password: password("alice")})
	code = a.openLink(alice, api.Proof{Password: password("alice")})
	a.giveCode("alice", old.Code).want(401, "bad_credentials")
	claim = into[api.LinkPending](a.giveCode("alice", code.Code), 202).Claim
	a.approve(alice, code.ID).want(204, "")
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(alice.Token)}).want(204, "")
	a.trade(claim).want(401, "bad_credentials")
	// What logs all others out keeps out whoever is let in a moment later.
	for _, end := range []ask{
		{method: "DELETE", path: "/v1/devices?except=current", body: `{"password":"` + password("alice") + `"}`},
		{method: "POST", path: "/v1/password", body: `{"password":"` + password("alice") + `","current":"` + password("alice") + `"}`},
	} {
		code = a.openLink(laptop, api.Proof{Password: password("alice")})
		claim = into[api.LinkPending](a.giveCode("alice", code.Code), 202).Claim
		a.approve(laptop, code.ID).want(204, "")
		end.auth = bearer(laptop.Token)
		a.do(end).want(204, "")
		a.trade(claim).want(401, "bad_credentials")
	}
	code = a.openLink(laptop, api.Proof{Password: password("alice")})
	claim = into[api.LinkPending](a.giveCode("alice", code.Code), 202).Claim
	a.approve(laptop, code.ID).want(204, "")
	if err := a.svc.SuspendUser(t.Context(), alice.User.ID, service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	a.trade(claim).want(401, "bad_credentials")
	a.giveCode("alice", code.Code).want(401, "bad_credentials")
}

// Five wrong codes end a link. Only those that name it count, by its first two
// characters: a stranger who knows the user's name does not get that far.
func TestLinkTries(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	wrong := func(code string, i int) string {
		c := "0123456789abcdefghjkmnpqrstvwxyz"[i : i+1]
		if strings.HasSuffix(code, c) {
			c = "z"
		}
		return code[:len(code)-1] + c
	}
	code := a.openLink(alice, api.Proof{})
	for i := range 4 {
		a.giveCode("alice", wrong(code.Code, i)).want(401, "bad_credentials")
	}
	a.giveCode("alice", code.Code).want(202, "") // the fifth is right

	code = a.openLink(alice, api.Proof{})
	for i := range 5 {
		a.giveCode("alice", wrong(code.Code, i)).want(401, "bad_credentials")
	}
	a.giveCode("alice", code.Code).want(401, "bad_credentials")

	code = a.openLink(alice, api.Proof{})
	lead := "00"
	if strings.HasPrefix(code.Code, lead) {
		lead = "11"
	}
	for range 20 {
		a.giveCode("alice", lead+code.Code[2:]).want(401, "bad_credentials")
	}
	a.giveCode("alice", code.Code).want(202, "")
}

// One claim is one device, however many ask at once.
func TestClaimIsTradedOnce(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	code := a.openLink(alice, api.Proof{})
	claim := into[api.LinkPending](a.giveCode("alice", code.Code), 202).Claim
	a.approve(alice, code.ID).want(204, "")
	var wg sync.WaitGroup
	status := make([]int, 16)
	for i := range status {
		wg.Go(func() { status[i] = a.trade(claim).StatusCode })
	}
	wg.Wait()
	granted := 0
	for _, s := range status {
		switch s {
		case 200:
			granted++
		case 401:
		default:
			t.Errorf("answered %d", s)
		}
	}
	if granted != 1 || len(a.devices(alice)) != 2 {
		t.Errorf("%d grants, %d devices", granted, len(a.devices(alice)))
	}
}

// A copy of the database does not let anybody try codes: what is stored of one
// is under a key that is not there.
func TestLinkCodesAreNotInTheDatabase(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	code := a.openLink(alice, api.Proof{})
	claim := into[api.LinkPending](a.giveCode("alice", code.Code), 202).Claim
	for _, file := range []string{a.path, a.path + "-wal"} {
		text := must(os.ReadFile(file))
		for _, secret := range []string{code.Code, strings.ReplaceAll(code.Code, "-", ""), claim, claim[21:]} {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s has %q", file, secret)
			}
		}
	}
}

// Guessing codes is limited by address, and not by account: strangers elsewhere
// keep nobody's new device out.
func TestLinkAttempts(t *testing.T) {
	a := start(t, func(s *setup) {
		s.service.Limits = service.DefaultLimits
		s.service.Limits.Account = service.Rate{Burst: 3, Interval: time.Hour}
		s.trust(proxy)
	})
	alice := a.user("alice")
	from := func(address, code string) *reply {
		return a.do(ask{method: "POST", path: "/v1/link", header: []string{"X-Forwarded-For", address}, body: fmt.Sprintf(`{"username":"alice","code":%q,"device":{"name":"d"}}`, code)})
	}
	code := a.openLink(alice, api.Proof{})
	guess := "00" + code.Code[2:]
	if guess == code.Code {
		guess = "11" + code.Code[2:]
	}
	for range 10 {
		from("192.0.2.1", guess).want(401, "bad_credentials")
	}
	from("192.0.2.1", code.Code).want(429, "rate_limited")
	for i := range 20 {
		from(fmt.Sprintf("192.0.2.%d", 10+i), guess).want(401, "bad_credentials")
	}
	from("198.51.100.1", code.Code).want(202, "")
}

// The same work, too: whatever is wrong, one transaction with one audit entry,
// which says of whom only where there is somebody.
func TestLinkRefusalsAreOneTransaction(t *testing.T) {
	a := start(t)
	alice, bob := a.user("alice"), a.user("bob")
	code := a.openLink(alice, api.Proof{})
	for _, row := range []struct{ name, code, user string }{
		{"nobody", code.Code, ""},
		{"bob", code.Code, bob.User.ID},
		{"alice", "zz" + code.Code[2:], alice.User.ID},
		{"alice", code.Code[:8] + "u", alice.User.ID}, // names the link; u is in no code
	} {
		before := must(a.store.State(t.Context()))
		a.giveCode(row.name, row.code).want(401, "bad_credentials")
		after := must(a.store.State(t.Context()))
		last := must(a.store.Audit(t.Context(), after.Audit-1, 1))[0]
		if after.Audit != before.Audit+1 || last.Type != service.EventLinkFailed || last.UserID != row.user {
			t.Errorf("%s %s: %d entries, the last %+v", row.name, row.code, after.Audit-before.Audit, last.Event)
		}
	}
}
