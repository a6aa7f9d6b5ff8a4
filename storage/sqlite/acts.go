package sqlite

import (
	"context"
	"errors"
	"time"

	"macaroond/storage"
)

const selectDelayed = `SELECT id, user_id, device_id, act, target, created_at, due_at, expires_at FROM delayed `

func scanDelayed(r scanner) (d storage.Delayed, err error) {
	var created, due, expires int64
	err = r.Scan(&d.ID, &d.UserID, &d.DeviceID, &d.Kind, &d.Target, &created, &due, &expires)
	d.CreatedAt, d.DueAt, d.ExpiresAt = fromMilli(created), fromMilli(due), fromMilli(expires)
	return d, err
}

// speaks refuses an act of a root that has ended since it was judged.
func (t *tx) speaks(act storage.Act) error {
	ended, err := exists(t, `SELECT 1 FROM revocations WHERE root_key_id = ? AND fingerprint = x'' AND epoch = 0
		UNION ALL SELECT 1 FROM epochs WHERE number = ? AND state = ?`, act.RootKeyID[:], act.Epoch, storage.EpochRetired)
	if err == nil && ended {
		err = storage.ErrRevoked
	}
	return err
}

// prove lets an act go ahead (nil, nil), or writes it down, or refuses. The
// user's password hash and standing are read here, so a proof that was good a
// moment ago is not enough.
func (t *tx) prove(act storage.Act, now time.Time) (*storage.Delayed, error) {
	u, err := findUser(t, act.UserID)
	if err != nil {
		return nil, err
	}
	if !u.SuspendedAt.IsZero() {
		return nil, storage.ErrSuspended
	}
	if act.Local && u.Owner != "" {
		return nil, storage.ErrOwned
	}
	switch {
	case act.PasswordHash != nil:
		if *act.PasswordHash != u.PasswordHash {
			return nil, storage.ErrPasswordChanged
		}
		return nil, t.done(act)
	case act.RecoveryCode != nil:
		if err := t.consumeCode(u.ID, *act.RecoveryCode); err != nil {
			return nil, err
		}
		return nil, t.done(act)
	}
	asking, err := findDevice(t, act.UserID, act.DeviceID)
	if err == nil && (!asking.RevokedAt.IsZero() || asking.RootKeyID != act.RootKeyID) {
		err = storage.ErrNotFound
	}
	if errors.Is(err, storage.ErrNotFound) { // no device that could be cancelled with what it asked
		return nil, storage.ErrProofRequired
	}
	if err != nil {
		return nil, err
	}
	if !act.FreshSince.IsZero() && !asking.ProvedAt.IsZero() && !asking.ProvedAt.Before(act.FreshSince) {
		return nil, t.done(act)
	}
	if act.Delay <= 0 {
		return nil, storage.ErrProofRequired
	}
	return t.wait(act, now)
}

// wait finds the act written down, or writes it down. One that is due goes
// ahead.
func (t *tx) wait(act storage.Act, now time.Time) (*storage.Delayed, error) {
	d, err := one(t, scanDelayed, selectDelayed+`WHERE user_id = ? AND device_id = ? AND act = ? AND target = ?`,
		act.UserID, act.DeviceID, act.Kind, act.Target)
	switch {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return nil, err
	case now.Before(d.DueAt):
		return &d, nil
	case now.Before(d.ExpiresAt):
		return nil, t.done(act)
	default: // it was not done in time, and begins anew
		if err := t.done(act); err != nil {
			return nil, err
		}
	}
	full, err := exists(t, `SELECT 1 FROM delayed WHERE user_id = ? AND expires_at > ? LIMIT 1 OFFSET ?`, act.UserID, milli(now), max(act.Max-1, 0))
	if err != nil {
		return nil, err
	}
	if full {
		return nil, storage.ErrTooManyActs
	}
	due := now.Add(act.Delay)
	if _, err := t.exec(`INSERT INTO delayed (id, user_id, device_id, act, target, created_at, due_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		act.ID, act.UserID, act.DeviceID, act.Kind, act.Target, milli(now), milli(due), milli(due.Add(act.Keep))); err != nil {
		return nil, err
	}
	if err := t.audit(act.Begun); err != nil {
		return nil, err
	}
	d, err = one(t, scanDelayed, selectDelayed+`WHERE id = ?`, act.ID)
	return &d, err
}

// done forgets that an act waited: it goes ahead now.
func (t *tx) done(act storage.Act) error {
	_, err := t.exec(`DELETE FROM delayed WHERE user_id = ? AND device_id = ? AND act = ? AND target = ?`, act.UserID, act.DeviceID, act.Kind, act.Target)
	return err
}

// forgetAsked drops what a device asked for: it has no say any more.
func (t *tx) forgetAsked(d storage.Device) error {
	_, err := t.exec(`DELETE FROM delayed WHERE user_id = ? AND device_id = ?`, d.UserID, d.ID)
	if err == nil {
		_, err = t.exec(`DELETE FROM links WHERE user_id = ? AND device_id = ?`, d.UserID, d.ID)
	}
	return err
}

func (t *tx) consumeCode(userID string, hash [32]byte) error {
	n, err := t.exec(`DELETE FROM recovery_codes WHERE user_id = ? AND hash = ?`, userID, hash[:])
	if err == nil && n == 0 {
		err = storage.ErrCodeUnknown
	}
	return err
}

// outcome is what a transaction that needs a proof comes to.
type outcome struct {
	revoked []storage.Revocation
	delayed *storage.Delayed
}

// RemoveDevices implements [storage.Store].
func (s *Store) RemoveDevices(ctx context.Context, in storage.RevokeDevices, act storage.Act, ev storage.Event) ([]storage.Revocation, *storage.Delayed, error) {
	out, err := change(ctx, s, func(t *tx) (out outcome, err error) {
		if err := t.speaks(act); err != nil {
			return out, err
		}
		if _, err := findUser(t, in.UserID); err != nil {
			return out, err
		}
		chosen, err := t.selected(in)
		if err != nil {
			return out, err
		}
		for _, d := range chosen {
			if d.ID != act.DeviceID {
				if out.delayed, err = t.prove(act, ev.Time); err != nil || out.delayed != nil {
					return out, err
				}
				break
			}
		}
		out.revoked, err = t.revokeSelected(in, chosen, ev)
		return out, err
	})
	return out.revoked, out.delayed, err
}

// Delayed implements [storage.Store].
func (s *Store) Delayed(ctx context.Context, userID string, now time.Time) ([]storage.Delayed, error) {
	return list(s.reader(ctx), scanDelayed, selectDelayed+`WHERE user_id = ? AND expires_at > ? ORDER BY created_at, id`, userID, milli(now))
}

// CancelDelayed implements [storage.Store].
func (s *Store) CancelDelayed(ctx context.Context, userID, id string, ev storage.Event) error {
	return s.w.do(ctx, func(t *tx) error {
		if err := t.must(`DELETE FROM delayed WHERE id = ? AND user_id = ? AND expires_at > ?`, id, userID, milli(ev.Time)); err != nil {
			return err
		}
		return t.audit(ev)
	})
}
