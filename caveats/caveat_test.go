package caveats

import (
	"crypto/sha256"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// example has a caveat of each kind that holds for the full request, but for
// those that only the authority judges.
var example = map[string]string{
	"time-before": "time-before 2026-11-21T23:00:00Z",
	"time-after":  "time-after 2026-11-21T22:00:00.25Z",
	"user":        "user usr_alice",
	"device":      "device dev_phone",
	"audience":    "audience photos",
	"method":      "method HEAD GET",
	"path":        "path /albums/*/cover /photos/**",
	"allow":       "allow albums:read photos:*",
	"client-ip":   "client-ip 2001:db8::/32 192.0.2.0/24",
	"origin":      "origin https://www.example https://app.example",
	"body-sha256": "body-sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	"once":        "once b64-or_any.word",
	"cnf":         "cnf 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
	"sealed":      "sealed AAECAwQ",
	"via":         "via cookie",
	"note":        "note for the printer in the hall",
}

// elsewhere are those that only the authority judges.
func elsewhere(name string) bool { return name == "once" || name == "sealed" }

func TestCaveat(t *testing.T) {
	c, err := Parse("method GET HEAD")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name() != "method" || c.Argument() != "GET HEAD" || c.String() != "method GET HEAD" {
		t.Errorf("name %q, argument %q, text %q", c.Name(), c.Argument(), c)
	}
	for range 2 { // a sequence can be walked again
		if args := slices.Collect(c.Args()); !slices.Equal(args, []string{"GET", "HEAD"}) {
			t.Errorf("args %q", args)
		}
	}
	if again, _ := Parse("method GET HEAD"); again != c {
		t.Error("equal texts, different caveats")
	}
	if other, _ := Parse("method HEAD GET"); other == c {
		t.Error("different texts, equal caveats")
	}
}

// The zero caveat, the zero outcome, and outcomes from nowhere refuse.
func TestZeroValuesRefuse(t *testing.T) {
	var c Caveat
	if o := c.Check(full()); o != Unknown || c.Explain(full()) == "" || !c.NeedsRequest() {
		t.Errorf("the zero caveat: %v, %q", o, c.Explain(full()))
	}
	if c.String() != "" || c.Name() != "" || len(slices.Collect(c.Args())) != 0 {
		t.Error("the zero caveat has a text")
	}
	var o Outcome
	if o == Held || o != Unknown || Outcome(200).String() != "unknown_caveat" {
		t.Errorf("the zero outcome is %v, 200 is %v", o, Outcome(200))
	}
}

func TestOutcomeCodes(t *testing.T) {
	for o, code := range map[Outcome]string{
		Held: "held", Unknown: "unknown_caveat", Expired: "expired",
		NotYetValid: "not_yet_valid", WrongAudience: "wrong_audience", Refused: "refused",
	} {
		if o.String() != code {
			t.Errorf("%d is %q, want %q", o, o, code)
		}
	}
}

func TestNeedsRequest(t *testing.T) {
	without := []string{"time-before", "time-after", "user", "device", "audience", "note"}
	for name, text := range example {
		c, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if c.NeedsRequest() == slices.Contains(without, name) {
			t.Errorf("%s needs a request: %v", name, c.NeedsRequest())
		}
		_, before := Before(text)
		_, after := After(text)
		if before != (name == "time-before") || after != (name == "time-after") {
			t.Errorf("%s has a time: %v, %v", name, before, after)
		}
	}
}

func TestBuilders(t *testing.T) {
	at := time.Date(2026, 11, 21, 23, 30, 0, 999999999, time.FixedZone("", 3600))
	type built struct {
		c   Caveat
		err error
	}
	of := func(c Caveat, err error) built { return built{c, err} }
	sum := sha256.Sum256(nil)
	for want, b := range map[string]built{
		"time-before 2026-11-21T22:30:00Z":                {TimeBefore(at), nil},
		"time-after 2026-11-21T22:30:00Z":                 {TimeAfter(at), nil},
		"time-before 9999-12-31T23:59:59Z":                {TimeBefore(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)), nil},
		"time-after 0000-01-01T00:00:00Z":                 {TimeAfter(time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)), nil},
		"time-before 0001-01-01T00:00:00Z":                {TimeBefore(time.Time{}), nil},
		"time-before 9999-06-01T00:00:00Z":                {TimeBefore(time.Date(9999, 6, 1, 0, 0, 0, 0, time.UTC)), nil},
		"time-after 0000-06-01T00:00:00Z":                 {TimeAfter(time.Date(0, 6, 1, 0, 0, 0, 0, time.UTC)), nil},
		"via cookie":                                      {ViaCookie(), nil},
		"user usr_a":                                      of(User("usr_a")),
		"device dev_a":                                    of(Device("dev_a")),
		"audience photos":                                 of(Audience("photos")),
		"method GET HEAD":                                 of(Method("GET", "HEAD")),
		"path /photos/** /a%20b":                          of(Path("/photos/**", "/a%20b")),
		"allow photos:* x":                                of(Allow("photos:*", "x")),
		"client-ip 10.0.0.0/8":                            of(ClientIP(netip.MustParsePrefix("10.1.2.3/8"))),
		"origin http://localhost:3000":                    of(Origin("http://localhost:3000")),
		"note two words":                                  of(Note("two words")),
		"once 1":                                          of(Once("1")),
		"sealed AA":                                       of(Sealed("AA")),
		"cnf 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I": of(Cnf("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I")),
		"body-sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": {BodySHA256(sum), nil},
	} {
		if b.err != nil || b.c.String() != want {
			t.Errorf("got %q, %v; want %q", b.c, b.err, want)
		}
		if again, err := Parse(want); err != nil || again != b.c {
			t.Errorf("%q built is not %q parsed: %v", b.c, again, err)
		}
	}
	for what, b := range map[string]built{
		"no user": of(User("")), "two users": of(User("a b")), "second caveat": of(User("a\nnote b")),
		"no audience": of(Audience("")), "two audiences": of(Audience("a b")),
		"no methods": of(Method()), "lower case": of(Method("get")), "smuggled": of(Method("GET POST")), "empty": of(Method("GET", "")),
		"no patterns": of(Path()), "space": of(Path("/a /**")), "no actions": of(Allow()), "smuggled action": of(Allow("a *:b")),
		"no networks": of(ClientIP()), "zero network": of(ClientIP(netip.Prefix{})),
		"mapped": of(ClientIP(netip.MustParsePrefix("::ffff:192.0.2.0/120"))),
		"null":   of(Origin("null")), "no origins": of(Origin()), "no device": of(Device("")),
		"no note": of(Note("")), "padded note": of(Note(" x")), "two lines": of(Note("a\nb")), "long note": of(Note(strings.Repeat("x", MaxLen))),
	} {
		if !errors.Is(b.err, ErrSyntax) || b.c != (Caveat{}) {
			t.Errorf("%s: got %q, %v", what, b.c, b.err)
		}
	}
}

