package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"iter"
	"slices"
	"time"

	"macaroond/storage"
)

const selectRevocations = `SELECT seq, grain, root_key_id, fingerprint, epoch, expires_at, subject FROM revocations `

func scanRevocation(r scanner) (v storage.Revocation, err error) {
	var key, fingerprint []byte
	var expires int64
	err = r.Scan(&v.Seq, &v.Grain, &key, &fingerprint, &v.Epoch, &expires, &v.Subject)
	copy(v.RootKeyID[:], key)
	copy(v.Fingerprint[:], fingerprint)
	v.ExpiresAt = fromMilli(expires)
	return v, err
}

// list puts one entry on the list unless it is there. The sequence is given
// out here, inside the transaction, so commit order is the order of the list.
func (t *tx) list(r storage.Revocation) (storage.Revocation, bool, error) {
	r.Seq = t.st.sequence + 1
	r.ExpiresAt = fromMilli(milli(r.ExpiresAt))
	key, fingerprint := noBytes, noBytes
	if r.Grain == storage.GrainDevice || r.Grain == storage.GrainBranch {
		key = r.RootKeyID[:]
	}
	if r.Grain == storage.GrainBranch || r.Grain == storage.GrainPolicy {
		fingerprint = r.Fingerprint[:]
	}
	n, err := t.exec(`INSERT INTO revocations (seq, grain, root_key_id, fingerprint, epoch, expires_at, subject) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (root_key_id, fingerprint, epoch) DO NOTHING`, r.Seq, r.Grain, key, fingerprint, r.Epoch, milli(r.ExpiresAt), r.Subject)
	if err != nil || n == 0 {
		return storage.Revocation{}, false, err
	}
	t.st.sequence = r.Seq
	return r, true, nil
}

// revokeKey lists a root key until no root macaroon under it lives that there is
// or may be, nor at expires, and appends the entry, if it is new, to out.
func (t *tx) revokeKey(out []storage.Revocation, id [16]byte, expires time.Time) ([]storage.Revocation, error) {
	until, err := list(t, column[int64], `SELECT `+keyUntil+` FROM root_keys k WHERE id = ?`, id[:])
	if err != nil {
		return nil, err
	}
	for _, at := range until { // one, or none
		expires = fromMilli(max(at, milli(expires)))
	}
	r, added, err := t.list(storage.Revocation{Grain: storage.GrainDevice, RootKeyID: id, ExpiresAt: expires.Add(storage.ClockSkew)})
	if added {
		out = append(out, r)
	}
	return out, err
}

