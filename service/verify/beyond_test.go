package verify_test

import (
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/service/verify"
)

const (
	hour     = "time-before 2026-11-21T13:00:00Z"
	tomorrow = "time-before 2026-11-22T12:00:00Z"
	later    = "time-before 2026-11-22T12:00:01Z"
)

// withLedger is a verifier whose ledger keeps a day.
func withLedger(t testing.TB) *verify.Verifier {
	v := newVerifier(t)
	v.OnceMax = 24 * time.Hour
	return v
}

// The points of a token, each with its end, and where there are none.
func TestOncePoints(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text[len("time-before "):])
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, row := range []struct {
		name   string
		holder []string
		code   string
		until  []string
	}{
		{"none", []string{"audience photos", hour}, api.CodeOK, nil},
		{"one", []string{hour, "audience photos", "once a"}, api.CodeOK, []string{hour}},
		{"the earliest counts", []string{tomorrow, hour, later, "audience photos", "once a"}, api.CodeOK, []string{hour}},
		{"what stands behind does not", []string{tomorrow, "audience photos", "once a", hour}, api.CodeOK, []string{tomorrow}},
		{"two", []string{tomorrow, "once a", hour, "audience photos", "once a"}, api.CodeOK, []string{tomorrow, hour}},
		{"just within the ledger's time", []string{tomorrow, "audience photos", "once a"}, api.CodeOK, []string{tomorrow}},
		{"a second beyond it", []string{later, "audience photos", "once a"}, api.CodeRefused, nil},
		{"beyond it, and what stands behind is within", []string{"audience photos", "once a", hour}, api.CodeRefused, nil},
		{"one within and one beyond", []string{"audience photos", "once a", hour, "once b"}, api.CodeRefused, []string{hour}},
		{"badly written", []string{hour, "audience photos", "once a b"}, api.CodeUnknownCaveat, nil},
		{"refused for something else", []string{hour, "audience photos", "once a", "method PUT"}, api.CodeRefused, []string{hour}},
		{"for another audience", []string{hour, "audience mail", "once a"}, api.CodeWrongAudience, []string{hour}},
	} {
		got := ask(withLedger(t), tokenWith(t, row.holder...))
		if got.Code != row.code || len(got.Points()) != len(row.until) {
			t.Errorf("%s: %s with %d points, want %s with %d", row.name, got.Code, len(got.Points()), row.code, len(row.until))
			continue
		}
		for i, p := range got.Points() {
			if !p.Until.Equal(at(row.until[i])) {
				t.Errorf("%s: point %d until %v, want %s", row.name, i, p.Until, row.until[i])
			}
		}
	}
	// Without a ledger nobody can know.
	if got := ask(newVerifier(t), tokenWith(t, hour, "audience photos", "once a")); got.Code != api.CodeUnknownCaveat || len(got.Points()) != 0 {
		t.Errorf("without a ledger: %s, %d points", got.Code, len(got.Points()))
	}
}

// A point is shared by all that have the caveat in their chain, and by nothing
// else; it is the digest that the specification says.
func TestOncePointIsTheChains(t *testing.T) {
	v := withLedger(t)
	point := func(holder ...string) [32]byte {
		t.Helper()
		got := ask(v, tokenWith(t, holder...))
		if !got.Allowed() || len(got.Points()) != 1 {
			t.Fatalf("%q: %s, %d points", holder, got.Code, len(got.Points()))
		}
		return got.Points()[0].Sum
	}
	parent := point(hour, "audience photos", "once a")
	if child := point(hour, "audience photos", "once a", "note for bob"); child != parent {
		t.Error("a child has another point")
	}
	seen := [][32]byte{parent}
	for _, other := range [][]string{
		{hour, "audience photos", "once b"},
		{hour, "audience photos", "note x", "once a"},
		{hour, "once a", "audience photos"},
		{tomorrow, "audience photos", "once a"},
	} {
		p := point(other...)
		if slices.Contains(seen, p) {
			t.Errorf("%q shares a point", other)
		}
		seen = append(seen, p)
	}
	tok, err := token.Parse(tokenWith(t, hour, "audience photos", "once a"))
	if err != nil {
		t.Fatal(err)
	}
	sig := tok.UnverifiedSignature()
	if want := sha256.Sum256(append([]byte("macaroond/once/v1"), sig[:]...)); want != parent {
		t.Error("not the digest that is specified")
	}
}

