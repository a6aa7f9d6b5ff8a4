package sqlite

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"macaroond/storage"
)

const selectEpochs = `SELECT number, sealed, state, created_at, expires_at FROM epochs `

func scanEpoch(r scanner) (e storage.Epoch, err error) {
	var created, expires int64
	err = r.Scan(&e.Number, &e.Sealed, &e.State, &created, &expires)
	e.CreatedAt, e.ExpiresAt = fromMilli(created), fromMilli(expires)
	return e, err
}

// Epochs implements [storage.Store].
func (s *Store) Epochs(ctx context.Context) ([]storage.Epoch, error) {
	return list(s.reader(ctx), scanEpoch, selectEpochs+`ORDER BY number`)
}

// CreateEpoch implements [storage.Store]. seal runs inside the transaction,
// perhaps twice, and must not call the store.
func (s *Store) CreateEpoch(ctx context.Context, onlyFirst bool, seal func(uint32) ([]byte, error), ev storage.Event) (storage.Epoch, error) {
	return inTime(ctx, func(later time.Duration) (storage.Epoch, error) {
		ev := ev
		ev.Time = ev.Time.Add(later)
		return change(ctx, s, func(t *tx) (storage.Epoch, error) {
			var none storage.Epoch
			if onlyFirst {
				there, err := exists(t, `SELECT 1 FROM epochs LIMIT 1`)
				if err != nil {
					return none, err
				}
				if there {
					return none, storage.ErrEpochExists
				}
			}
			return t.createEpoch(seal, ev)
		})
	})
}

// A history that is lost may have given out any number up to its last second's,
// and no greater one: a restore goes by the clock, so no number may be ahead of
// it. One that is by more than maxAhead comes from a clock that was set back; that
// is not waited for.
const maxAhead = 5 * time.Second

// aheadError is how long the next number is ahead of the clock.
type aheadError time.Duration

func (e aheadError) Error() string {
	return "the next number of an epoch is ahead of the clock by " + time.Duration(e).String()
}

// inTime makes a change again when its number has had its time; later is how much
// was waited.
func inTime[T any](ctx context.Context, give func(later time.Duration) (T, error)) (T, error) {
	for later := time.Duration(0); ; {
		out, err := give(later)
		ahead, early := errors.AsType[aheadError](err)
		if !early {
			return out, err
		}
		select {
		case <-time.After(time.Duration(ahead)):
			later += time.Duration(ahead)
		case <-ctx.Done():
			return out, ctx.Err()
		}
	}
}

// createEpoch begins another epoch, which signs.
func (t *tx) createEpoch(seal func(uint32) ([]byte, error), ev storage.Event) (storage.Epoch, error) {
	var none storage.Epoch
	if t.st.lastEpoch >= math.MaxUint32 {
		return none, unavailable(reasonNumbers, nil)
	}
	if ahead := time.Unix(t.st.lastEpoch+1, 0).Sub(ev.Time); ahead > 0 && ahead <= maxAhead {
		return none, aheadError(ahead)
	}
	t.st.lastEpoch++
	t.st.revision++
	number := uint32(t.st.lastEpoch)
	sealed, err := seal(number)
	if err != nil {
		return none, err
	}
	if _, err := t.exec(`UPDATE epochs SET state = ? WHERE state = ?`, storage.EpochVerifying, storage.EpochSigning); err != nil {
		return none, err
	}
	if _, err := t.exec(`INSERT INTO epochs (number, sealed, state, created_at, expires_at) VALUES (?, ?, ?, ?, 0)`,
		number, append(noBytes, sealed...), storage.EpochSigning, milli(ev.Time)); err != nil {
		return none, err
	}
	if err := t.audit(ev); err != nil {
		return none, err
	}
	return findEpoch(t, number)
}

func findEpoch(q queryer, number uint32) (storage.Epoch, error) {
	return one(q, scanEpoch, selectEpochs+`WHERE number = ?`, number)
}

// RetireEpochs implements [storage.Store].
func (s *Store) RetireEpochs(ctx context.Context, in storage.RetireEpochs, ev storage.Event) ([]storage.Revocation, error) {
	return inTime(ctx, func(later time.Duration) ([]storage.Revocation, error) {
		in, ev := in, ev
		in.Begun.Time, ev.Time = in.Begun.Time.Add(later), ev.Time.Add(later)
		return change(ctx, s, func(t *tx) ([]storage.Revocation, error) { return t.retireEpochs(in, ev) })
	})
}