func (t *tx) revokeDevices(out []storage.Revocation, devices []storage.Device, reason string, now time.Time) ([]storage.Revocation, error) {
	for _, d := range devices {
		if _, err := t.exec(`UPDATE devices SET revoked_at = ?, revoked_reason = ? WHERE id = ?`, milli(now), reason, d.ID); err != nil {
			return nil, err
		}
		if err := t.forgetAsked(d); err != nil {
			return nil, err
		}
		var err error
		if out, err = t.revokeKey(out, d.RootKeyID, d.ExpiresAt); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// revokeAll revokes a user's live devices and every root key that a token can
// still be under, whether a device has it or not.
func (t *tx) revokeAll(userID, reason string, now time.Time) ([]storage.Revocation, error) {
	return t.revokeAllBut(userID, "", reason, now)
}

// revokeAllBut is revokeAll, but for one live device and its root key. What that
// one let in goes with the others.
func (t *tx) revokeAllBut(userID, keep, reason string, now time.Time) ([]storage.Revocation, error) {
	live, err := liveDevices(t, userID)
	if err != nil {
		return nil, err
	}
	var kept *[16]byte
	if i := slices.IndexFunc(live, func(d storage.Device) bool { return d.ID == keep }); i >= 0 {
		kept = &live[i].RootKeyID
		live = slices.Concat(live[:i], live[i+1:])
	}
	out, err := t.revokeDevices(nil, live, reason, now)
	if err != nil {
		return nil, err
	}
	if err := t.forgetLinks(userID); err != nil {
		return nil, err
	}
	// A root key stays as long as its tokens. Who logs in every minute has tens of
	// thousands, all but a few of them on the list.
	keys, err := list(t, scanKeyID, `SELECT id FROM root_keys k WHERE user_id = ? AND `+unlisted+` AND `+keyUntil+` >= ? ORDER BY id`,
		userID, milli(now.Add(-storage.ClockSkew)))
	if err != nil {
		return nil, err
	}
	for _, id := range keys {
		if kept != nil && id == *kept {
			continue
		}
		if out, err = t.revokeKey(out, id, time.Time{}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// unlisted holds for a root key k that is not on the list.
const unlisted = `NOT EXISTS (SELECT 1 FROM revocations WHERE root_key_id = k.id AND fingerprint = x'' AND epoch = 0)`

func scanKeyID(r scanner) (id [16]byte, err error) {
	var b []byte
	err = r.Scan(&b)
	copy(id[:], b)
	return id, err
}

// RevokeDevices implements [storage.Store].
func (s *Store) RevokeDevices(ctx context.Context, in storage.RevokeDevices, ev storage.Event) ([]storage.Revocation, error) {
	return change(ctx, s, func(t *tx) ([]storage.Revocation, error) {
		chosen, err := t.selected(in)
		if err != nil {
			return nil, err
		}
		return t.revokeSelected(in, chosen, ev)
	})
}

// selected are the live devices that in means.
func (t *tx) selected(in storage.RevokeDevices) (out []storage.Device, err error) {
	if in.DeviceID != "" {
		if _, err := findDevice(t, in.UserID, in.DeviceID); err != nil {
			return nil, err
		}
	}
	live, err := liveDevices(t, in.UserID)
	for _, d := range live {
		if in.DeviceID != "" && d.ID != in.DeviceID || in.DeviceID == "" && d.ID == in.Except ||
			in.RootKeyID != nil && d.RootKeyID != *in.RootKeyID {
			continue
		}
		if in.ExpiresAt.After(d.ExpiresAt) {
			d.ExpiresAt = in.ExpiresAt
		}
		out = append(out, d)
	}
	return out, err
}

func (t *tx) revokeSelected(in storage.RevokeDevices, chosen []storage.Device, ev storage.Event) (revoked []storage.Revocation, err error) {
	if in.DeviceID == "" && in.RootKeyID == nil {
		if err := t.forgetLinks(in.UserID); err != nil {
			return nil, err
		}
	}
	for _, d := range chosen {
		if revoked, err = t.revokeDevices(revoked, []storage.Device{d}, in.Reason, ev.Time); err != nil {
			return nil, err
		}
		ev.DeviceID, ev.RootKeyID = d.ID, &d.RootKeyID
		if err := t.audit(ev); err != nil {
			return nil, err
		}
	}
	return revoked, nil
}

// RevokeRootKey implements [storage.Store].
func (s *Store) RevokeRootKey(ctx context.Context, id [16]byte, expires time.Time, ev storage.Event) ([]storage.Revocation, error) {
	return change(ctx, s, func(t *tx) ([]storage.Revocation, error) {
		out, err := t.revokeKey(nil, id, expires)
		if err != nil || len(out) == 0 {
			return nil, err
		}
		ev.RootKeyID = &id
		return out, t.audit(ev)
	})
}

// RevokeBranch implements [storage.Store].
func (s *Store) RevokeBranch(ctx context.Context, in storage.RevokeBranch, ev storage.Event) (storage.Revocation, bool, error) {
	out, err := change(ctx, s, func(t *tx) (out struct {
		entry storage.Revocation
		added bool
	}, err error,
	) {
		covered, err := t.covered(in)
		if err != nil || covered {
			return out, err
		}
		if in.MaxLive > 0 {
			full, err := exists(t, `SELECT 1 FROM revocations WHERE root_key_id = ? AND grain = ? AND expires_at >= ? LIMIT 1 OFFSET ?`,
				in.RootKeyID[:], storage.GrainBranch, milli(ev.Time), in.MaxLive-1)
			if err != nil {
				return out, err
			}
			if full {
				return out, storage.ErrBranchLimit
			}
		}
		out.entry, out.added, err = t.list(storage.Revocation{
			Grain: storage.GrainBranch, RootKeyID: in.RootKeyID,
			Fingerprint: in.Fingerprint, ExpiresAt: in.ExpiresAt.Add(storage.ClockSkew),
		})
		if err != nil {
			return out, err
		}
		return out, t.audit(ev)
	})
	return out.entry, out.added, err
}

// covered tells whether the root key, the branch or one of its ancestors is on
// the list.
func (t *tx) covered(in storage.RevokeBranch) (bool, error) {
	const find = `SELECT 1 FROM revocations WHERE epoch = 0 AND root_key_id = ? AND fingerprint `
	yes, err := exists(t, find+`IN (?, ?)`, in.RootKeyID[:], noBytes, in.Fingerprint[:])
	for i := 0; i < len(in.Ancestors) && !yes && err == nil; i++ {
		yes, err = exists(t, find+`= ?`, in.RootKeyID[:], in.Ancestors[i][:])
	}
	return yes, err
}

// pageLength is how many entries one query reads: few enough that a slow
// consumer holds little memory and no snapshot, many enough that the query
// itself costs nothing.
const pageLength = 4096

// Revocations implements [storage.Store]. Each page is a snapshot of its own,
// ended before the first of its entries is given to the consumer; the next one
// is read meanwhile.
func (s *Store) Revocations(ctx context.Context, after int64) iter.Seq2[storage.Revocation, error] {
	type result struct {
		page []storage.Revocation
		err  error
	}
	return func(yield func(storage.Revocation, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		read := func(room []storage.Revocation, after int64) <-chan result {
			done := make(chan result, 1)
			go func() {
				page, err := s.revocationPage(ctx, room[:0], after)
				done <- result{page, err}
			}()
			return done
		}
		ahead := read(make([]storage.Revocation, 0, pageLength), after)
		defer func() {
			cancel()
			if ahead != nil {
				<-ahead
			}
		}()
		spare := make([]storage.Revocation, 0, pageLength)
		for ahead != nil {
			r := <-ahead
			ahead = nil
			if r.err != nil {
				yield(storage.Revocation{}, r.err)
				return
			}
			if n := len(r.page); n == pageLength {
				ahead = read(spare, r.page[n-1].Seq)
			}
			for i := range r.page {
				if !yield(r.page[i], nil) {
					return
				}
			}
			spare = r.page
		}
	}
}

// selectPage gives what only rare grains have as one column, and as NULL, which
// costs nothing, for the others.
const selectPage = `SELECT seq, grain, root_key_id, fingerprint, CASE grain WHEN 3 THEN epoch WHEN 4 THEN subject END, expires_at
	FROM revocations WHERE seq > ? ORDER BY seq LIMIT ?`

// revocationPage reads through the driver itself: a million rows go through
// here, and database/sql takes as long for a row as SQLite does.
func (s *Store) revocationPage(ctx context.Context, page []storage.Revocation, after int64) ([]storage.Revocation, error) {
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return nil, fault(ctx, err)
	}
	defer conn.Close()
	err = conn.Raw(func(c any) error {
		rows, err := c.(driver.QueryerContext).QueryContext(ctx, selectPage, []driver.NamedValue{{Ordinal: 1, Value: after}, {Ordinal: 2, Value: int64(pageLength)}})
		if err != nil {
			return fault(ctx, err)
		}
		defer rows.Close()
		var row [6]driver.Value
		for {
			if err := rows.Next(row[:]); err == io.EOF {
				return nil
			} else if err != nil {
				return fault(ctx, err)
			}
			page = append(page, storage.Revocation{})
			if !readRow(&row, &page[len(page)-1]) {
				return badRow(ctx, errors.New("a revocation's columns have other types"))
			}
		}
	})
	return page, err
}

func readRow(row *[6]driver.Value, r *storage.Revocation) bool {
	seq, ok1 := row[0].(int64)
	grain, ok2 := row[1].(int64)
	expires, ok3 := row[5].(int64)
	key, _ := row[2].([]byte)
	fingerprint, _ := row[3].([]byte)
	epoch, _ := row[4].(int64)
	r.Subject, _ = row[4].(string)
	r.Seq, r.Grain, r.Epoch, r.ExpiresAt = seq, storage.Grain(grain), uint32(epoch), fromMilli(expires)
	return ok1 && ok2 && ok3 && copy(r.RootKeyID[:], key) == len(key) && copy(r.Fingerprint[:], fingerprint) == len(fingerprint)
}
