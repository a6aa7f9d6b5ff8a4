package verify_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/revocation"
	"macaroond/service/token"
	"macaroond/service/verify"
	"macaroond/storage"
)

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// The refusals of a token whose chain holds, in their order, and how
// to bring each about.
var refusals = []struct {
	code    string
	caveat  string
	prepare func(v *verify.Verifier, c token.Chain)
}{
	{api.CodeStale, "", func(v *verify.Verifier, _ token.Chain) { v.Revoked.SetAsOf(now.Add(-staleness - 1)) }},
	{api.CodeRevoked, "", func(v *verify.Verifier, c token.Chain) {
		v.Revoked.Add(storage.Revocation{Grain: storage.GrainDevice, RootKeyID: c.Identifier().RootKeyID, ExpiresAt: till})
	}},
	{api.CodeUnknownCaveat, "nobody-knows this", nil},
	{api.CodeExpired, "time-before 2026-11-21T12:00:00Z", nil},
	{api.CodeNotYetValid, "time-after 2026-11-21T12:00:01Z", nil},
	{api.CodeWrongAudience, "audience mail", nil},
	{api.CodeRefused, "method DELETE", nil},
}

// Every set of simultaneous refusals, with the caveats in either order, is
// answered with the first of them, and with invalid or malformed when the chain
// is broken or the text is none. All refused caveats are explained, and none of
// a token whose chain did not hold.
func TestPrecedence(t *testing.T) {
	sets := 0
	for set := range 1 << len(refusals) {
		for _, reversed := range []bool{false, true} {
			sets++
			want, holder := api.CodeOK, []string{"audience photos"}
			v := newVerifier(t)
			for i := len(refusals) - 1; i >= 0; i-- { // the first in the order is last to be seen
				r := refusals[i]
				if set&(1<<i) == 0 {
					continue
				}
				want = r.code
				if r.caveat != "" {
					holder = append(holder, r.caveat)
				}
			}
			if reversed {
				slices.Reverse(holder)
			}
			text := tokenWith(t, holder...)
			chain, _, _ := v.Authenticate(text)
			for i, r := range refusals {
				if set&(1<<i) != 0 && r.prepare != nil {
					r.prepare(v, chain)
				}
			}
			got := ask(v, text)
			if got.Code != want || got.Allowed() != (want == api.CodeOK) || !got.Held || got.Reason() == "" {
				t.Errorf("%q: %s (%s), want %s", holder, got.Code, got.Reason(), want)
			}
			checkExplained(t, got, holder)

			raw, _ := base64.RawURLEncoding.DecodeString(text)
			raw[len(raw)-1] ^= 1
			tellsNothing(t, ask(v, encode(raw)), api.CodeInvalid)
			tellsNothing(t, ask(v, text+"="), api.CodeMalformed)
			tellsNothing(t, ask(v, text+strings.Repeat("A", 4097-len(text))), api.CodeTooLarge)
		}
	}
	if sets != 256 {
		t.Fatalf("%d sets", sets)
	}
}

// checkExplained wants a line for every caveat: the mint caveats hold, and of
// the holder's those that are not in the table of refusals.
func checkExplained(t *testing.T, v *verify.Verdict, holder []string) {
	t.Helper()
	lines := v.Caveats()
	if len(lines) != len(mint)+len(holder) {
		t.Fatalf("%d lines for %q", len(lines), holder)
	}
	for i, line := range lines {
		want := api.CaveatVerdict{Index: i, Source: "mint", Held: true}
		if i < len(mint) {
			want.Text = mint[i]
		} else {
			want.Text, want.Source = holder[i-len(mint)], "holder"
			for _, r := range refusals {
				want.Held = want.Held && r.caveat != want.Text
			}
		}
		if (line.Reason == "") != line.Held {
			t.Errorf("%q: held %v, reason %q", line.Text, line.Held, line.Reason)
		}
		line.Reason = ""
		if line != want {
			t.Errorf("%+v, want %+v", line, want)
		}
	}
}

// tellsNothing wants the code and nothing else that depends on the token.
func tellsNothing(t *testing.T, v *verify.Verdict, code string) {
	t.Helper()
	if v.Code != code || v.Allowed() || v.Reason() == "" || strings.Contains(v.Reason(), alice) || v.Caveats() != nil ||
		v.Held || v.Identity != (token.Identity{}) || !v.Expires.IsZero() || !reflect.ValueOf(v.Chain).IsZero() {
		t.Errorf("%s, want %s; %q, %+v", v.Code, code, v.Reason(), v.Identity)
	}
}