// A verdict that the ledger refuses says of which caveat, and nothing stays of
// it when the verdict is used again.
func TestReplayed(t *testing.T) {
	v := withLedger(t)
	q := &verify.Question{Token: tokenWith(t, tomorrow, "audience photos", "once a", "once b"), Request: request()}
	var got verify.Verdict
	v.Judge(q, &got)
	if !got.Allowed() || len(got.Points()) != 2 {
		t.Fatal(got.Code, len(got.Points()))
	}
	got.Replayed([]int{1})
	lines := got.Caveats()
	if got.Allowed() || got.Code != api.CodeReplayed || got.Reason() != "the token was used before" {
		t.Error(got.Code, got.Reason())
	}
	if !lines[5].Held || lines[6].Held || lines[6].Reason != "it was used before" {
		t.Errorf("%+v, %+v", lines[5], lines[6])
	}
	plain := &verify.Question{Token: tokenWith(t, "audience photos", hour, "note x", "note y"), Request: request()}
	if v.Judge(plain, &got); !got.Allowed() || len(got.Points()) != 0 || !got.Caveats()[6].Held {
		t.Error("something stays of the verdict before", got.Code, len(got.Points()), got.Caveats()[6])
	}
}

// boxes opens what the test sealed: "sealed AAAA" is the first, and so on.
type boxes []string

func (b boxes) OpenSealed(of token.Identifier, box string) (string, bool) {
	i := slices.Index([]string{"AAAA", "BBBB", "CCCC", "DDDD", "EEEE"}, box)
	if i < 0 || i >= len(b) || of != id {
		return "", false
	}
	return b[i], true
}

// prover proves a key, or fails.
type prover string

func (p prover) Prove() (string, error) {
	if p == "" {
		return "", errors.New("no proof")
	}
	return string(p), nil
}

// Where there are a ledger, a key for boxes and a proof, too, adding any caveat
// anywhere behind the mint caveats turns no refusal into an acceptance.
func TestAddingNeverWidens(t *testing.T) {
	const key, other = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	v := withLedger(t)
	v.Sealed = boxes{"method GET", "method PUT", "audience photos", "time-before 2026-11-21T12:00:01Z", "cnf " + key}
	all := []string{
		hour, later, "audience photos", "audience mail", "method GET", "method PUT", "once a", "once b", "cnf " + key, "cnf " + other,
		"sealed AAAA", "sealed BBBB", "sealed CCCC", "sealed DDDD", "sealed EEEE", "sealed FFFF", "note x", "x-tenant blue", "nope x",
	}
	judge := func(holder []string, proof prover, mustBind bool) *verify.Verdict {
		return v.Verify(verify.Question{Token: tokenWith(t, holder...), Request: request(), Proof: proof, MustBind: mustBind})
	}
	accepted, refused := 0, 0
	for _, proof := range []prover{"", key, other} {
		for _, base := range [][]string{
			{},
			{"audience photos"},
			{hour, "audience photos"},
			{hour, "audience photos", "once a"},
			{later, "audience photos", "once a"},
			{"audience photos", "cnf " + key},
			{"sealed CCCC"},
			{"audience photos", "sealed BBBB"},
			{"audience photos", "sealed EEEE"},
			{"audience mail", hour},
		} {
			before := judge(base, proof, false)
			for _, more := range all {
				for at := range len(base) + 1 {
					longer := slices.Insert(slices.Clone(base), at, more)
					after := judge(longer, proof, false)
					// Two rules are about what a token says, and one caveat can be what it
					// takes: it must name its audience, and once must have an end.
					named := !slices.Contains(base, "audience photos") && more == "audience photos"
					ended := at <= slices.Index(base, "once a") && more == hour // in front of it, where no holder can add
					if after.Allowed() && !before.Allowed() && !named && !ended {
						t.Errorf("%q and %q at %d: %s becomes ok", base, more, at, before.Code)
					}
					if after.Identity != before.Identity {
						t.Errorf("%q and %q at %d: another identity", base, more, at)
					}
					if after.Allowed() {
						accepted++
					} else {
						refused++
					}
				}
			}
		}
	}
	if accepted < 100 || refused < 100 {
		t.Errorf("%d accepted, %d refused: the test does not reach both", accepted, refused)
	}
	// Under the scheme DPoP a key must be bound, in the open.
	for _, row := range []struct {
		holder []string
		proof  prover
		code   string
	}{
		{[]string{"audience photos"}, key, api.CodeRefused},
		{[]string{"audience photos", "cnf " + key}, key, api.CodeOK},
		{[]string{"audience photos", "cnf " + key}, other, api.CodeRefused},
		{[]string{"audience photos", "cnf " + key}, "", api.CodeRefused},
		{[]string{"audience photos", "sealed EEEE"}, key, api.CodeRefused},
		{[]string{"audience photos", "sealed AAAA"}, key, api.CodeRefused},
	} {
		got := judge(row.holder, row.proof, true)
		if got.Code != row.code || got.Reason() == "" {
			t.Errorf("%q by %q: %s (%s)", row.holder, row.proof, got.Code, got.Reason())
		}
	}
}

