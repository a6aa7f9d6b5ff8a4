package caveats

import (
	"errors"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tenant is an extension as a resource server would write it.
var tenant = Extension{Name: "x-tenant", Check: func(args string, r *Request) error {
	if have := r.Extra["tenant"]; have == "" || have != args {
		return errors.New("tenant is " + have)
	}
	return nil
}}

// thief is an extension that tries to change the facts under the others.
var thief = Extension{Name: "x-thief", Check: func(_ string, r *Request) error {
	*r = *full()
	return nil
}}

func TestExtension(t *testing.T) {
	l, err := NewLanguage(tenant, thief)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Outcome{
		"x-tenant blue":  Held,
		"x-tenant green": Refused,
		"x-tenant":       Unknown,
		"x-tenant  blue": Unknown,
		"x-tenant blue ": Unknown,
		"x-tenants blue": Unknown,
		"X-tenant blue":  Unknown,
		"method GET":     Held,
		"method POST":    Refused,
	} {
		if got := l.Check(text, full()); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
		if why := l.Explain(text, full()); (why == "") != (want == Held) {
			t.Errorf("%q: %v explained as %q", text, want, why)
		}
		c, err := l.Parse(text)
		if (err == nil) == (want == Unknown) || err == nil && (c.Check(full()) != want || c.String() != text) {
			t.Errorf("%q parsed: %q, %v, %v", text, c, c.Check(full()), err)
		}
	}
	c, _ := l.Parse("x-tenant blue")
	if !c.NeedsRequest() || c.Name() != "x-tenant" {
		t.Errorf("%q needs a request: %v", c.Name(), c.NeedsRequest())
	}
	if o := l.Check("x-tenant blue", nil); o != Refused {
		t.Errorf("without facts: %v", o)
	}
	// Nobody else knows it: languages are values and share nothing.
	if o := Check("x-tenant blue", full()); o != Unknown {
		t.Errorf("known to all: %v", o)
	}
	if _, err := Parse("x-tenant blue"); !errors.Is(err, ErrUnknown) {
		t.Errorf("known to all: %v", err)
	}
}

func TestExtensionCannotChangeFacts(t *testing.T) {
	l, err := NewLanguage(thief)
	if err != nil {
		t.Fatal(err)
	}
	r := &Request{Method: "POST"}
	if o := l.Check("x-thief now", r); o != Held {
		t.Fatal(o)
	}
	if !reflect.DeepEqual(r, &Request{Method: "POST"}) {
		t.Errorf("an extension changed the facts: %+v", r)
	}
}

// Whatever an extension says is told in one harmless line.
func TestExtensionExplains(t *testing.T) {
	for said, want := range map[string]string{
		"wrong tenant":             "x-a: wrong tenant",
		"":                         "x-a does not hold",
		"a\x1b[31mb\u202ec\nd\xff": "x-a: a?[31mb?c?d?",
		strings.Repeat("ü", 5000):  "x-a: " + strings.Repeat("ü", 100) + "…",
	} {
		l, err := NewLanguage(Extension{"x-a", func(string, *Request) error { return errors.New(said) }})
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Explain("x-a b", full()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNewLanguageRefuses(t *testing.T) {
	check := func(string, *Request) error { return nil }
	for what, ext := range map[string][]Extension{
		"built-in":       {{"method", check}},
		"no prefix":      {{"tenant", check}},
		"no name":        {{"", check}},
		"prefix only":    {{"x-", check}},
		"upper case":     {{"x-Tenant", check}},
		"space":          {{"x-a b", check}},
		"underscore":     {{"x_a", check}},
		"too long":       {{"x-" + strings.Repeat("a", MaxLen), check}},
		"no check":       {{"x-a", nil}},
		"there twice":    {{"x-a", check}, {"x-b", check}, {"x-a", check}},
		"second is none": {{"x-a", check}, {"b", check}},
	} {
		if l, err := NewLanguage(ext...); err == nil || l.Check("x-a b", full()) != Unknown {
			t.Errorf("%s: accepted (%v)", what, err)
		}
	}
}

// The package is pure: its sources import nothing that could ask the world.
func TestImports(t *testing.T) {
	may := []string{
		"encoding/hex", "errors", "fmt", "iter", "net/netip", "strconv", "strings", "time", "unicode", "unicode/utf8",
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		seen++
		src, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), src, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			if path, _ := strconv.Unquote(i.Path.Value); !slices.Contains(may, path) {
				t.Errorf("%s imports %s", f.Name(), path)
			}
		}
		for _, clock := range []string{"time.Now", "time.Since", "time.Until", "time.Sleep", "func init("} {
			if strings.Contains(string(src), clock) {
				t.Errorf("%s has %s", f.Name(), clock)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no sources")
	}
}
