package httpapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
)

// policy adds one and gives its id.
func (a *authority) policy(admin api.Grant, target api.PolicyTarget, caveats ...string) string {
	a.t.Helper()
	in := api.PolicyIn{Target: target, Caveats: caveats, Reason: "INC-42"}
	return into[api.Policy](a.post("/v1/admin/policies", bearer(admin.Token), in), 201).ID
}

func (a *authority) unpolicy(admin api.Grant, id string) {
	a.t.Helper()
	a.do(ask{method: "DELETE", path: "/v1/admin/policies/" + id, auth: bearer(admin.Token)}).want(204, "")
}

// A policy tightens tokens that are out, for exactly whom it is for, from the
// next request on; removing it gives back what it took, and its time ends it.
func TestPolicies(t *testing.T) {
	a := start(t)
	chief, alice, bob := a.admin(), a.user("alice"), a.user("bob")
	tablet := a.login("alice", api.DeviceIn{Name: "tablet"})
	_, photos := a.service("photos", "photos")
	_, mail := a.service("mail", "mail")
	type verdicts struct{ photos, mail string } // of alice's phone, her tablet, bob
	judge := func(g api.Grant) (v verdicts) {
		for audience, to := range map[string]*string{"photos": &v.photos, "mail": &v.mail} {
			auth := map[string]string{"photos": photos, "mail": mail}[audience]
			*to = into[api.Decision](a.verify(auth, narrow(g.Token, "audience "+audience), api.Request{Audience: audience, Method: "GET"}), 200).Code
		}
		return v
	}
	free, only := verdicts{"ok", "ok"}, verdicts{"ok", "wrong_audience"}
	for _, row := range []struct {
		name               string
		target             api.PolicyTarget
		phone, tablet, bob verdicts
	}{
		{"everyone", api.PolicyTarget{Everyone: true}, only, only, only},
		{"a user", api.PolicyTarget{User: alice.User.ID}, only, only, free},
		{"a device", api.PolicyTarget{Device: tablet.Device.ID}, free, only, free},
	} {
		check := func(when string, phone, tab, b verdicts) {
			t.Helper()
			if got := [3]verdicts{judge(alice), judge(tablet), judge(bob)}; got != [3]verdicts{phone, tab, b} {
				t.Errorf("%s, %s: %v, want %v", row.name, when, got, [3]verdicts{phone, tab, b})
			}
		}
		check("before", free, free, free)
		in := api.PolicyIn{Target: row.target, Caveats: []string{"audience photos"}, Reason: "INC-42"}
		made, err := a.svc.AddPolicy(t.Context(), in, "operator", service.Source{})
		if err != nil {
			t.Fatal(err)
		}
		check("with it", row.phone, row.tablet, row.bob)
		if err := a.svc.RemovePolicy(t.Context(), made.ID, "operator", service.Source{}); err != nil {
			t.Fatal(err)
		}
		check("after it", free, free, free)
		in.TTL = 60
		if _, err := a.svc.AddPolicy(t.Context(), in, "operator", service.Source{}); err != nil {
			t.Fatal(err)
		}
		a.pass(59 * time.Second)
		check("in its last second", row.phone, row.tablet, row.bob)
		a.pass(time.Second)
		check("when its time is over", free, free, free)
	}
	if list := into[api.Policies](a.do(ask{method: "GET", path: "/v1/admin/policies", auth: bearer(chief.Token)}), 200); len(list.Policies) != 0 {
		t.Errorf("over, and listed: %+v", list)
	}
}

