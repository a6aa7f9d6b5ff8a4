package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
)

// followed is what a follower was told.
type followed struct {
	mu      sync.Mutex
	changed chan struct{}
	last    int64
	keys    map[string]int // how often
	whole   int            // answers
	resets  int
	asked   bool // a question has been sent and has no answer yet
	failed  []error
}

func (f *followed) told(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *followed) Entries(batch []api.Revocation) error {
	f.told(func() {
		for _, e := range batch {
			f.last = e.Seq
			f.keys[strings.Clone(e.RootKeyID)]++
		}
	})
	return nil
}

func (f *followed) AsOf(time.Time) { f.told(func() { f.whole++; f.asked = false }) }
func (f *followed) Reset()         { f.told(func() { f.resets++ }) }
func (f *followed) Failed(err error) {
	f.told(func() { f.failed, f.asked = append(f.failed, err), false })
}

func (f *followed) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.After(patience)
	for {
		f.mu.Lock()
		ok, changed := holds(), f.changed
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			f.mu.Lock()
			defer f.mu.Unlock()
			t.Fatalf("%s: never; last %d, %d whole answers, failed %v", what, f.last, f.whole, f.failed)
		}
	}
}

// asking tells when a question has been sent.
type asking struct {
	*http.Transport
	told *followed
}

func (a asking) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{WroteRequest: func(i httptrace.WroteRequestInfo) {
		if i.Err == nil {
			a.told.told(func() { a.told.asked = true })
		}
	}}
	return a.Transport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

// A follower lives through kill -9 of the authority in the middle of a poll:
// what was answered to whoever revoked reaches it, once. A server that is told
// to end does not wait for polls.
func TestFollowedThroughKills(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	s := newSite(t, map[string]string{"listen": "unix:" + socket})
	s.spawn()
	s.addUser("alice")
	var svc api.Service
	s.must(&svc, "", "service", "add", "photos", "--serves", "photos")

	wire := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(wire.CloseIdleConnections)
	told := &followed{changed: make(chan struct{}), keys: map[string]int{}}
	c, err := client.New("http://localhost", client.Options{Transport: asking{wire, told}})
	must(t, err)
	f := &client.Follower{Client: c, Credential: client.Basic(svc.ID, svc.Secret), Sink: told, Wait: api.MaxFeedWait, Now: time.Now}
	ctx, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() { f.Run(ctx) })
	defer func() { stop(); following.Wait() }()
	told.until(t, "the first answer", func() bool { return told.whole > 0 })

	for n := range 3 {
		g := s.login("alice")
		must(t, s.client.Logout(t.Context(), client.Bearer(g.Token)))
		if n == 1 { // by the running server, else right before it dies
			told.until(t, "a logout", func() bool { return told.keys[g.RootKeyID] > 0 })
		}
		failures := 0
		told.until(t, "", func() bool { failures = len(told.failed); return true })
		s.kill()
		told.until(t, "the loss of the authority", func() bool { return len(told.failed) > failures || n != 1 && told.keys[g.RootKeyID] > 0 })
		s.spawn()
		told.until(t, "a logout, after the kill", func() bool { return told.keys[g.RootKeyID] > 0 })
	}
	// By a command, which is another process.
	g := s.login("alice")
	s.must(nil, "", "user", "suspend", "alice")
	told.until(t, "a suspension", func() bool { return told.keys[g.RootKeyID] > 0 })

	told.mu.Lock()
	for key, n := range told.keys {
		if n != 1 {
			t.Errorf("%s was told %d times", key, n)
		}
	}
	if told.resets != 0 {
		t.Errorf("%d resets", told.resets)
	}
	told.mu.Unlock()

	told.until(t, "a poll in progress", func() bool { return told.asked })
	begin := time.Now()
	if code := s.end(); code != exitOK || time.Since(begin) > shutdownGrace/2 {
		t.Errorf("exit code %d after %v", code, time.Since(begin))
	}
}
