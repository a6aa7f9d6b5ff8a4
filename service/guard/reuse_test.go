package guard_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/guard"
	"macaroond/service/token"
)

// Many users at once, through memory that is used again: each is told who they
// are, and why they are refused, and that does not change afterwards. The
// authority's gateway works the same way.
func TestEachIsTheirOwn(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	type user struct {
		*api.Grant
		name, begin, refused string
	}
	users := make([]user, 12)
	for i := range users {
		name := fmt.Sprint("user", strings.Repeat("x", i), i)
		grant := a.device(name)
		// Of different lengths, so that one's texts do not stand where another's did.
		begin := narrow(t, grant.Token, window(), "note "+strings.Repeat("#", i*7+1), "audience photos")
		users[i] = user{grant, name, begin, narrow(t, begin, fmt.Sprintf("path /only/%s", name))}
	}
	type kept struct {
		of   int
		pass *api.Pass
		why  *api.Refusal
	}
	judges := map[string]func(context.Context, string, caveats.Request) (*api.Pass, error){
		"guard": func(ctx context.Context, text string, facts caveats.Request) (*api.Pass, error) {
			return g.Gateway(ctx, text, facts, nil)
		},
		"gateway": func(ctx context.Context, text string, facts caveats.Request) (*api.Pass, error) {
			facts.Audience = "photos"
			return a.svc.Gateway(ctx, text, facts, nil)
		},
	}
	for name, judge := range judges {
		var wg sync.WaitGroup
		all := make([][]kept, 8)
		for w := range all {
			wg.Go(func() {
				for n := range 600 {
					i := (n*7 + w*5) % len(users)
					if n%3 == 0 {
						_, err := judge(context.Background(), users[i].refused, get())
						all[w] = append(all[w], kept{i, nil, err.(*api.Refusal)})
						continue
					}
					pass, err := judge(context.Background(), users[i].begin, get())
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					all[w] = append(all[w], kept{i, pass, nil})
				}
			})
		}
		wg.Wait()
		for _, list := range all {
			for _, k := range list {
				u := users[k.of]
				switch {
				case k.pass != nil:
					if k.pass.User != u.User.ID || k.pass.Device != u.Device.ID || k.pass.Username != u.name || k.pass.Audience != "photos" {
						t.Fatalf("%s: %+v for %s", name, k.pass, u.name)
					}
				case k.why.Code != api.CodeRefused || !strings.HasSuffix(k.why.Reason, " matches none of /only/"+u.name):
					t.Fatalf("%s: %v for %s", name, k.why, u.name)
				}
			}
		}
	}
}

// What is known does not grow with the number of tokens: not of good ones, of
// refused ones, of forged ones, nor with the number of strangers.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("ten million tokens")
	}
	a := start(t)
	g := a.guard(func(o *guard.Options) { o.Introspections, o.IntrospectionsPerClient = 50, 50 })
	begins := make([]begin, 4)
	for i := range begins {
		text := narrow(t, a.device(fmt.Sprint("user", i)).Token, window(), "audience photos")
		a.want("first", g, text, "ok", 1)
		begins[i] = beginOf(t, text)
	}
	round := func(n int, seed uint64) {
		var wg sync.WaitGroup
		for w := range 2 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(w)))
				facts := get()
				for i := range n / 2 {
					text := begins[i%len(begins)].narrow(fmt.Sprintf("note %d %d", r.Uint64(), i))
					want := api.CodeOK
					switch i % 4 {
					case 1:
						text, want = forge(text), api.CodeInvalid
					case 2: // a stranger's, who comes from somewhere new each time
						b := []byte(text)
						copy(b[60:], fmt.Sprintf("%016x", r.Uint64()))
						text, want = string(b), ""
					}
					facts.ClientIP = address(r)
					if got := codeOf(g, text, facts); want != "" && got != want {
						t.Errorf("%s, want %s", got, want)
						return
					} else if want == "" && got == api.CodeOK {
						t.Error("a stranger's token is let in")
					}
				}
			})
		}
		wg.Wait()
	}
	heap := func() int64 {
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	few, n := 80_000, 10_000_000
	if raceOn {
		few, n = 20_000, 20_000
	}
	round(few, 1) // fills what has a fixed size: the buckets of 10,000 addresses
	before := heap()
	round(n, 2)
	grown := heap() - before
	t.Logf("%d bytes more after %d tokens more", grown, n)
	if grown > 1<<20 {
		t.Errorf("%d bytes more after %d tokens more", grown, n)
	}
	if p := g.Prefixes(); p != len(begins) {
		t.Errorf("%d prefixes", p)
	}
}

