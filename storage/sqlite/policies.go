package sqlite

import (
	"context"
	"crypto/rand"

	"macaroond/storage"
)

// AddPolicy implements [storage.Store].
func (s *Store) AddPolicy(ctx context.Context, in storage.AddPolicy, ev storage.Event) (storage.Revocation, error) {
	return change(ctx, s, func(t *tx) (storage.Revocation, error) {
		var none storage.Revocation
		p := in.Policy
		if p.Target != "" {
			there, err := exists(t, `SELECT 1 FROM users WHERE id = ? UNION ALL SELECT 1 FROM devices WHERE id = ?
				UNION ALL SELECT 1 FROM services WHERE id = ? UNION ALL SELECT 1 FROM service_secrets WHERE device_id = ?`,
				p.Target, p.Target, p.Target, p.Target)
			if err != nil {
				return none, err
			}
			if !there {
				return none, storage.ErrNotFound
			}
		}
		now := milli(ev.Time)
		const count = `SELECT 1 FROM policies WHERE (expires_at = 0 OR expires_at > ?) `
		full, err := exists(t, count+`LIMIT 1 OFFSET ?`, now, in.MaxAll-1)
		if err == nil && !full {
			full, err = exists(t, count+`AND target = ? LIMIT 1 OFFSET ?`, now, p.Target, in.MaxOfTarget-1)
		}
		if err != nil {
			return none, err
		}
		if full {
			return none, storage.ErrPolicyLimit
		}
		if _, err := t.exec(`INSERT INTO policies (id, target, caveats, reason, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)`,
			p.ID, p.Target, words(p.Caveats), p.Reason, milli(p.CreatedAt), milli(p.ExpiresAt)); err != nil {
			return none, err
		}
		return t.subjectChanged(p.Target, ev)
	})
}

// RemovePolicy implements [storage.Store].
func (s *Store) RemovePolicy(ctx context.Context, id string, ev storage.Event) (storage.Revocation, error) {
	return change(ctx, s, func(t *tx) (storage.Revocation, error) {
		target, err := one(t, column[string], `SELECT target FROM policies WHERE id = ?`, id)
		if err != nil {
			return storage.Revocation{}, err
		}
		if _, err := t.exec(`DELETE FROM policies WHERE id = ?`, id); err != nil {
			return storage.Revocation{}, err
		}
		return t.subjectChanged(target, ev)
	})
}

// subjectChanged tells followers that what they know of a subject counts no more.
func (t *tx) subjectChanged(subject string, ev storage.Event) (storage.Revocation, error) {
	t.st.revision++
	entry := storage.Revocation{Grain: storage.GrainPolicy, Subject: subject, ExpiresAt: ev.Time.Add(storage.PolicyNews + storage.ClockSkew)}
	rand.Read(entry.Fingerprint[:]) // never fails
	entry, _, err := t.list(entry)
	if err != nil {
		return storage.Revocation{}, err
	}
	return entry, t.audit(ev)
}

// Policies implements [storage.Store].
func (s *Store) Policies(ctx context.Context) ([]storage.Policy, error) {
	return list(s.reader(ctx), func(r scanner) (p storage.Policy, err error) {
		var caveats string
		var created, expires int64
		if err := r.Scan(&p.ID, &p.Target, &caveats, &p.Reason, &created, &expires); err != nil {
			return p, err
		}
		p.CreatedAt, p.ExpiresAt = fromMilli(created), fromMilli(expires)
		err = fromWords(caveats, &p.Caveats)
		return p, err
	}, `SELECT id, target, caveats, reason, created_at, expires_at FROM policies ORDER BY created_at, id`)
}
