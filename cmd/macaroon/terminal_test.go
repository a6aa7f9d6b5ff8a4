package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestShown(t *testing.T) {
	for in, want := range map[string]string{
		"method GET HEAD":         `method GET HEAD`,
		"note für Großmutter 写真":  `note für Großmutter 写真`,
		"a\nb":                    `"a\nb"`,
		"\x1b[2J":                 `"\x1b[2J"`,
		"\u009b2J":                `"\u009b2J"`,
		"a\u202eb":                `"a\u202eb"`,
		"a\u200bb":                `"a\u200bb"`,
		"a\xff":                   `"a\xff"`,
		"":                        ``,
		strings.Repeat("a", 1024): strings.Repeat("a", 1024),
		strings.Repeat("a", 1025): strings.Repeat("a", 1024) + "…",
	} {
		if got := shown(in); got != want {
			t.Errorf("shown(%q) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{
		`a"  b`:                   `"a\"  b"`,
		strings.Repeat("a", 1025): `"` + strings.Repeat("a", 1024) + `…"`,
	} {
		if got := quoted(in); got != want {
			t.Errorf("quoted: %s", got)
		}
	}
}

// Nothing that anybody wrote reaches the terminal as anything but visible
// characters, and JSON still means the same.
func FuzzShown(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b]0;title\a", "\u009b", "\u202e\u2066", "\u2028", "\xff\xfe", "\uffff", "\U000e0041", "é", strings.Repeat("\U0001f600", 400)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, out := range []string{shown(s), quoted(s)} {
			for _, r := range out {
				if !unicode.IsPrint(r) {
					t.Fatalf("%q prints %q", s, r)
				}
			}
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		out := escapeJSON(b)
		for _, r := range out {
			if !unicode.IsPrint(r) {
				t.Fatalf("JSON of %q prints %q", s, r)
			}
		}
		var back string
		if err := json.Unmarshal([]byte(out), &back); err != nil || utf8.ValidString(s) && back != s {
			t.Fatalf("%q came back as %q: %v", s, back, err)
		}
	})
}

// What is typed as a proof is a recovery code when it has a code's form.
func TestLooksLikeCode(t *testing.T) {
	for in, want := range map[string]bool{
		"0123-4567-89ab-cdef":   true,
		" 0123-4567-89ab-cdef ": true,
		"0123-4567-89ab-cde":    false,
		"0123-4567-89ab-cdef0":  false,
		"0123x4567-89ab-cdef":   false,
		"0123-4567x89ab-cdef":   false,
		"0123-4567-89abxcdef":   false,
		"short":                 false,
	} {
		if got := looksLikeCode(in); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                               "0 s",
		999 * time.Millisecond:          "0 s",
		59 * time.Second:                "59 s",
		61 * time.Second:                "1 min 1 s",
		time.Hour:                       "1 h",
		time.Hour + 59*time.Second:      "1 h",
		49*time.Hour + time.Minute:      "2 d 1 h",
		30 * 24 * time.Hour:             "30 d",
		23*time.Hour + 59*time.Minute:   "23 h 59 min",
		24*time.Hour + 59*time.Minute*1: "1 d",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %q, want %q", d, got, want)
		}
	}
}
