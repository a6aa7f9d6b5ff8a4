package caveats

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// fixture reads the cases that implementations in other languages share. A file
// without cases, or with other than it says it has, fails.
func fixture[T any](t testing.TB, name string) []T {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "testdata", "caveats", name))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		About string
		Count int
		Cases []T
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(file.Cases) == 0 || len(file.Cases) != file.Count {
		t.Fatalf("%s: %d cases, says it has %d", name, len(file.Cases), file.Count)
	}
	return file.Cases
}

type matchCase struct {
	Patterns, Target string
	Match            bool
}

type canonicalCase struct {
	Target   string
	Segments []string
}

type grammarCase struct{ Text, Error string }

func TestPathMatchCases(t *testing.T) {
	for _, c := range fixture[matchCase](t, "path_match.json") {
		want := Refused
		if c.Match {
			want = Held
		}
		judge(t, "path "+c.Patterns, &Request{Target: c.Target}, want)
	}
}

func TestCanonicalPathCases(t *testing.T) {
	for _, c := range fixture[canonicalCase](t, "path_canonical.json") {
		got, err := CanonicalPath(c.Target)
		if c.Segments == nil {
			if !errors.Is(err, ErrPath) || got != nil {
				t.Errorf("%q: got %q, %v; want ErrPath", c.Target, got, err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, c.Segments) {
			t.Errorf("%q: got %q, %v; want %q", c.Target, got, err, c.Segments)
		}
	}
}

func TestGrammarCases(t *testing.T) {
	for _, c := range fixture[grammarCase](t, "grammar.json") {
		wrongGrammar(t, c.Text, map[string]error{"": nil, "syntax": ErrSyntax, "unknown": ErrUnknown}[c.Error])
	}
}

// wrongGrammar asserts that text is refused with this error; nil is none.
func wrongGrammar(t *testing.T, text string, want error) {
	t.Helper()
	got, err := Parse(text)
	if want == nil {
		if err != nil || got.String() != text {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
		return
	}
	if !errors.Is(err, want) || errors.Is(err, ErrUnknown) == errors.Is(err, ErrSyntax) || got != (Caveat{}) {
		t.Errorf("%q: got %q, error %v; want %v", text, got, err, want)
		return
	}
	tellable(t, err.Error())
	full := full()
	if o := Check(text, full); o != Unknown {
		t.Errorf("%q: checked as %v", text, o)
	}
	if Explain(text, full) != err.Error() {
		t.Errorf("%q: explained as %q", text, Explain(text, full))
	}
}

// What JSON cannot say.
func TestGrammarBadUTF8(t *testing.T) {
	for _, text := range []string{
		"note \xff", "note \xc3", "note \xc3 x", "note \xc0\xaf", "note \xed\xa0\x80", "note \xf4\x90\x80\x80",
		"\xff", "path /\xff", "user \xff", "note a\x85b",
	} {
		wrongGrammar(t, text, ErrSyntax)
	}
}
