package httpapi

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
)

// A one-time token is good a single time, wherever it is accepted.
func TestOnce(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	atPhotos := api.Request{Audience: "photos", Method: "GET"}
	decision := func(text string) string {
		return into[api.Decision](a.verify(photos, text, atPhotos), 200).Code
	}
	gateway := func(text string) string {
		r := a.do(ask{method: "GET", path: "/authz/original?audience=photos", auth: bearer(text), header: []string{"X-Original-Method", "GET", "X-Original-URI", "/"}})
		if r.StatusCode == 200 {
			return "ok"
		}
		return into[api.Problem](r, 403).Code
	}
	one := func(with ...string) string {
		return narrow(alice.Token, append([]string{a.until(time.Minute), "audience photos", "once " + nonce()}, with...)...)
	}
	want := func(what, got, code string) {
		t.Helper()
		if got != code {
			t.Errorf("%s: %s, want %s", what, got, code)
		}
	}

	link := one()
	want("the first time", decision(link), "ok")
	want("the second", decision(link), "replayed")
	want("at a gateway", gateway(link), "replayed")
	want("a child of it", decision(narrow(link, "note child")), "replayed")
	want("a child that is itself one-time", decision(narrow(link, "once x")), "replayed")

	link = one()
	want("at a gateway first", gateway(link), "ok")
	want("at a gateway again", gateway(link), "replayed")
	want("and then asked about", decision(link), "replayed")

	link = one()
	want("a child uses its parent up", decision(narrow(link, "note child")), "ok")
	want("the parent then", decision(link), "replayed")
	want("a sibling then", decision(narrow(link, "note sibling")), "replayed")

	// The parent of a one-time caveat lives on: what is used is the caveat.
	base := narrow(alice.Token, a.until(time.Minute), "audience photos")
	for _, n := range []string{"a", "b"} {
		want("each nonce is one", decision(narrow(base, "once "+n)), "ok")
		want("and no more", decision(narrow(base, "once "+n)), "replayed")
	}
	want("the base", decision(base), "ok")

	// Two: both are used together, or neither is.
	outer := one()
	inner := narrow(outer, "once inner")
	want("the outer with another inner", decision(narrow(outer, "once other")), "ok")
	want("the outer is used", decision(inner), "replayed")
	outer = one()
	inner = narrow(outer, "once inner")
	want("both", decision(inner), "ok")
	want("the outer alone", decision(outer), "replayed")

	// Nothing is used by what is refused, whatever refused it.
	link = one()
	for what, text := range map[string]string{
		"another method": narrow(link, "method PUT"), "another audience": narrow(link, "audience mail"),
		"expired": narrow(link, a.until(-time.Second)), "unknown": narrow(link, "nope x"), "forged": forge(link), "forged child": forge(narrow(link, "note x")),
	} {
		if got := decision(text); got == "ok" || got == "replayed" {
			t.Errorf("%s: %s", what, got)
		}
	}
	want("for no audience that it serves", into[api.Problem](a.verify(photos, link, api.Request{Audience: "mail"}), 403).Code, "forbidden")
	bob := a.user("bob")
	want("asked by somebody else", into[api.Decision](a.verify(bearer(bob.Token), link, atPhotos), 200).Code, "invalid")
	for _, enforce := range []string{"", "&caveats=enforce"} {
		a.do(ask{method: "POST", path: "/oauth2/introspect", auth: photos, body: "token=" + link + enforce, header: form}).want(200, "")
	}
	want("none of that used it", decision(link), "ok")

	// How far its end may be away.
	day := narrow(alice.Token, a.until(24*time.Hour+time.Second), "audience photos", "once a")
	want("beyond the ledger's time", decision(day), "refused")
	want("with an end behind it", decision(narrow(day, a.until(time.Minute))), "refused")
	a.pass(time.Second)
	want("a second later it is within", decision(day), "ok")
	want("and used", decision(day), "replayed")
}

var nonces atomic.Int64

func nonce() string { return api.At(time.Unix(nonces.Add(1), 0)).Format("150405") }

// A replay is told as any caveat's refusal, and the decision says which caveat
// it was.
func TestReplayedIsExplained(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	link := narrow(alice.Token, a.until(time.Minute), "audience photos", "once a")
	a.verify(photos, link, api.Request{Audience: "photos"}).want(200, "")
	d := into[api.Decision](a.verify(photos, link, api.Request{Audience: "photos"}), 200)
	if last := d.Caveats[5]; d.Allowed || d.Code != "replayed" || d.Reason != "the token was used before" || last.Held || last.Reason != "it was used before" || !d.Caveats[4].Held {
		t.Errorf("%+v", d)
	}
	own := narrow(alice.Token, a.until(time.Minute), "audience macaroond", "once a")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(own)}).want(200, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(own)}).want(403, "replayed")
}

