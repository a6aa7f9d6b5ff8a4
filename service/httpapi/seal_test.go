package httpapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/dpop"
)

func (a *authority) seal(text string, caveats ...string) []string {
	a.t.Helper()
	out := into[api.SealOut](a.post("/v1/seal", "", api.SealIn{Token: text, Caveats: caveats}), 200)
	if len(out.Caveats) != len(caveats) {
		a.t.Fatalf("%d for %d", len(out.Caveats), len(caveats))
	}
	return out.Caveats
}

// What is sealed is judged like any other caveat, and whatever it is, refuses
// with one code and in one sentence.
func TestSealed(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	a.pass(time.Minute)
	base := narrow(alice.Token, "audience photos")
	key := newKey()
	const url = "https://api.example/photos/1"
	right := api.Request{
		Audience: "photos", Method: "GET", Path: "/photos/1", URL: url, ClientIP: "192.0.2.7", Origin: "https://app.example",
		Actions: []string{"read"}, BodySHA256: hexSum("body"),
	}
	decide := func(text string, r api.Request) api.Decision {
		return into[api.Decision](a.verify(photos, text, r), 200)
	}
	for _, row := range []struct{ holds, refuses string }{
		{a.until(time.Minute), a.until(0)},
		{"time-after 2000-01-01T00:00:00Z", "time-after 2999-01-01T00:00:00Z"},
		{"user " + alice.User.ID, "user usr_0123456789abcdef"},
		{"device " + alice.Device.ID, "device dev_0123456789abcdef"},
		{"audience photos", "audience mail"},
		{"method GET PUT", "method PUT"},
		{"path /photos/*", "path /albums/*"},
		{"allow read", "allow write"},
		{"client-ip 192.0.2.0/24", "client-ip 198.51.100.0/24"},
		{"origin https://app.example", "origin https://evil.example"},
		{"body-sha256 " + hexSum("body"), "body-sha256 " + hexSum("another")},
		{"cnf " + key.Thumbprint(), "cnf " + strings.Repeat("A", 43)},
		{"note for the printer", ""},
	} {
		boxes := a.seal(alice.Token, row.holds, row.holds)
		if boxes[0] == boxes[1] {
			t.Errorf("%s: sealed twice alike", row.holds)
		}
		text := narrow(base, boxes[0])
		r := right
		r.DPoP = must(key.Prove("GET", url, text, a.clock.Now()))
		d := decide(text, r)
		if !d.Allowed || d.Caveats[4].Text != boxes[0] || !d.ExpiresAt.Equal(alice.ExpiresAt.Time) {
			t.Errorf("%s: %+v", row.holds, d)
		}
		if row.refuses == "" {
			continue
		}
		text = narrow(base, a.seal(base, row.refuses)...)
		r.DPoP = must(key.Prove("GET", url, text, a.clock.Now()))
		d = decide(text, r)
		const why = "what is sealed does not hold"
		if d.Allowed || d.Code != "refused" || d.Reason != why || d.Caveats[4].Held || d.Caveats[4].Reason != why || !d.ExpiresAt.Equal(alice.ExpiresAt.Time) {
			t.Errorf("%s: %+v", row.refuses, d)
		}
		name, argument, _ := strings.Cut(row.refuses, " ")
		if all := string(must(json.Marshal(d.Caveats[4]))) + d.Reason; strings.Contains(all, argument) || strings.Contains(all, name+" ") {
			t.Errorf("%s: shown in %s", row.refuses, all)
		}
	}
	// A sealed audience does not name one.
	d := decide(narrow(alice.Token, a.seal(alice.Token, "audience photos")...), right)
	if d.Code != "wrong_audience" {
		t.Errorf("a sealed audience names one: %s", d.Code)
	}
	// A sealed end is not an end that a ledger can keep.
	d = decide(narrow(base, a.seal(base, a.until(time.Minute))[0], "once a"), right)
	if d.Code != "refused" {
		t.Errorf("once behind a sealed end: %s", d.Code)
	}
	// A proof for what is sealed is used up, too, and nothing is told of it.
	text := narrow(base, a.seal(base, "cnf "+key.Thumbprint())...)
	r := right
	r.DPoP = must(key.Prove("GET", url, text, a.clock.Now()))
	if d := decide(text, r); !d.Allowed {
		t.Errorf("%+v", d)
	}
	if d := decide(text, r); d.Code != "replayed" || strings.Contains(fmt.Sprint(d), "DPoP") {
		t.Errorf("%+v", d)
	}
	r.DPoP = must(key.Prove("POST", url, text, a.clock.Now().Add(-dpop.Window)))
	if d := decide(text, r); d.Code != "refused" || strings.Contains(fmt.Sprint(d), "DPoP") {
		t.Errorf("%+v", d)
	}
}

