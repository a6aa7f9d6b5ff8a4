package guard

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/revocation"
	"macaroond/storage"
)

// sayAgain is how often the log says of a feed that it cannot be read, while
// that lasts.
const sayAgain = time.Minute

// sink takes what the feed says into the list.
type sink struct{ *Guard }

func (s sink) Entries(batch []api.Revocation) error {
	entries := make([]storage.Revocation, len(batch))
	h := s.history.Load()
	var changed []change
	for i := range batch {
		if err := read(&batch[i], &entries[i]); err != nil {
			return fmt.Errorf("revocation %d: %w", batch[i].Seq, err)
		}
		if e := &entries[i]; e.Grain == storage.GrainPolicy {
			changed = append(changed, change{e.Subject, e.Seq, e.ExpiresAt})
		}
	}
	h.policies.add(changed...)
	if !h.list.Add(entries...) {
		return errors.New("a grain that is not known")
	}
	return nil
}

// read takes an entry from the wire. What is not as it should be is an error:
// an entry that was left out would let a revoked token live.
func read(in *api.Revocation, out *storage.Revocation) error {
	out.Seq, out.ExpiresAt = in.Seq, in.ExpiresAt.Time
	switch in.Grain {
	case api.GrainDevice:
		out.Grain = storage.GrainDevice
		return decode(out.RootKeyID[:], in.RootKeyID)
	case api.GrainBranch:
		out.Grain = storage.GrainBranch
		if err := decode(out.Fingerprint[:], in.Fingerprint); err != nil {
			return err
		}
		return decode(out.RootKeyID[:], in.RootKeyID)
	case api.GrainEpoch:
		out.Grain, out.Epoch = storage.GrainEpoch, in.Epoch
		if in.Epoch == 0 {
			return errors.New("no epoch")
		}
		return nil
	case api.GrainPolicy:
		out.Grain, out.Subject = storage.GrainPolicy, strings.Clone(in.Subject) // the batch's texts are not ours
		return nil
	}
	return errors.New("a grain that is not known")
}

func (s sink) AsOf(t time.Time) {
	h := s.history.Load()
	at := s.follow.Position()
	h.generation.Store(&at.Generation) // before the list counts, so before anything is judged without asking
	h.policies.caughtUp(at)
	h.list.SetAsOf(t)
	if !s.unread.IsZero() {
		s.unread = time.Time{}
		s.o.Log.Info("the feed of revocations is read again")
	}
	s.once.Do(func() { close(s.ready) })
}

// Reset begins another history: nothing that was learned counts, and until its
// list is complete each token is asked about.
func (s sink) Reset() {
	s.history.Store(&history{list: revocation.New()})
	s.memory.forget()
}

// Failed says so when it begins, and now and then while it lasts: an authority
// that is away for a night is asked some twenty thousand times.
func (s sink) Failed(err error) {
	if unknown, ok := errors.AsType[*client.UnknownGrainError](err); ok {
		s.o.Log.Error("the list of revocations cannot be honoured: the authority is asked about each token", "error", unknown)
		return
	}
	now := s.o.Now()
	if !s.unread.IsZero() && now.Sub(s.unread) < sayAgain {
		return
	}
	s.unread = now
	s.o.Log.Warn("the feed of revocations cannot be read; beyond max_staleness the authority is asked about each token", "error", err)
}
