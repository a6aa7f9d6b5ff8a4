package guard_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/guard"
)

// What is limited are questions. A device that begins with a hundred requests at
// once causes a few, and none of the requests is refused for that.
func TestCrowd(t *testing.T) {
	for name, each := range map[string]bool{"one token": false, "a token for each request": true} {
		t.Run(name, func(t *testing.T) {
			a := start(t)
			g := a.guard(func(o *guard.Options) { o.Introspections, o.IntrospectionsPerClient = 0, 0 })
			a.between("/oauth2/introspect", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				time.Sleep(30 * time.Millisecond) // an authority in the same country
				next.ServeHTTP(w, r)
			})
			text := narrow(t, a.device("ann").Token, window(), "audience photos", soon())
			var wg sync.WaitGroup
			for i := range 100 {
				text := text
				if each {
					text = narrow(t, text, fmt.Sprint("path /photos/", i))
				}
				wg.Go(func() {
					f := get()
					f.Target, f.ClientIP = fmt.Sprint("/photos/", i), client4(1)
					if c := codeOf(g, text, f); c != api.CodeOK {
						t.Errorf("%d: %s", i, c)
					}
				})
			}
			wg.Wait()
			if n := a.introspections(); !each && n != 1 {
				t.Errorf("%d questions", n)
			}
		})
	}
}

// Who joins another's question pays nothing, so it must not get the refusal of
// another's limit, either.
func TestAnothersLimit(t *testing.T) {
	a := start(t)
	now := time.Now()
	var slow atomic.Bool
	g := a.guard(func(o *guard.Options) {
		o.IntrospectionsPerClient = 1
		o.Now = func() time.Time { // is asked for on the way to the limit, too: there is time to join
			if slow.Load() {
				time.Sleep(200 * time.Microsecond)
			}
			return now
		}
	})
	root := a.device("ann").Token
	text := narrow(t, root, window(), "audience photos", soon())
	from := func(client byte) caveats.Request {
		f := get()
		f.ClientIP = client4(client)
		return f
	}
	if c := codeOf(g, forge(text), from(0)); c != api.CodeInvalid {
		t.Fatal(c)
	}
	slow.Store(true)
	for other := byte(1); other <= 100; other++ {
		text := narrow(t, root, window(), fmt.Sprint("note ", other), "audience photos")
		var wg sync.WaitGroup
		for _, client := range []byte{0, other} {
			wg.Go(func() {
				c := codeOf(g, text, from(client))
				if c != api.CodeOK && (client != 0 || c != api.CodeRateLimited) {
					t.Errorf("client %d: %s", client, c)
				}
			})
		}
		wg.Wait()
	}
}

// A forged token about the same root key is waited for by nobody who may ask,
// and whoever may not is refused at once when there is nothing to wait for.
func TestForgedIsNotWaitedFor(t *testing.T) {
	a := start(t)
	g := a.guard(func(o *guard.Options) { o.IntrospectionsPerClient = 1 })
	text := narrow(t, a.device("ann").Token, window(), "audience photos", soon())
	hold, arrived := make(chan struct{}), make(chan struct{}, 2)
	var first sync.Once
	a.between("/oauth2/introspect", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		held := false
		first.Do(func() { held = true })
		arrived <- struct{}{}
		if held {
			<-hold
		}
		next.ServeHTTP(w, r)
	})
	ask := func(text string, client byte) string {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		f := get()
		f.ClientIP = client4(client)
		_, err := g.Gateway(ctx, text, f, nil)
		return codeIn(err)
	}
	forged := make(chan string, 1)
	go func() { forged <- ask(forge(text), 1) }()
	<-arrived
	if c := ask(text, 2); c != api.CodeOK {
		t.Errorf("beside a forged token: %s", c)
	}
	close(hold)
	if c := <-forged; c != api.CodeInvalid {
		t.Errorf("forged: %s", c)
	}
	if c := ask(forge(narrow(t, text, "note x")), 1); c != api.CodeInvalid { // its prefix is known by now
		t.Errorf("forged again: %s", c)
	}
	if c := ask(narrow(t, a.device("bob").Token, window(), "audience photos", soon()), 1); c != api.CodeRateLimited {
		t.Errorf("nothing to wait for: %s", c)
	}
}

func client4(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }

// A number of questions beyond all counting is no limit, and not the least one.
func TestNoLimit(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	for _, many := range []float64{1e19, math.MaxFloat64, math.Inf(1)} {
		g := a.guard(func(o *guard.Options) { o.Introspections, o.IntrospectionsPerClient = many, many })
		for i := range 3 {
			if got := code(g, narrow(t, alice.Token, fmt.Sprint("note ", i), window(), "audience photos")); got != api.CodeOK {
				t.Errorf("%g questions a second, question %d: %s", many, i+1, got)
			}
		}
	}
}
