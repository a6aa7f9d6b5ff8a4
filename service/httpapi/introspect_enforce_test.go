package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
)

// enforce asks about a token as one who judges every caveat.
func (a *authority) enforce(auth, text string) *reply {
	a.t.Helper()
	return a.oauth("/oauth2/introspect", auth, "token", text, "caveats", "enforce")
}

// tail is a token's own signature, and its fingerprint by the specification.
func tail(text string) (signature, fingerprint string) {
	sig := must(token.Parse(text)).UnverifiedSignature()
	sum := sha256.Sum256(append([]byte("macaroond/branch/v1"), sig[:]...))
	return base64.RawURLEncoding.EncodeToString(sig[:]), base64.RawURLEncoding.EncodeToString(sum[:16])
}

// A credential that was made to serve what has become the authority's own
// audience gets nothing for it: a prefix there would be good for everything.
func TestNobodyServesTheAuthority(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.MaxPrefixTTL = 2 * time.Hour })
	alice := a.user("alice")
	_, evil := a.service("evil", "accounts")
	text := narrow(alice.Token, a.until(time.Hour), "audience accounts", "allow devices:list")
	asks := api.VerifyIn{Token: text, Request: api.Request{Audience: "accounts", Actions: []string{"devices:list"}}}
	if in := into[api.Introspection](a.enforce(evil, text), 200); !in.Active || in.Prefix == nil {
		t.Fatalf("before: %+v", in)
	}
	if d := into[api.Decision](a.post("/v1/verify", evil, asks), 200); !d.Allowed {
		t.Fatalf("before: %+v", d)
	}
	set := *a.svc.Settings()
	set.Audience = "accounts"
	a.svc.SetSettings(set)
	for name, r := range map[string]*reply{"enforcing": a.enforce(evil, text), "asking": a.oauth("/oauth2/introspect", evil, "token", narrow(alice.Token, "audience accounts"))} {
		if strings.TrimSpace(string(r.body)) != `{"active":false}` {
			t.Errorf("%s: %s %s", name, r.Status, r.body)
		}
	}
	a.post("/v1/verify", evil, asks).want(403, api.CodeForbidden)
}

