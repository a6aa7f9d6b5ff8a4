package sqlite

import (
	"context"
	"fmt"
	"math"

	"macaroond/storage"
)

// rowUntil is as much of keyUntil as the root key's own row says. It has an index,
// so that keys that stay only for tokens of a lost history are not looked at. After
// a restore that keeps the tokens it is the same for all that there are: the order
// of oldest is the index's own, or each step would sort them all.
const (
	rowUntil = `MAX(known_until, unknown_until)`
	oldest   = ` ORDER BY ` + rowUntil + `, rowid `
)

// Expire implements [storage.Store].
func (s *Store) Expire(ctx context.Context, in storage.Expire) (storage.Expired, error) {
	if in.Limit < 1 {
		return storage.Expired{}, fmt.Errorf("storage/sqlite: Limit is %d", in.Limit)
	}
	return change(ctx, s, func(t *tx) (storage.Expired, error) {
		now, skewed := milli(in.Now), milli(in.Now.Add(-storage.ClockSkew))
		var out storage.Expired
		var renewals, asked int // not counted: they go with their key, and with their device
		// What renewals know better of a living key is written into it, for an
		// epoch goes when no key is of it any more. (A dead one's may be gone.)
		if _, err := t.exec(`UPDATE root_keys SET (epoch, known_until) =
			(SELECT next_epoch, next_expires_at FROM renewals WHERE root_key_id = id ORDER BY expires_at DESC LIMIT 1)
			WHERE id IN (SELECT id FROM root_keys WHERE `+rowUntil+` < ?1`+oldest+`LIMIT ?2)
			AND EXISTS (SELECT 1 FROM renewals WHERE root_key_id = id AND next_expires_at >= ?1)`, skewed, in.Limit); err != nil {
			return storage.Expired{}, err
		}
		// An entry's expiry has the skew in it. A key goes after its device, an
		// epoch after its keys.
		const keys = `(SELECT id FROM root_keys k WHERE ` + rowUntil + ` < ?1 AND ` + keyExpires + ` < ?1` + oldest + `LIMIT ?2)`
		for _, step := range []struct {
			count *int
			query string
			args  []any
		}{
			{&out.Revocations, `DELETE FROM revocations WHERE seq IN (SELECT seq FROM revocations WHERE expires_at < ? ORDER BY expires_at, seq LIMIT ?)`, []any{now, in.Limit}},
			{&asked, `DELETE FROM delayed WHERE (user_id, device_id) IN (SELECT user_id, id FROM devices WHERE root_key_id IN ` + keys + `)`, []any{skewed, in.Limit}},
			{&out.Devices, `DELETE FROM devices WHERE root_key_id IN ` + keys, []any{skewed, in.Limit}},
			{&renewals, `DELETE FROM renewals WHERE root_key_id IN ` + keys, []any{skewed, in.Limit}},
			{&out.RootKeys, `DELETE FROM root_keys WHERE id IN ` + keys, []any{skewed, in.Limit}},
			{&out.Epochs, `DELETE FROM epochs WHERE number IN (SELECT number FROM epochs WHERE state <> ? AND expires_at < ?
				AND NOT EXISTS (SELECT 1 FROM root_keys WHERE epoch = number) ORDER BY number LIMIT ?)`, []any{storage.EpochSigning, skewed, in.Limit}},
			{&out.Accepted, `DELETE FROM accepted WHERE number IN (SELECT number FROM accepted WHERE expires_at < ? ORDER BY expires_at, number LIMIT ?)`, []any{now, in.Limit}},
			// Also one for a device or a secret that is gone: it is for nobody, and in the way of others.
			{&out.Policies, `DELETE FROM policies WHERE id IN (SELECT id FROM policies WHERE expires_at <> 0 AND expires_at < ? OR target <> ''
				AND NOT EXISTS (SELECT 1 FROM users WHERE users.id = target) AND NOT EXISTS (SELECT 1 FROM devices WHERE devices.id = target)
				AND NOT EXISTS (SELECT 1 FROM services WHERE services.id = target) AND NOT EXISTS (SELECT 1 FROM service_secrets WHERE device_id = target)
				ORDER BY expires_at, id LIMIT ?)`, []any{skewed, in.Limit}},
		} {
			n, err := t.exec(step.query, step.args...)
			if err != nil {
				return storage.Expired{}, err
			}
			*step.count = int(n)
		}
		for _, table := range [...]string{"links", "delayed"} { // few, and of no use to count
			if _, err := t.exec(`DELETE FROM `+table+` WHERE id IN (SELECT id FROM `+table+` WHERE expires_at <= ? ORDER BY expires_at, id LIMIT ?)`, now, in.Limit); err != nil {
				return storage.Expired{}, err
			}
		}
		if out.Epochs+out.Policies > 0 {
			t.st.revision++
		}
		var err error
		out.Audit, err = t.expireAudit(in)
		return out, err
	})
}

// expireAudit drops the oldest entries up to the first that is young enough:
// never one from the middle of the chain, whatever the clock did. The head of
// the chain is in the state row, so the numbers go on when all are gone.
func (t *tx) expireAudit(in storage.Expire) (int, error) {
	if in.AuditBefore.IsZero() {
		return 0, nil
	}
	before := milli(in.AuditBefore)
	end, err := list(t, column[int64],
		`SELECT seq FROM (SELECT seq, time FROM audit ORDER BY seq LIMIT ?) AS oldest WHERE time >= ? ORDER BY seq LIMIT 1`, in.Limit, before)
	if err != nil {
		return 0, err
	}
	last := int64(math.MaxInt64)
	if len(end) > 0 {
		last = end[0] - 1
	}
	n, err := t.exec(`DELETE FROM audit WHERE seq <= ? AND seq IN (SELECT seq FROM audit ORDER BY seq LIMIT ?)`, last, in.Limit)
	return int(n), err
}
