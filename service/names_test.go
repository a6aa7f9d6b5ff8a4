package service

import (
	"context"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"macaroond/storage"
)

// slowStore answers a question about a user when it is told to.
type slowStore struct {
	storage.Store
	asked, answer chan string
}

func (s slowStore) User(_ context.Context, id string) (storage.User, error) {
	s.asked <- id
	return storage.User{ID: id, Name: "alice", Role: <-s.answer}, nil
}

// A role that was read before a change, and arrives after it, is not kept.
func TestNamesReadBeforeAChange(t *testing.T) {
	s := slowStore{asked: make(chan string), answer: make(chan string)}
	c, err := newNameCache(s)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(told string, meanwhile func()) string {
		got := make(chan userInfo)
		go func() { got <- c.get(t.Context(), "usr_a", time.Minute) }()
		select {
		case <-s.asked:
		case <-time.After(10 * time.Second):
			t.Fatal("what was read before the change is kept")
		}
		meanwhile()
		s.answer <- told
		return (<-got).role
	}
	if role := ask("admin", c.clear); role != "admin" {
		t.Errorf("role %q", role)
	}
	if role := ask("", func() {}); role != "" {
		t.Errorf("role %q after it was taken", role)
	}
	if role := c.get(t.Context(), "usr_a", time.Minute).role; role != "" {
		t.Errorf("kept role %q", role)
	}
}

// Names are one that are one under NFKC case folding (Unicode 17, definition
// D147), whatever the library's own way of lowering a letter.
func TestNameKeysFold(t *testing.T) {
	folded := func(s string) string { // Unicode 17, R5: to its fixed point
		for {
			next := norm.NFKC.String(cases.Fold().String(norm.NFD.String(s)))
			if next == s {
				return s
			}
			s = next
		}
	}
	names := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		name, key, err := userName("/username", "a"+string(r)+"b", true)
		if err != nil || unicode.Is(unicode.Cherokee, r) { // the library's folding exchanges its cases, without end
			continue
		}
		names++
		if other := nameKey(folded(name)); key != other {
			t.Errorf("%U: %+q has the key %+q, its folding %+q", r, name, key, other)
		}
	}
	if names < 100_000 {
		t.Errorf("only %d names", names)
	}
}

// A dot above a letter that has one is not seen, and makes no other name.
func TestNameKeysOfDots(t *testing.T) {
	for _, row := range []struct {
		a, b string
		same bool
	}{
		{"admin", "admi\u0307n", true},
		{"ADMIN", "ADM\u0130N", true},
		{"istanbul", "\u0130stanbul", true},
		{"i\u0307stanbul", "\u0130STANBUL", true},
		{"john", "j\u0307ohn", true},
		{"th\u1ecb", "thi\u0323\u0307", true},        // the dot below does not take the one above
		{"th\u1ecb", "thi\u0307\u0323", true},        // in whatever order
		{"\u0456van", "\u0456\u0307van", true},       // Cyrillic
		{"\u0458\u0323", "\u0458\u0323\u0307", true}, // that does not compose
		{"zofia", "z\u0307ofia", false},              // ż
		{"istanbul", "\u0131stanbul", false},         // ı has none
		{"ma\u0307a", "maa", false},
		{"i", "\u00ec", false},
	} {
		if a, b := nameKey(row.a), nameKey(row.b); (a == b) != row.same {
			t.Errorf("%+q has the key %+q, %+q %+q", row.a, a, row.b, b)
		}
	}
	if _, _, err := userName("/username", "admi\u0307n", true); err == nil {
		t.Error("a reserved name with a dot is free")
	}
}

// Folding is an equivalence: a name, its key, and the key's key are one, and a
// name that was taken is taken again as it is.
func TestNameKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("iIja\u0130\u0131\u012f\u0237\u0301\u0307\u0308\u0323\u0345")))).Draw(t, "name")
		if key := nameKey(in); nameKey(key) != key || nameKey(norm.NFC.String(in)) != key || nameKey(norm.NFD.String(in)) != key {
			t.Fatalf("%+q has the key %+q, which has %+q", in, key, nameKey(key))
		}
		name, key, err := userName("/username", in, true)
		if err != nil {
			return
		}
		again, sameKey, err := userName("/username", name, true)
		if err != nil || again != name || sameKey != key || !norm.NFC.IsNormalString(name) || utf8.RuneCountInString(name) > 64 {
			t.Fatalf("%+q is %+q, which is %+q (%v)", in, name, again, err)
		}
	})
}

// Letters that are one another in another case are one letter, in every script.
func TestNameKeysOfCases(t *testing.T) {
	pairs := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		other := unicode.SimpleFold(r)
		if other == r {
			continue
		}
		pairs++
		if a, b := nameKey(string(r)), nameKey(string(other)); a != b {
			t.Errorf("%c (%U) has the key %+q, %c (%U) %+q", r, r, a, other, other, b)
		}
	}
	if pairs < 2500 {
		t.Errorf("only %d letters have a case", pairs)
	}
}
