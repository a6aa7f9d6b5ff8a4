package dpop

import (
	"errors"
	"sync"
	"time"
)

var (
	// ErrReplayed: the proof was used before.
	ErrReplayed = errors.New("the DPoP proof was used before")
	// ErrCannotKnow: nobody can know whether the proof was used: it is from
	// before this process began, or there are too many others. Another proof, in
	// a few seconds, is good.
	ErrCannotKnow = errors.New("the verifier cannot know whether the DPoP proof was used before: send another one in a few seconds")
)

// defaultMost is how many proofs are remembered: more than eight thousand a
// second, for as long as one is good. Each takes some 60 bytes.
const defaultMost = 500_000

// seen remembers which proofs were used, by the second of their iat, until they
// are too old for anybody.
type seen struct {
	mu      sync.Mutex
	most    int
	count   int
	floor   int64 // nothing is known of proofs of this second or before
	seconds map[int64]map[[32]byte]struct{}
}

// init knows nothing of what a former process accepted: its clock was as this
// one's, and it took proofs of up to Skew ahead.
func (s *seen) init(begin time.Time, most int) {
	s.most, s.floor = most, begin.Add(Skew).Unix()
	s.seconds = map[int64]map[[32]byte]struct{}{}
}

// use takes a proof, and fails when it is taken.
func (s *seen) use(p *Proof, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	second := s.seconds[p.IssuedAt]
	switch _, taken := second[p.id]; {
	case taken:
		return ErrReplayed
	case p.IssuedAt <= s.floor, s.count >= s.most:
		return ErrCannotKnow
	}
	if second == nil {
		second = map[[32]byte]struct{}{}
		s.seconds[p.IssuedAt] = second
	}
	second[p.id] = struct{}{}
	s.count++
	return nil
}

// release gives a proof back that was taken for a request that came to nothing.
func (s *seen) release(p *Proof) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if second := s.seconds[p.IssuedAt]; second != nil {
		if _, there := second[p.id]; there {
			delete(second, p.id)
			s.count--
		}
	}
}

// forget drops the seconds that are too old for any proof. Should the clock go
// back, proofs of those seconds are not known any more, and are refused.
func (s *seen) forget(now time.Time) {
	oldest := now.Add(-Window).Unix()
	if oldest-1 <= s.floor {
		return
	}
	s.floor = oldest - 1
	for second, ids := range s.seconds {
		if second < oldest {
			s.count -= len(ids)
			delete(s.seconds, second)
		}
	}
}
