package service

import (
	"context"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

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

// Folding is an equivalence: a name, its key, and the key's key are one, and a
// name that was taken is taken again as it is.
func TestNameKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.String().Draw(t, "name")
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
