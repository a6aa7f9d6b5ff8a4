package service

import (
	"context"
	"iter"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"macaroond/service/api"
	"macaroond/storage"
)

// Bounds of the feed. A waiting reader costs a connection and some kilobytes;
// one that reads the table costs a page of 4,096 entries.
const (
	tailLength           = 16_384 // the latest entries, kept in memory: 1.5 MB
	maxWaiting           = 10_000
	maxWaitingOfOne      = 1_000 // of one credential
	maxTableReaders      = 64
	maxTableReadersOfOne = 32
	tailBatch            = 512 // entries copied at a time for one reader
)

// feed is what the follower has read, for those who follow us. Only the
// follower writes it, in the order of the table, so no reader can be ahead of
// this node's own list or skip what it has not seen.
type feed struct {
	at      atomic.Pointer[position]
	waiting places
	reading places // the table, for want of the tail
	ending  chan struct{}
	end     func()
}

// position is a point of the feed: everything revoked before asOf has a
// sequence up to this one.
type position struct {
	generation string
	sequence   int64
	asOf       time.Time // with its monotonic reading
	tail       *tail
	changed    chan struct{} // closed when generation or sequence is another
}

func newFeed() *feed {
	f := &feed{
		waiting: places{total: maxWaiting, each: maxWaitingOfOne},
		reading: places{total: maxTableReaders, each: maxTableReadersOfOne},
		ending:  make(chan struct{}),
	}
	f.end = sync.OnceFunc(func() { close(f.ending) })
	f.at.Store(&position{tail: &tail{}, changed: make(chan struct{})})
	return f
}

// publish lets readers have what was read. The follower's lock is held.
func (f *feed) publish(state storage.State, asOf time.Time, t *tail) {
	old := f.at.Load()
	next := &position{state.Generation, state.Sequence, asOf, t, old.changed}
	if next.generation == old.generation && next.sequence == old.sequence {
		f.at.Store(next)
		return
	}
	next.changed = make(chan struct{})
	f.at.Store(next)
	close(old.changed)
}

// tail is the latest entries of one generation, in order.
type tail struct {
	mu    sync.RWMutex
	ring  []storage.Revocation // grows to tailLength
	first int                  // index of the oldest
	floor int64                // every live entry above it is here
	last  int64
}

// add appends entries that are new; the follower may read one again.
func (t *tail) add(batch []storage.Revocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range batch {
		switch e := &batch[i]; {
		case e.Seq <= t.last:
			continue
		case len(t.ring) < tailLength:
			t.ring = append(t.ring, *e)
		default:
			t.floor = t.ring[t.first].Seq
			t.ring[t.first] = *e
			t.first = (t.first + 1) % tailLength
		}
		t.last = batch[i].Seq
	}
}

// read copies what comes after a sequence, up to another one, as far as it
// fits. false: the tail does not reach back so far.
func (t *tail) read(into []storage.Revocation, after, upTo int64) ([]storage.Revocation, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if after < t.floor {
		return nil, false
	}
	n := len(t.ring)
	from := sort.Search(n, func(i int) bool { return t.ring[(t.first+i)%n].Seq > after })
	for ; from < n && len(into) < cap(into); from++ {
		e := &t.ring[(t.first+from)%n]
		if e.Seq > upTo {
			break
		}
		into = append(into, *e)
	}
	return into, true
}

// reaches reports whether the tail has everything after a sequence.
func (t *tail) reaches(after int64) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return after >= t.floor
}

// places are for so many at a time, and fewer of one name.
type places struct {
	total, each int

	mu    sync.Mutex
	taken int
	by    map[string]int
}

// take gives a place, to be given back by calling what it returns; nil when
// there is none.
func (p *places) take(name string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= p.total || p.by[name] >= p.each {
		return nil
	}
	if p.by == nil {
		p.by = map[string]int{}
	}
	p.taken++
	p.by[name]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken--
		if p.by[name]--; p.by[name] == 0 {
			delete(p.by, name)
		}
	}
}

// count is how many are taken.
func (p *places) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

// FeedQuestion is where a reader of the feed stands.
type FeedQuestion struct {
	Generation string        // empty: from the start, and Wait does not count
	After      int64         // exclusive
	Wait       time.Duration // for an entry, when there is none; at most api.MaxFeedWait
}

// FeedAnswer is what comes after a reader's position. It must be closed.
type FeedAnswer struct {
	Generation string
	AsOf       time.Time // this node's last complete reading of the table, by the wall clock
	Next       int64     // what to ask after next: nothing that was visible at AsOf is beyond it

	s       *Service
	after   int64
	tail    *tail
	release func() // nil: the tail was enough
}

// MayFeed finds out whether the question is about this history. It is for
// [Service.AuthorizeService], which must know before a one-time token is used up.
func (s *Service) MayFeed(ctx context.Context, q FeedQuestion) func(storage.Service) error {
	return func(storage.Service) error {
		_, err := s.feedPosition(ctx, q)
		return err
	}
}