// Refusals before the chain: which text gets which code.
func TestRefusedBeforeTheChain(t *testing.T) {
	v := newVerifier(t)
	good := tokenWith(t, "audience photos")
	unknown := library(t, append(slices.Clone(mint), "audience photos")...)
	raw, _ := unknown.MarshalBinary()
	otherEpoch := []byte(strings.Replace(string(raw), "m1.1.", "m1.2.", 1))
	otherKey := []byte(strings.Replace(string(raw), id.RootKeyID.String(), token.RootKeyID{9}.String(), 1))
	for name, c := range map[string]struct{ text, code string }{
		"nothing":                       {"", api.CodeMalformed},
		"rubbish":                       {"rubbish!", api.CodeMalformed},
		"a newline after it":            {good + "\n", api.CodeMalformed},
		"4097 characters":               {strings.Repeat("A", 4097), api.CodeTooLarge},
		"65 caveats":                    {tokenWith(t, slices.Repeat([]string{"note x"}, 62)...), api.CodeTooLarge},
		"513 bytes":                     {tokenWith(t, strings.Repeat("x", 513)), api.CodeTooLarge},
		"too large and malformed":       {strings.Repeat("=", 4097), api.CodeTooLarge}, // not looked into
		"an unknown epoch":              {encode(otherEpoch), api.CodeInvalid},
		"another root key ID":           {encode(otherKey), api.CodeInvalid},
		"no mint caveats":               {textOf(t, library(t)), api.CodeInvalid},
		"two mint caveats":              {textOf(t, library(t, mint[:2]...)), api.CodeInvalid},
		"mint caveats in another order": {textOf(t, library(t, mint[0], mint[2], mint[1], "audience photos")), api.CodeInvalid},
		"a caveat before them":          {textOf(t, library(t, "audience photos", mint[0], mint[1], mint[2])), api.CodeInvalid},
		"a third-party mint caveat":     {textOf(t, library(t, mint[0], "third-party "+mint[1], mint[2], "audience photos")), api.CodeInvalid},
	} {
		tellsNothing(t, ask(v, c.text), c.code)
		if _, _, code := v.Authenticate(c.text); code != c.code {
			t.Errorf("%s: authenticated as %q", name, code)
		}
	}
	if got := ask(v, good); !got.Allowed() || got.Reason() == "" {
		t.Errorf("the good one: %s", got.Code)
	}
}

// anyKey says of every identifier what it is told to.
type anyKey struct {
	key   token.RootKey
	known bool
}

func (k anyKey) Anchor(t *token.Token) (token.Anchor, bool) {
	return token.Anchor{Signature: token.Start(&k.key, t.UnverifiedIdentifier().String())}, k.known
}

// A key that the keyring does not vouch for counts for nothing, even if the
// chain holds under it.
func TestUnknownKeyNeverHolds(t *testing.T) {
	v := newVerifier(t)
	key, _ := ring.RootKey(id)
	text := tokenWith(t, "audience photos")
	v.Keys = anyKey{key, true}
	if got := ask(v, text); !got.Allowed() {
		t.Fatalf("known: %s", got.Code)
	}
	v.Keys = anyKey{key, false}
	tellsNothing(t, ask(v, text), api.CodeInvalid)
	v.Keys = anyKey{}
	tellsNothing(t, ask(v, text), api.CodeInvalid)
}

