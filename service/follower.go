package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"macaroond/service/keyring"
	"macaroond/storage"
)

// FollowInterval is how often the table is asked for changes made by other
// processes and nodes. What this process revokes is in memory before it is
// answered, and wakes the follower for the feed; what another revokes is there
// within this and one query.
const FollowInterval = 100 * time.Millisecond

// hearing is how soon every other process of the database knows what this one has
// heard of: a following interval and, on a machine with much to do, a query.
const hearing = 5 * FollowInterval / 2

// heardElsewhere waits until other processes know the epoch of what was just
// minted: to one that does not, its first tokens would be none, and clients that
// are told so throw their login away. That is so for as long as an epoch is new.
func (s *Service) heardElsewhere(ctx context.Context, epoch uint32) error {
	heard := s.heard.Load()
	if heard == nil || epoch != s.keyring.Signing() {
		return nil
	}
	select {
	case <-*heard:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CatchUp reads what is new in the table: revocations by sequence, and epochs,
// services and policies when the revision has moved. It is the one way by which this
// node learns of anything, and may be called at any time.
func (s *Service) CatchUp(ctx context.Context) error { return s.catchUp(ctx, 0) }

// catchUp is CatchUp unless the tables were read less than fresh ago.
func (s *Service) catchUp(ctx context.Context, fresh time.Duration) error {
	f := &s.follow
	f.Lock()
	defer f.Unlock()
	if fresh > 0 && s.now().Sub(s.list.AsOf()) < fresh {
		return nil
	}
	asOf := s.now() // before the read: what is committed later is not covered
	state, err := s.store.State(ctx)
	if err != nil {
		return err
	}
	after := f.state.Sequence
	if state.Generation != f.state.Generation {
		after = 0 // another history: all of it is new. What was revoked in the former stays so.
	}
	if state.Generation != f.state.Generation || state.Revision != f.state.Revision {
		if err := s.reload(ctx); err != nil {
			return err
		}
	}
	recent := s.feed.at.Load().tail
	if f.state.Generation != state.Generation {
		recent = &tail{} // readers of the former history keep theirs until this one is whole
	}
	if state.Sequence > after || f.state.Generation != state.Generation {
		// What was committed after the state was read is on the list early. It is
		// not published: an answer that tells a position has every policy up to it.
		if err := s.readRevocations(ctx, after, recent); err != nil {
			return err
		}
	}
	f.state = state
	s.list.SetAsOf(asOf)
	s.feed.publish(state, asOf, recent)
	return nil
}

// changed makes what was just stored known here, by the one way by which this
// node learns of anything. A command on the server follows nothing: the running
// servers find it.
func (s *Service) changed(ctx context.Context) error {
	if s.list.AsOf().IsZero() {
		return nil
	}
	return s.CatchUp(context.WithoutCancel(ctx))
}

// readRevocations adds what the table has after a sequence. One goroutine reads
// while another adds: at a start there can be a million entries.
func (s *Service) readRevocations(ctx context.Context, after int64, recent *tail) (err error) {
	const size = 1024
	batches, known := make(chan []storage.Revocation, 4), make(chan bool)
	go func() {
		all := true
		for batch := range batches {
			all = s.list.Add(batch...) && all
			recent.add(batch)
		}
		known <- all
	}()
	batch := make([]storage.Revocation, 0, size)
	for entry, e := range s.store.Revocations(ctx, after) {
		if e != nil {
			err = e
			break
		}
		if batch = append(batch, entry); len(batch) == size {
			batches <- batch
			batch = make([]storage.Revocation, 0, size)
		}
	}
	batches <- batch // also what came before an error: each entry stands by itself
	close(batches)
	if !<-known && err == nil {
		err = errors.New("a revocation is of a grain that this release does not know: run the newer release")
	}
	return err
}

// reload reads what the revision covers.
func (s *Service) reload(ctx context.Context) error {
	epochs, err := s.store.Epochs(ctx)
	if err != nil {
		return err
	}
	signed := s.keyring.Signing()
	if err := s.keyring.Load(epochs); err != nil {
		return err
	}
	if signed != 0 && signed != s.keyring.Signing() {
		heard := make(chan struct{})
		time.AfterFunc(hearing, func() { close(heard) })
		s.heard.Store(&heard)
	}
	services, err := s.store.Services(ctx)
	if err != nil {
		return err
	}
	policies, err := s.store.Policies(ctx)
	if err != nil {
		return err
	}
	s.services.Store(newCredentials(services))
	table := newPolicyTable(policies)
	s.policies.Store(&table)
	s.names.clear()
	return nil
}

// Run follows the table and keeps the house until the context ends. It returns
// when everything it started has ended.
func (s *Service) Run(ctx context.Context) {
	var house sync.WaitGroup
	house.Go(func() { s.keepHouse(ctx) })
	defer house.Wait()
	tick := time.NewTicker(FollowInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.kick:
		}
		err := s.CatchUp(ctx)
		if ctx.Err() != nil {
			return
		}
		s.follow.Lock()
		if failed := err != nil; failed != s.follow.failed {
			s.follow.failed = failed
			if failed {
				s.log.Error("the table of revocations cannot be read; tokens are refused as stale when this lasts", "error", err, "max_staleness", s.Settings().MaxStaleness.String())
			} else {
				s.log.Info("the table of revocations is read again")
			}
		}
		s.follow.Unlock()
	}
}

// Ready says what keeps the authority from answering, by name; empty is ready.
func (s *Service) Ready(ctx context.Context) map[string]string {
	trouble := map[string]string{}
	_, err := s.store.State(ctx)
	if err == nil {
		err = s.store.Writable(ctx)
	}
	if err != nil {
		trouble["database"] = AsError(err).Detail
	}
	if age := s.now().Sub(s.list.AsOf()); age > s.Settings().MaxStaleness {
		trouble["revocations"] = "the list is older than max_staleness"
	}
	if err := s.signs(ctx); errors.Is(err, keyring.ErrCannotOpen) {
		trouble["keys"] = AsError(err).Detail
	} else if s.keyring.Signing() == 0 {
		trouble["keys"] = "there is no signing epoch"
	}
	return trouble
}

// signs is an error when the epoch that signs is not on the ring and cannot be
// brought there, which is what a login would meet.
func (s *Service) signs(ctx context.Context) error {
	epochs, err := s.store.Epochs(ctx)
	if err != nil {
		return err
	}
	for _, e := range epochs {
		if e.State == storage.EpochSigning && e.Number == s.keyring.Signing() {
			return nil
		}
	}
	return s.CatchUp(ctx) // another process may have begun it just now
}
