package caveats

import (
	"errors"
	"maps"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// seeds asserts that a fuzz test starts from something.
func seeds[T any](f *testing.F, all []T, add func(T)) {
	f.Helper()
	if len(all) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range all {
		add(s)
	}
}

// What is accepted prints as it was read, and taking it apart and building it
// again gives the same bytes: one caveat, one spelling.
func FuzzParsePrint(f *testing.F) {
	seeds(f, fixture[grammarCase](f, "grammar.json"), func(c grammarCase) { f.Add(c.Text) })
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err != nil {
			if errors.Is(err, ErrUnknown) == errors.Is(err, ErrSyntax) || c != (Caveat{}) || Check(text, full()) != Unknown {
				t.Fatalf("%q: %q, %v", text, c, err)
			}
			tellable(t, err.Error())
			return
		}
		if c.String() != text || len(text) > MaxLen || !utf8.ValidString(text) {
			t.Fatalf("%q prints as %q", text, c)
		}
		rebuilt := c.Name()
		for a := range c.Args() {
			if a == "" {
				t.Fatalf("%q: an empty argument", text)
			}
			rebuilt += " " + a
		}
		if rebuilt != text || c.Name()+" "+c.Argument() != text {
			t.Fatalf("%q is rebuilt as %q", text, rebuilt)
		}
		at, before := Before(text)
		if before != (c.Name() == "time-before") || before && !strings.HasPrefix(text[len(c.Name())+1:], at.Format("2006-01-02T15:04:05")) {
			t.Fatalf("%q is %v", text, at)
		}
		for _, r := range []*Request{full(), {}} {
			o := c.Check(r)
			if (o == Unknown) != elsewhere(c.Name()) || o != Check(text, r) || (c.Explain(r) == "") != (o == Held) {
				t.Fatalf("%q: %v, %v, %q", text, o, Check(text, r), c.Explain(r))
			}
			tellable(t, c.Explain(r))
		}
	})
}

// Adding a caveat to a list, anywhere, never turns a refusal into an acceptance
// and changes no other caveat's outcome, nor a fact.
func FuzzAddNeverWidens(f *testing.F) {
	all := strings.Join(append([]string{"x-tenant blue", "x-thief now"}, values(example)...), "\n")
	seeds(f, append(values(example), "", "x-thief now", "user usr_root", "nope", "time-before 2030-01-01T00:00:00Z"), func(more string) {
		f.Add(all, more, uint8(3), "GET", "/photos/1", "usr_alice", "photos", "photos:read", "https://app.example", int64(1795300200))
		f.Add("method GET\ntime-before 2020-01-01T00:00:00Z", more, uint8(0), "POST", "/x/..", "", "", "", "null", int64(0))
		f.Add("", more, uint8(9), "", "", "usr_bob", "p", "photos:*", "", int64(-1))
	})
	l, err := NewLanguage(tenant, thief)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, list, more string, at uint8, method, target, user, audience, action, origin string, now int64) {
		r := func() *Request {
			return &Request{
				Time: time.Unix(now, 0), User: user, Device: "dev_phone", Audience: audience, Method: method, Target: target,
				Actions: []string{action}, ClientIP: netip.AddrFrom4([4]byte{192, 0, 2, 7}), Origins: []string{origin},
				ProofKey: full().ProofKey, Extra: map[string]string{"tenant": "blue"},
			}
		}
		judgeAll := func(texts []string) (outcomes []Outcome, accepted bool) {
			facts := r()
			accepted = true
			for _, text := range texts {
				o := l.Check(text, facts)
				if (l.Explain(text, facts) == "") != (o == Held) {
					t.Fatalf("%q: %v explained as %q", text, o, l.Explain(text, facts))
				}
				tellable(t, l.Explain(text, facts))
				outcomes = append(outcomes, o)
				accepted = accepted && o == Held
			}
			if !reflect.DeepEqual(facts, r()) {
				t.Fatalf("%q changed the facts: %+v", texts, facts)
			}
			return outcomes, accepted
		}
		texts := strings.Split(list, "\n")
		i := int(at) % (len(texts) + 1)
		longer := append(append(append([]string{}, texts[:i]...), more), texts[i:]...)

		before, accepted := judgeAll(texts)
		after, acceptedLonger := judgeAll(longer)
		if acceptedLonger && !accepted {
			t.Fatalf("%q at %d turns a refusal of %q into an acceptance", more, i, texts)
		}
		if rest := append(append([]Outcome{}, after[:i]...), after[i+1:]...); !reflect.DeepEqual(before, rest) {
			t.Fatalf("%q at %d changes %v to %v", more, i, before, rest)
		}
	})
}

