package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"macaroond/service/client"
	"macaroond/service/client/rootfile"
)

// keptAt is a store that says otherwise since when it has its root.
type keptAt struct {
	client.RootStore
	since time.Time
}

func (s keptAt) Load(ctx context.Context) (client.Kept, error) {
	kept, err := s.RootStore.Load(ctx)
	kept.Since = s.since
	return kept, err
}

// Since when a root is there may be unknown, or by a clock that was ahead: its
// half is then that of what is left.
func TestSessionOfARootKeptAtNoTime(t *testing.T) {
	for name, since := range map[string]time.Time{"unknown": {}, "ahead": time.Now().Add(life / 2)} {
		d := newDevice(t, func(s client.RootStore) client.RootStore { return keptAt{s, since} })
		d.ahead = life/2 - 10*time.Second
		if d.root(); d.asked != 0 {
			t.Errorf("%s: renewed too early", name)
		}
		d.ahead = life/2 + 10*time.Second
		if d.root(); d.asked != 1 {
			t.Errorf("%s: asked %d times, want once", name, d.asked)
		}
	}
	// Known, it is that of its whole life, however late the store is opened.
	d := newDevice(t, nil)
	d.ahead = life/2 + 10*time.Second
	d.Session = d.open(rootfile.Open(d.file))
	if d.root(); d.asked != 1 {
		t.Errorf("opened after the half: asked %d times, want once", d.asked)
	}
}

// A clock that is slow by more than the root lives: the file's time is of that
// clock, and so the half would come after the end. Only what the origins' answers
// say helps; and one of them that is behind does not put it off.
func TestSessionOfASlowClock(t *testing.T) {
	for _, c := range []struct {
		slow, told time.Duration
		renewed    bool
	}{
		{2 * life, 0, false},
		{2 * life, 2 * life, true},
		{0, -2 * life, true},
	} {
		d := newDevice(t, nil)
		d.ahead = -c.slow
		if then := time.Now().Add(d.ahead); os.Chtimes(d.file, then, then) != nil {
			t.Fatal("the file's time cannot be set")
		}
		d.Session = d.open(rootfile.Open(d.file))
		resource := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(d.ahead+c.told).UTC().Format(http.TimeFormat))
		}))
		defer resource.Close()
		tr := must[*client.Transport](t)(d.Transport(client.TransportOptions{
			Origins: []string{resource.URL}, Narrowing: client.Narrowing{Audience: "photos"}, Now: func() time.Time { return time.Now().Add(d.ahead) },
		}))
		for _, after := range []time.Duration{0, life/2 - 10*time.Second, life/2 + 10*time.Second} {
			d.ahead = after - c.slow
			res, err := (&http.Client{Transport: tr}).Get(resource.URL)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if renewed := d.stored() != d.grant.Token; renewed != (c.renewed && after > life/2) {
				t.Errorf("slow by %v, told of %v; after %v: renewed: %v", c.slow, c.told, after, renewed)
			}
		}
	}
}

// A successor was scheduled by a clock that is set back since: the half and the
// end would come too late by as much.
func TestSessionOfAClockSetBack(t *testing.T) {
	for name, clock := range map[string]struct{ then, since time.Duration }{
		"to what it is, when it was fast": {then: 2 * life},
		"to what it is not":               {then: life/2 + time.Second, since: -2 * life},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t, nil)
			d.ahead = clock.then
			d.root()
			if d.asked != 1 {
				t.Fatalf("asked %d times, want once", d.asked)
			}
			d.ahead -= 10 * time.Second // less than its pause: nothing of note
			d.root()
			d.cut, d.ahead = errors.New("no route"), clock.since
			for range 2 { // the second time it waits
				d.root()
			}
			if len(d.failed) != 1 {
				t.Errorf("it told of %d failures, want one", len(d.failed))
			}
			d.cut, d.ahead = nil, d.ahead+20*time.Second
			d.root()
			d.root()
			if d.asked != 2 {
				t.Errorf("asked %d times, want once more when the clock was set", d.asked)
			}
			d.ahead += life/2 + 10*time.Second
			d.root()
			if d.asked != 3 {
				t.Errorf("asked %d times, want once more at half its life", d.asked)
			}
		})
	}
}
