package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/guard"
)

// edge is a guard of the authority's that hears of what is revoked only when the
// test lets it, and what it could have heard when it last did.
type edge struct {
	*guard.Guard
	a       *authority
	polls   chan *poll
	pending *poll
	knew    *house // at asOf
	asOf    time.Time
	refused map[string]bool // tokens that it was told of that they are not active: it remembers that for some seconds
	active  bool            // the last introspection's answer
}

// poll is a question for the feed, on its way until it is let go.
type poll struct {
	at  string // the position: generation and sequence
	let chan struct{}
}

// RoundTrip is the edge's way to the authority.
func (e *edge) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/v1/revocations" {
		q := r.URL.Query()
		p := &poll{q.Get("generation") + " " + q.Get("after"), make(chan struct{})}
		e.polls <- p // there is one at a time
		select {
		case <-p.let:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		q.Del("wait")
		r.URL.RawQuery = q.Encode()
	}
	in := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.RequestURI(), r.Body)
	in.Header = r.Header
	rec := httptest.NewRecorder()
	(*e.a.handler.Load()).ServeHTTP(rec, in)
	if r.URL.Path == "/oauth2/introspect" {
		e.active = strings.HasPrefix(rec.Body.String(), `{"active":true`)
	}
	out := rec.Result()
	out.Header.Set("Date", e.a.clock.Now().UTC().Format(http.TimeFormat))
	return out, nil
}

func (w *world) startEdge(id, secret string) {
	e := &edge{a: w.a, polls: make(chan *poll, 1), refused: map[string]bool{}}
	e.Guard = must(guard.New(context.Background(), guard.Options{
		Authority: "http://127.0.0.1", Audience: "photos", Credential: client.Basic(id, secret),
		Introspections: 1e9, IntrospectionsPerClient: 1e9, Prefixes: 100, Now: w.a.clock.Now, Client: client.Options{Transport: e}, Log: slog.New(slog.DiscardHandler),
	}))
	w.edge = e
}

// followed lets the edge hear of everything, and so the process that it asks.
func (w *world) followed() {
	must(0, w.a.svc.CatchUp(w.a.t.Context()))
	w.late = nil
	p := w.a.svc.FeedPosition()
	w.knew, w.edge.asOf = w.copy(), w.now
	at := p.Generation + " " + strconv.FormatInt(p.Sequence, 10)
	for heard := false; ; heard = true {
		if w.pending == nil {
			w.pending = <-w.polls // whose asking says that the answer before is taken in
		}
		if heard && w.pending.at == at {
			return
		}
		close(w.pending.let)
		w.pending = nil
	}
}

// agrees: once the edge has heard of everything it says of every token what the authority says.
func (w *world) agrees() {
	w.followed()
	for _, t := range w.toks {
		w.askEdge(t)
	}
}

// atTheEdge is for what is done now and then to tokens that the edge has seen, and
// holds what it says when it has heard of it.
func (w *world) atTheEdge() (heard func()) {
	if !w.chance("seen at the edge") {
		return func() {}
	}
	w.agrees()
	return w.agrees
}

// askEdge holds what the edge says against the authority's list as it is now,
// and, while its own is young enough, as it was when it last heard of it.
func (w *world) askEdge(t *tok) {
	q := question{audience: "photos", method: "GET", path: "/photos/1"}
	now, _ := w.verdict(t, q)
	right := map[bool]bool{now[0] == api.CodeOK: true}
	if e := w.edge; e.knew != nil {
		is := w.house
		w.house = e.knew
		if w.epochs[t.epoch] == "" { // it may have asked about one of its tokens since
			w.epochs[t.epoch] = "signing"
		}
		then, _ := w.verdict(t, q)
		w.house = is
		if young := !w.now.After(e.asOf.Add(30 * time.Second)); young || slices.Contains(then, api.CodeRevoked) { // which it holds to
			right[then[0] == api.CodeOK] = true
		}
	}
	if w.refused[t.text] {
		right[false] = true
	}
	w.active = false
	pass, err := w.Gateway(w.a.t.Context(), t.text, caveats.Request{Method: "GET", Target: "/photos/1"}, nil)
	var refusal *api.Refusal
	if errors.As(err, &refusal); !right[err == nil] || refusal != nil && refusal.Code == api.CodeStale {
		w.Fatalf("the edge says %v, want %v: %s", err, now, t)
	}
	if err == nil && (pass.User != t.user || pass.Device != t.device) {
		w.Fatalf("at the edge it speaks for %+v: %s", pass, t)
	}
	online := t.once() || strings.Contains(t.String(), "|sealed ")
	switch {
	case online && err == nil:
		w.accepted(t)
	case w.active:
		w.saw(t)
	case err != nil && refusal.Code == api.CodeInvalid:
		w.refused[t.text] = true
	}
}
