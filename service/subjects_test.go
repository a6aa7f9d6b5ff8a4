package service

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"macaroond/service/token"
)

// No name folds to the key of a user that a service minted for: a key begins
// with a capital letter and no folded name has one; and it has a colon, and no
// name that is taken has one.
func TestSubjectKeysAreNoNames(t *testing.T) {
	if key := subjectKey(token.NewID(token.UserPrefix)); key[0] != 'S' || key[1] != ':' {
		t.Fatal(key)
	}
	capital := func(key string) bool {
		return strings.ContainsFunc(key, func(r rune) bool { return r >= 'A' && r <= 'Z' })
	}
	n := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		n++
		if key := nameKey(string(r)); capital(key) {
			t.Errorf("%U folds to %+q", r, key)
		}
	}
	if n < 1_000_000 {
		t.Errorf("only %d characters", n)
	}
	rapid.Check(t, func(t *rapid.T) { // together as alone
		name := rapid.String().Draw(t, "name")
		if key := nameKey(name); capital(key) {
			t.Fatalf("%+q folds to %+q", name, key)
		}
		if shown, _, err := userName("/username", name, false); err == nil && strings.Contains(shown, ":") {
			t.Fatalf("%+q may be a local user's name", shown)
		}
	})
	for _, name := range []string{"a:b", "shop:alice", "a：b", "shop：alice", "a︓b", "a﹕b"} {
		if shown, _, err := userName("/username", name, false); err == nil {
			t.Errorf("%q may be a local user's name", shown)
		}
	}
}