// begin is a token that a holder narrows in no time: a caveat and a tail.
type begin struct {
	data []byte // up to its end of caveats
	sig  token.Signature
}

func beginOf(t *testing.T, text string) begin {
	tok, err := token.Parse(text)
	ok(t, err)
	data, err := base64.RawURLEncoding.DecodeString(text)
	ok(t, err)
	b := begin{data[: len(data)-len("\x00\x06\x20")-32 : len(data)-len("\x00\x06\x20")-32], tok.UnverifiedSignature()}
	if b.narrow("note x") != narrow(t, text, "note x") {
		t.Fatal("it is narrowed to another token")
	}
	return b
}

func (b begin) narrow(caveat string) string {
	sig := b.sig.Next(caveat)
	data := append(append(b.data, 2, byte(len(caveat))), caveat...)
	return base64.RawURLEncoding.EncodeToString(append(append(data, 0, 0, 6, 32), sig[:]...))
}

func address(r *rand.Rand) netip.Addr {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return netip.AddrFrom16(b)
}

// A thousand devices, each with its prefix; and with room for a hundred of them
// everybody is still let in, at the price of questions.
func TestManyDevices(t *testing.T) {
	t.Parallel()
	a := start(t)
	n := 1000
	if raceOn {
		n = 300
	}
	roomy := a.guard(nil)
	tight := a.guard(func(o *guard.Options) { o.Prefixes = n / 10 })
	begins := make([]string, n)
	var wg sync.WaitGroup
	for w := range 16 { // so that many share a sync
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				g, err := a.c.Signup(t.Context(), api.SignupIn{Username: fmt.Sprint("user", i), Device: api.DeviceIn{Name: "phone"}})
				if err != nil {
					t.Error(err)
					return
				}
				begins[i] = narrow(t, g.Token, window(), "audience photos")
			}
		})
	}
	wg.Wait()
	for round := range 2 {
		before := a.introspections()
		for i, begin := range begins {
			if got := code(roomy, narrow(t, begin, fmt.Sprint("note ", round))); got != api.CodeOK {
				t.Fatalf("device %d: %s", i, got)
			}
		}
		if asked := a.introspections() - before; asked != int64(n)*b2i(round == 0) {
			t.Errorf("round %d: %d questions", round, asked)
		}
	}
	if p := roomy.Prefixes(); p != n {
		t.Errorf("%d prefixes", p)
	}
	for i, begin := range begins {
		if got := code(tight, begin); got != api.CodeOK {
			t.Fatalf("device %d: %s", i, got)
		}
	}
	eventually(t, "it keeps its bound", func() bool { return tight.Prefixes() <= n/10 })
}

// Close, while much is going on, and again.
func TestClose(t *testing.T) {
	a := start(t)
	text := narrow(t, a.device("alice").Token, window(), "audience photos")
	before := runtime.NumGoroutine()
	g, err := guard.New(context.Background(), guard.Options{Authority: a.url, Credential: a.credential("photos"), Audience: "photos"})
	ok(t, err)
	ok(t, g.Wait(t.Context()))
	arrived := make(chan struct{}, 100)
	a.between("/oauth2/introspect", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		arrived <- struct{}{}
		<-r.Context().Done() // never answers
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := code(g, text); got != api.CodeStale {
				t.Errorf("a question that was on its way: %s", got)
			}
		})
	}
	<-arrived
	begun := time.Now()
	var closing sync.WaitGroup
	for range 3 {
		closing.Go(g.Close)
	}
	closing.Wait()
	wg.Wait()
	g.Close()
	if d := time.Since(begun); d > 3*time.Second {
		t.Errorf("Close took %v", d)
	}
	a.honest()
	a.want("after Close, not known", g, text, "stale", 0)
	eventually(t, "its goroutines end", func() bool {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		return runtime.NumGoroutine() <= before+2
	})
	// With its context's end, too.
	ctx, cancel := context.WithCancel(t.Context())
	g, err = guard.New(ctx, guard.Options{Authority: a.url, Credential: a.credential("photos"), Audience: "photos"})
	ok(t, err)
	ok(t, g.Wait(t.Context()))
	a.want("before", g, text, "ok", 1)
	cancel()
	a.want("what is known, while the list is fresh", g, text, "ok", 0)
	a.want("what is not", g, narrow(t, text, "once x"), "ok", 0)
	g.Close()
}

