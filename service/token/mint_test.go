package token_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/token"
)

// The mint caveats: these texts, in this order, then what else limits the credential.
func TestMint(t *testing.T) {
	limits := []caveats.Caveat{mustCaveat(t, "audience photos"), mustCaveat(t, "allow photos:read")}
	late := who
	late.Expires = till.Add(999 * time.Millisecond).In(time.FixedZone("", 3600*5))
	for _, c := range []struct {
		name   string
		who    token.Identity
		limits []caveats.Caveat
		want   []string
	}{
		{"bare", who, nil, mint},
		{"limited", who, limits, append(slices.Clone(mint), "audience photos", "allow photos:read")},
		{"for the cookie", who, []caveats.Caveat{caveats.ViaCookie()}, append(slices.Clone(mint), "via cookie")},
		{"for the cookie, limited", who, append([]caveats.Caveat{caveats.ViaCookie()}, limits...), append(slices.Clone(mint), "via cookie", "audience photos", "allow photos:read")},
		{"limited, for the cookie", who, append(slices.Clone(limits), caveats.ViaCookie()), append(slices.Clone(mint), "audience photos", "allow photos:read", "via cookie")},
		{"for the cookie twice", who, []caveats.Caveat{caveats.ViaCookie(), caveats.ViaCookie()}, append(slices.Clone(mint), "via cookie", "via cookie")},
		{"cut to the whole second, in UTC", late, nil, mint},
		{"a service", token.Identity{User: "svc_AAAAAAAAAAAAAAAA", Device: phone, Expires: till}, nil, []string{tillText, "user svc_AAAAAAAAAAAAAAAA", "device " + phone}},
	} {
		tok, err := token.Mint(&rootKey, location, id, c.who, c.limits...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := tok.UnverifiedCaveats(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if tok.UnverifiedLocation() != location || tok.UnverifiedIdentifier() != id {
			t.Errorf("%s: %q, %v", c.name, tok.UnverifiedLocation(), tok.UnverifiedIdentifier())
		}
		chain := mustVerify(t, mustParse(t, tok.Text()))
		got, ok := chain.Identity()
		if want := (token.Identity{User: c.who.User, Device: c.who.Device, Expires: till}); !ok || got != want {
			t.Errorf("%s: identity %+v, %v; want %+v", c.name, got, ok, want)
		}
		bare := len(c.limits) == 0 || len(c.limits) == 1 && c.limits[0] == caveats.ViaCookie()
		if chain.Bare() != bare || chain.Len() != len(c.want) || chain.Identifier() != id {
			t.Errorf("%s: bare %v, %d caveats, %v", c.name, chain.Bare(), chain.Len(), chain.Identifier())
		}
	}
}

func TestMintRefuses(t *testing.T) {
	for name, mint := range map[string]func() (*token.Token, error){
		"no user": func() (*token.Token, error) {
			return token.Mint(&rootKey, location, id, token.Identity{Device: phone, Expires: till})
		},
		"no device": func() (*token.Token, error) {
			return token.Mint(&rootKey, location, id, token.Identity{User: alice, Expires: till})
		},
		"a name": func() (*token.Token, error) {
			return token.Mint(&rootKey, location, id, token.Identity{User: "alice", Device: phone, Expires: till})
		},
		"a device as user": func() (*token.Token, error) {
			return token.Mint(&rootKey, location, id, token.Identity{User: phone, Device: phone, Expires: till})
		},
		"a user as device": func() (*token.Token, error) {
			return token.Mint(&rootKey, location, id, token.Identity{User: alice, Device: alice, Expires: till})
		},
		"two users": func() (*token.Token, error) {
			return token.Mint(&rootKey, location, id, token.Identity{User: alice + " " + alice, Device: phone, Expires: till})
		},
		"epoch 0": func() (*token.Token, error) {
			return token.Mint(&rootKey, location, token.Identifier{RootKeyID: keyID}, who)
		},
		"the zero caveat":    func() (*token.Token, error) { return token.Mint(&rootKey, location, id, who, caveats.Caveat{}) },
		"a garbled location": func() (*token.Token, error) { return token.Mint(&rootKey, "https://a\n", id, who) },
		"a huge location":    func() (*token.Token, error) { return token.Mint(&rootKey, strings.Repeat("l", 4096), id, who) },
	} {
		if tok, err := mint(); err == nil || tok != nil {
			t.Errorf("%s: minted", name)
		}
	}
}

func TestAttenuate(t *testing.T) {
	root := mustMint(t)
	before := root.Text()
	narrow := mustAttenuate(t, root, "audience photos", "note für Ömer ✓", "x-own thing", "nobody-knows this")
	want := append(slices.Clone(mint), "audience photos", "note für Ömer ✓", "x-own thing", "nobody-knows this")
	if got := narrow.UnverifiedCaveats(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if root.Text() != before || len(root.UnverifiedCaveats()) != 3 {
		t.Error("the parent changed")
	}
	chain := mustVerify(t, narrow)
	if chain.Bare() || chain.Len() != 7 {
		t.Errorf("bare %v, %d caveats", chain.Bare(), chain.Len())
	}
	// All at once or one at a time: the same token.
	step := root
	for _, text := range want[3:] {
		step = mustAttenuate(t, step, text)
	}
	if step.Text() != narrow.Text() {
		t.Error("one at a time is another token")
	}
	if same := mustAttenuate(t, root); same.Text() != before {
		t.Error("nothing appended, and another token")
	}
}

func TestAttenuateRefuses(t *testing.T) {
	root := mustMint(t)
	x512 := strings.Repeat("x", 512)
	for _, c := range []struct {
		name  string
		texts []string
		large bool
	}{
		{"empty", []string{""}, false},
		{"one of them empty", []string{"audience a", ""}, false},
		{"newline", []string{"note a\nuser " + mallory}, false},
		{"CR", []string{"note a\r"}, false},
		{"NUL", []string{"note a\x00"}, false},
		{"tab", []string{"note\ta"}, false},
		{"escape", []string{"note \x1b[2J"}, false},
		{"DEL", []string{"note \x7f"}, false},
		{"invalid UTF-8", []string{"note \xff"}, false},
		{"cut UTF-8", []string{"note \xc3"}, false},
		{"513 bytes", []string{x512 + "x"}, true},
		{"62 more than the mint caveats", slices.Repeat([]string{"x"}, 62), true},
		{"beyond 4096 characters", []string{x512, x512, x512, x512, x512, x512}, true},
	} {
		tok, err := token.Attenuate(root, c.texts...)
		if err == nil || tok != nil || errors.Is(err, token.ErrTooLarge) != c.large {
			t.Errorf("%s: %v, %v", c.name, tok != nil, err)
		}
	}
	for name, texts := range map[string][]string{"512 bytes": {x512}, "64 caveats": slices.Repeat([]string{"x"}, 61)} {
		if _, err := token.Attenuate(root, texts...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Identity is read by position. What holders append is a condition, whatever it says.
func TestIdentityIsByPosition(t *testing.T) {
	for _, texts := range [][]string{
		{"user " + mallory},
		{"device dev_MalloryMallory12"},
		{"time-before 2099-01-01T00:00:00Z"},
		{"time-before 2001-01-01T00:00:00Z"},
		{"time-before 2099-01-01T00:00:00Z", "user " + mallory, "device dev_MalloryMallory12"},
		{"user = admin", "user", "user  x", "user usr_", "User " + mallory},
	} {
		id, ok := mustVerify(t, mustMint(t, texts...)).Identity()
		if !ok || id != who {
			t.Errorf("%q: %+v, %v", texts, id, ok)
		}
	}
}

// A token whose first three caveats are not the mint caveats is nobody's, even
// when its chain holds.
func TestNoIdentity(t *testing.T) {
	u, d := "user "+alice, "device "+phone
	for _, texts := range [][]string{
		nil,
		{tillText},
		{tillText, u},
		{tillText, d, u},
		{u, d, tillText},
		{u, tillText, d},
		{tillText, u, u},
		{tillText, d, d},
		{"audience a", tillText, u, d},
		{"time-after 2020-01-01T00:00:00Z", u, d},
		{"time-before soon", u, d},
		{"time-before 2026-11-21T23:00:00Z ", u, d},
		{tillText, "user alice", d},
		{tillText, "user " + phone, d},
		{tillText, u, "device " + alice},
		{tillText, u, "device phone"},
		{tillText, "user " + alice + " ", d},
		{tillText, "user  " + alice, d},
		{tillText, "user " + alice + " " + mallory, d},
		{tillText, "note " + alice, d},
		{tillText, alice, d},
		{tillText, u, phone},
		{"2026-11-21T23:00:00Z", u, d},
		{tillText, u + "\n", d},
		{"", u, d},
	} {
		tok := raw(t, nil, texts...)
		if got, ok := mustVerify(t, tok).Identity(); ok || got != (token.Identity{}) {
			t.Errorf("%q: %+v", texts, got)
		}
	}
	// The same texts, right, hold.
	if got, ok := mustVerify(t, raw(t, nil, mint...)).Identity(); !ok || got != who {
		t.Errorf("%+v, %v", got, ok)
	}
	// A third-party caveat at a mint position is nobody's word.
	for i := range 3 {
		if got, ok := mustVerify(t, raw(t, map[int]bool{i: true}, mint...)).Identity(); ok || got != (token.Identity{}) {
			t.Errorf("third party at %d: %+v", i, got)
		}
	}
}
