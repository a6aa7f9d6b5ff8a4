package guard

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
)

// cannotKnow is the refusal when the authority cannot be asked: 503, because a
// client that is told 401 logs its user out.
func cannotKnow() *api.Refusal {
	return &api.Refusal{Code: api.CodeStale, Reason: "the verifier cannot know whether the token is revoked"}
}

func invalid() *api.Refusal {
	return &api.Refusal{Code: api.CodeInvalid, Reason: "the token is not one that the authority finds good for this audience"}
}

// learn asks the authority about a token. Those who present the same token at
// the same time share one question and nothing else: each walks its own chain
// from the answer.
func (g *Guard) learn(ctx context.Context, h *history, text string, t *token.Token, from netip.Addr) (*prefix, *api.Refusal) {
	if !names(t, g.o.Audience) {
		// Nothing could make it good here, so nobody is asked.
		return nil, &api.Refusal{Code: api.CodeWrongAudience, Reason: "the token is not for this audience"}
	}
	if over(t, g.o.Now()) {
		// Nor when its time is over. A client is told so and not that the token is
		// none, for it makes another one then instead of logging its user out.
		return nil, &api.Refusal{Code: api.CodeExpired, Reason: "the token has expired"}
	}
	if early(t, g.o.Now()) {
		// The authority would say no more than that it is not active, and that is
		// remembered.
		return nil, &api.Refusal{Code: api.CodeNotYetValid, Reason: "the token is not valid yet"}
	}
	digest := t.UnverifiedDigest()
	if _, ok := g.memory.refused.GetIfPresent(digest); ok {
		return nil, invalid()
	}
	p, led, refusal := g.fly(ctx, h, text, t, digest, from)
	if limited(refusal) && !led {
		p, _, refusal = g.fly(ctx, h, text, t, digest, from) // it was another client's limit
	}
	if limited(refusal) && g.fresh(h, g.o.Now()) && !g.silence.away.Load() {
		// A device's requests come in crowds, and the first's answer is good for all.
		h.asking.wait(ctx, t.UnverifiedIdentifier().RootKeyID)
		if known := g.known(h, t); known != nil {
			return known, nil
		}
	}
	return p, refusal
}

// fly puts a question or joins one that is on its way, which costs nothing. led
// is that it was put.
func (g *Guard) fly(ctx context.Context, h *history, text string, t *token.Token, digest [32]byte, from netip.Addr) (_ *prefix, led bool, _ *api.Refusal) {
	id := t.UnverifiedIdentifier().RootKeyID
	put := false // read when the flight has landed
	flight := h.flights.DoChan(string(digest[:]), func() (any, error) {
		put = true
		if refusal := g.limits.allow(from, g.o.Now()); refusal != nil {
			return nil, refusal
		}
		defer h.asking.begin(id)()
		// Whoever came first may go away; the others still wait.
		return g.introspect(g.life, h, text, digest)
	})
	select {
	case <-ctx.Done():
		return nil, true, cannotKnow()
	case result := <-flight:
		if result.Err == nil {
			return result.Val.(*prefix), put, nil
		}
		if refusal, ok := errors.AsType[*api.Refusal](result.Err); ok {
			return nil, put, refusal
		}
		return nil, put, cannotKnow()
	}
}

// limited reports a refusal that is about how many questions there are.
func limited(r *api.Refusal) bool {
	return r != nil && (r.Code == api.CodeRateLimited || r.Code == api.CodeBusy)
}

// known is what memory has of a token while the list is fresh; a stale one makes
// each ask for itself.
func (g *Guard) known(h *history, t *token.Token) *prefix {
	now := g.o.Now()
	if !g.fresh(h, now) {
		return nil
	}
	return g.memory.find(t, h, now)
}

func (g *Guard) fresh(h *history, now time.Time) bool {
	return now.Sub(h.list.AsOf()) <= g.o.MaxStaleness
}

// names reports whether some caveat names the audience.
func names(t *token.Token, audience string) bool {
	for i := range t.UnverifiedLen() {
		if rest, ok := strings.CutPrefix(t.UnverifiedCaveat(i), "audience "); ok && rest == audience {
			return true
		}
	}
	return false
}

// over reports whether some time-before has passed.
func over(t *token.Token, now time.Time) bool {
	for i := range t.UnverifiedLen() {
		if at, ok := caveats.Before(t.UnverifiedCaveat(i)); ok && !now.Before(at) {
			return true
		}
	}
	return false
}

// early reports whether some time-after has not come.
func early(t *token.Token, now time.Time) bool {
	for i := range t.UnverifiedLen() {
		if at, ok := caveats.After(t.UnverifiedCaveat(i)); ok && now.Before(at) {
			return true
		}
	}
	return false
}

// introspect asks, and remembers the answer.
func (g *Guard) introspect(ctx context.Context, h *history, text string, digest [32]byte) (*prefix, error) {
	t, err := token.Parse(text) // the caller's own copy is used again when it leaves
	if err != nil {
		return nil, err
	}
	// Whoever looked before the former flight had landed, and came after, is late
	// and not ignorant.
	if p := g.known(h, t); p != nil {
		return p, nil
	}
	for range mostOutdated {
		p, err := g.question(ctx, h, text, t, digest)
		if err != nil {
			return nil, err
		}
		switch {
		case !h.has(p.generation): // it is good once
		case h.policies.outdate(p):
			continue // the feed told of a change while the answer was on its way
		case p.whole:
			g.memory.whole.Set(digest, p)
		default:
			g.memory.keep(t.UnverifiedIdentifier().RootKeyID, p)
		}
		return p, nil
	}
	g.o.Log.Warn("the authority answers with policies that are older than its feed")
	return nil, cannotKnow()
}

// mostOutdated is how often a question is put whose answer knows less than the
// feed has told: a node that is asked can be behind the one that is followed.
const mostOutdated = 3

// question asks once.
func (g *Guard) question(ctx context.Context, h *history, text string, t *token.Token, digest [32]byte) (*prefix, error) {
	var in *api.Introspection
	err := g.silence.ask(ctx, func(ctx context.Context) (err error) {
		in, err = g.client.IntrospectToEnforce(ctx, g.o.Credential, text)
		if err == nil && !in.Active && !g.serves.Load() {
			err = g.Confirm(ctx)
		}
		return err
	})
	if err == errSilent {
		return nil, cannotKnow()
	}
	if err != nil {
		g.unheard(ctx, err)
		return nil, cannotKnow()
	}
	if !in.Active {
		g.memory.refused.Set(digest, struct{}{})
		return nil, invalid()
	}
	g.serves.Store(true)
	p, err := g.understand(in, t)
	if err != nil {
		g.o.Log.Error("the authority's answer about a token makes no sense", "error", err)
		return nil, cannotKnow()
	}
	p.history = h
	return p, nil
}
