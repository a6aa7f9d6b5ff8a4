package guard_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
)

// Answers about a token that are not the authority's own words. None lets a
// token in that should not be, none is kept, and none is taken for a verdict: a
// client that is told 401 logs its user out.
func TestBrokenAnswers(t *testing.T) {
	a := start(t)
	alice, bob := a.device("alice"), a.device("bob")
	begin := func(root string, i int) string {
		return narrow(t, root, window(), fmt.Sprint("note ", i), "audience photos")
	}
	signature := func(text string) string {
		tok, err := token.Parse(text)
		ok(t, err)
		s := tok.UnverifiedSignature()
		return base64.RawURLEncoding.EncodeToString(s[:])
	}
	prefix := func(n int, sig string) map[string]any { return map[string]any{"caveats": n, "signature": sig} }
	type answer = map[string]any
	for i, row := range []struct {
		name   string
		change func(in answer, text string)
		body   string // instead
		code   string
	}{
		{name: "as it is", change: func(answer, string) {}, code: "ok"},
		{name: "a member that is new", change: func(in answer, _ string) { in["colour"] = "blue" }, code: "ok"},
		{name: "without a feed", change: func(in answer, _ string) { delete(in, "feed") }, code: "ok"},

		{name: "other caveats", change: func(in answer, _ string) { in["caveats"].([]any)[4] = "note y" }},
		{name: "caveats in another order", change: func(in answer, _ string) { c := in["caveats"].([]any); c[3], c[4] = c[4], c[3] }},
		{name: "a caveat less", change: func(in answer, _ string) { c := in["caveats"].([]any); in["caveats"] = c[:len(c)-1] }},
		{name: "a caveat more", change: func(in answer, _ string) { in["caveats"] = append(in["caveats"].([]any), "note x") }},
		{name: "no caveats", change: func(in answer, _ string) { delete(in, "caveats") }},
		{name: "no fingerprints", change: func(in answer, _ string) { delete(in, "fingerprints") }},
		{name: "a fingerprint less", change: func(in answer, _ string) { f := in["fingerprints"].([]any); in["fingerprints"] = f[:len(f)-1] }},
		{name: "a fingerprint more", change: func(in answer, _ string) { f := in["fingerprints"].([]any); in["fingerprints"] = append(f, f[0]) }},
		{name: "another fingerprint at the prefix", change: func(in answer, _ string) { f := in["fingerprints"].([]any); f[2] = f[0] }},
		{name: "another fingerprint behind it", change: func(in answer, _ string) { f := in["fingerprints"].([]any); f[3] = f[0] }},
		{name: "a fingerprint that is too long", change: func(in answer, _ string) { f := in["fingerprints"].([]any); f[0] = f[0].(string) + "AAAA" }},
		{name: "a fingerprint that is none", change: func(in answer, _ string) { in["fingerprints"].([]any)[0] = "????" }},
		{name: "a fingerprint of another spelling", change: func(in answer, _ string) { f := in["fingerprints"].([]any); f[0] = f[0].(string)[:21] + "_" }},
		{name: "a prefix of no caveats", change: func(in answer, _ string) { in["prefix"].(answer)["caveats"] = 0 }},
		{name: "a prefix of minus one", change: func(in answer, _ string) { in["prefix"].(answer)["caveats"] = -1 }},
		{name: "a prefix of the mint caveats", change: func(in answer, _ string) { in["prefix"] = prefix(3, signature(alice.Token)) }},
		{name: "a prefix beyond the end", change: func(in answer, _ string) { in["prefix"].(answer)["caveats"] = 9 }},
		{name: "a prefix of an enormous length", change: func(in answer, _ string) { in["prefix"].(answer)["caveats"] = 1 << 40 }},
		{name: "a prefix of another point", change: func(in answer, _ string) { in["prefix"].(answer)["caveats"] = 5 }},
		{name: "a signature of another point", change: func(in answer, text string) { in["prefix"] = prefix(6, signature(text)) }},
		{name: "a signature of another point, and its fingerprint", change: func(in answer, text string) {
			f := in["fingerprints"].([]any)
			f[2] = f[3]
			in["prefix"] = prefix(6, signature(text))
		}},
		{name: "a signature of 31 bytes", change: func(in answer, _ string) { p := in["prefix"].(answer); p["signature"] = p["signature"].(string)[:42] }},
		{name: "a signature of 33 bytes", change: func(in answer, _ string) { p := in["prefix"].(answer); p["signature"] = p["signature"].(string) + "A" }},
		{name: "no signature", change: func(in answer, _ string) { delete(in["prefix"].(answer), "signature") }},
		{name: "another audience", change: func(in answer, _ string) { in["aud"] = "mail" }},
		{name: "no audience", change: func(in answer, _ string) { delete(in, "aud") }},
		{name: "somebody else", change: func(in answer, _ string) { in["sub"], in["username"] = bob.User.ID, "bob" }},
		{name: "another device", change: func(in answer, _ string) { in["device"] = bob.Device.ID }},
		{name: "another root key", change: func(in answer, _ string) { in["root_key_id"] = bob.RootKeyID }},
		{name: "active, and nothing else", body: `{"active":true}`},
		{name: "active as text", change: func(in answer, _ string) { in["active"] = "true" }},
		{name: "caveats as text", change: func(in answer, _ string) { in["caveats"] = "none" }},
		{name: "a caveat as a number", change: func(in answer, _ string) { in["caveats"].([]any)[0] = 1 }},
		{name: "the prefix as text", change: func(in answer, _ string) { in["prefix"] = "none" }},
		{name: "the prefix's length as text", change: func(in answer, _ string) { in["prefix"].(answer)["caveats"] = "6" }},
		{name: "an empty body", body: " "},
		{name: "half a body", body: `{"active":true,"cave`},
		{name: "a list", body: `[]`},
		{name: "two answers", body: `{"active":false}{"active":false}`},
		{name: "a huge body", body: `{"active":false,"x":"` + strings.Repeat("x", 5<<20) + `"}`},

		// It says that the token is none, and who could know better?
		{name: "not active", body: `{"active":false}`, code: "invalid"},
		{name: "not active, with everything", change: func(in answer, _ string) { in["active"] = false }, code: "invalid"},
	} {
		g := a.guard(nil)
		text := narrow(t, begin(alice.Token, i), "note tail")
		a.answer("/oauth2/introspect", func(w *httptest.ResponseRecorder) {
			if row.body != "" {
				w.Body = bytes.NewBufferString(row.body)
				return
			}
			in := answer{}
			ok(t, json.Unmarshal(w.Body.Bytes(), &in))
			row.change(in, text)
			body, err := json.Marshal(in)
			ok(t, err)
			w.Body = bytes.NewBuffer(body)
		})
		want := row.code
		if want == "" {
			want = api.CodeStale
		}
		if got := code(g, text); got != want {
			t.Errorf("%s: %s, want %s", row.name, got, want)
		}
		if n := int64(g.Prefixes()); n != b2i(want == api.CodeOK) {
			t.Errorf("%s: %d prefixes", row.name, n)
		}
		a.honest()
		if want == api.CodeStale { // nothing of it is left
			a.want(row.name+", then the truth", g, text, "ok", 1)
		}
		a.want(row.name+", then another", g, narrow(t, begin(alice.Token, i), "note other"), "ok", b2i(want == api.CodeInvalid))
		g.Close()
	}
}

