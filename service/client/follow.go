package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"macaroond/service/api"
)

const (
	feedWait     = 10 * time.Second      // unless told otherwise
	feedPace     = 10 * time.Millisecond // between questions, at least: a busy feed is read in batches
	backoffLeast = 50 * time.Millisecond
	backoffMost  = 5 * time.Second
	backoffGrain = time.Minute // at most, for a list that cannot be honoured: it is read whole each time
)

// Sink is told what the feed says, in order and by one goroutine.
type Sink interface {
	// Entries are the next revocations, in order; after a connection was lost,
	// or a Reset, some of them may come again. The slice and its strings are the
	// sink's only during the call. An error is for what the sink cannot honour:
	// the entries come again after a while.
	Entries(batch []api.Revocation) error
	// AsOf: everything that the authority knew to be revoked at t, by the local
	// clock and with its monotonic reading, has been given. It comes after whole
	// answers only.
	AsOf(t time.Time)
	// Reset: the history is another one, or cannot be read any more. AsOf says
	// nothing from here until it is called again; then everything live has been
	// given anew.
	Reset()
	// Failed tells why a question was not answered, for the log and for
	// metrics: the follower goes on. An *UnknownGrainError, after a Reset, says
	// that the list cannot be honoured until this program is upgraded.
	Failed(err error)
}

// Follower follows the feed of one authority. Whatever fails is tried again,
// for ever: what a silent authority means is for who holds AsOf against a
// bound.
type Follower struct {
	Client     *Client
	Credential Credential // a service's
	Sink       Sink
	Wait       time.Duration    // of a question that has no answer yet, up to [api.MaxFeedWait], rounded up to whole seconds; 0 is 10 s
	Now        func() time.Time // the local clock; nil is time.Now

	at atomic.Pointer[api.FeedPosition]
}

// Position is how far the sink was told everything: the authority's word, with
// its clock's as_of. It is zero before the first whole answer and after a
// Reset.
func (f *Follower) Position() api.FeedPosition {
	if p := f.at.Load(); p != nil {
		return *p
	}
	return api.FeedPosition{}
}

// Run follows until the context ends.
func (f *Follower) Run(ctx context.Context) {
	wait := min((f.Wait + time.Second - 1).Truncate(time.Second), api.MaxFeedWait)
	if wait <= 0 {
		wait = feedWait
	}
	s := following{Follower: f, now: f.Now}
	if s.now == nil {
		s.now = time.Now
	}
	for failed := 0; ctx.Err() == nil; {
		begun := time.Now()
		asked := s.at
		pause, err := time.Duration(0), s.ask(ctx, wait)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && asked.Generation != "":
			failed = 0
		case err == nil: // a snapshot proves nothing: the next answer may void it
		default:
			f.Sink.Failed(err)
			if s.at.After > asked.After {
				failed = 0 // it came further than before
			}
			failed++
			pause = backoff(failed, err)
		}
		if pause = max(pause, feedPace-time.Since(begun)); pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// backoff doubles from 50 ms, by chance up to half shorter so that many
// edges do not come back at once, and is never shorter than the server asked.
func backoff(failed int, err error) time.Duration {
	most := backoffMost
	if _, unknown := errors.AsType[*UnknownGrainError](err); unknown {
		most = backoffGrain
	}
	d := min(backoffLeast<<min(failed-1, 16), most)
	d -= rand.N(d/2 + 1)
	after, _ := RetryAfter(err)
	return max(d, min(after, backoffMost))
}

// following is what a running follower knows.
type following struct {
	*Follower
	now func() time.Time
	at  FeedQuestion // without wait
}

// ask puts one question. Whatever was handed on counts, whether the answer
// came to its end or not: entries are numbered in the order of their commits.
func (s *following) ask(ctx context.Context, wait time.Duration) error {
	q := s.at
	q.Wait = wait
	if q.Generation == "" {
		q.Wait = 0
	}
	out, err := s.Client.Revocations(ctx, s.Credential, q, func(generation string, batch []api.Revocation) error {
		if err := s.Sink.Entries(batch); err != nil {
			return err
		}
		s.at.Generation, s.at.After = generation, batch[len(batch)-1].Seq
		return nil
	})
	problem, refused := errors.AsType[*api.Problem](err)
	_, unknown := errors.AsType[*UnknownGrainError](err)
	switch {
	case err == nil:
		s.at.Generation, s.at.After = out.Generation, out.Next
		s.Follower.at.Store(&api.FeedPosition{Generation: out.Generation, Sequence: out.Next, AsOf: api.Moment{Time: out.AsOf}})
		s.Sink.AsOf(s.now().Add(-out.Age))
	case refused && problem.Code == api.CodeOtherGeneration, errors.Is(err, ErrHistory), unknown:
		s.at = FeedQuestion{}
		s.Follower.at.Store(nil)
		s.Sink.Reset()
	}
	return err
}
