package service

import (
	"context"
	"time"

	"macaroond/storage"
)

// Housekeeping: what has had its time goes, what was seen is written down.
const (
	seenInterval  = 15 * time.Second
	sweepInterval = time.Minute
	// expireLimit is rows a table and transaction. Whatever else is to be written
	// waits for a transaction or two of them, and after a clock that was wrong for
	// a day, or a week without a server, there is a backlog of very many.
	expireLimit = 500
	// settle is how long nothing expires after a start: a clock that was wrong
	// at boot has been set by then, and a revocation kept longer harms nobody.
	settle = 10 * time.Minute
)

// keepHouse runs until the context ends, and then writes down what was seen.
func (s *Service) keepHouse(ctx context.Context) {
	seen, sweep := time.NewTicker(seenInterval), time.NewTicker(sweepInterval)
	defer seen.Stop()
	defer sweep.Stop()
	start := s.now()
	s.clock.Start(start, start)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			s.flushSeen(last)
			cancel()
			return
		case <-seen.C:
			s.flushSeen(ctx)
		case <-s.seen.full:
			s.flushSeen(ctx)
		case <-sweep.C:
			now := s.now()
			jumped, elapsed := s.clock.Jumped(now)
			s.metrics.clockJumped.Set(b2f(jumped))
			if elapsed >= settle && !jumped {
				s.RotateWhenDue(ctx, now)
				s.Sweep(ctx, now)
			}
		}
	}
}

// Sweep deletes what has had its time at now.
func (s *Service) Sweep(ctx context.Context, now time.Time) {
	in := storage.Expire{Now: now, Limit: expireLimit}
	if keep := s.Settings().AuditRetention; keep > 0 {
		in.AuditBefore = now.Add(-keep)
	}
	for ctx.Err() == nil {
		n, err := s.store.Expire(ctx, in)
		if err != nil {
			s.log.Error("expired rows stay for now", "error", err)
			return
		}
		if max(n.Revocations, n.RootKeys, n.Devices, n.Epochs, n.Accepted, n.Policies, n.Audit) < expireLimit {
			break
		}
	}
	s.list.Sweep(now)
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
