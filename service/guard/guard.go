package guard

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/dpop"
	"macaroond/service/revocation"
	"macaroond/service/token"
	"macaroond/service/verify"
)

// Options say what a guard guards. Authority, Credential and Audience are
// needed; the zero value of everything else is good.
type Options struct {
	Authority  string            // its URL, such as https://auth.example.com
	Credential client.Credential // a service's that serves Audience
	Audience   string            // this server's own name

	// Language has the server's own x- caveats (caveats.NewLanguage). Others
	// refuse them.
	Language caveats.Language
	// MaxStaleness is how old the list of revocations may be before the
	// authority is asked about each token, whose own bound then counts; 0 is 30
	// seconds. Below 3 seconds it is asked now and then though all is well.
	MaxStaleness time.Duration
	// Facts adds what this server knows of a request to what HTTP says: Actions,
	// Extra, and the ClientIP if it is not the connection's peer. It must not
	// touch the body.
	Facts func(*http.Request, *caveats.Request)
	// URL is what the client asked for, as it wrote it: what a DPoP proof must
	// name. nil: https when the connection has TLS and http otherwise, the Host
	// header, and the path. A server behind a proxy that ends TLS or rewrites
	// paths says it here. The query does not count.
	URL func(*http.Request) string
	// MaxBody is how many bytes of a body are read for a body-sha256 caveat; a
	// longer one is refused (413). 0 is 64 KiB.
	MaxBody int64

	// Introspections a second that all clients together may cause, and one
	// client's address; 0 is 1,000 and 50. A device costs one an hour, a forged
	// token one each ten seconds.
	Introspections, IntrospectionsPerClient float64
	// Prefixes is how many devices' prefixes are kept; 0 is 100,000, at up to
	// some 3 KiB each.
	Prefixes int

	Client  client.Options    // how the authority is reached
	Observe func(Observation) // is told of every verdict; for metrics
	Log     *slog.Logger      // nil: nothing
	Now     func() time.Time  // nil: time.Now
}

// Observation is one verdict, for metrics. It holds nothing that a client chose.
type Observation struct {
	Code string // a decision's code, or rate_limited, busy
	How  string // where the knowledge came from: Local, Introspected, Online
}

// Where a verdict's knowledge came from.
const (
	Local        = "local"        // a prefix, or a token that is known: nobody was asked
	Introspected = "introspected" // the authority was asked what it knows of the token
	Online       = "online"       // the authority judged
)

const (
	askTimeout   = 5 * time.Second // one question to the authority
	sweepPeriod  = time.Minute
	mostPrefixes = 4 // a root key ID
)

// Guard verifies tokens for one audience. It is safe for concurrent use.
type Guard struct {
	o       Options
	client  *client.Client
	follow  *client.Follower
	memory  memory
	limits  limits
	silence silence
	proofs  *dpop.Verifier
	serves  atomic.Bool // the authority has said that the credential serves the audience
	history atomic.Pointer[history]
	ready   chan struct{} // closed at the first complete list
	once    sync.Once
	life    context.Context // of the questions, which outlive the request that began them
	end     context.CancelFunc
	ended   sync.WaitGroup
}

// history is what the feed has told of one history of the authority. What was
// learned under another one counts for nothing, and neither does an answer to a
// question that was put under it.
type history struct {
	list     *revocation.List
	policies changes
	flights  singleflight.Group
}

