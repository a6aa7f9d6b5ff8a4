package sqlite

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"

	"macaroond/storage"
)

const selectLinks = `SELECT id, user_id, device_id, code, tries, created_at, expires_at, claim, claim_name, claim_install, claim_ip, approved_at FROM links `

func scanLink(r scanner) (l storage.Link, err error) {
	var code, claim []byte
	var created, expires, approved int64
	err = r.Scan(&l.ID, &l.UserID, &l.DeviceID, &code, &l.Tries, &created, &expires, &claim, &l.Name, &l.InstallID, &l.ClientIP, &approved)
	copy(l.Code[:], code)
	copy(l.Claim[:], claim)
	l.CreatedAt, l.ExpiresAt, l.ApprovedAt = fromMilli(created), fromMilli(expires), fromMilli(approved)
	return l, err
}

func userLink(q queryer, userID string, now time.Time) (storage.Link, error) {
	return one(q, scanLink, selectLinks+`WHERE user_id = ? AND expires_at > ?`, userID, milli(now))
}

// OpenLink implements [storage.Store].
func (s *Store) OpenLink(ctx context.Context, l storage.Link, act storage.Act, ev storage.Event) (*storage.Delayed, error) {
	return change(ctx, s, func(t *tx) (*storage.Delayed, error) {
		if err := t.speaks(act); err != nil {
			return nil, err
		}
		if d, err := t.prove(act, ev.Time); err != nil || d != nil {
			return d, err
		}
		if err := t.forgetLinks(l.UserID); err != nil {
			return nil, err
		}
		if _, err := t.exec(`INSERT INTO links (id, user_id, device_id, code, tries, created_at, expires_at, claim, claim_name, claim_install, claim_ip, approved_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', '', 0)`, l.ID, l.UserID, l.DeviceID, l.Code[:], l.Tries, milli(l.CreatedAt), milli(l.ExpiresAt), noBytes); err != nil {
			return nil, err
		}
		return nil, t.audit(ev)
	})
}

// Link implements [storage.Store].
func (s *Store) Link(ctx context.Context, userID string, now time.Time) (storage.Link, error) {
	return userLink(s.reader(ctx), userID, now)
}

// LinkByID implements [storage.Store].
func (s *Store) LinkByID(ctx context.Context, id string, now time.Time) (storage.Link, error) {
	return one(s.reader(ctx), scanLink, selectLinks+`WHERE id = ? AND expires_at > ?`, id, milli(now))
}

// ClaimLink implements [storage.Store].
func (s *Store) ClaimLink(ctx context.Context, in storage.ClaimLink, ok, failed storage.Event) (storage.Link, bool, error) {
	type result struct {
		link    storage.Link
		claimed bool
	}
	out, err := change(ctx, s, func(t *tx) (result, error) {
		l, err := userLink(t, in.UserID, in.Now)
		if errors.Is(err, storage.ErrNotFound) || err == nil && (l.ID != in.LinkID || l.Claimed()) {
			return result{}, t.audit(failed)
		}
		if err != nil {
			return result{}, err
		}
		// Constant time: the MAC that is compared is of a short code.
		if subtle.ConstantTimeCompare(l.Code[:], in.Code[:]) != 1 {
			if _, err := t.exec(`UPDATE links SET tries = tries - 1 WHERE id = ?`, l.ID); err != nil {
				return result{}, err
			}
			if _, err := t.exec(`DELETE FROM links WHERE id = ? AND tries <= 0`, l.ID); err != nil {
				return result{}, err
			}
			return result{}, t.audit(failed)
		}
		if _, err := t.exec(`UPDATE links SET claim = ?, claim_name = ?, claim_install = ?, claim_ip = ? WHERE id = ?`,
			in.Claim[:], in.Name, in.InstallID, in.ClientIP, l.ID); err != nil {
			return result{}, err
		}
		l.LinkClaim = in.LinkClaim
		return result{l, true}, t.audit(ok)
	})
	return out.link, out.claimed, err
}

// ApproveLink implements [storage.Store].
func (s *Store) ApproveLink(ctx context.Context, userID, deviceID, id string, ev storage.Event) error {
	return s.w.do(ctx, func(t *tx) error {
		l, err := userLink(t, userID, ev.Time)
		if err != nil {
			return err
		}
		if l.ID != id || l.DeviceID != deviceID || !l.Claimed() {
			return storage.ErrNotFound
		}
		if !l.ApprovedAt.IsZero() {
			return nil
		}
		if _, err := t.exec(`UPDATE links SET approved_at = ? WHERE id = ?`, milli(ev.Time), id); err != nil {
			return err
		}
		return t.audit(ev)
	})
}

// CloseLink implements [storage.Store].
func (s *Store) CloseLink(ctx context.Context, userID, id string, ev storage.Event) error {
	return s.w.do(ctx, func(t *tx) error {
		if err := t.must(`DELETE FROM links WHERE id = ? AND user_id = ? AND expires_at > ?`, id, userID, milli(ev.Time)); err != nil {
			return err
		}
		return t.audit(ev)
	})
}

// forgetLinks refuses whoever is on the way in, approved or not.
func (t *tx) forgetLinks(userID string) error {
	_, err := t.exec(`DELETE FROM links WHERE user_id = ?`, userID)
	return err
}

// consumeLink trades an approved link for the right to a device, once.
func (t *tx) consumeLink(userID, id string, now time.Time) error {
	return t.must(`DELETE FROM links WHERE id = ? AND user_id = ? AND approved_at <> 0 AND expires_at > ?`, id, userID, milli(now))
}
