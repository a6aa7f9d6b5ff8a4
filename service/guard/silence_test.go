package guard_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

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