// A box opens under its own root key and nowhere else, and dies with the epoch's
// secret; nobody reads it or changes it.
func TestSealedIsBound(t *testing.T) {
	a := start(t)
	alice, bob := a.user("alice"), a.user("bob")
	second := a.login("alice", api.DeviceIn{Name: "tablet"})
	_, photos := a.service("photos", "photos")
	box := a.seal(alice.Token, "note secret")[0]
	if strings.Contains(box, "secret") {
		t.Error("readable")
	}
	ask := func(root, box string) string {
		return into[api.Decision](a.verify(photos, narrow(root, "audience photos", box), api.Request{Audience: "photos"}), 200).Code
	}
	b := []byte(box)
	b[len(b)/2] ^= 1
	for _, row := range []struct{ name, root, box, code string }{
		{"its own", alice.Token, box, "ok"},
		{"a child seals for its parent", alice.Token, a.seal(narrow(alice.Token, "note x", a.until(-time.Hour)), "note y")[0], "ok"},
		{"another device of the same user", second.Token, box, "unknown_caveat"},
		{"another user", bob.Token, box, "unknown_caveat"},
		{"changed", alice.Token, string(b), "unknown_caveat"},
		{"cut", alice.Token, box[:len(box)-4], "unknown_caveat"},
		{"made up", alice.Token, "sealed " + strings.Repeat("A", 80), "unknown_caveat"},
		{"short", alice.Token, "sealed AAAA", "unknown_caveat"},
	} {
		if got := ask(row.root, row.box); got != row.code {
			t.Errorf("%s: %s, want %s", row.name, got, row.code)
		}
	}
	// Introspection tells nothing of it: not active, or the box itself.
	text := narrow(alice.Token, a.until(time.Hour), "audience photos", box)
	if r := a.oauth("/oauth2/introspect", photos, "token", text); string(r.body) != "{\"active\":false}\n" {
		t.Errorf("%s", r.body)
	}
	in := into[api.Introspection](a.oauth("/oauth2/introspect", photos, "token", text, "caveats", "enforce"), 200)
	if len(in.Caveats) != 6 || in.Caveats[5] != box {
		t.Errorf("%q", in.Caveats)
	}
}

// What can be sealed, by whom.
func TestSealRefuses(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	sealed := a.seal(alice.Token, "note x")[0]
	a.seal(narrow(alice.Token, "audience photos", a.until(-time.Hour), "nope x"), "method GET") // whoever has a token
	longest := a.seal(alice.Token, "note "+strings.Repeat("x", 333))[0]
	if len(longest) > 512 {
		t.Errorf("%d bytes", len(longest))
	}
	narrow(alice.Token, longest)
	for _, row := range []struct {
		name, token string
		caveats     []string
		status      int
		code, field string
	}{
		{"nothing", alice.Token, []string{}, 400, "bad_request", "/caveats"},
		{"too many", alice.Token, strings.Split(strings.Repeat("note x,", 62), ",")[:62], 400, "bad_request", "/caveats"},
		{"an unknown caveat", alice.Token, []string{"note x", "colour blue"}, 400, "bad_request", "/caveats/1"},
		{"somebody's own", alice.Token, []string{"x-album 1"}, 400, "bad_request", "/caveats/0"},
		{"badly written", alice.Token, []string{"method get"}, 400, "bad_request", "/caveats/0"},
		{"empty", alice.Token, []string{""}, 400, "bad_request", "/caveats/0"},
		{"too long", alice.Token, []string{"note " + strings.Repeat("x", 334)}, 400, "bad_request", "/caveats/0"},
		{"once", alice.Token, []string{"once a"}, 400, "bad_request", "/caveats/0"},
		{"sealed already", alice.Token, []string{sealed}, 400, "bad_request", "/caveats/0"},
		{"no token", "", []string{"note x"}, 400, "bad_request", "/token"},
		{"forged", forge(alice.Token), []string{"note x"}, 401, "invalid", ""},
		{"garbage", "garbage", []string{"note x"}, 401, "malformed", ""},
		{"too large", strings.Repeat("A", 4097), []string{"note x"}, 401, "too_large", ""},
	} {
		r := a.post("/v1/seal", "", api.SealIn{Token: row.token, Caveats: row.caveats})
		if r.StatusCode != row.status {
			t.Errorf("%s:", row.name)
		}
		if p := r.want(row.status, row.code); p.Field != row.field {
			t.Errorf("%s: field %q, want %q", row.name, p.Field, row.field)
		}
	}
}