// The pattern for a target matches that path and not its neighbours.
func TestPatternFor(t *testing.T) {
	for target, want := range map[string]string{
		"/":                      "/",
		"/photos/1?x=y":          "/photos/1",
		"/a%20b/*/**":            "/a%20b/%2A/%2A%2A",
		"/%66%C3%BCr/%e2%80%a8/": "/für/%E2%80%A8/",
	} {
		got, err := PatternFor(target)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", target, got, err, want)
		}
		judge(t, "path "+got, &Request{Target: target}, Held)
		path, _, _ := strings.Cut(target, "?")
		judge(t, "path "+got, &Request{Target: path + "x"}, Refused)
	}
	for _, target := range []string{"", "*", "/a/../b", "//"} {
		if got, err := PatternFor(target); !errors.Is(err, ErrPath) || got != "" {
			t.Errorf("%q: got %q, %v", target, got, err)
		}
	}
}

// Before and After read their own caveat and take no other for it.
func TestBeforeAndAfter(t *testing.T) {
	at := time.Date(2026, 11, 21, 22, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		text          string
		before, after bool
	}{
		{"time-before 2026-11-21T22:30:00Z", true, false},
		{"time-after 2026-11-21T22:30:00Z", false, true},
		{"time-before  2026-11-21T22:30:00Z", false, false},
		{"time-before 2026-11-21T22:30:00Z ", false, false},
		{"time-before 2026-11-21", false, false},
		{"time-after", false, false},
		{"2026-11-21T22:30:00Z", false, false},
		{"note time-before 2026-11-21T22:30:00Z", false, false},
		{"", false, false},
	} {
		for name, asked := range map[string]struct {
			read func(string) (time.Time, bool)
			want bool
		}{"Before": {Before, c.before}, "After": {After, c.after}} {
			got, ok := asked.read(c.text)
			if ok != asked.want || ok && !got.Equal(at) {
				t.Errorf("%s(%q): %v, %v", name, c.text, got, ok)
			}
		}
	}
}