// Who may come without naming an audience, and what naming one means.
func TestAudienceRule(t *testing.T) {
	const ok, wrong = api.CodeOK, api.CodeWrongAudience
	for _, c := range []struct {
		holder             []string
		audience           string
		elsewhere, atOwner string // without and with AllowBare
	}{
		{nil, "photos", wrong, ok},
		{nil, "", wrong, ok},
		{[]string{"audience photos"}, "photos", ok, ok},
		{[]string{"audience photos"}, "mail", wrong, wrong},
		{[]string{"audience photos"}, "", wrong, wrong},
		{[]string{"audience photos"}, "photo", wrong, wrong},
		{[]string{"audience photos"}, "PHOTOS", wrong, wrong},
		{[]string{"audience photos", "audience photos"}, "photos", ok, ok},
		{[]string{"audience photos", "audience mail"}, "photos", wrong, wrong},
		{[]string{"audience photos", "audience mail"}, "mail", wrong, wrong},
		{[]string{"audience mail", "audience photos"}, "photos", wrong, wrong},
		{[]string{"note x"}, "photos", wrong, wrong},
		{[]string{"method GET"}, "photos", wrong, wrong},
		{[]string{"device " + phone}, "photos", wrong, wrong},
		{[]string{"time-before 2026-11-21T12:30:00Z"}, "photos", wrong, wrong},
		{[]string{"note audience photos"}, "photos", wrong, wrong},
		{[]string{"x-tenant blue"}, "photos", wrong, wrong},
		{[]string{"audience photos mail"}, "photos", api.CodeUnknownCaveat, api.CodeUnknownCaveat},
		{[]string{"audience"}, "", api.CodeUnknownCaveat, api.CodeUnknownCaveat},
		{[]string{"audience "}, "", api.CodeUnknownCaveat, api.CodeUnknownCaveat},
		{[]string{"third-party audience photos"}, "photos", api.CodeUnknownCaveat, api.CodeUnknownCaveat},
		{[]string{"third-party note x"}, "photos", api.CodeUnknownCaveat, api.CodeUnknownCaveat},
		{[]string{"audience photos", "third-party note x"}, "photos", api.CodeUnknownCaveat, api.CodeUnknownCaveat},
		{[]string{""}, "photos", api.CodeUnknownCaveat, api.CodeUnknownCaveat},
	} {
		for allowBare, want := range map[bool]string{false: c.elsewhere, true: c.atOwner} {
			q := verify.Question{Token: tokenWith(t, c.holder...), Request: request(), AllowBare: allowBare}
			q.Request.Audience = c.audience
			v := newVerifier(t)
			if got := v.Verify(q); got.Code != want {
				t.Errorf("%q at %q, AllowBare %v: %s (%s), want %s", c.holder, c.audience, allowBare, got.Code, got.Reason(), want)
			}
		}
	}
	v := newVerifier(t)
	bare := ask(v, tokenWith(t))
	other := ask(v, tokenWith(t, "audience mail"))
	if bare.Reason() == other.Reason() || !strings.Contains(bare.Reason(), "names no audience") || strings.Contains(other.Reason(), "names no audience") {
		t.Errorf("%q and %q", bare.Reason(), other.Reason())
	}
	// It is said at the authority, too, where only the bare root needs none.
	narrowed := ask(v, tokenWith(t, "note x"))
	if !strings.Contains(bare.Reason(), "at the authority") || !strings.Contains(narrowed.Reason(), "names no audience") || strings.Contains(narrowed.Reason(), "at the authority") {
		t.Errorf("%q and %q", bare.Reason(), narrowed.Reason())
	}
}

// AllowBare excuses from naming an audience and from nothing else.
func TestBareIsStillJudged(t *testing.T) {
	q := verify.Question{Token: tokenWith(t), Request: request(), AllowBare: true}
	for _, c := range []struct {
		name string
		at   time.Time
		want string
	}{
		{"an instant before its end", till.Add(-1), api.CodeOK},
		{"at its end", till, api.CodeExpired},
		{"after it", till.Add(time.Hour), api.CodeExpired},
	} {
		v := newVerifier(t)
		v.Revoked.SetAsOf(c.at)
		q.Request.Time = c.at
		if got := v.Verify(q); got.Code != c.want {
			t.Errorf("%s: %s", c.name, got.Code)
		}
	}
}

func TestStale(t *testing.T) {
	text := tokenWith(t, "audience photos")
	for _, c := range []struct {
		name string
		asOf time.Time
		want string
	}{
		{"just read", now, api.CodeOK},
		{"as old as allowed", now.Add(-staleness), api.CodeOK},
		{"an instant older", now.Add(-staleness - 1), api.CodeStale},
		{"a clock that went back", now.Add(time.Hour), api.CodeOK},
	} {
		v := newVerifier(t)
		v.Revoked.SetAsOf(c.asOf)
		got := ask(v, text)
		if got.Code != c.want || !got.Held {
			t.Errorf("%s: %s", c.name, got.Code)
		}
	}
	v := newVerifier(t)
	v.Revoked = revocation.New() // never read to its end
	if got := ask(v, text); got.Code != api.CodeStale {
		t.Errorf("never read: %s", got.Code)
	}
	v.MaxStaleness = 1<<63 - 1
	_ = ask(v, text) // must not overflow into anything but a verdict
}