// A decision tells policies after the token's own caveats, and the effective
// expiry is theirs, too.
func TestPolicyInADecision(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	_, photos := a.service("photos", "photos")
	end := a.until(time.Hour)
	a.policy(chief, api.PolicyTarget{User: alice.User.ID}, "method GET", end)
	a.policy(chief, api.PolicyTarget{Device: alice.Device.ID}, "path /photos/**")
	d := into[api.Decision](a.verify(photos, narrow(alice.Token, "audience photos"), api.Request{Audience: "photos", Method: "POST", Path: "/photos/1"}), 200)
	if d.Code != "refused" || !strings.HasPrefix(d.Reason, "a policy: ") || len(d.Caveats) != 7 || "time-before "+d.ExpiresAt.UTC().Format(time.RFC3339) != end {
		t.Fatalf("%+v", d)
	}
	for i, want := range []api.CaveatVerdict{
		{Index: 4, Text: "method GET", Source: "policy"},
		{Index: 5, Text: end, Source: "policy", Held: true},
		{Index: 6, Text: "path /photos/**", Source: "policy", Held: true},
	} {
		got := d.Caveats[4+i]
		if got.Reason = ""; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// At the authority's own endpoints policies count, too. They answer 403: a client
// that is told 401 logs its user out, and the policy may be gone tomorrow.
// Logging out, renewing and revoking stay possible.
func TestPoliciesAtTheAuthority(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	other := a.login("alice", api.DeviceIn{Name: "other"})
	branch := narrow(alice.Token, "audience photos", "note x")
	a.policy(chief, api.PolicyTarget{User: alice.User.ID}, "audience photos")
	for _, q := range []ask{
		{method: "GET", path: "/v1/devices"},
		{method: "DELETE", path: "/v1/devices?except=current"},
		{method: "DELETE", path: "/v1/devices/" + other.Device.ID},
		{method: "PATCH", path: "/v1/devices/" + alice.Device.ID, body: `{"name":"n"}`},
		{method: "POST", path: "/v1/verify", body: `{"token":"AA","request":{}}`},
	} {
		q.auth = bearer(alice.Token)
		if p := a.do(q).want(403, "forbidden"); !strings.Contains(p.Detail, "the token is good, but not under a policy: ") {
			t.Errorf("%s: %q", q.path, p.Detail)
		}
	}
	// What does not hold by itself is what it was.
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(narrow(alice.Token, "audience photos"))}).want(401, "wrong_audience")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(forge(alice.Token))}).want(401, "invalid")
	a.post("/v1/revoke", bearer(alice.Token), map[string]any{"caveats": []string{"audience photos", "note y"}}).want(200, "")
	a.post("/v1/revoke", bearer(alice.Token), api.RevokeIn{Token: branch}).want(200, "")
	// The successor is under the same policy.
	next := into[api.Grant](a.do(ask{method: "POST", path: "/v1/renew", auth: bearer(alice.Token)}), 200)
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(next.Token)}).want(403, "forbidden")
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(alice.Token)}).want(204, "")
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(alice.Token)}).want(401, "revoked")

	// Everybody, the administrator among them: the server's commands still work.
	id := a.policy(chief, api.PolicyTarget{Everyone: true}, "audience photos")
	a.do(ask{method: "DELETE", path: "/v1/admin/policies/" + id, auth: bearer(chief.Token)}).want(403, "forbidden")
	if err := a.svc.RemovePolicy(t.Context(), id, "operator", service.Source{}); err != nil {
		t.Fatal(err)
	}
	a.do(ask{method: "GET", path: "/v1/admin/policies", auth: bearer(chief.Token)}).want(200, "")
}

