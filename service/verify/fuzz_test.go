package verify_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/service/verify"
)

// FuzzIdentity is the promise of the specification, through the whole verifier: whatever
// texts are appended to whatever token, the identity stays, the expiry is no
// later, and no refusal becomes an acceptance.
func FuzzIdentity(f *testing.F) {
	bases := []string{"", "audience photos", "audience photos\nmethod GET", "method GET", "audience mail", "audience photos\nx-tenant red", "third-party x", "nope", "time-before 2026-11-21T12:00:00Z", "via cookie"}
	more := []string{
		"user " + mallory, "user " + alice, "device dev_MalloryMallory12", "time-before 2099-01-01T00:00:00Z", "time-before 2001-01-01T00:00:00Z",
		"audience photos", "audience mail", "x-tenant blue", "note x", "via cookie", "third-party audience photos", "", "\xff", "method GET\naudience photos\nuser " + mallory,
	}
	seeds := 0
	for _, base := range bases {
		for i, texts := range more {
			f.Add(base, texts, int64(0), "photos", "GET", "/photos/1", mallory, "blue", i%2 == 0)
			f.Add(base, texts, int64(i)*1e6, "", "POST", "", "", "red", i%2 == 1)
			seeds++
		}
	}
	if seeds < 100 {
		f.Fatalf("only %d seeds", seeds)
	}
	v := newVerifier(f)
	f.Fuzz(func(t *testing.T, base, more string, seconds int64, audience, method, target, said, tenant string, allowBare bool) {
		var texts []string
		if base != "" {
			texts = strings.Split(base, "\n")
		}
		appended := append(slices.Clone(texts), strings.Split(more, "\n")...)
		facts := caveats.Request{
			Time: now.Add(time.Duration(seconds%1e7) * time.Second), User: said, Device: said, Audience: audience,
			Method: method, Target: target, Actions: []string{method}, Origins: []string{said}, Extra: map[string]string{"tenant": tenant},
		}
		if allowBare && seconds%2 == 0 {
			facts.Via = "cookie"
		}
		v.MaxStaleness = 1 << 62
		before := v.Verify(verify.Question{Token: tokenWith(t, texts...), Request: facts, AllowBare: allowBare})
		after := v.Verify(verify.Question{Token: tokenWith(t, appended...), Request: facts, AllowBare: allowBare})
		if after.Allowed() && !before.Allowed() && !widens(before.Code, texts, more) {
			t.Fatalf("%q is %s, and with %q allowed", texts, before.Code, more)
		}
		if !after.Held {
			if after.Code != api.CodeTooLarge {
				t.Fatalf("%q with %q: %s", texts, more, after.Code)
			}
			return
		}
		want := token.Identity{User: alice, Device: phone, Expires: till}
		if before.Identity != want || after.Identity != want {
			t.Fatalf("%q with %q: identity %+v", texts, more, after.Identity)
		}
		if after.Expires.After(before.Expires) {
			t.Fatalf("%q with %q: expires later", texts, more)
		}
		for i, line := range before.Caveats() {
			if after.Caveats()[i] != line {
				t.Fatalf("%q with %q: caveat %d is judged otherwise", texts, more, i)
			}
		}
		if after.Allowed() {
			for _, line := range after.Caveats() {
				if !line.Held {
					t.Fatalf("allowed, and refused by %q", line.Text)
				}
			}
		}
	})
}

// widens is the one exception, which is a rule about audiences and not about
// caveats: a token that names none is refused at a resource server, and its
// holder may name one. Everything in it held.
func widens(code string, texts []string, more string) bool {
	named := func(list []string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, "audience ") })
	}
	return code == api.CodeWrongAudience && !named(texts) && named(strings.Split(more, "\n"))
}