// At the authority's own endpoints nothing is used by a request that comes to
// nothing.
func TestOnceAtOwnEndpoints(t *testing.T) {
	a := start(t)
	alice, bob := a.user("alice"), a.user("bob")
	gone := a.login("alice", api.DeviceIn{Name: "gone"}).Device
	a.do(ask{method: "DELETE", path: "/v1/devices/" + gone.ID, auth: bearer(alice.Token)}).want(204, "")
	own := "/v1/devices/" + alice.Device.ID
	one := func(with ...string) string {
		return narrow(alice.Token, append([]string{a.until(time.Minute), "audience macaroond", "once " + nonce()}, with...)...)
	}
	link := one()
	for _, row := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"renaming to nothing", "PATCH", own, `{"name":""}`, 400, "bad_request"},
		{"an unknown member", "PATCH", own, `{"nom":"x"}`, 400, "bad_request"},
		{"renaming a stranger's device", "PATCH", "/v1/devices/" + bob.Device.ID, `{"name":"x"}`, 404, "not_found"},
		{"renaming a revoked device", "PATCH", "/v1/devices/" + gone.ID, `{"name":"x"}`, 404, "not_found"},
		{"revoking a stranger's device", "DELETE", "/v1/devices/" + bob.Device.ID, "", 404, "not_found"},
		{"revoking no device", "DELETE", "/v1/devices/dev_nobody", "", 404, "not_found"},
		{"a query that is none", "DELETE", "/v1/devices?exept=current", "", 400, "bad_request"},
		{"what needs a bare root", "POST", "/v1/logout", "", 403, "bare_root_required"},
		{"what needs an admin", "GET", "/v1/admin/users", "", 403, "bare_root_required"},
	} {
		r := a.do(ask{method: row.method, path: row.path, auth: bearer(link), body: row.body})
		if r.StatusCode != row.status {
			t.Errorf("%s:", row.name)
		}
		r.want(row.status, row.code)
	}
	a.do(ask{method: "PATCH", path: own, auth: bearer(link), body: `{"name":"my phone"}`}).want(200, "")
	a.do(ask{method: "PATCH", path: own, auth: bearer(link), body: `{"name":"my phone"}`}).want(403, "replayed")
	a.do(ask{method: "DELETE", path: own, auth: bearer(link)}).want(403, "replayed")
	link = one()
	a.do(ask{method: "DELETE", path: "/v1/devices/" + gone.ID, auth: bearer(link)}).want(204, "") // again, which is no error
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(link)}).want(403, "replayed")
}

// Of many who present one token at once, one is let in; each of the tokens has
// its one.
func TestOnceConcurrently(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	for range 5 {
		link := narrow(alice.Token, a.until(time.Minute), "audience photos", "once "+nonce())
		var in, out atomic.Int32
		var wg sync.WaitGroup
		for n := range 32 {
			wg.Go(func() {
				text := link
				if n%3 == 1 {
					text = narrow(link, "note child")
				}
				var code string
				if n%2 == 0 {
					code = into[api.Decision](a.verify(photos, text, api.Request{Audience: "photos"}), 200).Code
				} else {
					r := a.do(ask{method: "GET", path: "/authz/original?audience=photos", auth: bearer(text), header: []string{"X-Original-Method", "GET", "X-Original-URI", "/"}})
					code = map[int]string{200: "ok", 403: "replayed"}[r.StatusCode]
				}
				switch code {
				case "ok":
					in.Add(1)
				case "replayed":
					out.Add(1)
				}
			})
		}
		wg.Wait()
		if in.Load() != 1 || out.Load() != 31 {
			t.Errorf("%d were let in and %d told that it was used", in.Load(), out.Load())
		}
	}
}

// While the ledger cannot be written nobody knows, which is never an acceptance
// and never the token's fault; and nothing was used.
func TestOnceWithoutLedger(t *testing.T) {
	a := start(t, func(s *setup) { s.store.BusyTimeout = 20 * time.Millisecond; s.trust(proxy) })
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	link := narrow(alice.Token, a.until(time.Minute), "audience photos", "once a")
	own := narrow(alice.Token, a.until(time.Minute), "audience macaroond", "once a")
	gateway := ask{method: "GET", path: "/authz/original?audience=photos", auth: bearer(link), header: []string{"X-Original-Method", "GET", "X-Original-URI", "/"}}
	release := a.locked()
	a.verify(photos, link, api.Request{Audience: "photos"}).wantUnavailable("asked")
	a.do(gateway).wantVerdict("at a gateway", 503, "stale")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(own)}).wantUnavailable("at the authority")
	release()
	a.do(gateway).wantVerdict("afterwards", 200, "")
	a.do(gateway).wantVerdict("again", 403, "replayed")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(own)}).want(200, "")
}

// What was used stays used until nothing that shares it can be good, across a
// restart, and the ledger does not grow for ever.
func TestOnceOutlivesRestart(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	credential, photos := a.service("photos", "photos")
	link := narrow(alice.Token, a.until(time.Minute), "audience photos", "once a")
	a.verify(photos, link, api.Request{Audience: "photos"}).want(200, "")
	again := must(service.New(t.Context(), service.Config{
		Store: a.store, Keys: a.keys, Now: a.clock.Now, Log: slog.New(slog.NewJSONHandler(a.log, nil)),
		Hashing: service.Hashing{MemoryKiB: 8, Time: 1, Threads: 1, Pool: 1, Queue: 1}, Settings: *a.svc.Settings(),
	}))
	svc, err := again.AuthenticateService(t.Context(), credential.ID, credential.Secret, noSource)
	if err != nil {
		t.Fatal(err)
	}
	d, err := again.Verify(t.Context(), api.VerifyIn{Token: link, Request: api.Request{Audience: "photos"}}, &svc, nil)
	if err != nil || d.Code != "replayed" {
		t.Errorf("after a restart: %s, %v", d.Code, err)
	}
	gone := func() int {
		return must(a.store.Expire(t.Context(), storage.Expire{Now: a.clock.Now(), Limit: 10})).Accepted
	}
	a.clock.drift(time.Minute + storage.ClockSkew)
	if n := gone(); n != 0 {
		t.Errorf("%d went while a verifier whose clock is behind could still take it", n)
	}
	a.clock.drift(time.Second)
	if n := gone(); n != 1 {
		t.Errorf("%d went", n)
	}
}
