package httpapi

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
)

func (a *authority) verify(auth, text string, r api.Request) *reply {
	a.t.Helper()
	return a.post("/v1/verify", auth, api.VerifyIn{Token: text, Request: r})
}

// Who may ask about what: a service for an audience that it serves, a user
// about their own tokens.
func TestWhoMayVerify(t *testing.T) {
	a := start(t)
	alice, bob := a.user("alice"), a.user("bob")
	credential, photos := a.service("photos", "photos", "thumbnails")
	for _, row := range []struct {
		name, auth, audience string
		status               int
		code                 string
	}{
		{"a service, for its audience", photos, "photos", 200, ""},
		{"a service, for its other audience", photos, "thumbnails", 200, ""},
		{"a service, for another's audience", photos, "bank", 403, "forbidden"},
		{"a service, for its audience in another case", photos, "Photos", 403, "forbidden"},
		{"a service, for no audience", photos, "", 403, "forbidden"},
		{"a service, for the authority", photos, "macaroond", 403, "forbidden"},
		{"a service, with a wrong secret", basic(credential.ID, credential.Secret+"x"), "photos", 401, "bad_credentials"},
		{"a service, without a secret", basic(credential.ID, ""), "photos", 401, "bad_credentials"},
		{"a service, by its name", basic("photos", credential.Secret), "photos", 401, "bad_credentials"},
		{"an unknown service", basic("svc_0123456789abcdef", credential.Secret), "photos", 401, "bad_credentials"},
		{"a user by password", basic("alice", password("alice")), "photos", 401, "bad_credentials"},
		{"the user", bearer(alice.Token), "photos", 200, ""},
		{"nobody", "", "photos", 401, "no_token"},
		{"a secret without a name", basic("", credential.Secret), "photos", 401, "no_token"},
	} {
		r := a.verify(row.auth, narrow(alice.Token, "audience photos"), api.Request{Audience: row.audience})
		if r.StatusCode != row.status {
			t.Errorf("%s:", row.name)
		}
		r.want(row.status, row.code)
	}
	// Somebody else's token is like a forged one, whatever is asked.
	for _, text := range []string{alice.Token, narrow(alice.Token, "audience photos"), narrow(alice.Token, "audience photos", a.until(-time.Minute))} {
		d := into[map[string]any](a.verify(bearer(bob.Token), text, api.Request{Audience: "photos"}), 200)
		forged := into[map[string]any](a.verify(bearer(bob.Token), forge(text), api.Request{Audience: "photos"}), 200)
		if d["code"] != "invalid" || !reflect.DeepEqual(d, forged) {
			t.Errorf("bob is told %v of alice's token, and %v of a forged one", d, forged)
		}
	}
	// A credential that is removed is refused with the next request.
	if err := a.svc.RemoveService(t.Context(), credential.ID, "operator", noSource); err != nil {
		t.Fatal(err)
	}
	a.verify(photos, alice.Token, api.Request{Audience: "photos"}).want(401, "bad_credentials")
}

