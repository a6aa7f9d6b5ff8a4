package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
)

// ErrLoggedOut means that the authority does not take the root any more: it is
// revoked or has expired, and only a login helps.
var ErrLoggedOut = errors.New("logged out: log in again")

const (
	renewalTime = 30 * time.Second // that one renewal may take, whoever waits for it
	patience    = 5 * time.Second  // of a caller who has a root that is good still
	latePause   = 5 * time.Second  // at most, between renewals that failed, when the root is about to end
	lookPause   = 5 * time.Second  // between looks for a login that was kept meanwhile
)

// Session holds a root and renews it in time: from half its life on, by
// whichever caller of [Session.Root] comes first; the others go on with the one
// there is, and so does that one when the authority cannot be reached. It is
// safe for concurrent use, and several processes may share its store: what
// another one has renewed is taken from there. A successor is used only when it
// is kept.
type Session struct {
	client *Client
	store  RootStore
	now    func() time.Time
	failed func(error)
	held   atomic.Pointer[held]
	ahead  atomic.Int64 // by how much the authority's clock seems to be ahead of now, or 0

	mu      sync.Mutex
	running *renewal // or nil

	refused refusedRoot // who renews may look

	looking sync.Mutex
	looked  time.Time // into the store, after a 401
}

// SessionOptions are what a Session may be told. The zero value is good.
type SessionOptions struct {
	// Failed is told why a renewal failed, for the log and for metrics, before
	// the next one is tried: the session goes on with the root it has, so nobody
	// else hears of it until the end. [ErrLoggedOut] is not among these: Root
	// says it. nil tells nobody.
	Failed func(error)
	// Now is this machine's clock. nil is time.Now.
	Now func() time.Time
}

// renewal is one that somebody's request began. It goes on when that request has
// ended, for at most renewalTime: requests may all be shorter than it takes.
type renewal struct {
	done chan struct{}
	err  error // then: ErrLoggedOut and why, or nil
}

// refusedRoot is a root that the authority did not take, and for how long that is
// believed: whoever goes on asking would ask it each time.
type refusedRoot struct {
	root         string
	why          error
	since, until time.Time
}

// held is a root and what this machine's clock will show when it is to be
// renewed, when that is urgent, and when it ends. It is never changed.
type held struct {
	root                   *token.Token
	renew, urgent, expires time.Time
	pause                  time.Duration // after a renewal that failed
	failed                 error         // why the last one did
	at                     time.Time     // what the clock showed when this was worked out
	since                  time.Time     // when it was kept; zero when the authority has just told how long it lives
}

func (s *Session) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// NewSession reads the root from the store. It is an error that the store cannot
// be changed: a session there would end with the root.
func NewSession(ctx context.Context, c *Client, store RootStore, o SessionOptions) (*Session, error) {
	s := &Session{client: c, store: store, now: o.Now, failed: o.Failed}
	if s.now == nil {
		s.now = time.Now
	}
	if s.failed == nil {
		s.failed = func(error) {}
	}
	kept, err := store.Load(ctx)
	if err != nil {
		return nil, err
	}
	h, err := s.hold(kept)
	if err != nil {
		return nil, err
	}
	s.held.Store(h)
	if err := s.changeable(ctx); err != nil {
		return nil, fmt.Errorf("no successor of the root could be kept: %w", err)
	}
	return s, nil
}

// changeable begins to change the store, and leaves it as it is. Who does not get
// to it in time is behind somebody who does change it.
func (s *Session) changeable(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errJustLooking)
	defer cancel()
	err := s.store.Update(ctx, func(Kept) (string, error) { return "", errJustLooking })
	if errors.Is(err, errJustLooking) || errors.Is(context.Cause(ctx), errJustLooking) {
		return nil
	}
	return err
}

var errJustLooking = errors.New("nothing is to be changed")

// hold looks at what the store has.
func (s *Session) hold(kept Kept) (*held, error) {
	root, err := token.Parse(kept.Token)
	if err != nil {
		return nil, fmt.Errorf("the kept root: %w", err)
	}
	expires, ok := UnverifiedExpiry(root)
	if !ok {
		return nil, errors.New("the kept root has no expiry: it is no root of an authority")
	}
	since, now := kept.Since.Round(0), s.clock()
	if since.After(now) || since.IsZero() {
		since = now
	}
	return s.scheduleKept(root, since, expires, now), nil
}

// scheduleKept is for a root that ends by the authority's clock. Where that one
// is ahead the end comes sooner, and it is renewed sooner; it is not taken for
// expired upon the word of those who told, who are not the authority.
func (s *Session) scheduleKept(root *token.Token, since, expires, now time.Time) *held {
	h := schedule(root, since, expires.Add(-time.Duration(s.ahead.Load())))
	h.since, h.expires, h.at = since, expires, now
	return h
}

// isAhead is told by how much the clock of an origin, which the authority's will
// agree with, is ahead of this machine's.
func (s *Session) isAhead(by time.Duration) {
	s.ahead.Store(int64(max(by, 0)))
	if h := s.held.Load(); !h.since.IsZero() {
		s.held.CompareAndSwap(h, s.scheduleKept(h.root, h.since, h.expires, s.clock()))
	}
}

// replaced reports, after a 401, that there is another root than the one that was
// used: somebody may have logged in again, and kept that.
func (s *Session) replaced(ctx context.Context, used *token.Token) bool {
	s.looking.Lock()
	defer s.looking.Unlock()
	h, now := s.held.Load(), s.clock()
	if h.root.Text() != used.Text() {
		return true
	}
	if now.Sub(s.looked).Abs() < lookPause {
		return false
	}
	s.looked = now
	kept, err := s.store.Load(ctx)
	if err != nil {
		return false
	}
	next, err := s.hold(kept)
	if err != nil || next.root.Text() == used.Text() {
		return false
	}
	s.held.CompareAndSwap(h, next)
	return true
}

