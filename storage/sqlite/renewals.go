package sqlite

import (
	"context"
	"errors"
	"slices"
	"time"

	"macaroond/storage"
)

// renewal is a row: a root macaroon, known by its expiry, and its successor.
type renewal struct {
	epoch      uint32 // the successor's
	next, seen int64
}

func scanRenewal(r scanner) (v renewal, err error) { return v, r.Scan(&v.epoch, &v.next, &v.seen) }

// RenewDevice implements [storage.Store]. It needs no savepoint: what it refuses
// it refuses before it changes anything, but for what was seen in use, which is
// so whether there is a successor or not.
func (s *Store) RenewDevice(ctx context.Context, in storage.RenewDevice, theft string, ev storage.Event) (out storage.Renewed, err error) {
	err = s.w.doPlain(ctx, func(t *tx) (err error) {
		out, err = t.renew(in, theft, ev)
		return err
	}, refusesToRenew)
	if err != nil {
		return storage.Renewed{}, err
	}
	return out, nil
}

func refusesToRenew(err error) bool {
	for _, known := range [...]error{
		storage.ErrNotFound, storage.ErrRevoked, storage.ErrSuspended, storage.ErrRenewalLimit, storage.ErrEpochNotSigning, storage.ErrSessionOver,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

func (t *tx) renew(in storage.RenewDevice, theft string, ev storage.Event) (storage.Renewed, error) {
	var none storage.Renewed
	who, err := t.session(in, ev.Time)
	if err != nil {
		return none, err
	}
	if err := t.seeRoots(in.Seen); err != nil {
		return none, err
	}
	out := storage.Renewed{UserName: who.user, Device: who.Device}
	from, lost := milli(in.ExpiresAt), int64(0) // the root macaroon to succeed; and one that was renewed in a lost history
	if latest := milli(who.RootExpiresAt); from < latest {
		r, found, err := t.given(in, from, latest, ev.Time)
		if err != nil {
			return none, err
		}
		switch found {
		case givenAlive:
			out.Epoch, out.ExpiresAt = r.epoch, fromMilli(r.next)
			return out, nil
		case givenStolen:
			out.Theft = true
			out.Revoked, err = t.stolen(who.Device, theft, ev)
			return out, err
		}
		from = latest
	} else if from > latest && latest != 0 {
		lost = latest // the table is older than the token
	}
	end, err := until(in, who, from, ev.Time)
	if err != nil {
		return none, err
	}
	if lost != 0 {
		if err := t.remember(in.RootKeyID, lost, renewal{in.Epoch, from, milli(ev.Time)}, ev.Time); err != nil {
			return none, err
		}
	}
	out.New, out.Epoch, out.ExpiresAt = true, in.Signing, fromMilli(end)
	return out, t.succeed(in, who, from, end, ev)
}

// session is what renewing re-reads: the device, its user, what was given to it
// and the epoch that is to sign. It is one query, because renewals that share a
// sync are as fast as their statements.
type session struct {
	storage.Device
	user          string
	given, lately int    // rows of renewals, and those of the last moment
	epochExpires  *int64 // nil when the epoch does not sign
}

func (t *tx) session(in storage.RenewDevice, now time.Time) (session, error) {
	var suspended, listed int64
	s, err := one(t, func(r scanner) (s session, err error) {
		s.Device, err = scanDevice(wider{r, []any{&s.user, &suspended, &listed, &s.given, &s.lately, &s.epochExpires}})
		return s, err
	}, `SELECT `+deviceColumns+`, u.name, u.suspended_at,
		(SELECT COUNT(*) FROM revocations WHERE root_key_id = k.id AND fingerprint = ? AND epoch = 0),
		(SELECT COUNT(*) FROM renewals WHERE root_key_id = k.id),
		(SELECT COUNT(*) FROM renewals WHERE root_key_id = k.id AND renewed_at > ?),
		(SELECT expires_at FROM epochs WHERE number = ? AND state = ?)
		FROM devices d JOIN root_keys k ON k.id = d.root_key_id JOIN users u ON u.id = d.user_id
		WHERE d.id = ? AND d.user_id = ? AND d.root_key_id = ?`,
		noBytes, milli(now.Add(-min(in.Grace, time.Minute))), in.Signing, storage.EpochSigning, in.DeviceID, in.UserID, in.RootKeyID[:])
	switch {
	case errors.Is(err, storage.ErrNotFound): // replaced, or never known here
		const find = `SELECT 1 FROM revocations WHERE root_key_id = ? AND fingerprint = ? AND epoch = 0`
		revoked, e := exists(t, find, in.RootKeyID[:], noBytes)
		switch {
		case e != nil:
			err = e
		case revoked:
			err = storage.ErrRevoked
		}
		return session{}, err
	case err != nil:
		return session{}, err
	case listed != 0 || !s.RevokedAt.IsZero():
		return session{}, storage.ErrRevoked
	case suspended != 0:
		return session{}, storage.ErrSuspended
	}
	return s, nil
}

// wider reads more columns behind those of a scan.
type wider struct {
	scanner
	more []any
}

func (w wider) Scan(dest ...any) error { return w.scanner.Scan(append(dest, w.more...)...) }

// What there is for a predecessor.
const (
	givenAlive  = iota // the successor
	givenDead          // a successor whose epoch is retired, and none after it
	givenStolen        // nothing: it had its time
)

// given looks for the successor of a predecessor. A row speaks for every root
// macaroon from its own to its successor's: one between the two is of a history
// that a restored backup has lost.
func (t *tx) given(in storage.RenewDevice, from, latest int64, now time.Time) (renewal, int, error) {
	for from < latest {
		r, err := one(t, scanRenewal, `SELECT next_epoch, next_expires_at, next_seen_at FROM renewals
			WHERE root_key_id = ? AND expires_at <= ? AND next_expires_at > ? ORDER BY expires_at DESC LIMIT 1`, in.RootKeyID[:], from, from)
		if errors.Is(err, storage.ErrNotFound) || err == nil && r.seen != 0 && milli(now) >= r.seen+in.Grace.Milliseconds() {
			return renewal{}, givenStolen, nil
		}
		if err != nil {
			return renewal{}, 0, err
		}
		alive, err := exists(t, `SELECT 1 FROM epochs WHERE number = ? AND state <> ?`, r.epoch, storage.EpochRetired)
		if err != nil || alive {
			return r, givenAlive, err
		}
		from = r.next
	}
	return renewal{}, givenDead, nil
}

// stolen ends the device.
func (t *tx) stolen(d storage.Device, theft string, ev storage.Event) ([]storage.Revocation, error) {
	revoked, err := t.revokeDevices(nil, []storage.Device{d}, "theft", ev.Time)
	if err != nil {
		return nil, err
	}
	ev.Type, ev.DeviceID, ev.RootKeyID = theft, d.ID, &d.RootKeyID
	return revoked, t.audit(ev)
}

// until is the expiry of a new successor.
func until(in storage.RenewDevice, who session, from int64, now time.Time) (int64, error) {
	if who.lately >= storage.MaxRenewals {
		return 0, storage.ErrRenewalLimit
	}
	if who.epochExpires == nil {
		return 0, storage.ErrEpochNotSigning
	}
	ttl := in.RootTTL
	if who.TTL != 0 {
		ttl = min(ttl, who.TTL)
	}
	end := max(milli(now.Add(ttl+time.Second-1).Truncate(time.Second)), from+1000)
	if in.SessionMax > 0 {
		end = min(end, milli(who.StartedAt.Add(in.SessionMax).Truncate(time.Second)))
	}
	if end <= from {
		return 0, storage.ErrSessionOver
	}
	return end, nil
}

// succeed writes down that the root macaroon has a new successor, and forgets
// the rows whose predecessors would be theft anyway.
func (t *tx) succeed(in storage.RenewDevice, who session, from, until int64, ev storage.Event) error {
	if *who.epochExpires < until {
		if _, err := t.exec(`UPDATE epochs SET expires_at = ? WHERE number = ?`, until, in.Signing); err != nil {
			return err
		}
	}
	if who.given > 0 && !sawRoot(in) {
		if err := t.seeRoot(in.RootKeyID, in.ExpiresAt, ev.Time); err != nil {
			return err
		}
	}
	if who.given > keptRenewals {
		if _, err := t.exec(`DELETE FROM renewals WHERE root_key_id = ? AND next_seen_at <> 0 AND next_seen_at <= ?`,
			in.RootKeyID[:], milli(ev.Time.Add(-in.Grace))); err != nil {
			return err
		}
	}
	if err := t.remember(in.RootKeyID, from, renewal{in.Signing, until, 0}, ev.Time); err != nil {
		return err
	}
	if _, err := t.exec(`UPDATE root_keys SET epoch = ?, expires_at = CASE WHEN expires_at < ? THEN ? ELSE expires_at END WHERE id = ?`,
		in.Signing, until, until, in.RootKeyID[:]); err != nil {
		return err
	}
	if _, err := t.exec(`UPDATE devices SET root_expires_at = ? WHERE id = ?`, until, in.DeviceID); err != nil {
		return err
	}
	ev.DeviceID, ev.RootKeyID = in.DeviceID, &in.RootKeyID
	return t.audit(ev)
}

// keptRenewals is how many rows of a device may stay though they say nothing any
// more: forgetting them each time would be a statement for each renewal.
const keptRenewals = 8

// sawRoot reports whether the presented root is among those that were seen: it
// is, where presenting it was noted as a use.
func sawRoot(in storage.RenewDevice) bool {
	return slices.ContainsFunc(in.Seen, func(v storage.Sighting) bool {
		return v.RootKeyID == in.RootKeyID && v.ExpiresAt.Equal(in.ExpiresAt) && !v.First.IsZero()
	})
}

func (t *tx) remember(rootKeyID [16]byte, from int64, r renewal, now time.Time) error {
	_, err := t.exec(`INSERT INTO renewals (root_key_id, expires_at, next_epoch, next_expires_at, renewed_at, next_seen_at) VALUES (?, ?, ?, ?, ?, ?)`,
		rootKeyID[:], from, r.epoch, r.next, milli(now), r.seen)
	return err
}

// TouchDevices implements [storage.Store].
func (s *Store) TouchDevices(ctx context.Context, seen []storage.Sighting) error {
	if len(seen) == 0 {
		return nil
	}
	return s.w.do(ctx, func(t *tx) error {
		for _, v := range seen {
			at := milli(v.Last)
			if _, err := t.exec(`UPDATE devices SET last_seen_at = ? WHERE id = ? AND revoked_at = 0 AND last_seen_at < ?`, at, v.DeviceID, at); err != nil {
				return err
			}
		}
		return t.seeRoots(seen)
	})
}

func (t *tx) seeRoots(seen []storage.Sighting) error {
	for _, v := range seen {
		if v.First.IsZero() {
			continue
		}
		if err := t.seeRoot(v.RootKeyID, v.ExpiresAt, v.First); err != nil {
			return err
		}
	}
	return nil
}

// seeRoot notes the first use of a successor.
func (t *tx) seeRoot(rootKeyID [16]byte, expires, at time.Time) error {
	_, err := t.exec(`UPDATE renewals SET next_seen_at = ? WHERE root_key_id = ? AND next_expires_at = ? AND (next_seen_at = 0 OR next_seen_at > ?)`,
		milli(at), rootKeyID[:], milli(expires), milli(at))
	return err
}
