package sqlite

import (
	"context"
	"fmt"
	"time"

	"macaroond/storage"
)

func (t *tx) addSecret(service string, v storage.ServiceSecret) error {
	_, err := t.exec(`INSERT INTO service_secrets (id, service_id, hash, device_id, root_key_id, created_at) VALUES (?, ?, ?, ?, ?, ?)`,
		v.ID, service, v.Hash[:], v.DeviceID, v.RootKeyID[:], milli(v.CreatedAt))
	return err
}

// selectSecrets gives what a change needs of secrets: whose they are, and what
// dies with them.
const selectSecrets = `SELECT id, device_id, root_key_id FROM service_secrets `

func scanSecret(r scanner) (v storage.ServiceSecret, err error) {
	var key []byte
	err = r.Scan(&v.ID, &v.DeviceID, &key)
	copy(v.RootKeyID[:], key)
	return v, err
}

// AddServiceSecret implements [storage.Store].
func (s *Store) AddServiceSecret(ctx context.Context, in storage.AddServiceSecret, ev storage.Event) error {
	if in.Max < 1 {
		return fmt.Errorf("storage/sqlite: Max is %d", in.Max)
	}
	return s.w.do(ctx, func(t *tx) error {
		there, err := exists(t, `SELECT 1 FROM services WHERE id = ?`, in.ServiceID)
		if err != nil {
			return err
		}
		if !there {
			return storage.ErrNotFound
		}
		full, err := exists(t, `SELECT 1 FROM service_secrets WHERE service_id = ? LIMIT 1 OFFSET ?`, in.ServiceID, in.Max-1)
		if err != nil {
			return err
		}
		if full {
			return storage.ErrTooMany
		}
		if err := t.addSecret(in.ServiceID, in.Secret); err != nil {
			return err
		}
		t.st.revision++
		return t.audit(ev)
	})
}

// RemoveServiceSecret implements [storage.Store].
func (s *Store) RemoveServiceSecret(ctx context.Context, serviceID, secretID string, until time.Time, ev storage.Event) ([]storage.Revocation, error) {
	return change(ctx, s, func(t *tx) ([]storage.Revocation, error) {
		v, err := one(t, scanSecret, selectSecrets+`WHERE id = ? AND service_id = ?`, secretID, serviceID)
		if err != nil {
			return nil, err
		}
		revoked, err := t.removeSecret(nil, v, until)
		if err != nil {
			return nil, err
		}
		t.st.revision++
		ev.DeviceID, ev.RootKeyID = v.DeviceID, &v.RootKeyID
		return revoked, t.audit(ev)
	})
}

// removeSecret lists the root key, whether there is a row of it or not.
func (t *tx) removeSecret(out []storage.Revocation, v storage.ServiceSecret, until time.Time) ([]storage.Revocation, error) {
	if _, err := t.exec(`DELETE FROM service_secrets WHERE id = ?`, v.ID); err != nil {
		return nil, err
	}
	return t.revokeKey(out, v.RootKeyID, until)
}

// RemoveService implements [storage.Store].
func (s *Store) RemoveService(ctx context.Context, id string, until time.Time, ev storage.Event) ([]storage.Revocation, error) {
	return change(ctx, s, func(t *tx) ([]storage.Revocation, error) {
		secrets, err := list(t, scanSecret, selectSecrets+`WHERE service_id = ? ORDER BY id`, id)
		if err != nil {
			return nil, err
		}
		var revoked []storage.Revocation
		for _, v := range secrets {
			if revoked, err = t.removeSecret(revoked, v, until); err != nil {
				return nil, err
			}
		}
		if err := t.must(`DELETE FROM services WHERE id = ?`, id); err != nil {
			return nil, err
		}
		users, err := list(t, column[string], `SELECT id FROM users WHERE owner = ? AND owner <> '' ORDER BY id`, id)
		if err != nil {
			return nil, err
		}
		for _, user := range users {
			entries, err := t.revokeAll(user, "service removed", ev.Time)
			if err != nil {
				return nil, err
			}
			revoked = append(revoked, entries...)
		}
		t.st.revision++
		return revoked, t.audit(ev)
	})
}

// MintService implements [storage.Store].
func (s *Store) MintService(ctx context.Context, in storage.MintService, ev storage.Event) error {
	return s.w.do(ctx, func(t *tx) error {
		found, err := list(t, scanSecret, selectSecrets+`WHERE id = ? AND service_id = ?`, in.SecretID, in.ServiceID)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return storage.ErrServiceGone
		}
		v := found[0]
		signing, err := exists(t, `SELECT 1 FROM epochs WHERE number = ? AND state = ?`, in.Epoch, storage.EpochSigning)
		if err != nil {
			return err
		}
		if !signing {
			return storage.ErrEpochNotSigning
		}
		expires := milli(in.ExpiresAt)
		if _, err := t.exec(`INSERT INTO root_keys (id, user_id, epoch, known_until) VALUES (?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch,
				known_until = CASE WHEN excluded.known_until > root_keys.known_until THEN excluded.known_until ELSE root_keys.known_until END`,
			v.RootKeyID[:], in.ServiceID, in.Epoch, expires); err != nil {
			return err
		}
		if _, err := t.exec(`UPDATE epochs SET expires_at = ? WHERE number = ? AND expires_at < ?`, expires, in.Epoch, expires); err != nil {
			return err
		}
		ev.DeviceID, ev.RootKeyID = v.DeviceID, &v.RootKeyID
		return t.audit(ev)
	})
}