func schedule(root *token.Token, since, expires time.Time) *held {
	life := max(expires.Sub(since), 0)
	return &held{
		root: root, expires: expires, renew: expires.Add(-life / 2), urgent: expires.Add(-min(life/8, time.Minute)),
		pause: min(max(life/64, 50*time.Millisecond), time.Minute), at: since,
	}
}

// due reports that it is time to renew, or that nobody knows: a clock that shows
// less than it did was set back, and what was worked out by it may be late by as
// much. Only the authority can tell then. What a time server takes off now and
// then is below the pause.
func (h *held) due(now time.Time) bool {
	return !now.Before(h.renew) || now.Before(h.at.Add(-h.pause))
}

// clock is this machine's, without the monotonic reading, which stands still
// while a machine sleeps.
func (s *Session) clock() time.Time { return s.now().Round(0) }

// Root is the root to narrow from now. Errors: [ErrLoggedOut] with its reason;
// or, when it has expired before it could be renewed, why it could not. ctx is
// how long to wait for a renewal, which takes what time it needs; while the root
// is good that is 5 seconds at most, and no more than half of what ctx has left.
func (s *Session) Root(ctx context.Context) (*token.Token, error) {
	h, now := s.held.Load(), s.clock()
	if !h.due(now) {
		return h.good(now)
	}
	r, mine := s.renewal(ctx)
	var enough <-chan time.Time
	if now.Before(h.expires) {
		if !mine && now.Before(h.urgent) {
			return h.root, nil // somebody is at it
		}
		wait := patience
		if end, ok := ctx.Deadline(); ok {
			wait = min(wait, time.Until(end)/2)
		}
		enough = time.After(wait)
	}
	select {
	case <-r.done:
		if r.err != nil {
			return nil, r.err
		}
	case <-enough:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return s.held.Load().good(s.clock())
}

// good is the root, unless it is over.
func (h *held) good(now time.Time) (*token.Token, error) {
	if now.Before(h.expires) {
		return h.root, nil
	}
	if h.failed == nil {
		return nil, errors.New("the root token has expired while it was being renewed")
	}
	return nil, fmt.Errorf("the root token has expired: %w", h.failed)
}

// renewal is the one that runs, or a new one, which is then the caller's.
func (s *Session) renewal(ctx context.Context) (r *renewal, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return s.running, false
	}
	r = &renewal{done: make(chan struct{})}
	s.running = r
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewalTime)
	go func() {
		defer cancel()
		r.err = s.renewHeld(ctx)
		s.mu.Lock()
		s.running = nil
		s.mu.Unlock()
		close(r.done)
	}()
	return r, true
}

// renewHeld holds the successor, or the same root for when to try again. Its
// error is that there is nothing to try.
func (s *Session) renewHeld(ctx context.Context) error {
	h := s.held.Load()
	if !h.due(s.clock()) {
		return nil // somebody was faster
	}
	next, err := s.renew(ctx, h)
	if err == nil {
		s.held.Store(next)
		return nil
	}
	p, ok := errors.AsType[*api.Problem](err)
	if ok && p.Status == http.StatusUnauthorized {
		return fmt.Errorf("%w (%w)", ErrLoggedOut, err)
	}
	after, _ := RetryAfter(err)
	now, wait := s.clock(), *h
	wait.renew, wait.failed, wait.at = h.again(now, after), err, now
	if ok && p.Code == api.CodeSessionOver && now.Before(h.expires) {
		wait.renew = h.expires
	}
	s.held.CompareAndSwap(h, &wait)
	s.failed(err)
	return nil
}

// again is when to try again after a failure: as late as was asked for, but not
// over the point from which it is urgent, nor over the end, for whoever asked may
// have been wrong.
func (h *held) again(now time.Time, after time.Duration) time.Time {
	switch {
	case now.Before(h.urgent):
		return earlier(now.Add(max(after, h.pause)), h.urgent)
	case now.Before(h.expires):
		return earlier(now.Add(max(after, min(h.pause, latePause))), h.expires)
	}
	return now.Add(min(max(after, h.pause), latePause))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// renew takes the successor that another process has kept, or asks for one.
func (s *Session) renew(ctx context.Context, h *held) (next *held, err error) {
	err = s.store.Update(ctx, func(kept Kept) (string, error) {
		if next, err = s.hold(kept); err != nil {
			return "", err
		}
		if s.clock().Before(next.renew) && next.root.Text() != h.root.Text() {
			return kept.Token, nil
		}
		asked := s.clock()
		if no := &s.refused; no.root == kept.Token && !asked.Before(no.since) && asked.Before(no.until) {
			return "", no.why
		}
		grant, err := s.client.Renew(ctx, Bearer(kept.Token))
		if err != nil {
			if p, ok := errors.AsType[*api.Problem](err); ok && p.Status == http.StatusUnauthorized {
				s.refused = refusedRoot{kept.Token, err, asked, asked.Add(min(h.pause, 5*time.Second))}
			}
			return "", err
		}
		root, err := token.Parse(grant.Token)
		if err != nil {
			return "", errors.New("the authority's answer has no token that can be read")
		}
		// By this machine's clock, which may be wrong: from when it was asked.
		next = schedule(root, asked, asked.Add(time.Duration(grant.ExpiresIn)*time.Second))
		return root.Text(), nil
	})
	return next, err
}
