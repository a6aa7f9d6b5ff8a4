package guard

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strings"
	"sync"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/dpop"
	"macaroond/service/token"
	"macaroond/service/verify"
)

// Gateway judges a token for a request whose facts are given, but for time and
// audience, which are the guard's: another audience is refused as forbidden,
// for the gateway's configuration would be wrong. shown is what the request
// shows of a key; nil is nothing. Errors are an [*api.Refusal].
func (g *Guard) Gateway(ctx context.Context, text string, facts caveats.Request, shown *dpop.Presented) (*api.Pass, error) {
	if facts.Audience != "" && facts.Audience != g.o.Audience {
		return nil, &api.Refusal{Code: api.CodeForbidden, Reason: "this verifier is for another audience: ask without audience, or with its own"}
	}
	v := verdicts.Get().(*verify.Verdict)
	defer verdicts.Put(v)
	defer v.Forget()
	if !v.Read(text) {
		return nil, g.refused(v, Local)
	}
	pass := new(api.Pass)
	if err := g.judge(ctx, text, v, &facts, shown, lookup{}, pass); err != nil {
		return nil, err
	}
	return pass, nil
}

// verdicts are used again; no text of one leaves but as a copy.
var verdicts = sync.Pool{New: func() any { return new(verify.Verdict) }}

// lookup is where facts come from that cost something, when they are needed and
// not there: the address of the client, for a caveat about it and for a
// question; the body, for a caveat about it. nil gives none.
type lookup struct{ address, body *http.Request }

// judge goes on with a token that v has read, and fills in pass.
func (g *Guard) judge(ctx context.Context, text string, v *verify.Verdict, facts *caveats.Request, shown *dpop.Presented, from lookup, pass *api.Pass) error {
	facts.Time, facts.Audience = g.o.Now(), g.o.Audience
	t := v.Unverified()
	special := specialOf(t)
	special.authority = special.authority && names(t, g.o.Audience) // without it nobody needs to be asked
	if special.address || special.authority {
		address(facts, from.address)
	}
	if special.authority {
		if err := g.body(facts, from.body, special); err != nil {
			return err
		}
		online, err := g.online(ctx, text, facts, special, shown)
		if err == nil {
			*pass = *online
		}
		return err
	}
	if special.own {
		// The server's own check may keep what it is given, for a cache of parsed
		// arguments say: nothing of that token is in memory that is used again.
		v = new(verify.Verdict)
		v.Read(text)
		t = v.Unverified()
	}
	h := g.history.Load()
	p, how, refusal := g.prefix(ctx, h, text, t, facts, from.address)
	if refusal != nil {
		g.observe(ctx, refusal.Code, how)
		return refusal
	}
	if p.address {
		address(facts, from.address)
	}
	if special.body && p.holds(t) { // a token that nobody signed has no body read for it
		if err := g.body(facts, from.body, special); err != nil {
			return err
		}
	}
	verifier := verify.Verifier{Revoked: h.list, Language: g.o.Language, Policies: p, MaxStaleness: math.MaxInt64} // asked about just now, or not stale
	q := verify.Question{Token: text, Request: *facts}
	proof := q.Bind(g.proofs, shown)
	verifier.JudgeFrom(&q, &p.anchor, p.covered, v)
	if v.Allowed() { // the last step: a refused request uses no proof up
		switch err := proof.Use(); {
		case errors.Is(err, dpop.ErrReplayed):
			v.ProofReplayed(err)
		case err != nil:
			return g.busy(err, how)
		}
	}
	if !v.Allowed() {
		return g.refused(v, how)
	}
	g.o.Observe(Observation{v.Code, how})
	who := p.covered.Identity() // in texts that stay: the verdict is used again
	*pass = api.Pass{User: who.User, Username: p.username, Device: who.Device, Audience: g.o.Audience, Role: p.role, Expires: v.Expires}
	return nil
}

// prefix is where the token's chain goes on from: what is known of it while the
// list of revocations is fresh, else what the authority says.
func (g *Guard) prefix(ctx context.Context, h *history, text string, t *token.Token, facts *caveats.Request, r *http.Request) (p *prefix, how string, refusal *api.Refusal) {
	stale := !g.fresh(h, facts.Time)
	if !stale {
		if p = g.memory.find(t, h, facts.Time); p != nil {
			return p, Local, nil
		}
	}
	address(facts, r)
	p, refusal = g.learn(ctx, h, text, t, facts.ClientIP)
	if stale && limited(refusal) {
		refusal = cannotKnow() // it is not the client's fault that it is asked about each time
	}
	return p, Introspected, refusal
}

// busy is the refusal when nobody can know whether a proof was used.
func (g *Guard) busy(err error, how string) *api.Refusal {
	g.o.Observe(Observation{api.CodeBusy, how})
	return &api.Refusal{Code: api.CodeBusy, Reason: err.Error(), RetryAfter: dpop.Skew}
}

func (g *Guard) refused(v *verify.Verdict, how string) *api.Refusal {
	g.o.Observe(Observation{v.Code, how})
	return &api.Refusal{Code: v.Code, Reason: v.Reason()}
}

// observe tells of a verdict, unless whoever it was for has gone: what was not
// found out for one who hung up is not the authority's silence.
func (g *Guard) observe(ctx context.Context, code, how string) {
	if ctx.Err() == nil {
		g.o.Observe(Observation{code, how})
	}
}

// special is what is out of the ordinary among a token's caveats. Where a token
// is judged is not worth forging, so nobody needs to have verified them.
type special struct {
	authority bool // once, sealed: only the authority can judge it
	sealed    bool // nobody here can know what it is about
	own       bool // x-: a resource server's
	body      bool // body-sha256: the body must be read
	address   bool // client-ip: the address must be known
	bound     bool // cnf: a proof must be shown
}

func specialOf(t *token.Token) (s special) {
	for i := range t.UnverifiedLen() {
		switch text := t.UnverifiedCaveat(i); {
		case strings.HasPrefix(text, "once "):
			s.authority = true
		case strings.HasPrefix(text, "sealed "):
			s.authority, s.sealed = true, true
		case strings.HasPrefix(text, "x-"):
			s.own = true
		case strings.HasPrefix(text, "body-sha256 "):
			s.body = true
		case strings.HasPrefix(text, "client-ip "):
			s.address = true
		case strings.HasPrefix(text, "cnf "):
			s.bound = true
		}
	}
	return s
}