// New makes a guard and begins to follow the authority's feed. It does not wait
// for it: until the list is complete, each token is asked about. The guard ends
// when ctx does, or with [Guard.Close]. The errors say what is wrong with the
// options.
func New(ctx context.Context, o Options) (*Guard, error) {
	if _, err := caveats.Audience(o.Audience); err != nil {
		return nil, errors.New("guard: the audience is 1 to 128 printable ASCII characters without space")
	}
	if o.Credential == (client.Credential{}) {
		return nil, errors.New("guard: a service credential is needed: macaroond service add NAME --serves " + o.Audience)
	}
	if min(o.Introspections, o.IntrospectionsPerClient) < 0 || min(int64(o.MaxStaleness), int64(o.Prefixes), o.MaxBody) < 0 {
		return nil, errors.New("guard: an option is negative")
	}
	or := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	or(&o.MaxStaleness, 30*time.Second)
	or(&o.Client.Timeout, askTimeout)
	if o.MaxBody == 0 {
		o.MaxBody = 64 << 10
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(Observation) {}
	}
	c, err := client.New(o.Authority, o.Client)
	if err != nil {
		return nil, err
	}
	g := &Guard{o: o, client: c, proofs: dpop.NewVerifier(o.Now()), ready: make(chan struct{})}
	g.history.Store(&history{list: revocation.New()})
	if err := g.memory.init(o.Prefixes); err != nil {
		return nil, err
	}
	if err := g.limits.init(o.Introspections, o.IntrospectionsPerClient); err != nil {
		return nil, err
	}
	// A question that waits a third of the bound leaves room for one that fails.
	wait := min(o.MaxStaleness/3, 10*time.Second).Truncate(time.Second)
	g.follow = &client.Follower{Client: c, Credential: o.Credential, Sink: sink{g}, Wait: max(wait, time.Second), Now: o.Now}
	g.life, g.end = context.WithCancel(ctx)
	g.ended.Go(func() { g.follow.Run(g.life) })
	g.ended.Go(func() {
		g.sweep(g.life)
		g.memory.close()
		g.limits.client.StopAllGoroutines()
	})
	return g, nil
}

// Close ends what New began, and waits for it; questions that are on their way
// fail. What is asked of the guard afterwards is refused once the list is stale.
func (g *Guard) Close() {
	g.end()
	g.ended.Wait()
}

