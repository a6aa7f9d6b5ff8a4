package guard_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/guard"
	"macaroond/service/token"
)

// Each byte of a token whose prefix is known, changed. Behind the prefix the
// guard knows by itself that the chain does not hold. Within it the token begins
// otherwise than all that is known: it may well be another device's, or another
// hour's, so only the authority can tell, and is asked once. What does not parse,
// and what does not name the audience any more, is no question.
func TestEveryByte(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	begin := narrow(t, a.device("alice").Token, window(), "path /photos/*", "audience photos")
	good := narrow(t, begin, "method GET", "note mine")
	a.want("the token", g, good, "ok", 1)
	data, err := base64.RawURLEncoding.DecodeString(good)
	ok(t, err)
	covered, _ := base64.RawURLEncoding.DecodeString(begin)
	first := strings.Index(string(data), "m1.")
	end := len(covered) - len("\x00\x06\x20") - 32 // of what the prefix covers
	seen := map[string]int{}
	for i := range data {
		for _, bits := range []byte{0x01, 0x20, 0x80} {
			changed := append([]byte(nil), data...)
			changed[i] ^= bits
			text := base64.RawURLEncoding.EncodeToString(changed)
			want, questions := api.CodeMalformed, int64(0)
			tok, err := token.Parse(text)
			switch {
			case err != nil:
			case i < first: // the location, which is not signed and means nothing
				want = api.CodeOK
			case i >= end:
				want = api.CodeInvalid
			case !strings.Contains(strings.Join(tok.UnverifiedCaveats(), "\n")+"\n", "\naudience photos\n"):
				want = api.CodeWrongAudience
			case over(text):
				want = api.CodeExpired
			default:
				want, questions = api.CodeInvalid, 1
			}
			where := fmt.Sprintf("byte %d of %d ^ %#x", i, len(data), bits)
			a.want(where, g, text, want, questions)
			a.want(where+", again", g, text, want, 0)
			seen[fmt.Sprint(want, questions)]++
		}
	}
	for _, kind := range []string{"malformed0", "ok0", "invalid0", "invalid1", "wrong_audience0", "expired0"} {
		if seen[kind] < 3 {
			t.Errorf("%d times %s: the test does not reach it", seen[kind], kind)
		}
	}
	a.want("the token at last", g, good, "ok", 0)
}

// The tail of an older token does not go with another caveat, and no part of a
// chain stands for another.
func TestForgedTails(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	begin := narrow(t, a.device("alice").Token, window(), "audience photos")
	good := narrow(t, begin, "path /photos/*", "method GET")
	a.want("the token", g, good, "ok", 1)
	binary := func(text string) []byte { b, _ := base64.RawURLEncoding.DecodeString(text); return b }
	with := func(body, tail string) string {
		b, s := binary(body), binary(tail)
		return base64.RawURLEncoding.EncodeToString(append(b[:len(b)-32], s[len(s)-32:]...))
	}
	for name, text := range map[string]string{
		"a caveat more, the old tail":          with(narrow(t, good, "note x"), good),
		"a caveat less, the old tail":          with(narrow(t, begin, "path /photos/*"), good),
		"other caveats, the old tail":          with(narrow(t, begin, "path /**", "method GET"), good),
		"another order, the old tail":          with(narrow(t, begin, "method GET", "path /photos/*"), good),
		"nothing but the prefix, the old tail": with(begin, good),
		"the tail of the prefix":               with(good, begin),
		"no tail":                              base64.RawURLEncoding.EncodeToString(append(binary(good)[:len(binary(good))-32], make([]byte, 32)...)),
	} {
		a.want(name, g, text, api.CodeInvalid, 0)
	}
	// Even to drop what the prefix covers one would need the signature before it.
	a.want("without the window", g, with(narrow(t, good, "note x"), begin), api.CodeInvalid, 0)
}

