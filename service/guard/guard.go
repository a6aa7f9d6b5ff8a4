package guard

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"macaroond/service/client"
	"macaroond/service/dpop"
	"macaroond/service/revocation"
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
	serves  atomic.Bool      // the authority has said that the credential serves the audience
	away    rate.Sometimes   // the log says so
	unread  time.Time        // when the log last said so of the feed; zero: it is read. The follower's alone
	clock   revocation.Clock // what expires goes by it
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
	list       *revocation.List
	generation atomic.Pointer[string] // nil before the first whole list
	policies   changes
	flights    singleflight.Group
	asking     asking
}

// has reports whether a sequence of that generation, or of none, can be one of
// this history's: those of two cannot be compared.
func (h *history) has(generation string) bool {
	mine := h.generation.Load()
	return generation == "" || mine == nil || *mine == generation
}

// New makes a guard and begins to follow the authority's feed. It does not wait
// for it: until the list is complete, each token is asked about. The guard ends
// when ctx does, or with [Guard.Close]. The errors say what is wrong with the
// options.
func New(ctx context.Context, o Options) (*Guard, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	c, err := client.New(o.Authority, o.Client)
	if err != nil {
		return nil, err
	}
	g := &Guard{o: o, client: c, proofs: dpop.NewVerifier(o.Now()), ready: make(chan struct{}), away: rate.Sometimes{First: 1, Interval: 10 * time.Second}}
	start := o.Now()
	g.clock.Start(start, start)
	g.history.Store(&history{list: revocation.New()})
	if err := g.memory.init(o.Prefixes, o.Now); err != nil {
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
