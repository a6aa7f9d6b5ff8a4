package guard

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/dpop"
	"macaroond/service/token"
	"macaroond/service/verify"
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
	digest := t.UnverifiedDigest()
	if _, ok := g.memory.refused.GetIfPresent(digest); ok {
		return nil, invalid()
	}
	if refusal := g.limits.allow(from, g.o.Now()); refusal != nil {
		return nil, refusal
	}
	flight := h.flights.DoChan(string(digest[:]), func() (any, error) {
		// Whoever came first may go away; the others still wait.
		return g.introspect(g.life, h, text, digest)
	})
	select {
	case <-ctx.Done():
		return nil, cannotKnow()
	case result := <-flight:
		if result.Err == nil {
			return result.Val.(*prefix), nil
		}
		if refusal, ok := errors.AsType[*api.Refusal](result.Err); ok {
			return nil, refusal
		}
		return nil, cannotKnow()
	}
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

// introspect asks, and remembers the answer.
func (g *Guard) introspect(ctx context.Context, h *history, text string, digest [32]byte) (*prefix, error) {
	t, err := token.Parse(text) // the caller's own copy is used again when it leaves
	if err != nil {
		return nil, err
	}
	// Whoever looked before the former flight had landed, and came after, is late
	// and not ignorant. A stale list makes each ask for itself.
	if now := g.o.Now(); now.Sub(h.list.AsOf()) <= g.o.MaxStaleness {
		if p := g.memory.find(t, h, now); p != nil {
			return p, nil
		}
	}
	for range mostOutdated {
		p, err := g.question(ctx, h, text, t, digest)
		if err != nil {
			return nil, err
		}
		if h.policies.outdate(p) {
			continue // the feed told of a change while the answer was on its way
		}
		if p.whole {
			g.memory.whole.Set(digest, p)
		} else {
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
		g.o.Log.Warn("the authority cannot be asked about a token", "error", err)
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

// understand turns an answer into a point to walk from. An answer that is not
// about this very token, or contradicts itself, is an error.
func (g *Guard) understand(in *api.Introspection, t *token.Token) (*prefix, error) {
	n := t.UnverifiedLen()
	if in.Aud != g.o.Audience || len(in.Caveats) != n || len(in.Fingerprints) != max(0, n-token.MintCaveats) {
		return nil, errors.New("it is about another token or audience")
	}
	for i, text := range in.Caveats {
		if text != t.UnverifiedCaveat(i) {
			return nil, errors.New("it is about another token")
		}
	}
	p := &prefix{whole: in.Prefix == nil, username: in.Username, role: in.Role, policies: in.Policies}
	if in.Feed != nil { // without one it knew of no change of policies
		p.sequence = in.Feed.Sequence
	}
	if in.PoliciesUntil != nil {
		p.until = in.PoliciesUntil.Time
	}
	for _, text := range in.Policies {
		p.address = p.address || strings.HasPrefix(text, "client-ip ")
	}
	var err error
	if p.anchor, p.covered, err = g.anchorOf(in, t); err != nil {
		return nil, err
	}
	p.begin = append([]byte(nil), t.UnverifiedBegin(p.anchor.Caveats)...)
	return p, nil
}

// anchorOf is the point to walk from, tried on the token, and what it covers:
// from a wrong one every good token would be refused for hours.
func (g *Guard) anchorOf(in *api.Introspection, t *token.Token) (at token.Anchor, covered *verify.Covered, err error) {
	n := t.UnverifiedLen()
	at.Caveats, at.Signature = n, t.UnverifiedSignature() // the authority found the whole chain good
	if in.Prefix != nil {
		at.Caveats = in.Prefix.Caveats
		if at.Caveats <= token.MintCaveats || at.Caveats > n {
			return at, nil, errors.New("the prefix covers another number of caveats than there are")
		}
		if err := decode(at.Signature[:], in.Prefix.Signature); err != nil {
			return at, nil, err
		}
	}
	prints := make([]token.Fingerprint, len(in.Fingerprints)) // after 4 caveats and on
	for i, text := range in.Fingerprints {
		if err := decode(prints[i][:], text); err != nil {
			return at, nil, err
		}
	}
	prefixed := at.Caveats - token.MintCaveats
	if prefixed < 1 || prints[prefixed-1] != at.Signature.Fingerprint() {
		return at, nil, errors.New("the signature has another fingerprint")
	}
	at.Fingerprints = slices.Clone(prints[:prefixed])
	// Of what the prefix covers only the last fingerprint can be held against
	// anything; after it, each.
	var chain token.Chain
	if !chain.Walk(t, &at) {
		return at, nil, errors.New("the token does not go on from the signature")
	}
	for i := at.Caveats + 1; i <= n; i++ {
		if chain.Fingerprint(i) != prints[i-token.MintCaveats-1] {
			return at, nil, errors.New("a caveat has another fingerprint")
		}
	}
	covered, ok := verify.Cover(chain, at.Caveats, g.o.Audience)
	if !ok || in.Sub != covered.Identity().User || in.Device != covered.Identity().Device || in.RootKeyID != chain.Identifier().RootKeyID.String() {
		return at, nil, errors.New("it is about somebody else")
	}
	return at, covered, nil
}

// decode reads base64url of just the length of to: at most 32 bytes.
func decode(to []byte, text string) error {
	var source [43]byte // a million entries of the feed go through here
	n := copy(source[:], text)
	if n == len(text) && n == strict.EncodedLen(len(to)) {
		if got, err := strict.Decode(to, source[:n]); err == nil && got == len(to) {
			return nil
		}
	}
	return errors.New("a member is not base64url of the right length")
}

var strict = base64.RawURLEncoding.Strict()

// online has the authority judge a token that only it can judge.
func (g *Guard) online(ctx context.Context, text string, facts *caveats.Request, special special, shown *dpop.Presented) (*api.Pass, error) {
	pass, refusal := g.askVerdict(ctx, text, facts, special, shown)
	if refusal != nil {
		g.o.Observe(Observation{refusal.Code, Online})
		return nil, refusal
	}
	g.o.Observe(Observation{api.CodeOK, Online})
	return pass, nil
}

func (g *Guard) askVerdict(ctx context.Context, text string, facts *caveats.Request, special special, shown *dpop.Presented) (*api.Pass, *api.Refusal) {
	in := api.VerifyIn{Token: text, Request: api.Request{
		Method: facts.Method, Path: facts.Target, Audience: facts.Audience, Actions: facts.Actions,
		BodySHA256: facts.BodySHA256, Extra: facts.Extra,
	}}
	if shown != nil {
		// The authority is told of one proof: two are as good as none. It is not
		// told of the scheme, so that is judged here.
		if shown.Scheme && !special.bound {
			return nil, &api.Refusal{Code: api.CodeRefused, Reason: "the token is bound to no key, so it is not one for the scheme DPoP: send it as Bearer"}
		}
		if len(shown.Proofs) == 1 {
			in.Request.DPoP, in.Request.URL = shown.Proofs[0], shown.URL
		}
	}
	if refusal := g.limits.allow(facts.ClientIP, facts.Time); refusal != nil {
		return nil, refusal
	}
	if facts.ClientIP.IsValid() {
		in.Request.ClientIP = facts.ClientIP.String()
	}
	if len(facts.Origins) == 1 {
		in.Request.Origin = facts.Origins[0]
	}
	var d *api.Decision
	err := g.silence.ask(ctx, func(ctx context.Context) (err error) {
		d, err = g.client.Verify(ctx, g.o.Credential, in)
		return err
	})
	if err == errSilent {
		return nil, cannotKnow()
	}
	if err != nil {
		g.o.Log.Warn("the authority cannot be asked to judge a token", "error", err)
		return nil, cannotKnow()
	}
	switch {
	case d.Code == "", d.Allowed != (d.Code == api.CodeOK), d.Allowed && (d.Principal == nil || d.ExpiresAt == nil):
		return nil, cannotKnow() // an answer that contradicts itself allows nothing
	case !d.Allowed:
		return nil, &api.Refusal{Code: d.Code, Reason: d.Reason}
	}
	return &api.Pass{User: d.Principal.User, Username: d.Principal.Username, Device: d.Principal.Device, Audience: g.o.Audience, Expires: d.ExpiresAt.Time}, nil
}

// sweep drops entries of the list whose time is over by the authority's clock
// and by ours: one clock that is wrong brings no revoked token back.
func (g *Guard) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		theirs := g.follow.Position().AsOf.Time
		if ours := g.o.Now(); ours.Before(theirs) {
			theirs = ours
		}
		h := g.history.Load()
		h.list.Sweep(theirs)
		h.policies.sweep(theirs)
	}
}