func (t *tx) retireEpochs(in storage.RetireEpochs, ev storage.Event) (out []storage.Revocation, err error) {
	ending, err := t.ending(in)
	if err != nil {
		return nil, err
	}
	if !in.All && ending[0].State == storage.EpochRetired {
		r, err := one(t, scanRevocation, selectRevocations+`WHERE root_key_id = ? AND fingerprint = ? AND epoch = ?`, noBytes, noBytes, in.Number)
		return []storage.Revocation{r}, err
	}
	if in.All || ending[0].State == storage.EpochSigning {
		if _, err := t.createEpoch(in.Seal, in.Begun); err != nil {
			return nil, err
		}
	}
	for _, e := range ending {
		r, err := t.retire(e, ev.Time)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
		ev.Detail = "epoch " + strconv.FormatUint(uint64(e.Number), 10)
		if err := t.audit(ev); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ending are the epochs that in means.
func (t *tx) ending(in storage.RetireEpochs) ([]storage.Epoch, error) {
	if in.All {
		return list(t, scanEpoch, selectEpochs+`WHERE state <> ? ORDER BY number`, storage.EpochRetired)
	}
	e, err := findEpoch(t, in.Number)
	return []storage.Epoch{e}, err
}

// ResealEpochs implements [storage.Store].
func (s *Store) ResealEpochs(ctx context.Context, reseal func(uint32, []byte) ([]byte, error), ev storage.Event) (int, error) {
	return change(ctx, s, func(t *tx) (int, error) {
		epochs, err := list(t, scanEpoch, selectEpochs+`WHERE state <> ? ORDER BY number`, storage.EpochRetired)
		if err != nil {
			return 0, err
		}
		for _, e := range epochs {
			sealed, err := reseal(e.Number, e.Sealed)
			if err != nil {
				return 0, err
			}
			if _, err := t.exec(`UPDATE epochs SET sealed = ? WHERE number = ?`, append(noBytes, sealed...), e.Number); err != nil {
				return 0, err
			}
		}
		t.st.revision++
		return len(epochs), t.audit(ev)
	})
}

// retire erases an epoch's secret and lists it, and closes what links were opened
// by devices whose latest root ends with it. The entry of an epoch under
// which nothing lives any more is kept for a skew, for followers to see.
func (t *tx) retire(e storage.Epoch, now time.Time) (storage.Revocation, error) {
	if _, err := t.exec(`UPDATE epochs SET state = ?, sealed = ? WHERE number = ?`, storage.EpochRetired, noBytes, e.Number); err != nil {
		return storage.Revocation{}, err
	}
	if _, err := t.exec(`DELETE FROM links WHERE EXISTS (SELECT 1 FROM devices d JOIN root_keys k ON k.id = d.root_key_id WHERE d.id = links.device_id
		AND COALESCE((SELECT next_epoch FROM renewals WHERE root_key_id = k.id ORDER BY expires_at DESC LIMIT 1), k.epoch) = ?)`, e.Number); err != nil {
		return storage.Revocation{}, err
	}
	t.st.revision++
	until := e.ExpiresAt
	if until.Before(now) {
		until = now
	}
	r, _, err := t.list(storage.Revocation{Grain: storage.GrainEpoch, Epoch: e.Number, ExpiresAt: until.Add(storage.ClockSkew)})
	return r, err
}

// Restored implements [storage.Store].
func (s *Store) Restored(ctx context.Context, keepTokens bool, ev storage.Event) (storage.State, error) {
	return change(ctx, s, func(t *tx) (storage.State, error) {
		var none storage.State
		t.st.generation = newGeneration()
		t.st.revision++
		t.st.lastEpoch = min(max(t.st.lastEpoch, ev.Time.Unix()), math.MaxUint32)
		if !keepTokens {
			epochs, err := list(t, scanEpoch, selectEpochs+`WHERE state <> ? ORDER BY number`, storage.EpochRetired)
			if err != nil {
				return none, err
			}
			for _, e := range epochs {
				if _, err := t.retire(e, ev.Time); err != nil {
					return none, err
				}
			}
		}
		if keepTokens {
			if err := t.expectUnknown(milli(ev.Time.Add(storage.MaxRootTTL + storage.ClockSkew))); err != nil {
				return none, err
			}
		}
		if err := t.audit(ev); err != nil {
			return none, err
		}
		return storage.State{Generation: t.st.generation, Sequence: t.st.sequence, Audit: t.st.auditSeq, Revision: t.st.revision}, nil
	})
}

// expectUnknown notes until when there may be tokens of a history that is lost,
// under any root key that there is, a secret's that had minted nothing included.
// What was minted in it and holds here was minted in the epoch that signed.
func (t *tx) expectUnknown(until int64) error {
	if _, err := t.exec(`INSERT INTO root_keys (id, user_id, epoch, known_until) SELECT s.root_key_id, s.service_id, e.number, 0
		FROM service_secrets s, epochs e WHERE e.state = ? ON CONFLICT (id) DO NOTHING`, storage.EpochSigning); err != nil {
		return err
	}
	if _, err := t.exec(`UPDATE root_keys SET unknown_until = MAX(unknown_until, ?)`, until); err != nil {
		return err
	}
	_, err := t.exec(`UPDATE epochs SET expires_at = MAX(expires_at, ?) WHERE state = ?`, until, storage.EpochSigning)
	return err
}