// What a resource server is told that judges every caveat itself: all of them in
// order, what it takes to see a revoked branch, and the signature at the audience
// when exactly one stands in the token, is served by the asker, and what is
// covered ends soon. What nobody here knows is for the asker to judge; what the
// authority can judge makes the token inactive.
func TestIntrospectToEnforce(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.MaxPrefixTTL = 2 * time.Hour })
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	_, both := a.service("both", "mail", "photos")
	a.service("mail", "mail")
	hour, two, later := a.until(time.Hour), a.until(2*time.Hour), a.until(2*time.Hour+time.Second)
	revoked := "note revoked"
	a.revoke("", narrow(alice.Token, revoked)).want(200, "")
	a.pass(0) // the feed's position comes from reading the table
	for _, row := range []struct {
		name   string
		with   []string
		aud    string // for photos; empty: not active
		prefix int    // for photos; caveats that it covers
		aud2   string // for the one that serves mail and photos
		also   int
	}{
		{"as clients make them", []string{hour, "audience photos", "method GET", "note x"}, "photos", 5, "photos", 5},
		{"nothing behind it", []string{hour, "audience photos"}, "photos", 5, "photos", 5},
		{"much before it", []string{hour, "path /photos/*", "note x", "audience photos", "note y"}, "photos", 7, "photos", 7},
		{"just two hours", []string{two, "audience photos"}, "photos", 5, "photos", 5},
		{"a second more", []string{later, "audience photos"}, "photos", 0, "photos", 0},
		{"no window", []string{"audience photos"}, "photos", 0, "photos", 0},
		{"a window behind it", []string{"audience photos", hour}, "photos", 0, "photos", 0},
		{"two windows before it, one is soon over", []string{later, hour, "audience photos"}, "photos", 6, "photos", 6},
		{"the same audience twice", []string{hour, "audience photos", "audience photos"}, "photos", 0, "photos", 0},
		{"two audiences", []string{hour, "audience photos", "audience mail"}, "", 0, "", 0},
		{"another audience", []string{hour, "audience mail"}, "", 0, "mail", 5},
		{"an audience that does not read as one", []string{hour, "audience photos", "audience  mail"}, "photos", 0, "photos", 0},
		{"an audience in another case", []string{hour, "audience Photos"}, "", 0, "", 0},
		{"an audience that begins alike", []string{hour, "audience photos2"}, "", 0, "", 0},
		{"no audience", []string{hour}, "", 0, "", 0},
		{"the authority's audience", []string{hour, "audience macaroond"}, "", 0, "", 0},
		{"an audience in a note", []string{hour, "note audience photos"}, "", 0, "", 0},
		{"the asker's own caveat before it", []string{hour, "x-album 1", "audience photos"}, "photos", 6, "photos", 6},
		{"a caveat that nobody knows", []string{hour, "audience photos", "colour blue"}, "photos", 5, "photos", 5},
		{"one that needs the ledger", []string{hour, "audience photos", "once x"}, "photos", 5, "photos", 5},
		{"its own user", []string{hour, "user " + alice.User.ID, "audience photos"}, "photos", 6, "photos", 6},
		{"another user", []string{hour, "audience photos", "user usr_admin00000000000"}, "photos", 5, "photos", 5},
		{"another device, before it", []string{hour, "device " + alice.User.ID, "audience photos"}, "photos", 6, "photos", 6},
		{"expired", []string{hour, "audience photos", a.until(0)}, "", 0, "", 0},
		{"not valid yet", []string{hour, "audience photos", "time-after " + strings.TrimPrefix(hour, "time-before ")}, "", 0, "", 0},
		{"revoked before it", []string{revoked, hour, "audience photos"}, "", 0, "", 0},
	} {
		text := narrow(alice.Token, row.with...)
		for auth, want := range map[string]struct {
			aud    string
			prefix int
		}{photos: {row.aud, row.prefix}, both: {row.aud2, row.also}} {
			r := a.enforce(auth, text)
			if r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: Cache-Control %q", row.name, r.Header.Get("Cache-Control"))
			}
			if want.aud == "" {
				if r.StatusCode != 200 || string(r.body) != "{\"active\":false}\n" {
					t.Errorf("%s: %d %s", row.name, r.StatusCode, r.body)
				}
				continue
			}
			in := into[api.Introspection](r, 200)
			all := must(token.Parse(text)).UnverifiedCaveats()
			var prints []string
			for n := range row.with {
				_, f := tail(narrow(alice.Token, row.with[:n+1]...))
				prints = append(prints, f)
			}
			if !in.Active || in.Aud != want.aud || in.Sub != alice.User.ID || in.Device != alice.Device.ID || in.RootKeyID != alice.RootKeyID || in.Username != "alice" {
				t.Errorf("%s: %s", row.name, r.body)
			}
			if !slices.Equal(in.Caveats, all) || !slices.Equal(in.Fingerprints, prints) {
				t.Errorf("%s: %q %q, want %q %q", row.name, in.Caveats, in.Fingerprints, all, prints)
			}
			if in.Feed == nil || in.Feed.Generation == "" || in.Feed.Sequence != 1 || in.Feed.AsOf.IsZero() {
				t.Errorf("%s: feed %+v", row.name, in.Feed)
			}
			switch {
			case want.prefix == 0 && in.Prefix == nil:
			case want.prefix == 0 || in.Prefix == nil:
				t.Errorf("%s: prefix %+v, want %d", row.name, in.Prefix, want.prefix)
			default:
				sig, _ := tail(narrow(alice.Token, row.with[:want.prefix-3]...))
				if in.Prefix.Caveats != want.prefix || in.Prefix.Signature != sig {
					t.Errorf("%s: prefix of %d caveats, want %d", row.name, in.Prefix.Caveats, want.prefix)
				}
			}
			// Nothing on the way to the prefix is given away.
			for n := range row.with {
				if sig, _ := tail(narrow(alice.Token, row.with[:n+1]...)); n+1 != want.prefix-3 && bytes.Contains(r.body, []byte(sig)) {
					t.Errorf("%s: the signature after %d caveats is in the answer", row.name, n+4)
				}
			}
			if sig, _ := tail(alice.Token); bytes.Contains(r.body, []byte(sig)) {
				t.Errorf("%s: the root is in the answer", row.name)
			}
		}
	}
}

// A caveat may be any bytes. Of those that nobody understands the asker is told
// what JSON can tell; a token with others is not active, and never an error.
func TestIntrospectAnyBytes(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	for caveat, active := range map[string]bool{
		"note \xff": false, "\xff": false, "note \xed\xa0\x80": false, "note \xc0\xae": false,
		"": true, "note \x00\x1b[31m": true, "note \u2028": true, "note \ufffd": true, "\"\\": true,
	} {
		for where, text := range map[string]string{
			"behind the audience": foreign(narrow(alice.Token, a.until(time.Hour), "audience photos"), caveat),
			"before it":           narrow(foreign(narrow(alice.Token, a.until(time.Hour)), caveat), "audience photos"),
		} {
			r := a.enforce(photos, text)
			if in := into[api.Introspection](r, 200); in.Active != active || active && !slices.Contains(in.Caveats, caveat) {
				t.Errorf("%q, %s: %s", caveat, where, r.body)
			}
			if caveat == "note \ufffd" { // which is only unusual
				continue
			}
			if d := into[api.Decision](a.verify(photos, text, api.Request{Audience: "photos"}), 200); d.Code != api.CodeUnknownCaveat {
				t.Errorf("%q, %s: %s", caveat, where, d.Code)
			}
		}
	}
}

