package guard

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"macaroond/service/api"
	"macaroond/storage"
)

// Policies are caveats that the authority puts on tokens which are out already.
// They come with its answer about a token, and are kept and judged with the
// prefix. The feed says whose policies have changed, and at which sequence. An
// answer carries the sequence that it knew, so there is no race to lose: what
// was learned below the sequence of a change that concerns it counts for
// nothing, whichever of the two arrives first.

// change is that a subject's policies are others since a sequence.
type change struct {
	subject  string // a user, service or device; empty is everybody
	sequence int64
	expires  time.Time // the authority tells of it until then
}

// changes are those of one history: the latest of each subject. There are as
// many as administrators made in a day. Readers take no lock.
type changes struct {
	everybody atomic.Int64
	newest    atomic.Int64
	of        atomic.Pointer[map[string]change] // nil: none

	mu   sync.Mutex // writers
	asOf time.Time  // the authority's clock at the last whole answer
}

// add takes what the feed says; some of it may come again.
func (c *changes) add(list ...change) {
	if len(list) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	newest, next := c.newest.Load(), map[string]change{}
	if old := c.of.Load(); old != nil {
		next = maps.Clone(*old)
	}
	for _, x := range list {
		if x.subject == "" {
			c.everybody.Store(max(c.everybody.Load(), x.sequence))
		} else if x.sequence > next[x.subject].sequence {
			next[x.subject] = x
		}
		newest = max(newest, x.sequence)
	}
	if len(next) > 0 {
		c.of.Store(&next)
	}
	c.newest.Store(newest) // last: it is what readers look at first
}

// outdate reports whether policies that concern a prefix changed since it was
// learned.
func (c *changes) outdate(p *prefix) bool {
	if c.newest.Load() <= p.sequence {
		return false
	}
	if c.everybody.Load() > p.sequence {
		return true
	}
	of := c.of.Load()
	if of == nil {
		return false
	}
	who := p.covered.Identity()
	return (*of)[who.User].sequence > p.sequence || (*of)[who.Device].sequence > p.sequence
}

// caughtUp takes the place of a whole answer. After a silence in which a change
// can have come and gone from the list, everybody's policies are taken for
// changed: only what was learned at this place or beyond it counts. (Prefixes
// are kept for two hours at most, but by a clock that stands still with the machine.)
func (c *changes) caughtUp(at api.FeedPosition) {
	c.mu.Lock()
	last := c.asOf
	c.asOf = at.AsOf.Time
	c.mu.Unlock()
	if !last.IsZero() && at.AsOf.Sub(last) >= storage.PolicyNews {
		c.add(change{sequence: at.Sequence})
	}
}

// sweep forgets changes that no prefix can be older than.
func (c *changes) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.of.Load()
	if old == nil {
		return
	}
	next := maps.Clone(*old)
	maps.DeleteFunc(next, func(_ string, x change) bool { return x.expires.Before(now) })
	if c.of.Store(&next); len(next) == 0 {
		c.of.Store(nil)
	}
}
