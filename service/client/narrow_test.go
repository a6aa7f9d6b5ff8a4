package client

import (
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/token"
)

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

func rootToken(t testing.TB, expires time.Time) *token.Token {
	t.Helper()
	key := token.RootKey{7}
	id := token.Identifier{Epoch: 3, RootKeyID: token.RootKeyID{9}}
	root, err := token.Mint(&key, "https://auth.example", id, token.Identity{User: "usr_AAAAAAAAAAAAAAAA", Device: "dev_AAAAAAAAAAAAAAAA", Expires: expires})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestWindow(t *testing.T) {
	for _, c := range []struct{ now, end string }{
		{"2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z"},
		{"2026-03-01T12:49:59Z", "2026-03-01T13:00:00Z"},
		{"2026-03-01T12:50:00Z", "2026-03-01T13:00:00Z"}, // exactly ten minutes are not less
		{"2026-03-01T12:50:00.1Z", "2026-03-01T14:00:00Z"},
		{"2026-03-01T23:59:59Z", "2026-03-02T01:00:00Z"},
		{"2026-03-01T12:15:00+05:30", "2026-03-01T07:00:00Z"}, // hours are UTC's
	} {
		if got := Window(at(c.now)); !got.Equal(at(c.end)) {
			t.Errorf("Window(%s) = %s, want %s", c.now, got, c.end)
		}
	}
}

func TestNarrow(t *testing.T) {
	const noon = "2026-03-01T12:00:00.9Z"
	for _, c := range []struct {
		name string
		now  string
		n    Narrowing
		want []string
	}{
		{
			"window, audience, then the rest", noon,
			Narrowing{
				For: time.Minute, Audience: "photos", Methods: []string{"GET", "HEAD"}, Paths: []string{"/photos/**", "/a"}, Actions: []string{"photos:read"},
				ClientIPs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Origins: []string{"https://app.example"}, Extra: []string{"x-tenant 7", "time-after 2026-01-01T00:00:00Z"},
			},
			[]string{
				"time-before 2026-03-01T13:00:00Z", "audience photos", "time-before 2026-03-01T12:01:00Z", "method GET HEAD", "path /photos/** /a",
				"allow photos:read", "client-ip 192.0.2.0/24", "origin https://app.example", "x-tenant 7", "time-after 2026-01-01T00:00:00Z",
			},
		},
		{
			"less than ten minutes left", "2026-03-01T12:55:00Z",
			Narrowing{For: time.Minute},
			[]string{"time-before 2026-03-01T14:00:00Z", "time-before 2026-03-01T12:56:00Z"},
		},
		{
			"the window's end itself", "2026-03-01T12:00:00Z",
			Narrowing{For: time.Hour, Audience: "a"},
			[]string{"time-before 2026-03-01T13:00:00Z", "audience a"},
		},
		{
			"beyond the window", "2026-03-01T12:00:00Z",
			Narrowing{For: time.Hour + time.Second, Audience: "a"},
			[]string{"audience a", "time-before 2026-03-01T13:00:01Z"},
		},
		{
			"a second", "2026-03-01T12:00:00Z",
			Narrowing{For: time.Second, Audience: "a"},
			[]string{"time-before 2026-03-01T13:00:00Z", "audience a", "time-before 2026-03-01T12:00:01Z"},
		},
		{"no expiry asked", noon, Narrowing{Audience: "a"}, []string{"audience a"}},
		{"nothing at all", noon, Narrowing{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := rootToken(t, at("2026-04-01T00:00:00Z"))
			c.n.ForSelf = true
			got, err := Narrow(root, c.n, at(c.now))
			if err != nil {
				t.Fatal(err)
			}
			texts := got.UnverifiedCaveats()
			if !slices.Equal(texts[:token.MintCaveats], root.UnverifiedCaveats()) {
				t.Errorf("the mint caveats changed: %q", texts)
			}
			if !slices.Equal(texts[token.MintCaveats:], c.want) {
				t.Errorf("got  %q\nwant %q", texts[token.MintCaveats:], c.want)
			}
			key := token.RootKey{7}
			if _, ok := got.Verify(&key); !ok {
				t.Error("the chain does not hold")
			}
		})
	}
}

// A device's tokens begin with the same bytes for an hour, and a token that is
// bounded by a window gets no second one, nor an audience that it names.
func TestNarrowSharesTheWindow(t *testing.T) {
	root := rootToken(t, at("2026-04-01T00:00:00Z"))
	narrow := func(from *token.Token, now string, n Narrowing) []string {
		t.Helper()
		out, err := Narrow(from, n, at(now))
		if err != nil {
			t.Fatal(err)
		}
		return out.UnverifiedCaveats()
	}
	n := Narrowing{For: time.Minute, Audience: "photos"}
	one, two := narrow(root, "2026-03-01T12:00:00Z", n), narrow(root, "2026-03-01T12:40:00Z", n)
	if !slices.Equal(one[:5], two[:5]) {
		t.Errorf("%q and %q do not begin alike", one, two)
	}
	first, err := Narrow(root, n, at("2026-03-01T12:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	// Neither where the root ends is a window, nor when something begins.
	begins, err := token.Attenuate(root, "time-after 2026-03-01T11:00:00Z")
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []*token.Token{rootToken(t, at("2026-03-01T12:30:00Z")), begins} {
		if got := narrow(from, "2026-03-01T12:00:00Z", n)[len(from.UnverifiedCaveats()):]; !slices.Equal(got[:2], one[3:5]) {
			t.Errorf("from %q: added %q", from.UnverifiedCaveats(), got)
		}
	}
	for audience, want := range map[string][]string{
		"":       {"time-before 2026-03-01T12:00:15Z"},
		"photos": {"time-before 2026-03-01T12:00:15Z"},
		"mail":   {"audience mail", "time-before 2026-03-01T12:00:15Z"}, // good nowhere, as was asked
	} {
		again := narrow(first, "2026-03-01T12:00:10Z", Narrowing{For: 5 * time.Second, Audience: audience, ForSelf: true})
		if got := again[len(first.UnverifiedCaveats()):]; !slices.Equal(got, want) {
			t.Errorf("narrowing again to %q added %q", audience, got)
		}
	}
}

func TestNarrowNotes(t *testing.T) {
	root := rootToken(t, at("2026-04-01T00:00:00Z"))
	for _, c := range []struct {
		n    Narrowing
		want string
	}{
		{Narrowing{}, `^note [A-Za-z0-9_-]{12}$`},
		{Narrowing{Note: "for the printer"}, `^note for the printer [A-Za-z0-9_-]{12}$`},
		{Narrowing{Note: "mine", ForSelf: true}, `^note mine$`},
	} {
		seen := map[string]bool{}
		for range 3 {
			out, err := Narrow(root, c.n, at("2026-03-01T12:00:00Z"))
			if err != nil {
				t.Fatal(err)
			}
			last := out.UnverifiedCaveats()[token.MintCaveats]
			if !regexp.MustCompile(c.want).MatchString(last) {
				t.Errorf("%+v: %q", c.n, last)
			}
			seen[last] = true
		}
		if (len(seen) == 1) != c.n.ForSelf {
			t.Errorf("%+v: %d notes of 3 delegations", c.n, len(seen))
		}
	}
}

func TestNarrowRefuses(t *testing.T) {
	root := rootToken(t, at("2026-04-01T00:00:00Z"))
	for name, c := range map[string]struct {
		n    Narrowing
		want error // nil: any
	}{
		"no time at all":       {Narrowing{For: time.Millisecond}, nil},
		"negative":             {Narrowing{For: -time.Minute}, nil},
		"audience with space":  {Narrowing{Audience: "a b"}, caveats.ErrSyntax},
		"lower-case method":    {Narrowing{Methods: []string{"get"}}, caveats.ErrSyntax},
		"relative path":        {Narrowing{Paths: []string{"photos"}}, caveats.ErrSyntax},
		"two paths in one":     {Narrowing{Paths: []string{"/a /b"}}, caveats.ErrSyntax},
		"star in an action":    {Narrowing{Actions: []string{"a*"}}, caveats.ErrSyntax},
		"no origin":            {Narrowing{Origins: []string{"app.example"}}, caveats.ErrSyntax},
		"unknown":              {Narrowing{Extra: []string{"tenant 7"}}, caveats.ErrUnknown},
		"a thumbprint of none": {Narrowing{Extra: []string{"cnf n"}}, caveats.ErrSyntax},
		"x- and no name":       {Narrowing{Extra: []string{"x- 7"}}, caveats.ErrSyntax},
		"x- and no argument":   {Narrowing{Extra: []string{"x-tenant"}}, caveats.ErrSyntax},
		"empty":                {Narrowing{Extra: []string{""}}, caveats.ErrSyntax},
		"control character":    {Narrowing{Note: "a\x1b[2J"}, caveats.ErrSyntax},
		"note too long":        {Narrowing{Note: strings.Repeat("a", 600)}, caveats.ErrSyntax},
		"too many":             {Narrowing{Extra: slices.Repeat([]string{"note n"}, 70)}, token.ErrTooLarge},
	} {
		out, err := Narrow(root, c.n, at("2026-03-01T12:00:00Z"))
		if err == nil || out != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, out, err, c.want)
		}
	}
}

func TestUnverifiedExpiry(t *testing.T) {
	root := rootToken(t, at("2026-04-01T00:00:00Z"))
	for _, c := range []struct {
		extra []string
		want  string
	}{
		{nil, "2026-04-01T00:00:00Z"},
		{[]string{"time-before 2026-03-02T00:00:00Z", "time-before 2026-03-03T00:00:00Z"}, "2026-03-02T00:00:00Z"},
		{[]string{"time-before 2027-01-01T00:00:00Z", "time-after 2026-01-01T00:00:00Z", "x-time-before 2025-01-01T00:00:00Z"}, "2026-04-01T00:00:00Z"},
	} {
		tok, err := token.Attenuate(root, c.extra...)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := UnverifiedExpiry(tok); !ok || !got.Equal(at(c.want)) {
			t.Errorf("%q: %v %v, want %s", c.extra, got, ok, c.want)
		}
	}
}

// Whatever is asked for, narrowing only appends, and what it appends can be
// read again.
func FuzzNarrow(f *testing.F) {
	f.Add(int64(time.Minute), "photos", "GET", "/photos/**", "photos:read", "x-tenant 7", "for you")
	f.Add(int64(0), "", "", "", "", "", "")
	f.Add(int64(time.Hour*48), "a b", "get", "a", "*", "note", "\x00")
	f.Fuzz(func(t *testing.T, lifetime int64, audience, method, path, action, extra, note string) {
		root := rootToken(t, at("2026-04-01T00:00:00Z"))
		n := Narrowing{For: time.Duration(lifetime), Audience: audience, Note: note}
		for _, l := range []struct {
			to *[]string
			s  string
		}{{&n.Methods, method}, {&n.Paths, path}, {&n.Actions, action}, {&n.Extra, extra}} {
			if l.s != "" {
				*l.to = []string{l.s}
			}
		}
		now := at("2026-03-01T12:34:56Z")
		out, err := Narrow(root, n, now)
		if err != nil {
			return
		}
		texts := out.UnverifiedCaveats()
		if !slices.Equal(texts[:token.MintCaveats], root.UnverifiedCaveats()) {
			t.Fatalf("not appended: %q", texts)
		}
		for _, text := range texts {
			if _, err := parse(text); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
		if e, ok := UnverifiedExpiry(out); lifetime != 0 && (!ok || e.After(now.Add(n.For))) {
			t.Errorf("expires %v, asked for %v", e, n.For)
		}
		if again, err := token.Parse(out.Text()); err != nil || again.Text() != out.Text() {
			t.Errorf("does not read back: %v", err)
		}
	})
}
