package guard

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"macaroond/service/client"
	"macaroond/service/token"
)

// silence keeps questions from piling up before an authority that says nothing:
// since one was not answered, and until one is, they are put one at a time. The
// others are refused at once, and not after askTimeout each.
type silence struct{ away, probing atomic.Bool }

// errSilent: another question is on its way to an authority that said nothing.
var errSilent = errors.New("the authority says nothing")

// ask puts a question within askTimeout. When whoever asks goes away, that says
// nothing about the authority.
func (s *silence) ask(ctx context.Context, question func(context.Context) error) error {
	if s.away.Load() {
		if !s.probing.CompareAndSwap(false, true) {
			return errSilent
		}
		defer s.probing.Store(false)
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := question(asking)
	if ctx.Err() == nil {
		s.away.Store(asking.Err() != nil || errors.Is(err, client.ErrUnreachable))
	}
	return err
}

// unheard logs now and then that a question has no answer, unless whoever put it
// has gone: that says nothing about the authority.
func (g *Guard) unheard(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	g.away.Do(func() { g.o.Log.Warn("the authority cannot be asked about tokens", "error", err) })
}

// asking are the root key IDs that questions on their way are about. Nothing of
// the kind is verified, so one may only be waited for where there is nothing to
// lose.
type asking struct {
	mu sync.Mutex
	of map[token.RootKeyID]chan struct{}
}

// begin notes a question until end is called; of several at once the first.
func (a *asking) begin(id token.RootKeyID) (end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of[id] != nil {
		return func() {}
	}
	if a.of == nil {
		a.of = map[token.RootKeyID]chan struct{}{}
	}
	done := make(chan struct{})
	a.of[id] = done
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.of, id)
		close(done)
	}
}

// wait returns when the question is answered, if there is one.
func (a *asking) wait(ctx context.Context, id token.RootKeyID) {
	a.mu.Lock()
	done := a.of[id]
	a.mu.Unlock()
	if done == nil {
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}