// Feed answers a reader of the feed: at once when there are entries or no
// Wait, else when there are, or the wait, the context or the service ends. It
// is answered from memory, but for readers that stand further back than the
// tail. Errors: api.CodeOtherGeneration with the generation in force, for
// another history or a sequence that this one has not reached; api.CodeBusy.
func (s *Service) Feed(ctx context.Context, asker storage.Service, q FeedQuestion) (*FeedAnswer, error) {
	p, err := s.feedPosition(ctx, q)
	if err != nil {
		return nil, err
	}
	if q.Generation != "" && q.Wait > 0 && q.After == p.sequence {
		if p, err = s.feedWait(ctx, asker, q, p); err != nil {
			return nil, err
		}
	}
	a := &FeedAnswer{Generation: p.generation, AsOf: s.wallTime(p.asOf), Next: p.sequence, s: s, after: q.After, tail: p.tail}
	if q.After < p.sequence && !p.tail.reaches(q.After) {
		if a.release = s.feed.reading.take(asker.ID); a.release == nil {
			return nil, feedBusy("too many read the whole list now")
		}
	}
	return a, nil
}

func feedBusy(detail string) error {
	return &Error{Code: api.CodeBusy, Detail: detail, RetryAfter: time.Second}
}

// feedPosition is the position to answer from. A reader may have come from
// another node that has read further: this one looks before it denies.
func (s *Service) feedPosition(ctx context.Context, q FeedQuestion) (*position, error) {
	p := s.feed.at.Load()
	if p.covers(q) {
		return p, nil
	}
	if err := s.catchUp(ctx, coalesce); err != nil {
		return nil, err
	}
	p = s.feed.at.Load()
	return p, p.deny(q)
}

func (p *position) covers(q FeedQuestion) bool {
	return q.Generation == "" || q.Generation == p.generation && q.After <= p.sequence
}

func (p *position) deny(q FeedQuestion) error {
	if p.covers(q) {
		return nil
	}
	return otherGeneration(p.generation)
}

func otherGeneration(inForce string) error {
	return &Error{Code: api.CodeOtherGeneration, Detail: "the feed is of another history: read it from the start", Generation: inForce}
}

// feedWait waits for a position beyond the one in hand.
func (s *Service) feedWait(ctx context.Context, asker storage.Service, q FeedQuestion, p *position) (*position, error) {
	release := s.feed.waiting.take(asker.ID)
	if release == nil {
		return nil, feedBusy("too many wait for the feed now")
	}
	defer release()
	timer := time.NewTimer(min(q.Wait, api.MaxFeedWait))
	defer timer.Stop()
	select {
	case <-p.changed:
	case <-timer.C:
	case <-s.feed.ending:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p = s.feed.at.Load()
	return p, p.deny(q)
}

// EndWaits has every reader that waits for the feed answered, now and from now
// on: a server that shuts down waits for nobody's 30 seconds.
func (s *Service) EndWaits() { s.feed.end() }

// Close gives the reader's place to the next one.
func (a *FeedAnswer) Close() {
	if a.release != nil {
		a.release()
	}
}

// Entries yields the entries after the asked sequence up to Next, in order. It
// holds no more of them in memory than a page. After an error what was yielded
// is sound and something is missing.
func (a *FeedAnswer) Entries(ctx context.Context) iter.Seq2[storage.Revocation, error] {
	return func(yield func(storage.Revocation, error) bool) {
		batch := make([]storage.Revocation, 0, min(tailBatch, a.Next-a.after))
		for at := a.after; at < a.Next; {
			some, there := a.tail.read(batch[:0], at, a.Next)
			if !there {
				a.fromTable(ctx, at, yield)
				return
			}
			if len(some) == 0 {
				return // what is up to Next has expired
			}
			for i := range some {
				if !yield(some[i], nil) {
					return
				}
			}
			at = some[len(some)-1].Seq
		}
	}
}

func (a *FeedAnswer) fromTable(ctx context.Context, after int64, yield func(storage.Revocation, error) bool) {
	for e, err := range a.s.store.Revocations(ctx, after) {
		if err != nil {
			yield(storage.Revocation{}, err)
			return
		}
		if e.Seq > a.Next {
			break
		}
		if !yield(e, nil) {
			return
		}
	}
	// Entries of a history that ended meanwhile may be gone.
	state, err := a.s.store.State(ctx)
	if err == nil && state.Generation != a.Generation {
		err = otherGeneration(state.Generation)
	}
	if err != nil {
		yield(storage.Revocation{}, err)
	}
}

// FeedPosition is where this node's list of revocations stands.
func (s *Service) FeedPosition() api.FeedPosition {
	p := s.feed.at.Load()
	return api.FeedPosition{Generation: p.generation, Sequence: p.sequence, AsOf: api.Moment{Time: s.wallTime(p.asOf)}}
}

// wallTime is a time of the past as others may compare it with our clock of
// now.
func (s *Service) wallTime(t time.Time) time.Time {
	now := s.now()
	return wallTime(t.Round(0), now.Round(0), now.Sub(t))
}

// wallTime is t, which is an age ago, unless the clock was set back since: then
// t by the new clock, so that what has not been read for long does not look
// fresh.
func wallTime(t, now time.Time, age time.Duration) time.Time {
	if by := now.Add(-age); t.Sub(by) > time.Second { // less is the clock being slewed
		return by
	}
	return t
}