// Answers that are no answers.
func TestNoAnswers(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	elsewhere := false
	other := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { elsewhere = true }))
	text := narrow(t, a.device("alice").Token, window(), "audience photos")
	for _, row := range []struct {
		name string
		do   func(w http.ResponseWriter, r *http.Request, next http.Handler)
	}{
		{"a redirect", func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.Redirect(w, r, other, http.StatusTemporaryRedirect)
		}},
		{"a page", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { fmt.Fprint(w, "<html>log in") }},
		{"JSON that says it is a page", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { fmt.Fprint(w, `{"active":false}`) }},
		{"401", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(401) }},
		{"404", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(404) }},
		{"429", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(429) }},
		{"500", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(500) }},
		{"201", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(201)
			w.Write(rec.Body.Bytes())
		}},
		{"a broken connection", func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }},
	} {
		for _, path := range []string{"/oauth2/introspect", "/v1/verify"} {
			asked := text
			if path == "/v1/verify" {
				asked = narrow(t, text, "once x")
			}
			a.between(path, row.do)
			if got := code(g, asked); got != api.CodeStale {
				t.Errorf("%s for %s: %s", row.name, path, got)
			}
		}
	}
	a.honest()
	a.want("the truth", g, text, "ok", 1)
	if elsewhere {
		t.Error("the token went elsewhere")
	}
}

// The authority's verdict on what only it can judge, broken.
func TestBrokenVerdicts(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	alice := a.device("alice")
	text := narrow(t, alice.Token, window(), "audience photos", "once x")
	until := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	principal := fmt.Sprintf(`{"user":%q,"username":"alice","device":%q,"root_key_id":%q}`, alice.User.ID, alice.Device.ID, alice.RootKeyID)
	for _, row := range []struct{ name, body, code string }{
		{"allowed", `{"allowed":true,"code":"ok","reason":"x","principal":` + principal + `,"expires_at":"` + until + `"}`, "ok"},
		{"allowed, nobody", `{"allowed":true,"code":"ok","reason":"x","expires_at":"` + until + `"}`, "stale"},
		{"allowed, for ever", `{"allowed":true,"code":"ok","reason":"x","principal":` + principal + `}`, "stale"},
		{"allowed, and refused", `{"allowed":true,"code":"refused","reason":"x","principal":` + principal + `,"expires_at":"` + until + `"}`, "stale"},
		{"allowed, without a code", `{"allowed":true,"reason":"x","principal":` + principal + `,"expires_at":"` + until + `"}`, "stale"},
		{"not allowed, and ok", `{"allowed":false,"code":"ok","reason":"x","principal":` + principal + `,"expires_at":"` + until + `"}`, "stale"},
		{"refused", `{"allowed":false,"code":"replayed","reason":"x"}`, "replayed"},
		{"stale", `{"allowed":false,"code":"stale","reason":"x"}`, "stale"},
		{"nothing", `{}`, "stale"},
		{"null", `null`, "stale"},
	} {
		a.answer("/v1/verify", func(w *httptest.ResponseRecorder) { w.Body = bytes.NewBufferString(row.body) })
		pass, err := g.Gateway(t.Context(), text, get(), nil)
		if got := codeIn(err); got != row.code {
			t.Errorf("%s: %s, want %s", row.name, got, row.code)
		}
		if err == nil && (pass.User != alice.User.ID || pass.Device != alice.Device.ID || pass.Audience != "photos" || pass.Expires.IsZero()) {
			t.Errorf("%s: %+v", row.name, pass)
		}
	}
}
