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

// Renew gives the successor of a bare root. An answer that was lost is had
// again by asking again, however late, as long as nobody has used the
// successor; so keep it before using it. Codes: session_over (the root is good
// until it expires; log in again by then), rate_limited.
func (c *Client) Renew(ctx context.Context, root Credential) (*api.Grant, error) {
	return c.grant(ctx, call{path: "/v1/renew", cred: root, want: http.StatusOK})
}

// ErrLoggedOut means that the authority does not take the root any more: it is
// revoked or has expired, and only a login helps.
var ErrLoggedOut = errors.New("logged out: log in again")

// Kept is a root token in a store, and since when it is there.
type Kept struct {
	Token string
	Since time.Time
}

// Format prints neither.
func (Kept) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// RootStore keeps a device's root token: a file (package rootfile), or an
// operating system's own place for secrets.
type RootStore interface {
	Load(ctx context.Context) (Kept, error)
	// Update calls renew with what is kept, and keeps what that returns instead,
	// durably, before it returns nil. When renew fails, it returns its error
	// and changes nothing. Where several processes share the store, only one is
	// in Update at a time.
	Update(ctx context.Context, renew func(Kept) (next string, err error)) error
}

// InMemory is a store of this process only: after a restart it is gone.
func InMemory(root string) RootStore { return &memory{kept: Kept{root, time.Now()}} }

type memory struct {
	mu   sync.Mutex
	kept Kept
}

func (m *memory) Load(context.Context) (Kept, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept, nil
}

func (m *memory) Update(_ context.Context, renew func(Kept) (string, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next, err := renew(m.kept)
	if err == nil && next != m.kept.Token {
		m.kept = Kept{next, time.Now()}
	}
	return err
}

func (m *memory) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

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
	held   atomic.Pointer[held]
	turn   chan struct{} // room for the one who renews

	refused refusedRoot // who has the turn may look
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
}

func (s *Session) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// NewSession reads the root from the store. now is this machine's clock; nil is
// time.Now.
func NewSession(ctx context.Context, c *Client, store RootStore, now func() time.Time) (*Session, error) {
	if now == nil {
		now = time.Now
	}
	s := &Session{client: c, store: store, now: now, turn: make(chan struct{}, 1)}
	kept, err := store.Load(ctx)
	if err != nil {
		return nil, err
	}
	h, err := s.hold(kept)
	if err != nil {
		return nil, err
	}
	s.held.Store(h)
	return s, nil
}

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
	since, now := kept.Since.Round(0), s.now()
	if since.After(now) || since.IsZero() {
		since = now
	}
	return schedule(root, since, expires), nil
}

func schedule(root *token.Token, since, expires time.Time) *held {
	life := max(expires.Sub(since), 0)
	return &held{
		root: root, expires: expires, renew: since.Add(life / 2), urgent: expires.Add(-min(life/8, time.Minute)),
		pause: min(max(life/64, 50*time.Millisecond), time.Minute),
	}
}

// Root is the root to narrow from now. Errors: [ErrLoggedOut] with its reason;
// or, when it has expired before it could be renewed, why it could not.
func (s *Session) Root(ctx context.Context) (*token.Token, error) {
	h, now := s.held.Load(), s.now().Round(0)
	if now.Before(h.renew) {
		return h.root, nil
	}
	if now.Before(h.urgent) {
		select {
		case s.turn <- struct{}{}:
		default:
			return h.root, nil // somebody is at it
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
	} else {
		select {
		case s.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	defer func() { <-s.turn }()
	if h = s.held.Load(); now.Before(h.renew) {
		return h.root, nil // somebody was faster
	}
	next, err := s.renew(ctx, h)
	if err == nil {
		s.held.Store(next)
		return next.root, nil
	}
	wait := *h
	wait.renew = now.Add(h.pause)
	var p *api.Problem
	if errors.As(err, &p) {
		switch after, asked := RetryAfter(err); {
		case p.Status == http.StatusUnauthorized:
			return nil, fmt.Errorf("%w (%w)", ErrLoggedOut, err)
		case p.Code == api.CodeSessionOver:
			wait.renew = h.expires
		case asked:
			wait.renew = now.Add(max(after, h.pause))
		}
	}
	s.held.Store(&wait)
	if s.now().Before(h.expires) {
		return h.root, nil
	}
	return nil, err
}

// renew takes the successor that another process has kept, or asks for one.
func (s *Session) renew(ctx context.Context, h *held) (next *held, err error) {
	err = s.store.Update(ctx, func(kept Kept) (string, error) {
		if next, err = s.hold(kept); err != nil {
			return "", err
		}
		if now := s.now(); now.Before(next.renew) && next.root.Text() != h.root.Text() {
			return kept.Token, nil
		}
		asked := s.now().Round(0)
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