func values(m map[string]string) []string {
	var out []string
	for v := range maps.Values(m) {
		out = append(out, v)
	}
	return out
}

// The matcher against a slow one that was written from the design's words alone,
// with net/url to decode and regexp to match.
func FuzzPathMatch(f *testing.F) {
	seeds(f, fixture[matchCase](f, "path_match.json"), func(c matchCase) { f.Add(c.Patterns, c.Target) })
	seeds(f, fixture[canonicalCase](f, "path_canonical.json"), func(c canonicalCase) { f.Add("/**", c.Target); f.Add("/*/x", c.Target) })
	f.Fuzz(func(t *testing.T, patterns, target string) {
		segments, err := CanonicalPath(target)
		want, ok := slowCanonical(target)
		if ok != (err == nil) || ok && !reflect.DeepEqual(segments, want) {
			t.Fatalf("%q: %q, %v; slowly %q, %v", target, segments, err, want, ok)
		}
		for i, s := range segments {
			if strings.ContainsAny(s, `/\%;?#`) || s == "." || s == ".." || s == "" && i < len(segments)-1 ||
				!utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				t.Fatalf("%q has the segment %q", target, s)
			}
		}
		if err == nil {
			own, err := PatternFor(target)
			if err != nil || pathPattern(own) != nil || !matches(own, pathOf(target)) {
				t.Fatalf("%q has the pattern %q, %v", target, own, err)
			}
		}
		c, err := Parse("path " + patterns)
		if err != nil {
			return
		}
		matched := false
		for p := range c.Args() {
			matched = matched || ok && slowMatch(p, want)
		}
		if held := c.Check(&Request{Target: target}) == Held; held != matched {
			t.Fatalf("%q, %q: %v; slowly %v", patterns, target, held, matched)
		}
	})
}

var slowlyRefused = regexp.MustCompile(`^\.{1,2}$|[/\\%;?#]|\p{Cc}`)

func slowCanonical(target string) ([]string, bool) {
	path := strings.SplitN(target, "?", 2)[0]
	if !strings.HasPrefix(path, "/") {
		return nil, false
	}
	segments := strings.Split(path, "/")[1:]
	for i, s := range segments {
		decoded, err := url.PathUnescape(s)
		if err != nil || !utf8.ValidString(decoded) || decoded == "" && i != len(segments)-1 ||
			slowlyRefused.MatchString(decoded) {
			return nil, false
		}
		segments[i] = decoded
	}
	return segments, true
}

// slowMatch joins the decoded segments with a character that none of them holds.
func slowMatch(pattern string, segments []string) bool {
	var expr strings.Builder
	expr.WriteString(`(?s)\A`)
	for _, s := range strings.Split(pattern, "/")[1:] {
		switch s {
		case "*":
			expr.WriteString(`/[^/]+`)
		case "**":
			expr.WriteString(`/.*`)
		default:
			literal, err := url.PathUnescape(s)
			if err != nil {
				panic(err) // a pattern that was accepted
			}
			expr.WriteString("/" + regexp.QuoteMeta(literal))
		}
	}
	expr.WriteString(`\z`)
	return regexp.MustCompile(expr.String()).MatchString("/" + strings.Join(segments, "/"))
}