// With the prefix, tokens for its audience can be made, and no others.
func TestWhatAPrefixIsWorth(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.MaxPrefixTTL = 2 * time.Hour })
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	_, mail := a.service("mail", "mail")
	hour := a.until(time.Hour)
	in := into[api.Introspection](a.enforce(photos, narrow(alice.Token, hour, "path /photos/**", "audience photos", "method GET")), 200)
	var sig token.Signature
	copy(sig[:], must(base64.RawURLEncoding.DecodeString(in.Prefix.Signature)))
	// made has the covered caveats, or those that the thief would rather have, and
	// what the thief goes on with.
	made := func(covered []string, more ...string) string {
		s := sig
		for _, c := range more {
			s = s.Next(c)
		}
		text := narrow(alice.Token, append(covered, more...)...)
		b := must(base64.RawURLEncoding.DecodeString(text))
		copy(b[len(b)-32:], s[:])
		return base64.RawURLEncoding.EncodeToString(b)
	}
	covered := []string{hour, "path /photos/**", "audience photos"}
	for _, row := range []struct {
		name string
		text string
		aud  string
		path string
		code string
	}{
		{"at its audience, without what stood behind it", made(covered), "photos", "/photos/1", "ok"},
		{"beyond what it covers", made(covered), "photos", "/albums/1", "refused"},
		{"at another audience", made(covered, "audience mail"), "mail", "/photos/1", "wrong_audience"},
		{"without the audience", made([]string{hour, "path /photos/**"}, "audience mail"), "mail", "/photos/1", "invalid"},
		{"without the path", made([]string{hour, "audience photos"}), "photos", "/albums/1", "invalid"},
		{"with another window", made([]string{a.until(2 * time.Hour), "path /photos/**", "audience photos"}), "photos", "/photos/1", "invalid"},
		{"as the root", made(nil), "photos", "/photos/1", "invalid"},
	} {
		auth := photos
		if row.aud == "mail" {
			auth = mail
		}
		d := into[api.Decision](a.verify(auth, row.text, api.Request{Audience: row.aud, Method: "PUT", Path: row.path}), 200)
		if d.Code != row.code {
			t.Errorf("%s: %s, want %s", row.name, d.Code, row.code)
		}
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(made(covered))}).want(401, "wrong_audience")
	a.pass(time.Hour)
	d := into[api.Decision](a.verify(photos, made(covered), api.Request{Audience: "photos", Path: "/photos/1"}), 200)
	if d.Code != "expired" {
		t.Errorf("after the window: %s", d.Code)
	}
}

// Who may ask, and how.
func TestWhoMayEnforce(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.MaxPrefixTTL = 2 * time.Hour })
	alice := a.user("alice")
	credential, photos := a.service("photos", "photos")
	text := narrow(alice.Token, a.until(time.Hour), "audience photos")
	for name, auth := range map[string]string{
		"nobody": "", "the user": bearer(alice.Token), "the token itself": bearer(text), "the user's password": basic("alice", password("alice")),
		"a wrong secret": basic(credential.ID, credential.Secret+"x"), "no secret": basic(credential.ID, ""),
	} {
		r := a.enforce(auth, text)
		r.wantError(401, "invalid_client")
		if bytes.Contains(r.body, []byte("prefix")) {
			t.Errorf("%s: %s", name, r.body)
		}
	}
	// Who does not say so is told of no caveat, and of no token with one that needs a request.
	if r := a.oauth("/oauth2/introspect", photos, "token", text); bytes.Contains(r.body, []byte("prefix")) || bytes.Contains(r.body, []byte("caveats")) || bytes.Contains(r.body, []byte("fingerprints")) {
		t.Errorf("without caveats=enforce: %s", r.body)
	}
	for _, word := range []string{"Enforce", "yes", "enforce "} {
		a.oauth("/oauth2/introspect", photos, "token", text, "caveats", word).wantError(400, "invalid_request")
	}
	a.oauth("/oauth2/introspect", photos, "token", text, "caveats", "enforce", "caveats", "enforce").wantError(400, "invalid_request")
	// Consumes nothing, and may be asked again.
	first, second := a.enforce(photos, text), a.enforce(photos, text)
	var x, y map[string]any
	if json.Unmarshal(first.body, &x) != nil || json.Unmarshal(second.body, &y) != nil {
		t.Fatal("no JSON")
	}
	delete(x, "feed")
	delete(y, "feed")
	if fmt.Sprint(x) != fmt.Sprint(y) || len(x) < 10 {
		t.Errorf("%v, then %v", x, y)
	}
	// An authority that does not know what is revoked says so: nobody is told that
	// a good token is none.
	a.clock.drift(31 * time.Second)
	r := a.enforce(photos, text)
	r.wantError(503, "temporarily_unavailable")
	if r.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	a.pass(0)
	into[api.Introspection](a.enforce(photos, text), 200)
	// A device that is gone is nobody's.
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(alice.Token)}).want(204, "")
	if r := a.enforce(photos, text); string(r.body) != "{\"active\":false}\n" {
		t.Errorf("after logout: %s", r.body)
	}
	if err := a.svc.RemoveService(t.Context(), credential.ID, "operator", noSource); err != nil {
		t.Fatal(err)
	}
	a.enforce(photos, text).wantError(401, "invalid_client")
}