// forge gives a token with a wrong signature.
func forge(text string) string {
	b := []byte(text)
	if i := len(b) - 5; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

// The decision, to the last field.
func TestDecision(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	soon := a.clock.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	text := narrow(alice.Token, "audience photos", "time-before "+soon, "method GET HEAD", "note for bob", "x-colour blue")
	got := into[map[string]any](a.verify(photos, text, api.Request{Audience: "photos", Method: "POST"}), 200)
	caveat := func(i int, text, source string, reason string) any {
		c := map[string]any{"index": float64(i), "text": text, "source": source, "held": reason == ""}
		if reason != "" {
			c["reason"] = reason
		}
		return c
	}
	expires := alice.ExpiresAt.Format(time.RFC3339)
	want := map[string]any{
		"allowed": false, "code": "unknown_caveat", "reason": `unknown caveat "x-colour"`, "expires_at": soon,
		"principal": map[string]any{"user": alice.User.ID, "username": "alice", "device": alice.Device.ID, "root_key_id": alice.RootKeyID},
		"caveats": []any{
			caveat(0, "time-before "+expires, "mint", ""), caveat(1, "user "+alice.User.ID, "mint", ""), caveat(2, "device "+alice.Device.ID, "mint", ""),
			caveat(3, "audience photos", "holder", ""), caveat(4, "time-before "+soon, "holder", ""),
			caveat(5, "method GET HEAD", "holder", "method POST is not one of GET HEAD"),
			caveat(6, "note for bob", "holder", ""), caveat(7, "x-colour blue", "holder", `unknown caveat "x-colour"`),
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	ok := into[map[string]any](a.verify(photos, narrow(alice.Token, "audience photos"), api.Request{Audience: "photos"}), 200)
	if ok["allowed"] != true || ok["code"] != "ok" || ok["expires_at"] != expires || len(ok["caveats"].([]any)) != 4 || len(ok) != 6 {
		t.Errorf("%v", ok)
	}
	for code, text := range map[string]string{"invalid": forge(text), "malformed": "garbage", "too_large": strings.Repeat("A", 5000)} {
		got := into[map[string]any](a.verify(photos, text, api.Request{Audience: "photos"}), 200)
		if got["allowed"] != false || got["code"] != code || got["reason"] == "" || len(got) != 3 {
			t.Errorf("%s: details without a chain: %v", code, got)
		}
	}
}

// Every caveat, with the fact that it wants, with another, and with none: what
// is not known is refused.
func TestFactsDecide(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	sum := hexSum("body")
	for _, row := range []struct {
		caveat    string
		right     api.Request
		wrong     api.Request
		wrongCode string
	}{
		{"method GET", api.Request{Method: "GET"}, api.Request{Method: "get"}, "refused"},
		{"path /a/*", api.Request{Path: "/a/b?c=d"}, api.Request{Path: "/a/b/c"}, "refused"},
		{"path /a/*", api.Request{URL: "https://photos.example/a/b?c=d"}, api.Request{URL: "https://photos.example/a/%2e%2e"}, "refused"},
		{"path /a/*", api.Request{URL: "https://photos.example/a/b?c#d"}, api.Request{URL: "https://photos.example/a/b#/../../c"}, "refused"},
		{"path /", api.Request{URL: "https://photos.example"}, api.Request{URL: "https://photos.example#/c"}, "refused"},
		{"path /a/*", api.Request{Path: "/a/b", URL: "https://photos.example/c"}, api.Request{Path: "/c", URL: "https://photos.example/a/b"}, "refused"},
		{"allow read", api.Request{Actions: []string{"read"}}, api.Request{Actions: []string{"read", "write"}}, "refused"},
		{"client-ip 192.0.2.0/24", api.Request{ClientIP: "::ffff:192.0.2.7"}, api.Request{ClientIP: "192.0.3.7"}, "refused"},
		{"origin https://app.example", api.Request{Origin: "https://app.example"}, api.Request{Origin: "https://evil.example"}, "refused"},
		{"body-sha256 " + sum, api.Request{BodySHA256: strings.ToUpper(sum)}, api.Request{BodySHA256: hexSum("other")}, "refused"},
	} {
		text := narrow(alice.Token, "audience photos", row.caveat)
		for i, r := range []api.Request{row.right, row.wrong, {}} {
			r.Audience = "photos"
			code := []string{"ok", row.wrongCode, "refused"}[i]
			if d := into[api.Decision](a.verify(photos, text, r), 200); d.Code != code || d.Allowed != (i == 0) || d.Caveats[4].Held != (i == 0) || (d.Caveats[4].Reason == "") != (i == 0) {
				t.Errorf("%s with %+v: %s, want %s", row.caveat, r, d.Code, code)
			}
		}
	}
}

// Time and audience have codes of their own, in the contract's order.
func TestDecisionCodes(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	for _, row := range []struct {
		code    string
		caveats []string
	}{
		{"ok", []string{"audience photos"}},
		{"ok", []string{"audience photos", "audience photos", a.until(time.Second), "time-after 2000-01-01T00:00:00Z"}},
		{"wrong_audience", nil}, // a bare root at a resource server
		{"wrong_audience", []string{"note x"}},
		{"wrong_audience", []string{"audience bank"}},
		{"wrong_audience", []string{"audience photos", "audience bank"}},
		{"wrong_audience", []string{"audience macaroond"}},
		{"expired", []string{"audience photos", a.until(0)}},
		{"expired", []string{"audience bank", a.until(-time.Second)}},
		{"not_yet_valid", []string{"audience bank", "time-after 2999-01-01T00:00:00Z"}},
		{"expired", []string{"time-after 2999-01-01T00:00:00Z", a.until(-time.Second)}},
		{"refused", []string{"audience photos", "user usr_0123456789abcdef"}},
		{"wrong_audience", []string{"audience bank", "method GET"}},
		{"unknown_caveat", []string{"audience bank", a.until(-time.Second), "method get"}},
		{"refused", []string{"audience photos", "once abc"}}, // with nothing in front that is over soon
		{"unknown_caveat", []string{"audience photos", "once a b"}},
		{"unknown_caveat", []string{"audience photos", "cnf abc"}},
		{"unknown_caveat", []string{"audience photos", "sealed abc"}},
		{"unknown_caveat", []string{"audience photos", "Audience photos"}},
		{"unknown_caveat", []string{"audience photos", "audience  photos"}},
		{"unknown_caveat", []string{"audience photos", "time-before tomorrow"}},
	} {
		if d := into[api.Decision](a.verify(photos, narrow(alice.Token, row.caveats...), api.Request{Audience: "photos"}), 200); d.Code != row.code {
			t.Errorf("%q: %s, want %s", row.caveats, d.Code, row.code)
		}
	}
	// To its own user, at the authority, a bare root is good.
	for _, audience := range []string{"", "macaroond"} {
		if d := into[api.Decision](a.verify(bearer(alice.Token), alice.Token, api.Request{Audience: audience}), 200); d.Code != "ok" {
			t.Errorf("a bare root for %q: %s", audience, d.Code)
		}
	}
	if d := into[api.Decision](a.verify(bearer(alice.Token), alice.Token, api.Request{Audience: "photos"}), 200); d.Code != "wrong_audience" {
		t.Errorf("a bare root at photos: %s", d.Code)
	}
	// Revoked comes before all that the holder did.
	a.do(ask{method: "POST", path: "/v1/revoke", body: fmt.Sprintf(`{"token":%q}`, narrow(alice.Token, "audience photos", "x-y"))}).want(200, "")
	if d := into[api.Decision](a.verify(photos, narrow(alice.Token, "audience photos", "x-y"), api.Request{Audience: "photos"}), 200); d.Code != "revoked" || d.Principal == nil || len(d.Caveats) != 5 {
		t.Errorf("%+v", d)
	}
	// 64 caveats are a token, 65 are too many for anybody to make.
	many := make([]string, token.MaxCaveats-token.MintCaveats)
	for i := range many {
		many[i] = "note " + fmt.Sprint(i)
	}
	many[0] = "audience photos"
	full := narrow(alice.Token, many...)
	if d := into[api.Decision](a.verify(photos, full, api.Request{Audience: "photos"}), 200); d.Code != "ok" || len(d.Caveats) != 64 {
		t.Errorf("64 caveats: %s, %d", d.Code, len(d.Caveats))
	}
	if _, err := token.Attenuate(must(token.Parse(full)), "note 65"); err == nil {
		t.Error("a 65th caveat was added")
	}
}
