package verify_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/service/verify"
)

// put is policies that count for whoever asks, and notes who that was.
type put struct {
	texts []string
	asked *[]string
}

func (p put) Append(room []string, who token.Identity, at time.Time) []string {
	if p.asked != nil {
		*p.asked = append(*p.asked, who.User+" "+who.Device+" "+at.Format(time.TimeOnly))
	}
	return append(room, p.texts...)
}

// Policies are ANDed after the token's own caveats: they can refuse, by the same
// precedence, and give nothing, the audience least of all.
func TestPolicies(t *testing.T) {
	for _, row := range []struct {
		name     string
		holder   []string
		policies []string
		code     string
		byPolicy bool
		reason   string // part of it
	}{
		{"none", []string{"audience photos"}, nil, "ok", false, "every caveat held"},
		{"all hold", []string{"audience photos"}, []string{"audience photos", "method GET"}, "ok", false, "every caveat held"},
		{"one refuses", []string{"audience photos"}, []string{"audience photos", "method POST"}, "refused", true, "a policy: "},
		{"another audience", []string{"audience photos"}, []string{"audience mail"}, "wrong_audience", true, "a policy: "},
		{"two refuse", []string{"audience photos"}, []string{"method POST", "audience mail"}, "wrong_audience", true, "a policy: audience photos is not mail"},
		{"it names no audience for the token", []string{"method GET"}, []string{"audience photos"}, "wrong_audience", false, "names no audience"},
		{"nor for a bare root", nil, []string{"audience photos"}, "wrong_audience", false, "names no audience"},
		{"its time is over", []string{"audience photos"}, []string{"time-before 2026-11-21T12:00:00Z"}, "expired", true, "a policy: "},
		{"its time has not come", []string{"audience photos"}, []string{"time-after 2026-11-21T12:00:01Z"}, "not_yet_valid", true, "a policy: "},
		{"it is not understood", []string{"audience photos"}, []string{"colour blue"}, "unknown_caveat", true, "a policy: "},
		{"another user", []string{"audience photos"}, []string{"user " + mallory}, "refused", true, "a policy: "},
		{"the user", []string{"audience photos"}, []string{"user " + alice, "device " + phone}, "ok", false, ""},
		{"the token refuses", []string{"audience photos", "method POST"}, []string{"method GET"}, "refused", false, "POST"},
		{"the token refuses with a later code", []string{"audience photos", "method POST"}, []string{"time-before 2026-11-21T12:00:00Z"}, "expired", false, "a policy: "},
		{"the token refuses with an earlier code", []string{"audience photos", "time-before 2026-11-21T12:00:00Z"}, []string{"method POST"}, "expired", false, "2026-11-21T12:00:00Z"},
	} {
		v := newVerifier(t)
		v.Policies = put{texts: row.policies}
		got := ask(v, tokenWith(t, row.holder...))
		if got.Code != row.code || got.ByPolicy() != row.byPolicy || !strings.Contains(got.Reason(), row.reason) {
			t.Errorf("%s: %s, by policy %v (%s), want %s, %v", row.name, got.Code, got.ByPolicy(), got.Reason(), row.code, row.byPolicy)
		}
		lines := got.Caveats()
		own := len(mint) + len(row.holder)
		if len(lines) != own+len(row.policies) {
			t.Fatalf("%s: %+v", row.name, lines)
		}
		for i, line := range lines {
			if line.Index != i || (line.Source == "policy") != (i >= own) || line.Held == (line.Reason != "") || i >= own && line.Text != row.policies[i-own] {
				t.Errorf("%s: %+v", row.name, line)
			}
		}
		// What only takes power away is judged without them.
		q := verify.Question{Token: tokenWith(t, row.holder...), Request: request(), NoPolicies: true}
		v.Policies = put{texts: []string{"method POST"}}
		with, without := v.Verify(q), ask(newVerifier(t), q.Token)
		if with.Code != without.Code || len(with.Caveats()) != own {
			t.Errorf("%s: without policies %s, want %s", row.name, with.Code, without.Code)
		}
	}
}

// They are looked for under the identity that the authority wrote, once the
// chain held and not before; the effective expiry is theirs, too.
func TestPoliciesAreForTheMintedIdentity(t *testing.T) {
	var asked []string
	v := newVerifier(t)
	v.Policies = put{[]string{"time-before 2026-11-21T12:30:00Z"}, &asked}
	good := tokenWith(t, "audience photos", "user "+mallory, "time-before 2026-11-21T13:00:00Z")
	got := ask(v, good)
	if want := []string{alice + " " + phone + " 12:00:00"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	if want := now.Add(30 * time.Minute); !got.Expires.Equal(want) || got.Code != api.CodeRefused {
		t.Errorf("%s, expires %v, want %v", got.Code, got.Expires, want)
	}
	v.Policies = put{texts: []string{"time-before 2026-11-21T13:30:00Z", "time-after 2026-11-21T11:00:00Z"}}
	if got, want := ask(v, good), now.Add(time.Hour); !got.Expires.Equal(want) {
		t.Errorf("later policies: expires %v, want %v", got.Expires, want)
	}
	v.Policies = put{[]string{"note x"}, &asked}
	asked = nil
	bad := []byte(good)
	bad[60]++
	for _, text := range []string{string(bad), good + "=", good[:len(good)-4] + "AAAA"} {
		if got := ask(v, text); got.Held || got.ByPolicy() || got.Caveats() != nil {
			t.Errorf("%s: held %v", got.Code, got.Held)
		}
	}
	if asked != nil {
		t.Errorf("asked before the chain held: %q", asked)
	}
}

// A verdict that is used again keeps no policy of the former one.
func TestPoliciesReuse(t *testing.T) {
	v, out := newVerifier(t), new(verify.Verdict)
	q := &verify.Question{Token: tokenWith(t, "audience photos"), Request: request()}
	some := &put{texts: []string{"audience photos", "time-before 2026-11-21T12:30:00Z", "path /photos/**"}}
	v.Policies = some
	if v.Judge(q, out); len(out.Caveats()) != 7 {
		t.Errorf("%+v", out.Caveats())
	}
	v.Policies = nil
	if v.Judge(q, out); len(out.Caveats()) != 4 || !out.Expires.Equal(till) {
		t.Errorf("%+v, expires %v", out.Caveats(), out.Expires)
	}
	if out.Forget(); out.ByPolicy() || out.Caveats() != nil {
		t.Error("a forgotten verdict remembers")
	}
}