// Introspection judges what it can, and hands the rest to who enforces.
func TestPoliciesInIntrospection(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.MaxPrefixTTL = 2 * time.Hour })
	chief, alice := a.admin(), a.user("alice")
	_, photos := a.service("photos", "photos")
	text := narrow(alice.Token, a.until(time.Hour), "audience photos")
	half := a.until(30 * time.Minute)
	for _, row := range []struct {
		policies      []string
		plain, judged bool // active: nothing is enforced, caveats are
		exp           time.Duration
	}{
		{nil, true, true, time.Hour},
		{[]string{"audience photos"}, true, true, time.Hour},
		{[]string{"audience mail"}, false, false, time.Hour},
		{[]string{half}, true, false, 30 * time.Minute},
		{[]string{a.until(0)}, false, false, 0},
		{[]string{"method GET"}, false, false, time.Hour},
		{[]string{"method GET", half, "client-ip 192.0.2.0/24"}, false, false, 30 * time.Minute},
		{[]string{"user usr_0123456789abcdef"}, false, false, time.Hour},
	} {
		id := ""
		if row.policies != nil {
			id = a.policy(chief, api.PolicyTarget{Everyone: true}, row.policies...)
		}
		for _, c := range []struct {
			name string
			form []string
			want bool
			told []string
		}{
			{"nothing enforced", nil, row.plain, nil},
			{"caveats enforced", []string{"caveats", "enforce"}, row.judged, nil},
			{"policies enforced", []string{"caveats", "enforce", "policies", "enforce"}, true, row.policies},
		} {
			in := into[api.Introspection](a.oauth("/oauth2/introspect", photos, append([]string{"token", text}, c.form...)...), 200)
			if in.Active != c.want || c.want && in.Exp != a.clock.Now().Add(row.exp).Unix() {
				t.Errorf("%q, %s: %+v", row.policies, c.name, in)
			}
			if fmt.Sprint(in.Policies) != fmt.Sprint(c.told) || in.PoliciesUntil != nil || (in.Prefix != nil) != (c.want && c.form != nil) {
				t.Errorf("%q, %s: told %q until %v, prefix %v", row.policies, c.name, in.Policies, in.PoliciesUntil, in.Prefix != nil)
			}
		}
		if id != "" {
			// By the service: the policy may be in the administrator's way.
			if err := a.svc.RemovePolicy(t.Context(), id, "operator", service.Source{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, form := range [][]string{{"policies", "enforce"}, {"caveats", "enforce", "policies", "judge"}} {
		a.oauth("/oauth2/introspect", photos, append([]string{"token", text}, form...)...).wantError(400, "invalid_request")
	}
	// When the first of them ends is told, so that nobody enforces it for longer.
	for _, ttl := range []int64{3600, 60, 600} {
		in := api.PolicyIn{Target: api.PolicyTarget{User: alice.User.ID}, Caveats: []string{"method GET"}, Reason: "r", TTL: ttl}
		a.post("/v1/admin/policies", bearer(chief.Token), in).want(201, "")
	}
	in := into[api.Introspection](a.oauth("/oauth2/introspect", photos, "token", text, "caveats", "enforce", "policies", "enforce"), 200)
	if in.PoliciesUntil == nil || !in.PoliciesUntil.Equal(a.clock.Now().Add(time.Minute)) || len(in.Policies) != 3 {
		t.Errorf("%+v", in)
	}
}

// Each change is an entry of the feed, at or below the place that an answer which
// knows of it tells.
func TestPoliciesInTheFeed(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	_, photos := a.service("photos", "photos")
	everybody := a.policy(chief, api.PolicyTarget{Everyone: true}, "path /v1/**")
	a.policy(chief, api.PolicyTarget{Device: alice.Device.ID}, "audience photos")
	a.unpolicy(chief, everybody)
	in := into[api.Introspection](a.oauth("/oauth2/introspect", photos, "token", narrow(alice.Token, "audience photos"), "caveats", "enforce", "policies", "enforce"), 200)
	if in.Feed.Sequence != 3 || fmt.Sprint(in.Policies) != "[audience photos]" {
		t.Errorf("%+v %q", in.Feed, in.Policies)
	}
	r := a.do(ask{method: "GET", path: "/v1/revocations", auth: photos})
	feed := into[api.Feed](r, 200)
	until := api.At(a.clock.Now().Add(24*time.Hour + 10*time.Minute))
	want := []api.Revocation{
		{Seq: 1, Grain: "policy", ExpiresAt: until},
		{Seq: 2, Grain: "policy", Subject: alice.Device.ID, ExpiresAt: until},
		{Seq: 3, Grain: "policy", ExpiresAt: until},
	}
	if fmt.Sprint(feed.Entries) != fmt.Sprint(want) {
		t.Errorf("%s", r.body)
	}
	// Nobody is logged out by any of that.
	a.do(ask{method: "GET", path: "/v1/admin/policies", auth: bearer(chief.Token)}).want(200, "")
}

func TestPolicyRefusals(t *testing.T) {
	a := start(t)
	chief, alice := a.admin(), a.user("alice")
	me := `"target":{"user":"` + alice.User.ID + `"}`
	rest := `,"caveats":["method GET"],"reason":"r"}`
	many := strings.Repeat(`"method GET",`, 16) + `"method GET"`
	for _, row := range []struct {
		body, field string
	}{
		{`{` + rest[1:], "/target"},
		{`{"target":{}` + rest, "/target"},
		{`{"target":{"everyone":false}` + rest, "/target"},
		{`{"target":{"everyone":true,"user":"` + alice.User.ID + `"}` + rest, "/target"},
		{`{"target":{"user":"` + alice.User.ID + `","device":"` + alice.Device.ID + `"}` + rest, "/target"},
		{`{"target":{"user":"alice"}` + rest, "/target/user"},
		{`{"target":{"user":"` + alice.Device.ID + `"}` + rest, "/target/user"},
		{`{"target":{"device":"` + alice.User.ID + `"}` + rest, "/target/device"},
		{`{"target":{"group":"x"}` + rest, "/target/group"},
		{`{` + me + `,"reason":"r"}`, "/caveats"},
		{`{` + me + `,"caveats":[],"reason":"r"}`, "/caveats"},
		{`{` + me + `,"caveats":[` + many + `],"reason":"r"}`, "/caveats"},
		{`{` + me + `,"caveats":["method get"],"reason":"r"}`, "/caveats"},
		{`{` + me + `,"caveats":["method GET","colour blue"],"reason":"r"}`, "/caveats"},
		{`{` + me + `,"caveats":["once aaaaaaaaaaaaaaaaaaaaaa"],"reason":"r"}`, "/caveats"},
		{`{` + me + `,"caveats":["sealed AAAA"],"reason":"r"}`, "/caveats"},
		{`{` + me + `,"caveats":["note x"],"reason":"r"}`, "/caveats"},
		{`{` + me + `,"caveats":["x-album 1"],"reason":"r"}`, "/caveats"},
		{`{` + me + `,"caveats":["body-sha256 ` + strings.Repeat("0", 64) + `"],"reason":"r"}`, "/caveats"},
		{`{` + me + `,"caveats":["method GET"]}`, "/reason"},
		{`{` + me + `,"caveats":["method GET"],"reason":"a\nb"}`, "/reason"},
		{`{` + me + `,"caveats":["method GET"],"reason":"a\u009b31mb"}`, "/reason"},
		{`{` + me + `,"caveats":["method GET"],"reason":"a\u202eb"}`, "/reason"},
		{`{` + me + `,"caveats":["method GET"],"reason":"a\u2028b"}`, "/reason"},
		{`{` + me + `,"caveats":["method GET"],"reason":"` + strings.Repeat("r", 201) + `"}`, "/reason"},
		{`{` + me + `,"caveats":["method GET"],"reason":"r","ttl":-1}`, "/ttl"},
		{`{` + me + `,"caveats":["method GET"],"reason":"r","ttl":31622401}`, "/ttl"},
	} {
		if p := a.do(ask{method: "POST", path: "/v1/admin/policies", auth: bearer(chief.Token), body: row.body}).want(400, "bad_request"); p.Field != row.field {
			t.Errorf("%s: field %q, want %q", row.body, p.Field, row.field)
		}
	}
	for _, target := range []api.PolicyTarget{{User: "usr_0123456789abcdef"}, {User: "svc_0123456789abcdef"}, {Device: "dev_0123456789abcdef"}} {
		a.post("/v1/admin/policies", bearer(chief.Token), api.PolicyIn{Target: target, Caveats: []string{"method GET"}, Reason: "r"}).want(404, "not_found")
	}
	a.do(ask{method: "DELETE", path: "/v1/admin/policies/pol_0123456789abcdef", auth: bearer(chief.Token)}).want(404, "not_found")
	for range 16 {
		a.policy(chief, api.PolicyTarget{User: alice.User.ID}, "method GET")
	}
	a.post("/v1/admin/policies", bearer(chief.Token), api.PolicyIn{Target: api.PolicyTarget{User: alice.User.ID}, Caveats: []string{"method GET"}, Reason: "r"}).want(409, "too_many")
	a.policy(chief, api.PolicyTarget{Device: alice.Device.ID}, "method GET") // another target
	list := into[api.Policies](a.do(ask{method: "GET", path: "/v1/admin/policies", auth: bearer(chief.Token)}), 200)
	users := 0
	for _, p := range list.Policies {
		if p.Target.User == alice.User.ID && p.Reason == "INC-42" {
			users++
		}
	}
	if len(list.Policies) != 17 || users != 16 {
		t.Errorf("%+v", list)
	}
	audit := into[api.Audit](a.do(ask{method: "GET", path: "/v1/admin/audit?limit=1000", auth: bearer(chief.Token)}), 200)
	if n := count(audit, "policy_added", alice.User.ID); n != 16 {
		t.Errorf("%d in the audit", n)
	}
}

// Epochs are listed without secrets, rotated with nobody logged out, and retired.
func TestKeysByAdministrators(t *testing.T) {
	a := start(t)
	chief := a.admin()
	keys := func(g api.Grant) (out string) {
		r := a.do(ask{method: "GET", path: "/v1/admin/keys", auth: bearer(g.Token)})
		for _, e := range into[api.Epochs](r, 200).Epochs {
			out += fmt.Sprint(e.Number, " ", e.State, " ", e.ExpiresAt != nil, ";")
		}
		return out
	}
	if got := keys(chief); got != "1 signing true;" {
		t.Errorf("%s", got)
	}
	e := into[api.Epoch](a.do(ask{method: "POST", path: "/v1/admin/keys/rotate", auth: bearer(chief.Token)}), 201)
	if e.Number != 2 || e.State != "signing" {
		t.Errorf("%+v", e)
	}
	again := a.login("chief", api.DeviceIn{Name: "desk"}) // minted in it at once
	if got := keys(chief); got != "1 verifying true;2 signing true;" {
		t.Errorf("%s", got)
	}
	for _, n := range []string{"0", "9", "x", "4294967296"} {
		a.do(ask{method: "POST", path: "/v1/admin/keys/" + n + "/retire", auth: bearer(chief.Token)}).want(404, "not_found")
	}
	a.do(ask{method: "POST", path: "/v1/admin/keys/1/retire", auth: bearer(chief.Token)}).want(204, "")
	a.do(ask{method: "GET", path: "/v1/admin/keys", auth: bearer(chief.Token)}).want(401, "revoked")
	if got := keys(again); got != "1 retired true;2 signing true;" {
		t.Errorf("%s", got)
	}
	// The one that signs: another begins in the same moment.
	a.do(ask{method: "POST", path: "/v1/admin/keys/2/retire", auth: bearer(again.Token)}).want(204, "")
	third := a.login("chief", api.DeviceIn{Name: "desk"})
	if got := keys(third); got != "1 retired true;2 retired true;3 signing true;" {
		t.Errorf("%s", got)
	}
}
