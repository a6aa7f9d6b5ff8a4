package guard

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

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

// unheard logs now and then that a question has no answer, unless whoever put it
// has gone: that says nothing about the authority.
func (g *Guard) unheard(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	g.away.Do(func() { g.o.Log.Warn("the authority cannot be asked about tokens", "error", err) })
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
		p.generation, p.sequence = in.Feed.Generation, in.Feed.Sequence
	}
	if in.PoliciesUntil != nil {
		p.until = in.PoliciesUntil.Time
	}
	if in.Username == "" && strings.HasPrefix(in.Sub, token.UserPrefix) { // its database was slow
		if soon := g.o.Now().Add(keepRefused); p.until.IsZero() || soon.Before(p.until) {
			p.until = soon
		}
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
		g.observe(ctx, refusal.Code, Online)
		return nil, refusal
	}
	g.o.Observe(Observation{api.CodeOK, Online})
	return pass, nil
}

func (g *Guard) askVerdict(ctx context.Context, text string, facts *caveats.Request, special special, shown *dpop.Presented) (*api.Pass, *api.Refusal) {
	in := api.VerifyIn{Token: text, Request: api.Request{
		Method: facts.Method, Path: inASCII(facts.Target), Audience: facts.Audience, Actions: facts.Actions,
		BodySHA256: facts.BodySHA256, Extra: facts.Extra,
	}}
	if shown != nil {
		// The authority is told of one proof: two are as good as none. It is not
		// told of the scheme, so that is judged here.
		if shown.Scheme && !special.bound {
			return nil, &api.Refusal{Code: api.CodeRefused, Reason: "the token is bound to no key, so it is not one for the scheme DPoP: send it as Bearer"}
		}
		if len(shown.Proofs) == 1 && utf8.ValidString(shown.Proofs[0]) { // what is no text is none
			in.Request.DPoP, in.Request.URL = shown.Proofs[0], inASCII(shown.URL)
		}
	}
	if refusal := g.limits.allow(facts.ClientIP, facts.Time); refusal != nil {
		return nil, refusal
	}
	if facts.ClientIP.IsValid() {
		in.Request.ClientIP = facts.ClientIP.String()
	}
	if len(facts.Origins) == 1 && utf8.ValidString(facts.Origins[0]) {
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
	p, ok := errors.AsType[*api.Problem](err)
	if ok && (p.Status == http.StatusBadRequest || p.Status == http.StatusRequestEntityTooLarge) || errors.Is(err, client.ErrText) {
		return nil, &api.Refusal{Code: api.CodeBadRequest, Reason: "the request is not one that can be judged"}
	}
	if err != nil {
		g.unheard(ctx, err)
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

// inASCII escapes what is not ASCII. It is the same path, and JSON has no bytes
// that are not UTF-8: the authority would judge others in their place.
func inASCII(target string) string {
	escaped := 0
	for i := range len(target) {
		if target[i] >= utf8.RuneSelf {
			escaped++
		}
	}
	if escaped == 0 {
		return target
	}
	out := make([]byte, 0, len(target)+2*escaped)
	for i := range len(target) {
		if c := target[i]; c < utf8.RuneSelf {
			out = append(out, c)
		} else {
			out = fmt.Appendf(out, "%%%02X", c)
		}
	}
	return string(out)
}

// sweep drops entries of the list whose time is over by the authority's clock
// and by ours: one clock that is wrong brings no revoked token back. Nor do both
// together, on one machine say, where ours is seen to have jumped.
func (g *Guard) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		g.sweepBy(g.follow.Position().AsOf.Time, g.o.Now())
	}
}

func (g *Guard) sweepBy(theirs, ours time.Time) {
	if jumped, _ := g.clock.Jumped(ours); jumped {
		return
	}
	if ours.Before(theirs) {
		theirs = ours
	}
	h := g.history.Load()
	h.list.Sweep(theirs)
	h.policies.sweep(theirs)
}
