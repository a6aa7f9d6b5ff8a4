package guard_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/guard"
)

// What needs the authority goes whole to it, each time; what nobody here knows is
// refused on the spot.
func TestWhoJudges(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	g := a.guard(nil)
	begin := narrow(t, alice.Token, window(), "audience photos")
	a.want("the prefix", g, begin, "ok", 1)
	for _, row := range []struct {
		name      string
		text      string
		code      string
		again     string // the code of the second time
		verdicts  int64  // asked for
		questions int64  // put
	}{
		{"once, and something that is refused", narrow(t, begin, "once abc", "method PUT"), "refused", "refused", 1, 0},
		{"once, forged", forge(narrow(t, begin, "once abc")), "invalid", "invalid", 1, 0},
		{"once", narrow(t, begin, "once abc"), "ok", "replayed", 1, 0},
		{"a child of it", narrow(t, begin, "once abc", "note x"), "replayed", "replayed", 1, 0},
		{"once before the audience", narrow(t, alice.Token, window(), "once abc", "audience photos"), "ok", "replayed", 1, 0},
		{"sealed, by nobody", narrow(t, begin, "sealed AAAA"), "unknown_caveat", "unknown_caveat", 1, 0},
		{"cnf, badly written", narrow(t, begin, "cnf abc"), "unknown_caveat", "unknown_caveat", 0, 0},
		{"via", narrow(t, begin, "via cookie"), "refused", "refused", 0, 0},
		{"a word that begins alike", narrow(t, begin, "oncemore abc"), "unknown_caveat", "unknown_caveat", 0, 0},
		{"a note about it", narrow(t, begin, "note once abc"), "ok", "ok", 0, 0},
	} {
		for i, code := range []string{row.code, row.again} {
			again := strings.Repeat(", again", i)
			before := a.count("/v1/verify").Load()
			a.want(row.name+again, g, row.text, code, row.questions)
			if n := a.count("/v1/verify").Load() - before; n != row.verdicts {
				t.Errorf("%s%s: %d verdicts asked for, want %d", row.name, again, n, row.verdicts)
			}
			row.questions = 0
		}
	}
	// The facts go along, and so does the answer's status.
	a.between("/v1/verify", func(w http.ResponseWriter, r *http.Request, next http.Handler) { panic(http.ErrAbortHandler) })
	if got := code(g, narrow(t, begin, "once abc")); got != api.CodeStale {
		t.Errorf("unreachable: %s", got)
	}
}

// A resource server's own caveats hold at guards that know them, wherever they
// stand, and nowhere else.
func TestOwnCaveats(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	language, err := caveats.NewLanguage(caveats.Extension{Name: "x-album", Check: func(args string, r *caveats.Request) error {
		if r.Extra["album"] != args {
			return errors.New("the album is another")
		}
		return nil
	}})
	ok(t, err)
	knows := a.guard(func(o *guard.Options) { o.Language = language })
	knowsNot := a.guard(nil)
	for i, row := range []struct {
		name  string
		with  []string
		album string
		knows string
	}{
		{"behind the audience", []string{"audience photos", "x-album 1"}, "1", "ok"},
		{"behind the audience, another album", []string{"audience photos", "x-album 1"}, "2", "refused"},
		{"behind the audience, no album", []string{"audience photos", "x-album 1"}, "", "refused"},
		{"before the audience", []string{"x-album 1", "audience photos"}, "1", "ok"},
		{"before the audience, another album", []string{"x-album 1", "audience photos"}, "2", "refused"},
		{"both", []string{"x-album 1", "audience photos", "x-album 2"}, "1", "refused"},
		{"one that it does not know", []string{"audience photos", "x-album 1", "x-colour blue"}, "1", "unknown_caveat"},
		{"without an argument", []string{"audience photos", "x-album"}, "", "unknown_caveat"},
	} {
		text := narrow(t, alice.Token, append([]string{window(), fmt.Sprint("note ", i)}, row.with...)...)
		facts := get()
		facts.Extra = map[string]string{"album": row.album}
		for range 2 {
			if got := codeOf(knows, text, facts); got != row.knows {
				t.Errorf("%s: %s, want %s", row.name, got, row.knows)
			}
			if got := codeOf(knowsNot, text, facts); got != api.CodeUnknownCaveat {
				t.Errorf("%s, where nobody knows it: %s", row.name, got)
			}
		}
	}
}

// A check of the server's own may keep what it is given, say as the key of a
// cache: it must not change when the verdict's memory is used again.
func TestOwnCaveatsMayKeepTheirArguments(t *testing.T) {
	a := start(t)
	var mu sync.Mutex
	kept := map[string]string{}
	language, err := caveats.NewLanguage(caveats.Extension{Name: "x-album", Check: func(args string, r *caveats.Request) error {
		mu.Lock()
		defer mu.Unlock()
		kept[args] = r.User + r.Device
		return nil
	}})
	ok(t, err)
	g := a.guard(func(o *guard.Options) { o.Language = language })
	alice, bob := a.device("alice"), a.device("bob")
	mine := narrow(t, alice.Token, window(), "audience photos")
	his := narrow(t, bob.Token, window(), "audience photos", "note "+strings.Repeat("#", 300))
	const n = 200
	for i := range n {
		a.want("mine", g, narrow(t, mine, fmt.Sprintf("x-album %06d", i)), "ok", b2i(i == 0))
		a.want("his", g, his, "ok", b2i(i == 0))
	}
	for i := range n {
		key := fmt.Sprintf("%06d", i)
		if who, there := kept[key]; !there || who != alice.User.ID+alice.Device.ID {
			t.Fatalf("album %s was kept for %q, %v", key, who, there)
		}
	}
}