// asked counts how often it was.
type asked struct {
	prover
	times *int
}

func (a asked) Prove() (string, error) { *a.times++; return a.prover.Prove() }

// What is said of a caveat that needs more than the facts, and of those beside
// it: the reason is the one that decided, and what held has none. A proof is
// asked for once, and for a cnf only.
func TestWhatIsSaidBeyond(t *testing.T) {
	const (
		key   = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
		other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	)
	none := prover("none at all")
	for _, row := range []struct {
		holder []string
		box    string
		proof  prover
		code   string
		reason string
		at     int // the caveat whose reason it is; 0: none's
		asked  int
	}{
		{[]string{"audience photos"}, "", key, api.CodeOK, "every caveat held", 0, 0},

		{[]string{"audience photos", "sealed AAAA"}, "method GET", key, api.CodeOK, "every caveat held", 0, 0},
		{[]string{"audience photos", "sealed AAAA"}, "method PUT", key, api.CodeRefused, "what is sealed does not hold", 4, 0},
		{[]string{"audience photos", "sealed AAAA"}, "audience mail", key, api.CodeRefused, "what is sealed does not hold", 4, 0},
		{[]string{"audience photos", "sealed AAAA"}, "time-before 2026-11-21T12:00:00Z", key, api.CodeRefused, "what is sealed does not hold", 4, 0},
		{[]string{"audience photos", "sealed AAAA"}, "colour blue", key, api.CodeUnknownCaveat, "what is sealed is not understood", 4, 0},
		{[]string{"audience photos", "sealed AAAA"}, "once a", key, api.CodeUnknownCaveat, "what is sealed is not understood", 4, 0},
		{[]string{"audience photos", "sealed BBBB"}, "method GET", key, api.CodeUnknownCaveat, "what is sealed cannot be opened: it was sealed for another token, or the key is gone", 4, 0},
		{[]string{"audience photos", "sealed AAAA"}, "", key, api.CodeUnknownCaveat, "what is sealed only the authority can open", 4, 0}, // nobody opens
		{[]string{"audience photos", "sealed AAAA"}, "cnf " + key, key, api.CodeOK, "every caveat held", 0, 1},
		{[]string{"audience photos", "sealed AAAA"}, "cnf " + key, other, api.CodeRefused, "what is sealed does not hold", 4, 1},
		{[]string{"audience photos", "sealed AAAA"}, "cnf " + key, "", api.CodeRefused, "what is sealed does not hold", 4, 1},

		{[]string{"audience photos", "cnf " + key}, "", none, api.CodeRefused, "the request has no valid DPoP proof", 4, 0},
		{[]string{"audience photos", "cnf " + key}, "", "", api.CodeRefused, "no proof", 4, 1},
		{[]string{"audience photos", "cnf " + key}, "", other, api.CodeRefused, "the DPoP proof is by the key " + other + ", not " + key, 4, 1},
		{[]string{"audience photos", "cnf " + key, "cnf " + key}, "", key, api.CodeOK, "every caveat held", 0, 1},
		{[]string{"audience photos", "cnf " + key, "cnf " + other}, "", key, api.CodeRefused, "the DPoP proof is by the key " + key + ", not " + other, 5, 1},
		{[]string{"audience photos", "cnf " + key, "cnf " + other}, "", "", api.CodeRefused, "no proof", 4, 1},
		{[]string{"audience photos", "method PUT"}, "", key, api.CodeRefused, "method GET is not one of PUT", 4, 0},
		{[]string{"audience photos", "cnf short"}, "", key, api.CodeUnknownCaveat, "caveat cnf: wants a key's thumbprint: 43 characters of base64url", 4, 0},

		{[]string{hour, "audience photos", "once a", "colour blue"}, "", key, api.CodeUnknownCaveat, `unknown caveat "colour"`, 6, 0},
		{[]string{"audience photos", "once a", "sealed AAAA"}, "method PUT", key, api.CodeRefused, "once needs a time-before in front of it that is at most 24h0m0s away", 4, 0},
		{[]string{hour, "audience photos", "once a", "sealed AAAA"}, "method PUT", key, api.CodeRefused, "what is sealed does not hold", 6, 0},
		{[]string{"audience photos", "third-party method GET", "colour blue"}, "", key, api.CodeUnknownCaveat, "third-party caveats are not supported", 4, 0},
		{[]string{"audience photos", "third-party cnf " + key}, "", key, api.CodeUnknownCaveat, "third-party caveats are not supported", 4, 0},
	} {
		v, times := withLedger(t), 0
		if row.box != "" {
			v.Sealed = boxes{row.box}
		}
		q := verify.Question{Token: tokenWith(t, row.holder...), Request: request()}
		if row.proof != none {
			q.Proof = asked{row.proof, &times}
		}
		got := v.Verify(q)
		if got.Code != row.code || got.Reason() != row.reason || times != row.asked {
			t.Errorf("%q, %q: %s because %q, asked %d times; want %s because %q, %d", row.holder, row.box, got.Code, got.Reason(), times, row.code, row.reason, row.asked)
		}
		if row.at > 0 && got.Caveats()[row.at].Reason != row.reason {
			t.Errorf("%q, %q: %+v", row.holder, row.box, got.Caveats()[row.at])
		}
		for _, line := range got.Caveats() {
			if line.Held != (line.Reason == "") {
				t.Errorf("%q, %q: %+v", row.holder, row.box, line)
			}
		}
		if want := times > 0 || len(got.Points()) > 0; got.UsesUp() != want {
			t.Errorf("%q, %q: uses up %v", row.holder, row.box, got.UsesUp())
		}
	}
	q := verify.Question{Token: tokenWith(t, "audience photos"), Request: request(), MustBind: true}
	if got := newVerifier(t).Verify(q).Reason(); got != "the token is bound to no key, so it is not one for the scheme DPoP: send it as Bearer" {
		t.Error(got)
	}
	// A bare root that may be one lacks no audience: it is the policy that refuses.
	v := newVerifier(t)
	v.Policies = put{texts: []string{"audience mail"}}
	q = verify.Question{Token: tokenWith(t), Request: request(), AllowBare: true}
	if got := v.Verify(q); got.Code != api.CodeWrongAudience || got.Reason() != "a policy: audience photos is not mail" {
		t.Error(got.Code, got.Reason())
	}
}

// A proof that was used before is told of its caveat; of a sealed one only that
// it was. No policy has done that, nor to a token that refuses by itself.
func TestProofReplayed(t *testing.T) {
	const key = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	for holder, why := range map[string]string{"cnf " + key: "used up", "sealed AAAA": "it was used before"} {
		v := newVerifier(t)
		v.Sealed, v.Policies = boxes{"cnf " + key}, put{texts: []string{"method GET"}}
		got := v.Verify(verify.Question{Token: tokenWith(t, "audience photos", holder), Request: request(), Proof: prover(key)})
		if !got.Allowed() || got.Worsened() {
			t.Fatal(got.Code, got.Reason())
		}
		got.ProofReplayed(errors.New("used up"))
		line := got.Caveats()[4]
		if got.Code != api.CodeReplayed || got.Allowed() || got.Worsened() || got.ByPolicy() || line.Held || line.Reason != why {
			t.Errorf("%s: %s, worsened %v, %+v", holder, got.Code, got.Worsened(), line)
		}
	}
	if got := ask(newVerifier(t), tokenWith(t, "audience mail")); got.Worsened() {
		t.Error("worsened by no policy")
	}
}
