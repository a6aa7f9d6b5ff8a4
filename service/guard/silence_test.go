package guard_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/guard"
)

// Before an authority that takes questions and never answers, requests do not
// pile up: one waits, the others are refused at once, and nobody with 401 or
// for asking too often.
func TestSilence(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	g := a.guard(func(o *guard.Options) { o.Now, o.IntrospectionsPerClient = clock, 1 })
	text := narrow(t, alice.Token, window(), "audience photos")
	a.want("while it answers", g, text, "ok", 1)

	release := make(chan struct{})
	a.between("/oauth2/introspect", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-release:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
	pass(time.Minute) // the list is stale: each token is a question
	before := a.introspections()
	if c := code(g, text); c != api.CodeStale { // after as long as a question may take
		t.Errorf("the first: %s", c)
	}
	pass(time.Minute)
	probe := make(chan string, 1)
	go func() { probe <- code(g, narrow(t, text, "note probe")) }()
	eventually(t, "the probe is put", func() bool { return a.introspections() == before+2 })
	for range 300 {
		if c := code(g, narrow(t, text, "note x")); c != api.CodeStale {
			t.Fatalf("meanwhile: %s", c)
		}
	}
	if n := a.introspections() - before; n != 2 {
		t.Errorf("%d questions, want 2", n)
	}
	close(release)
	if c := <-probe; c != api.CodeOK {
		t.Errorf("the probe, answered: %s", c)
	}
	pass(10 * time.Second)
	if c := code(g, narrow(t, text, "note y")); c != api.CodeOK {
		t.Errorf("afterwards: %s", c)
	}
}

// A client that hangs up says nothing about the authority: the next ones are
// asked about as ever.
func TestHangingUpIsNoSilence(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	a.between("/v1/verify", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		<-r.Context().Done()
	})
	forged := forge(narrow(t, a.device("alice").Token, window(), "audience photos", "once x"))
	for range 3 {
		ctx, hangUp := context.WithCancel(t.Context())
		done := make(chan struct{})
		before := a.count("/v1/verify").Load()
		go func() { defer close(done); g.Gateway(ctx, forged, get(), nil) }()
		eventually(t, "the authority is asked", func() bool { return a.count("/v1/verify").Load() > before })
		hangUp()
		<-done
	}
	// Two devices at once, both held until both have been asked about.
	both := make(chan struct{})
	n := a.introspections()
	a.between("/oauth2/introspect", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if a.introspections() >= n+2 {
			close(both)
		}
		<-both
		next.ServeHTTP(w, r)
	})
	var wg sync.WaitGroup
	for _, name := range []string{"bob", "carol"} {
		text := narrow(t, a.device(name).Token, window(), "audience photos")
		wg.Go(func() {
			if c := code(g, text); c != api.CodeOK {
				t.Errorf("%s: %s", name, c)
			}
		})
	}
	wg.Wait()
}

// With a credential for another audience every token is inactive. Nobody is
// told 401 for that: it would log all of them out.
func TestCredentialThatDoesNotServe(t *testing.T) {
	a := start(t)
	var log safeBuffer
	g := a.guard(func(o *guard.Options) {
		o.Credential, o.Log = a.credential("mail"), slog.New(slog.NewTextHandler(&log, nil))
	})
	text := narrow(t, a.device("alice").Token, window(), "audience photos")
	for range 2 {
		if c := code(g, text); c != api.CodeStale {
			t.Errorf("%s, want stale", c)
		}
	}
	if !strings.Contains(log.String(), "does not serve the audience photos") {
		t.Errorf("an operator is told: %s", log.String())
	}
}

// What is over by this clock is refused as that, without a question: a client
// makes another token then.
func TestOverIsNotAsked(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	root := a.device("alice").Token
	a.want("a minute ago", g, narrow(t, root, window(), "audience photos", caveats.TimeBefore(time.Now().Add(-time.Minute)).String()), "expired", 0)
	a.want("by its window", g, narrow(t, root, caveats.TimeBefore(time.Now().Add(-time.Hour)).String(), "audience photos"), "expired", 0)
	a.want("for another audience as well", g, narrow(t, root, caveats.TimeBefore(time.Now().Add(-time.Hour)).String(), "audience mail"), "wrong_audience", 0)
}

// What is not valid yet is refused as that, too: the authority's answer, that it
// is not active, would be remembered beyond the moment in which it becomes valid.
func TestEarlyIsNotAsked(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	at := time.Now().Add(1500 * time.Millisecond).Truncate(time.Second).Add(time.Second)
	text := narrow(t, a.device("alice").Token, window(), "audience photos", caveats.TimeAfter(at).String())
	a.want("a moment before", g, text, "not_yet_valid", 0)
	time.Sleep(time.Until(at) + 10*time.Millisecond)
	a.want("at its time", g, text, "ok", 1)
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// Facts that take the client's address away leave none: the connection's peer is
// then some proxy, whom a caveat about the client does not mean.
func TestFactsWithoutAddress(t *testing.T) {
	a := start(t)
	text := narrow(t, a.device("alice").Token, window(), "audience photos", "client-ip 127.0.0.0/8")
	for name, row := range map[string]struct {
		facts  func(*http.Request, *caveats.Request)
		status int
	}{
		"no facts":         {nil, 200},
		"others":           {func(*http.Request, *caveats.Request) {}, 200},
		"no address":       {func(_ *http.Request, r *caveats.Request) { r.ClientIP = netip.Addr{} }, 403},
		"another address":  {func(_ *http.Request, r *caveats.Request) { r.ClientIP = netip.MustParseAddr("192.0.2.1") }, 403},
		"the same, mapped": {func(_ *http.Request, r *caveats.Request) { r.ClientIP = netip.MustParseAddr("::ffff:127.0.0.9") }, 200},
	} {
		g := a.guard(func(o *guard.Options) { o.Facts = row.facts })
		url := listen(t, g.Protect(http.NotFoundHandler()))
		for range 2 { // not known yet, and known
			r, err := http.NewRequest("GET", url+"/photos/1", nil)
			ok(t, err)
			r.Header.Set("Authorization", "Bearer "+text)
			resp, err := http.DefaultClient.Do(r)
			ok(t, err)
			resp.Body.Close()
			if got := resp.StatusCode; got != row.status && !(row.status == 200 && got == 404) {
				t.Errorf("%s: %d, want %d", name, got, row.status)
			}
		}
	}
}