// Forged tokens come with the first good ones: they lead no question that a good
// one waits for, and what is learned of them is about them alone.
func TestForgedRaceGood(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	for round := range 4 {
		g := a.guard(nil)
		begin := narrow(t, alice.Token, window(), "note "+strings.Repeat("r", round+1), "audience photos")
		good := narrow(t, begin, "path /photos/*")
		forged := forge(good)
		var wg sync.WaitGroup
		gate := make(chan struct{})
		for i := range 64 {
			text, want := good, api.CodeOK
			switch i % 4 {
			case 1:
				text, want = forged, api.CodeInvalid
			case 2:
				text = narrow(t, begin, fmt.Sprint("note ", i))
			case 3:
				text, want = forge(narrow(t, begin, fmt.Sprint("note ", i))), api.CodeInvalid
			}
			wg.Go(func() {
				<-gate
				for range 3 {
					if got := code(g, text); got != want {
						t.Errorf("token %d: %s, want %s", i, got, want)
					}
				}
			})
		}
		close(gate)
		wg.Wait()
		a.want("the good one", g, good, "ok", 0)
		a.want("one more", g, narrow(t, begin, "note y"), "ok", 0)
		if n := g.Prefixes(); n != 1 {
			t.Errorf("%d prefixes", n)
		}
	}
}