// The effective expiry is the earliest time-before, wherever it stands, and
// nothing else that looks like one.
func TestExpires(t *testing.T) {
	early := time.Date(2026, 11, 21, 12, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		holder []string
		want   time.Time
	}{
		{nil, till},
		{[]string{"time-before 2026-11-21T12:30:00Z"}, early},
		{[]string{"time-before 2026-11-21T12:40:00Z", "time-before 2026-11-21T12:30:00Z", "time-before 2026-11-21T12:50:00Z"}, early},
		{[]string{"time-before 2026-11-21T12:30:00.5Z"}, early.Add(500 * time.Millisecond)},
		{[]string{"time-before 2099-01-01T00:00:00Z"}, till},
		{[]string{"time-before 2026-11-21T11:00:00Z"}, now.Add(-time.Hour)},
		{[]string{"time-after 2026-11-21T11:00:00Z"}, till},
		{[]string{"time-before soon", "time-before 2026-11-21T11:00:00", "note time-before 2026-11-21T11:00:00Z"}, till},
		{[]string{"third-party time-before 2026-11-21T11:00:00Z"}, till},
	} {
		v := newVerifier(t)
		got := ask(v, tokenWith(t, append(c.holder, "audience photos")...))
		if !got.Held || !got.Expires.Equal(c.want) || !got.Identity.Expires.Equal(till) {
			t.Errorf("%q: expires %v, want %v; minted till %v", c.holder, got.Expires, c.want, got.Identity.Expires)
		}
	}
}

// Identity comes from the mint caveats: not from later ones, and not from what
// the asker says.
func TestIdentity(t *testing.T) {
	for _, c := range []struct {
		holder []string
		want   string
	}{
		{[]string{"user " + alice}, api.CodeOK},
		{[]string{"device " + phone, "user " + alice}, api.CodeOK},
		{[]string{"user " + mallory}, api.CodeRefused},
		{[]string{"device dev_MalloryMallory12"}, api.CodeRefused},
		{[]string{"user " + alice, "user " + mallory}, api.CodeRefused},
		{[]string{"user = admin"}, api.CodeUnknownCaveat},
	} {
		v := newVerifier(t)
		for _, said := range []string{"", mallory} {
			q := verify.Question{Token: tokenWith(t, append(c.holder, "audience photos")...), Request: request()}
			q.Request.User, q.Request.Device = said, said
			got := v.Verify(q)
			if got.Code != c.want || got.Identity.User != alice || got.Identity.Device != phone {
				t.Errorf("%q: %s, %+v", c.holder, got.Code, got.Identity)
			}
		}
	}
}

