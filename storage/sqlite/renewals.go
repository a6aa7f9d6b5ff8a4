package sqlite

import (
	"context"
	"errors"
	"sort"
	"time"

	"macaroond/storage"
)

// renewal is a row: a root macaroon, known by its expiry, and its successor.
type renewal struct {
	expires int64
	epoch   uint32 // the successor's
	next    int64  // when that expires
	renewed int64
	seen    int64 // when it was first seen in use; see chain.seen
	rows    int64 // how many its root key had with it, or more; written only
}

// selectRenewals gives the rows under a root key (?1), from the one on that may speak
// for a root macaroon of that expiry (?2).
const selectRenewals = `SELECT expires_at, next_epoch, next_expires_at, renewed_at, next_seen_at FROM renewals
	WHERE root_key_id = ?1 AND expires_at >= COALESCE((SELECT MAX(expires_at) FROM renewals WHERE root_key_id = ?1 AND expires_at <= ?2), 0) `

func scanRenewal(r scanner) (v renewal, err error) {
	err = r.Scan(&v.expires, &v.epoch, &v.next, &v.renewed, &v.seen)
	return v, err
}

// RenewDevice implements [storage.Store]. It needs no savepoint: what it refuses
// it refuses before it changes anything. Renewals that share a sync are as fast
// as their statements: one that reads, one that writes, and the audit entry.
func (s *Store) RenewDevice(ctx context.Context, in storage.RenewDevice, theft string, ev storage.Event) (out storage.Renewed, err error) {
	address := storage.SealAddress(ev.ClientIP)
	err = s.w.doPlain(ctx, func(t *tx) (err error) {
		out, err = t.renew(in, theft, ev, address)
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

func (t *tx) renew(in storage.RenewDevice, theft string, ev storage.Event, address storage.AddressSeal) (storage.Renewed, error) {
	var none storage.Renewed
	who, err := t.session(in)
	if err != nil {
		return none, err
	}
	out := storage.Renewed{UserName: who.user, DeviceName: who.device}
	from, latest := milli(in.ExpiresAt), who.latest
	row := renewal{expires: from, epoch: in.Signing, renewed: milli(ev.Time)}
	switch {
	case from < latest:
		r, found, err := t.given(in, from, ev.Time)
		if err != nil {
			return none, err
		}
		switch found {
		case givenAlive:
			out.Epoch, out.ExpiresAt = r.epoch, fromMilli(r.next)
			return out, t.seeAll(in.Seen, r)
		case givenStolen:
			out.Theft = true
			out.Revoked, err = t.stolen(in, theft, ev)
			return out, err
		}
		row.expires, row.renewed, who.dead = r.expires, r.renewed, true // the row before it counts from then
	case from > latest: // the table is older than the token: a renewal in a history that was lost
		who.lost = &renewal{latest, in.Epoch, from, milli(ev.Time), milli(ev.Time), who.rows + 1}
		who.unknown = from
	}
	if who.rows >= keptRenewals {
		if err := t.look(in, &who, ev.Time); err != nil {
			return none, err
		}
	}
	if row.next, err = until(in, who, max(from, latest), ev.Time); err != nil {
		return none, err
	}
	out.New, out.Epoch, out.ExpiresAt = true, row.epoch, fromMilli(row.next)
	return out, t.succeed(in, who, row, ev, address)
}

// session is what renewing re-reads: the device, its user, the epoch that is to
// sign, and what was given to it.
type session struct {
	user, device string
	ttl, started int64
	latest       int64  // expiry of the latest root macaroon
	rows         int64  // of its root key, or more
	epochExpires *int64 // nil when the epoch does not sign
	addressKey   []byte // the user's

	// What else there is to write, beside the new row.
	forget  int64    // the rows before this one say nothing any more
	lost    *renewal // a row that the table is lacking
	dead    bool     // the new row takes the place of the ones from its own on
	unknown int64    // until when there may be root macaroons that no row will tell of
}

func (t *tx) session(in storage.RenewDevice) (session, error) {
	var revoked, suspended bool
	s, err := one(t, func(r scanner) (s session, err error) {
		err = r.Scan(&s.user, &suspended, &s.device, &revoked, &s.ttl, &s.started, &s.latest, &s.rows, &s.epochExpires, &s.addressKey)
		return s, err
	}, `SELECT u.name, u.suspended_at <> 0 AS suspended, d.name,
		d.revoked_at <> 0 OR EXISTS (SELECT 1 FROM revocations WHERE root_key_id = d.root_key_id AND fingerprint = x'' AND epoch = 0)
			OR NOT EXISTS (SELECT 1 FROM epochs WHERE number = ? AND state <> ?) AS revoked,
		d.ttl, d.started_at,
		COALESCE((SELECT next_expires_at FROM renewals WHERE root_key_id = d.root_key_id ORDER BY expires_at DESC LIMIT 1),
			(SELECT known_until FROM root_keys WHERE id = d.root_key_id)) AS latest,
		COALESCE((SELECT rows FROM renewals WHERE root_key_id = d.root_key_id ORDER BY expires_at DESC LIMIT 1), 0) AS rows,
		(SELECT expires_at FROM epochs WHERE number = ? AND state = ?) AS epoch, u.address_key
		FROM devices d JOIN users u ON u.id = d.user_id
		WHERE d.id = ? AND d.user_id = ? AND d.root_key_id = ?`,
		in.Epoch, storage.EpochRetired, in.Signing, storage.EpochSigning, in.DeviceID, in.UserID, in.RootKeyID[:])
	switch {
	case errors.Is(err, storage.ErrNotFound): // replaced, or never known here
		gone, e := exists(t, `SELECT 1 FROM revocations WHERE root_key_id = ? AND fingerprint = x'' AND epoch = 0`, in.RootKeyID[:])
		switch {
		case e != nil:
			err = e
		case gone:
			err = storage.ErrRevoked
		}
		return session{}, err
	case err != nil:
		return session{}, err
	case revoked:
		return session{}, storage.ErrRevoked
	case suspended:
		return session{}, storage.ErrSuspended
	}
	return s, nil
}

// chain is what was given out under one root key, each row the successor of the
// one before it. The last row always stays.
type chain []renewal

// chain reads so many rows, from the one on that may speak for a root macaroon, or
// from the first; -1 is all. With a long grace a device can have a hundred
// thousand.
func (t *tx) chain(rootKeyID [16]byte, from int64, limit int) (chain, error) {
	return list(t, scanRenewal, selectRenewals+`ORDER BY expires_at LIMIT +?3`, rootKeyID[:], from, limit) // SQLite plans anew for each value of a bare parameter
}

// look is for a device with many rows: whether it may have one more, and which
// have become old.
func (t *tx) look(in storage.RenewDevice, who *session, now time.Time) error {
	often, err := exists(t, `SELECT 1 FROM (SELECT renewed_at FROM renewals WHERE root_key_id = ? ORDER BY expires_at DESC LIMIT 1 OFFSET ?) WHERE renewed_at > ?`,
		in.RootKeyID[:], storage.MaxRenewals-1, milli(now.Add(-min(in.Grace, time.Minute))))
	if err != nil {
		return err
	}
	if often {
		return storage.ErrRenewalLimit
	}
	const some = 2 * storage.MaxRenewals
	c, err := t.chain(in.RootKeyID, 0, some)
	if err != nil {
		return err
	}
	n := min(c.old(milli(now.Add(-in.Grace))), len(c)-storage.KnownRoots)
	if n > 0 {
		who.forget = c[n].expires
		who.unknown = max(who.unknown, c[n-1].expires)
	}
	if len(c) < some { // all of them; else the next renewal looks again
		who.rows = int64(len(c) - max(n, 0))
	}
	return nil
}

// of is the row that speaks for a root macaroon: each does for all from its own
// to its successor's. One between the two is of a history that a restored backup
// has lost.
func (c chain) of(from int64) (int, bool) {
	i := sort.Search(len(c), func(i int) bool { return c[i].next > from })
	return i, i < len(c) && c[i].expires <= from
}

// seen is when the successor of row i was first seen in use, as far as is known:
// by a request, or by its own renewal, which is the next row. 0 is never.
func (c chain) seen(i int, in storage.RenewDevice) int64 {
	first := c[i].seen
	earlier := func(at int64) {
		if at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	if i+1 < len(c) {
		earlier(c[i+1].renewed)
	}
	for _, v := range in.Seen {
		if v.RootKeyID == in.RootKeyID && milli(v.ExpiresAt) == c[i].next {
			earlier(milli(v.First))
		}
	}
	return first
}

// old is how many of the first rows say nothing any more: their successors were
// renewed so long ago that their predecessors are theft, row or no row.
func (c chain) old(before int64) (n int) {
	for n+1 < len(c) && c[n+1].renewed <= before {
		n++
	}
	return n
}

// What there is for a predecessor.
const (
	givenAlive  = iota // the successor
	givenDead          // a successor whose epoch is retired, and none after it
	givenStolen        // nothing: it had its time
)

// given looks for the successor of a predecessor; of dead ones it gives the
// first.
func (t *tx) given(in storage.RenewDevice, from int64, now time.Time) (renewal, int, error) {
	const few = 4
	c, err := t.chain(in.RootKeyID, from, few)
	if err != nil {
		return renewal{}, 0, err
	}
	first, known := c.of(from)
	if !known {
		return renewal{}, givenStolen, nil
	}
	for i := first; i < len(c); i++ {
		if i == few-1 && len(c) == few { // what is seen of it stands in the next row
			if c, err = t.chain(in.RootKeyID, from, -1); err != nil {
				return renewal{}, 0, err
			}
		}
		if seen := c.seen(i, in); seen != 0 && milli(now) >= seen+in.Grace.Milliseconds() {
			return renewal{}, givenStolen, nil
		}
		alive, err := exists(t, `SELECT 1 FROM epochs WHERE number = ? AND state <> ?`, c[i].epoch, storage.EpochRetired)
		if err != nil || alive {
			return c[i], givenAlive, err
		}
	}
	return c[first], givenDead, nil
}

// stolen ends the device.
func (t *tx) stolen(in storage.RenewDevice, theft string, ev storage.Event) ([]storage.Revocation, error) {
	d, err := findDevice(t, in.UserID, in.DeviceID)
	if err != nil {
		return nil, err
	}
	revoked, err := t.revokeDevices(nil, []storage.Device{d}, "theft", ev.Time)
	if err != nil {
		return nil, err
	}
	ev.Type, ev.DeviceID, ev.RootKeyID = theft, d.ID, &d.RootKeyID
	return revoked, t.audit(ev)
}

// until is the expiry of a new successor.
func until(in storage.RenewDevice, who session, from int64, now time.Time) (int64, error) {
	if who.epochExpires == nil {
		return 0, storage.ErrEpochNotSigning
	}
	ttl := in.RootTTL
	if who.ttl != 0 {
		ttl = min(ttl, time.Duration(who.ttl)*time.Millisecond)
	}
	end := max(milli(now.Add(ttl+time.Second-1).Truncate(time.Second)), from+1000)
	if in.SessionMax > 0 {
		end = min(end, milli(fromMilli(who.started).Add(in.SessionMax).Truncate(time.Second)))
	}
	if end <= from {
		return 0, storage.ErrSessionOver
	}
	return end, nil
}

// succeed writes down that the root macaroon has a new successor, and forgets
// what says nothing any more.
func (t *tx) succeed(in storage.RenewDevice, who session, r renewal, ev storage.Event, address storage.AddressSeal) error {
	if *who.epochExpires < r.next {
		if _, err := t.exec(`UPDATE epochs SET expires_at = ? WHERE number = ?`, r.next, r.epoch); err != nil {
			return err
		}
	}
	if who.forget != 0 {
		if _, err := t.exec(`DELETE FROM renewals WHERE root_key_id = ? AND expires_at < ?`, in.RootKeyID[:], who.forget); err != nil {
			return err
		}
	}
	if who.unknown > milli(ev.Time.Add(-storage.ClockSkew)) {
		if _, err := t.exec(`UPDATE root_keys SET unknown_until = ?1 WHERE id = ?2 AND unknown_until < ?1`, who.unknown, in.RootKeyID[:]); err != nil {
			return err
		}
	}
	if who.dead {
		if _, err := t.exec(`DELETE FROM renewals WHERE root_key_id = ? AND expires_at >= ?`, in.RootKeyID[:], r.expires); err != nil {
			return err
		}
	}
	if who.lost != nil {
		if err := t.remember(in.RootKeyID, *who.lost); err != nil {
			return err
		}
	}
	if r.rows = who.rows + 1; who.lost != nil {
		r.rows++
	}
	if err := t.remember(in.RootKeyID, r); err != nil {
		return err
	}
	ev.DeviceID, ev.RootKeyID = in.DeviceID, &in.RootKeyID
	return t.append(ev, address, who.addressKey)
}

// keptRenewals is how many rows of a device are not looked at: forgetting those
// that say nothing any more each time would be three statements for each renewal.
// It must be more than [storage.KnownRoots] and less than [storage.MaxRenewals].
const keptRenewals = storage.MaxRenewals / 2

func (t *tx) remember(rootKeyID [16]byte, r renewal) error {
	_, err := t.exec(`INSERT INTO renewals (root_key_id, expires_at, next_epoch, next_expires_at, renewed_at, next_seen_at, rows) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		rootKeyID[:], r.expires, r.epoch, r.next, r.renewed, r.seen, r.rows)
	return err
}

// Roots implements [storage.Store]. What is forgotten meanwhile is noted when the
// key is read: that comes last.
func (s *Store) Roots(ctx context.Context, rootKeyID [16]byte, now time.Time) ([]storage.Root, bool, error) {
	r, at := s.reader(ctx), milli(now)
	rows, err := list(r, scanRenewal, selectRenewals+`ORDER BY expires_at DESC LIMIT ?3`, rootKeyID[:], at, storage.KnownRoots)
	if err != nil {
		return nil, false, err
	}
	var known, unknown int64
	var roots []storage.Root
	add := func(epoch uint32, expires int64) {
		if expires > at {
			roots = append(roots, storage.Root{Epoch: epoch, ExpiresAt: fromMilli(expires)})
		}
	}
	first, err := one(r, func(r scanner) (epoch uint32, err error) {
		err = r.Scan(&epoch, &known, &unknown)
		return epoch, err
	},
		`SELECT epoch, known_until, unknown_until FROM root_keys WHERE id = ?`, rootKeyID[:])
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	case len(rows) == 0: // never renewed
		add(first, known)
		return roots, unknown <= at, nil
	}
	for _, v := range rows {
		add(v.epoch, v.next)
	}
	oldest := rows[len(rows)-1].expires // which no row says the epoch of
	if oldest <= at {
		return roots, unknown <= at, nil
	}
	epochs, err := list(r, column[uint32], `SELECT number FROM epochs WHERE state <> ?`, storage.EpochRetired)
	for _, n := range epochs {
		add(n, oldest)
	}
	return roots, unknown <= at && len(rows) < storage.KnownRoots, err
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
			if err := t.see(v); err != nil {
				return err
			}
		}
		return nil
	})
}

// seeAll notes what is news about the successor of a row: it decides what its
// predecessor gets, so it must not be forgotten with the process.
func (t *tx) seeAll(seen []storage.Sighting, r renewal) error {
	for _, v := range seen {
		if milli(v.ExpiresAt) == r.next && (r.seen == 0 || milli(v.First) < r.seen) {
			if err := t.see(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// see notes the first use of a successor.
func (t *tx) see(v storage.Sighting) error {
	if v.First.IsZero() {
		return nil
	}
	first := milli(v.First)
	_, err := t.exec(`UPDATE renewals SET next_seen_at = ? WHERE root_key_id = ? AND next_expires_at = ? AND (next_seen_at = 0 OR next_seen_at > ?)`,
		first, v.RootKeyID[:], milli(v.ExpiresAt), first)
	return err
}