// The same token many times at once is one question.
func TestOneQuestionForMany(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	text := narrow(t, a.device("alice").Token, window(), "audience photos")
	arrived := make(chan struct{}, 100)
	hold := make(chan struct{})
	a.between("/oauth2/introspect", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		arrived <- struct{}{}
		<-hold
		next.ServeHTTP(w, r)
	})
	var wg sync.WaitGroup
	ask := func(ctx context.Context, want string) {
		if _, err := g.Gateway(ctx, text, get(), nil); codeIn(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// Whoever asked first goes away: the others still wait for that question.
	ctx, leave := context.WithCancel(t.Context())
	var first sync.WaitGroup
	first.Go(func() { ask(ctx, api.CodeStale) })
	<-arrived
	for range 50 {
		wg.Go(func() { ask(t.Context(), api.CodeOK) })
	}
	leave()
	first.Wait()
	close(hold)
	wg.Wait()
	if n := a.introspections(); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// A stranger's flood costs the authority no more than the limits say, and those
// whose prefix is known do not notice it.
func TestFlood(t *testing.T) {
	a := start(t)
	now := time.Now()
	g := a.guard(func(o *guard.Options) {
		o.Introspections, o.IntrospectionsPerClient, o.Now = 100, 20, func() time.Time { return now }
	})
	begin := narrow(t, a.device("alice").Token, window(), "audience photos")
	a.want("a known one", g, begin, "ok", 1)
	row := 0
	flood := func(n int, from func(i int) string) map[string]int {
		codes := map[string]int{}
		row++ // no token comes twice: that would be no question
		before := a.introspections()
		for i := range n {
			facts := get()
			facts.ClientIP = netip.MustParseAddr(from(i))
			text := forge(narrow(t, begin, "note known")) // of a known prefix: no question
			codes["known "+codeOf(g, text, facts)]++
			text = forge(narrow(t, begin, fmt.Sprint("note ", row, " ", i)))
			b, _ := base64.RawURLEncoding.DecodeString(text)
			copy(b[strings.Index(string(b), "usr_")+4:], fmt.Sprintf("%04d", i%10_000)) // begins otherwise
			_, err := g.Gateway(t.Context(), base64.RawURLEncoding.EncodeToString(b), facts, nil)
			codes[codeIn(err)]++
			if r, is := err.(*api.Refusal); is && (r.Code == api.CodeRateLimited || r.Code == api.CodeBusy) && r.RetryAfter != time.Second {
				t.Errorf("%s without saying when to come again", r.Code)
			}
		}
		codes["questions"] = int(a.introspections() - before)
		return codes
	}
	for _, row := range []struct {
		name string
		n    int
		from func(int) string
		want map[string]int
	}{
		{"one address", 1000, func(int) string { return "192.0.2.1" }, map[string]int{"known invalid": 1000, "invalid": 20, "rate_limited": 980, "questions": 20}},
		{"the same, mapped", 10, func(int) string { return "::ffff:192.0.2.1" }, map[string]int{"known invalid": 10, "rate_limited": 10, "questions": 0}},
		{"one IPv6 network", 1000, func(i int) string { return fmt.Sprintf("2001:db8:1:2:%x::%x", i, i) }, map[string]int{"known invalid": 1000, "invalid": 20, "rate_limited": 980, "questions": 20}},
		{"another one", 30, func(i int) string { return fmt.Sprintf("2001:db8:1:3::%x", i) }, map[string]int{"known invalid": 30, "invalid": 20, "rate_limited": 10, "questions": 20}},
		// 1 + 60 are spent of the 100 that all have together.
		{"many addresses", 500, func(i int) string { return fmt.Sprintf("198.51.%d.%d", 100+i/250, i%250) }, map[string]int{"known invalid": 500, "invalid": 39, "busy": 461, "questions": 39}},
	} {
		if got := flood(row.n, row.from); fmt.Sprint(got) != fmt.Sprint(row.want) {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
	for i := range 100 {
		a.want("those who are known", g, narrow(t, begin, fmt.Sprint("note ", i)), "ok", 0)
	}
	now = now.Add(time.Second)
	a.want("a new one, after a while", g, narrow(t, a.device("bob").Token, window(), "audience photos"), "ok", 1)
}

// Tokens that only the authority can judge are questions like the others.
func TestFloodOfVerdicts(t *testing.T) {
	a := start(t)
	now := time.Now()
	g := a.guard(func(o *guard.Options) {
		o.IntrospectionsPerClient, o.Now = 20, func() time.Time { return now }
	})
	begin := narrow(t, a.device("alice").Token, window(), "audience photos", "once x")
	codes := map[string]int{}
	for range 100 {
		codes[code(g, begin)]++
	}
	if n := a.count("/v1/verify").Load(); n != 20 || codes["ok"] != 1 || codes["replayed"] != 19 || codes["rate_limited"] != 80 {
		t.Errorf("%d questions, %v", n, codes)
	}
}

// Over HTTP each client is its connection's peer: one that asks too much is
// limited, and nobody else.
func TestFloodOfOnePeer(t *testing.T) {
	a := start(t)
	now := time.Now()
	root := a.device("alice").Token
	for name, more := range map[string]string{"prefixes": "note x", "verdicts": "once x"} {
		g := a.guard(func(o *guard.Options) {
			o.IntrospectionsPerClient, o.Now = 1, func() time.Time { return now }
		})
		for i, x := range []struct{ peer, want string }{
			{"192.0.2.1:1000", "ok"}, {"192.0.2.1:1001", "rate_limited"}, {"192.0.2.2:1000", "ok"}, {"[2001:db8::1]:1000", "ok"}, {"[2001:db8::2]:1000", "rate_limited"},
		} {
			r := httptest.NewRequest("GET", "/photos/1", nil)
			r.RemoteAddr = x.peer
			r.Header.Set("Authorization", "Bearer "+narrow(t, root, window(), fmt.Sprint("note ", name, i), "audience photos", more))
			if got := codeOfRequest(g, r); got != x.want {
				t.Errorf("%s, %s: %s, want %s", name, x.peer, got, x.want)
			}
		}
	}
}

// What a holder can do to what is known of a device: at most four prefixes are,
// and the one that was just learned is among them.
func TestPrefixesOfADevice(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	alice := a.device("alice")
	later := caveats.TimeBefore(time.Now().Add(110 * time.Minute)).String()
	mine := narrow(t, alice.Token, window(), "audience photos")
	a.want("the owner's", g, mine, "ok", 1)
	for i := range 24 {
		other := narrow(t, alice.Token, later, fmt.Sprint("note ", i), "audience photos")
		a.want("another", g, other, "ok", 1)
		a.want("another again", g, other, "ok", 0)
	}
	a.want("the owner's, pushed out", g, mine, "ok", 1)
	a.want("the owner's, again", g, mine, "ok", 0)
	// Of equals the oldest goes: whoever fills the places once does not keep them.
	for i := range 6 {
		text := narrow(t, alice.Token, later, fmt.Sprint("note ", 18+i%2), "audience photos")
		a.want("two of the owner's in turn", g, text, "ok", b2i(i < 2))
	}
	// The same prefix learned several times at once takes the place of one.
	var wg sync.WaitGroup
	arrived, hold := make(chan struct{}, 10), make(chan struct{})
	a.between("/oauth2/introspect", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		arrived <- struct{}{}
		<-hold
		next.ServeHTTP(w, r)
	})
	begin := narrow(t, alice.Token, later, "note many", "audience photos")
	for i := range 8 {
		text := narrow(t, begin, fmt.Sprint("note ", i))
		wg.Go(func() { code(g, text) })
	}
	for range 8 {
		<-arrived
	}
	close(hold)
	wg.Wait()
	a.honest()
	a.want("the one that was learned before", g, narrow(t, alice.Token, later, "note 19", "audience photos"), "ok", 0)
	a.want("the one that was learned eight times", g, begin, "ok", 0)
	if n := g.Prefixes(); n != 1 {
		t.Errorf("%d devices", n)
	}
}