// Whoever goes away is answered at once, and costs the others nothing.
func TestContextEnds(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	text := narrow(t, a.device("alice").Token, window(), "audience photos")
	var hold atomic.Bool
	hold.Store(true)
	for _, path := range []string{"/oauth2/introspect", "/v1/verify"} {
		arrived := make(chan struct{}, 10)
		release := make(chan struct{})
		a.between(path, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			arrived <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
			next.ServeHTTP(w, r)
		})
		asked, next := text, text
		if path == "/v1/verify" {
			// One that was on its way may be used up, though nobody heard of it.
			asked, next = narrow(t, text, "once x"), narrow(t, text, "once y")
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan string)
		go func() {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
			r.Header.Set("Authorization", "Bearer "+asked)
			g.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
			gone <- fmt.Sprint(w.Code)
		}()
		<-arrived
		cancel()
		if got := <-gone; got != "503" {
			t.Errorf("%s: %s", path, got)
		}
		close(release)
		if got := code(g, next); got != api.CodeOK {
			t.Errorf("%s: then %s", path, got)
		}
		a.honest()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Gateway(ctx, text, get(), nil); err != nil {
		t.Errorf("what is known needs nobody, and no context: %v", err)
	}
}

// New says what is wrong with its options.
func TestNew(t *testing.T) {
	good := guard.Options{Authority: "http://127.0.0.1:1", Credential: client.Basic("svc_x", "x"), Audience: "photos"}
	for _, row := range []struct {
		name   string
		change func(*guard.Options)
		ok     bool
	}{
		{"all is well", func(o *guard.Options) {}, true},
		{"no audience", func(o *guard.Options) { o.Audience = "" }, false},
		{"an audience with a space", func(o *guard.Options) { o.Audience = "my photos" }, false},
		{"an audience that is too long", func(o *guard.Options) { o.Audience = strings.Repeat("x", 129) }, false},
		{"no credential", func(o *guard.Options) { o.Credential = client.Credential{} }, false},
		{"no authority", func(o *guard.Options) { o.Authority = "" }, false},
		{"an authority in the clear", func(o *guard.Options) { o.Authority = "http://auth.example" }, false},
		{"an authority of another scheme", func(o *guard.Options) { o.Authority = "ftp://auth.example" }, false},
		{"a negative staleness", func(o *guard.Options) { o.MaxStaleness = -1 }, false},
		{"a negative body", func(o *guard.Options) { o.MaxBody = -1 }, false},
		{"negative questions", func(o *guard.Options) { o.Introspections = -1 }, false},
		{"negative questions of one", func(o *guard.Options) { o.IntrospectionsPerClient = -1 }, false},
		{"negative prefixes", func(o *guard.Options) { o.Prefixes = -1 }, false},
		{"questions that are no number", func(o *guard.Options) { o.Introspections = math.NaN() }, false},
		{"questions of one that are no number", func(o *guard.Options) { o.IntrospectionsPerClient = math.NaN() }, false},
	} {
		o := good
		row.change(&o)
		g, err := guard.New(t.Context(), o)
		if (err == nil) != row.ok || (g == nil) != (err != nil) {
			t.Errorf("%s: %v", row.name, err)
		}
		if g != nil {
			g.Close()
		}
	}
}