// A verifier's own caveats: judged by it, unknown to others, and never shown a
// token whose chain does not hold.
func TestExtensions(t *testing.T) {
	asked := 0
	lang, err := caveats.NewLanguage(caveats.Extension{Name: "x-tenant", Check: func(args string, r *caveats.Request) error {
		asked++
		if r.User != alice || r.Device != phone {
			return errors.New("not given the identity")
		}
		r.Method, r.Audience = "DELETE", "mail" // must not widen what others see
		if r.Extra["tenant"] != args {
			return errors.New("another tenant")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t)
	v.Language = lang
	for _, c := range []struct {
		holder []string
		want   string
	}{
		{[]string{"x-tenant blue", "audience photos"}, api.CodeOK},
		{[]string{"x-tenant red", "audience photos"}, api.CodeRefused},
		{[]string{"x-tenant blue", "x-tenant red", "audience photos"}, api.CodeRefused},
		{[]string{"x-tenant blue", "audience photos", "method DELETE"}, api.CodeRefused},
		{[]string{"x-tenant blue", "audience mail"}, api.CodeWrongAudience},
		{[]string{"x-tenant", "audience photos"}, api.CodeUnknownCaveat},
		{[]string{"x-other blue", "audience photos"}, api.CodeUnknownCaveat},
	} {
		if got := ask(v, tokenWith(t, c.holder...)); got.Code != c.want {
			t.Errorf("%q: %s (%s), want %s", c.holder, got.Code, got.Reason(), c.want)
		}
	}
	if asked == 0 {
		t.Fatal("the extension is never asked")
	}
	before := asked
	raw, _ := library(t, append(slices.Clone(mint), "x-tenant blue", "audience photos")...).MarshalBinary()
	raw[len(raw)-1] ^= 1
	tellsNothing(t, ask(v, encode(raw)), api.CodeInvalid)
	if asked != before {
		t.Error("the extension was shown a forged token")
	}
	v.Language = caveats.Language{}
	if got := ask(v, tokenWith(t, "x-tenant blue", "audience photos")); got.Code != api.CodeUnknownCaveat {
		t.Errorf("without the extension: %s", got.Code)
	}
}

// Each of 64 caveats counts, the first as the last.
func TestEveryCaveatCounts(t *testing.T) {
	v := newVerifier(t)
	for i := range 61 {
		holder := slices.Repeat([]string{"note x"}, 61)
		holder[(i+1)%61] = "audience photos"
		if got := ask(v, tokenWith(t, holder...)); !got.Allowed() {
			t.Fatalf("all hold: %s", got.Code)
		}
		holder[i] = "method DELETE"
		got := ask(v, tokenWith(t, holder...))
		if got.Code != api.CodeRefused || !strings.Contains(got.Reason(), "DELETE") {
			t.Errorf("caveat %d: %s, %q", i+3, got.Code, got.Reason())
		}
		for j, line := range got.Caveats() {
			if line.Held != (j != i+3) {
				t.Errorf("caveat %d refused: line %d held %v", i+3, j, line.Held)
			}
		}
	}
}

// With several refusals the sentence is that of the code, not of the first caveat.
func TestReason(t *testing.T) {
	v := newVerifier(t)
	for _, c := range []struct {
		holder []string
		says   string
	}{
		{[]string{"method DELETE", "time-before 2026-11-21T11:00:00Z", "audience photos"}, "expired at 2026-11-21T11:00:00Z"},
		{[]string{"method DELETE", "audience mail", "audience photos"}, "mail"},
		{[]string{"method DELETE", "time-after 2026-11-21T13:00:00Z", "audience photos"}, "not valid before"},
		{[]string{"method DELETE", "nobody-knows", "audience photos"}, "nobody-knows"},
		{[]string{"method DELETE", "third-party x", "audience photos"}, "third-party"},
		{[]string{"method DELETE", "path /x", "audience photos"}, "DELETE"},
	} {
		got := ask(v, tokenWith(t, c.holder...))
		if !strings.Contains(got.Reason(), c.says) {
			t.Errorf("%q: %s: %q, want …%s…", c.holder, got.Code, got.Reason(), c.says)
		}
	}
	var zero verify.Verdict
	if zero.Allowed() || zero.Caveats() != nil || zero.Reason() != "" {
		t.Error("the zero verdict allows or explains")
	}
}

// A caveat that could garble a terminal or a log is shown escaped.
func TestCaveatsAreShownSafely(t *testing.T) {
	v := newVerifier(t)
	for text, want := range map[string]string{
		"note ok ✓":              "note ok ✓",
		"note \x1b[2J":           `"note \x1b[2J"`,
		"note a\nuser b":         `"note a\nuser b"`,
		"note \xff":              `"note \xff"`,
		"note \u202e":            `"note \u202e"`,
		"third-party \x00\x01id": `"\x00\x01id"`,
	} {
		got := ask(v, tokenWith(t, text, "audience photos"))
		lines := got.Caveats()
		if len(lines) != 5 || lines[3].Text != want {
			t.Errorf("%q is shown as %+v", text, lines)
			continue
		}
		for _, r := range lines[3].Reason + got.Reason() {
			if r < ' ' || r == 0x7f || r == '\u202e' {
				t.Errorf("%q is explained with %q", text, lines[3].Reason)
			}
		}
	}
}

// Authenticating says whose token it is, and looks at neither the list nor the
// caveats: a token that has expired or is revoked can still be revoked.
func TestAuthenticate(t *testing.T) {
	v := newVerifier(t)
	v.Revoked = revocation.New()
	v.Revoked.Add(storage.Revocation{Grain: storage.GrainEpoch, Epoch: 1, ExpiresAt: till})
	chain, who, code := v.Authenticate(tokenWith(t, "time-before 2001-01-01T00:00:00Z", "nobody-knows this", "third-party x"))
	if code != "" || who != (token.Identity{User: alice, Device: phone, Expires: till}) || chain.Len() != 6 || chain.Identifier() != id {
		t.Errorf("%q, %+v", code, who)
	}
}

// A verdict prints without the signatures that it holds.
func TestVerdictDoesNotPrintSignatures(t *testing.T) {
	v := newVerifier(t)
	got := ask(v, tokenWith(t, "audience photos"))
	js, _ := json.Marshal(got)
	out := string(js)
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d", "%s"} {
		out += fmt.Sprintf(verb, got) + fmt.Sprintf(verb, *got)
	}
	for n := range got.Chain.Len() + 1 {
		part := got.Chain.Signature(n)[:6]
		for _, shown := range []string{fmt.Sprint(part), fmt.Sprintf("%x", part), fmt.Sprintf("%#v", part)} {
			if strings.Contains(out, strings.Trim(strings.TrimPrefix(shown, "[]byte"), "[]{}")) {
				t.Errorf("signature %d shows: %s", n, out)
			}
		}
	}
}
