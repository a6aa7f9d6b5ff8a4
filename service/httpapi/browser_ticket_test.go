package httpapi

import (
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
)

// A ticket is the page's root for thirty seconds, one audience, one use: what a
// page without a token cannot make by itself.
func TestTicket(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.Browser = []string{"photos"} })
	p := a.browser("alice")
	phone := a.login("alice", api.DeviceIn{Name: "phone"})
	mint := []string{"time-before " + p.ExpiresAt.Format(time.RFC3339), "user " + p.User.ID, "device " + p.Device.ID}
	soon := a.clock.Now().Add(30 * time.Second).UTC()
	seen := map[string]bool{}
	for _, row := range []struct {
		body string
		want []string
	}{
		{`{"audience":"photos"}`, []string{"audience photos"}},
		{`{"audience":"photos"}`, []string{"audience photos"}}, // another one
		{`{"audience":"macaroond"}`, []string{"audience macaroond"}},
		{`{"audience":"photos","path":"/live/**"}`, []string{"audience photos", "path /live/**"}},
	} {
		out := into[api.Ticket](a.by(p, "POST", "/v1/ticket", row.body), 200)
		texts := must(token.Parse(out.Ticket)).UnverifiedCaveats()
		want := slices.Concat(mint, []string{"time-before " + soon.Format(time.RFC3339)}, row.want)
		nonce, found := strings.CutPrefix(texts[len(texts)-1], "once ")
		if !slices.Equal(texts[:len(texts)-1], want) || !found || len(nonce) != 26 || seen[nonce] || !out.ExpiresAt.Equal(soon) {
			t.Errorf("%s: %q until %s", row.body, texts, out.ExpiresAt)
		}
		seen[nonce] = true
	}
	for _, row := range []struct {
		name, body, field string
	}{
		{"another audience", `{"audience":"mail"}`, "/audience"},
		{"none", `{}`, "/audience"},
		{"two", `{"audience":"photos mail"}`, "/audience"},
		{"no path", `{"audience":"photos","path":"live"}`, "/path"},
		{"two paths", `{"audience":"photos","path":"/live /more"}`, "/path"},
		{"a path that is none", `{"audience":"photos","path":"/a/../b"}`, "/path"},
	} {
		if got := a.by(p, "POST", "/v1/ticket", row.body).want(400, "bad_request"); got.Field != row.field {
			t.Errorf("%s: field %q", row.name, got.Field)
		}
	}
	a.do(ask{method: "POST", path: "/v1/ticket", body: `{"audience":"photos"}`, auth: bearer(phone.Token)}).want(200, "")
	a.do(ask{method: "POST", path: "/v1/ticket", body: `{"audience":"photos"}`, auth: bearer(narrow(phone.Token, "audience macaroond"))}).want(403, "bare_root_required")
	a.do(ask{method: "POST", path: "/v1/ticket", body: `{"audience":"photos"}`}).want(401, "no_token")
	// Never longer than its root.
	short := a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "b"}, Mode: "cookie", TTL: 5})
	s := tab{into[api.Grant](short, 200), setCookie(short)}
	if out := into[api.Ticket](a.by(s, "POST", "/v1/ticket", `{"audience":"photos"}`), 200); !out.ExpiresAt.Equal(s.ExpiresAt.Time) {
		t.Errorf("a ticket until %s of a root until %s", out.ExpiresAt, s.ExpiresAt)
	}
}

// A ticket is accepted once, wherever it goes, and dies with its session.
func TestTicketIsGoodOnce(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.Browser = []string{"photos"} })
	p := a.browser("alice")
	_, svc := a.service("photos", "photos")
	ticket := func(body string) string { return into[api.Ticket](a.by(p, "POST", "/v1/ticket", body), 200).Ticket }
	here := api.Request{Audience: "photos", Method: "GET", Path: "/live"}
	verdict := func(text string, r api.Request) string {
		return into[api.Decision](a.verify(svc, text, r), 200).Code
	}
	text := ticket(`{"audience":"photos","path":"/live"}`)
	for _, row := range []struct {
		name, text string
		request    api.Request
		code       string
	}{
		{"elsewhere, which uses nothing up", text, api.Request{Audience: "photos", Path: "/other"}, "refused"},
		{"narrowed, to be refused", narrow(text, "method POST"), here, "refused"},
		{"here", text, here, "ok"},
		{"again", text, here, "replayed"},
		{"narrowed", narrow(text, "note x"), here, "replayed"},
		{"another one", ticket(`{"audience":"photos"}`), here, "ok"},
	} {
		if got := verdict(row.text, row.request); got != row.code {
			t.Errorf("%s: %s, want %s", row.name, got, row.code)
		}
	}
	// Alone it is no session: not for what needs a root, and at all only once.
	own := ticket(`{"audience":"macaroond"}`)
	a.do(ask{method: "POST", path: "/v1/ticket", body: `{"audience":"photos"}`, auth: bearer(own)}).want(403, "bare_root_required")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(own)}).want(200, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(own)}).want(403, "replayed")
	late, last := ticket(`{"audience":"photos"}`), ticket(`{"audience":"photos"}`)
	a.by(p, "POST", "/v1/logout", "").want(204, "")
	if got := verdict(last, here); got != "revoked" {
		t.Errorf("after the logout: %s", got)
	}
	a.pass(31 * time.Second)
	if got := verdict(late, here); got != "revoked" {
		t.Errorf("after the logout and its time: %s", got)
	}
	p = a.pageOf("alice", "")
	late = ticket(`{"audience":"photos"}`)
	a.pass(30 * time.Second)
	if got := verdict(late, here); got != "expired" {
		t.Errorf("after thirty seconds: %s", got)
	}
}