// Wait returns when the list of revocations has been complete once.
func (g *Guard) Wait(ctx context.Context) error {
	select {
	case <-g.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Staleness is how old the list of revocations is; the greatest duration when
// it has never been complete.
func (g *Guard) Staleness() time.Duration { return g.o.Now().Sub(g.history.Load().list.AsOf()) }

// Revocations is how many live entries the list has.
func (g *Guard) Revocations() int { return g.history.Load().list.Len() }

// Prefixes is about how many devices' prefixes are known.
func (g *Guard) Prefixes() int { return g.memory.prefixes.EstimatedSize() }

// Ready says what keeps the guard from judging by itself; empty is ready.
func (g *Guard) Ready(context.Context) map[string]string {
	if g.Staleness() > g.o.MaxStaleness {
		return map[string]string{"revocations": "the list is older than max_staleness: the authority is asked about each token"}
	}
	return nil
}

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
	return g.judge(ctx, text, v, &facts, shown, nil)
}

// verdicts are used again; no text of one leaves but as a copy.
var verdicts = sync.Pool{New: func() any { return new(verify.Verdict) }}

// judge goes on with a token that v has read. r gives the address of the client
// when that is needed and the facts do not have it: for a caveat about it, and
// for a question; nil gives none.
func (g *Guard) judge(ctx context.Context, text string, v *verify.Verdict, facts *caveats.Request, shown *dpop.Presented, r *http.Request) (*api.Pass, error) {
	facts.Time, facts.Audience = g.o.Now(), g.o.Audience
	t := v.Unverified()
	special := specialOf(t)
	if special.address || special.authority {
		address(facts, r)
	}
	if special.authority {
		return g.online(ctx, text, facts, special, shown)
	}
	if special.own {
		// The server's own check may keep what it is given, for a cache of parsed
		// arguments say: nothing of that token is in memory that is used again.
		v = new(verify.Verdict)
		v.Read(text)
		t = v.Unverified()
	}
	h := g.history.Load()
	how, stale := Local, facts.Time.Sub(h.list.AsOf()) > g.o.MaxStaleness
	var p *prefix
	if !stale {
		p = g.memory.find(t, h, facts.Time)
	}
	if p == nil {
		how = Introspected
		address(facts, r)
		var refusal *api.Refusal
		if p, refusal = g.learn(ctx, h, text, t, facts.ClientIP); refusal != nil {
			if limited := refusal.Code == api.CodeRateLimited || refusal.Code == api.CodeBusy; limited && stale {
				refusal = cannotKnow() // it is not the client's fault that it is asked about each time
			}
			g.o.Observe(Observation{refusal.Code, how})
			return nil, refusal
		}
	}
	if p.address {
		address(facts, r)
	}
	verifier := verify.Verifier{Revoked: h.list, Language: g.o.Language, Policies: p, MaxStaleness: math.MaxInt64} // asked about just now, or not stale
	q := verify.Question{Request: *facts}
	var proof *dpop.Binding
	if shown != nil {
		q.MustBind = shown.Scheme
		if proof = g.proofs.Bind(shown, dpop.Request{Method: facts.Method, Token: text, Now: facts.Time}); proof != nil {
			q.Proof = proof
		}
	}
	verifier.JudgeFrom(&q, &p.anchor, v)
	if v.Allowed() { // the last step: a refused request uses no proof up
		switch err := proof.Use(); {
		case errors.Is(err, dpop.ErrReplayed):
			v.ProofReplayed(err)
		case err != nil:
			return nil, g.busy(err, how)
		}
	}
	if !v.Allowed() {
		return nil, g.refused(v, how)
	}
	g.o.Observe(Observation{v.Code, how})
	user, device := p.identity(v.Identity) // the verdict's own texts go with it
	return &api.Pass{User: user, Username: p.username, Device: device, Audience: g.o.Audience, Role: p.role, Expires: v.Expires}, nil
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

// special is what is out of the ordinary among a token's caveats. Where a token
// is judged is not worth forging, so nobody needs to have verified them.
type special struct {
	authority bool // once, sealed: only the authority can judge it
	own       bool // x-: a resource server's
	body      bool // body-sha256: the body must be read
	address   bool // client-ip: the address must be known
	bound     bool // cnf: a proof must be shown
}

func specialOf(t *token.Token) (s special) {
	for i := range t.UnverifiedLen() {
		text := t.UnverifiedCaveat(i)
		if text == "" {
			continue
		}
		switch text[0] {
		case 'o':
			s.authority = s.authority || strings.HasPrefix(text, "once ")
		case 's':
			s.authority = s.authority || strings.HasPrefix(text, "sealed ")
		case 'x':
			s.own = s.own || strings.HasPrefix(text, "x-")
		case 'c':
			s.address = s.address || strings.HasPrefix(text, "client-ip ")
			s.bound = s.bound || strings.HasPrefix(text, "cnf ")
		case 'b':
			s.body = s.body || strings.HasPrefix(text, "body-sha256 ")
		}
	}
	return s
}

// limits bound what strangers can make the guard ask.
type limits struct {
	all    *rate.Limiter
	each   rate.Limit
	client *cache[netip.Addr, *rate.Limiter]
}

func (l *limits) init(all, each float64) (err error) {
	if all == 0 {
		all = 1000
	}
	if each == 0 {
		each = 50
	}
	l.all, l.each = rate.NewLimiter(rate.Limit(all), int(max(all, 1))), rate.Limit(each)
	l.client, err = otter.New(&otter.Options[netip.Addr, *rate.Limiter]{
		MaximumSize: 10_000, ExpiryCalculator: otter.ExpiryAccessing[netip.Addr, *rate.Limiter](time.Minute),
	})
	return err
}

// allow counts a question that a client's token causes. Who has one address of
// an IPv6 network has 2^64.
func (l *limits) allow(from netip.Addr, now time.Time) *api.Refusal {
	if from = from.Unmap(); from.Is6() {
		network, _ := from.Prefix(64)
		from = network.Addr()
	}
	mine, _ := l.client.ComputeIfAbsent(from, func() (*rate.Limiter, bool) {
		return rate.NewLimiter(l.each, int(max(l.each, 1))), false
	})
	if !mine.AllowN(now, 1) {
		return &api.Refusal{Code: api.CodeRateLimited, Reason: "too many tokens from this address that are not known yet", RetryAfter: time.Second}
	}
	if !l.all.AllowN(now, 1) {
		return &api.Refusal{Code: api.CodeBusy, Reason: "too many tokens that are not known yet", RetryAfter: time.Second}
	}
	return nil
}
