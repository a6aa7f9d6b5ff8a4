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

const (
	// ownedPage is how many users of a service are read at a time; with fewer the
	// service goes in one transaction.
	ownedPage = 64
	// revokedAtOnce is after how many entries a transaction of very many ends.
	revokedAtOnce = 128
	// rest is between two of them: another process that waits for the lock looks for
	// it only every so often.
	rest = 50 * time.Millisecond
)

// RemoveService implements [storage.Store]. Whatever else is to be written waits
// for a transaction, so very many users do not go in one: their service's secrets
// go first, then the users by and by, and at last the service, with those of them
// who have got a device meanwhile. If that is interrupted the service is still
// there, to be removed again.
func (s *Store) RemoveService(ctx context.Context, id string, until time.Time, ev storage.Event) ([]storage.Revocation, error) {
	var revoked []storage.Revocation
	step := func(run func(*tx) ([]storage.Revocation, error)) error {
		out, err := change(ctx, s, run)
		revoked = append(revoked, out...)
		return err
	}
	which := owned
	users, err := s.Subjects(ctx, id, "", ownedPage)
	for err == nil && (len(users) == ownedPage || len(users) > 0 && which != owned) {
		if which == owned {
			which = ownedAndIn
			if err = step(func(t *tx) ([]storage.Revocation, error) { return t.removeSecrets(id, until) }); err != nil {
				break
			}
		}
		var done int
		if err = step(func(t *tx) (out []storage.Revocation, err error) {
			out, done, err = t.revokeSome(users, "service removed", ev.Time)
			return out, err
		}); err != nil {
			break
		}
		select {
		case <-time.After(s.rest):
			users, err = s.Subjects(ctx, id, users[done-1].Subject, ownedPage)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err == nil {
		err = step(func(t *tx) ([]storage.Revocation, error) { return t.removeService(id, which, until, ev) })
	}
	return revoked, err
}

// A service's users, all of them or those with a live device.
const (
	owned      = `SELECT id FROM users u WHERE owner = ? AND owner <> '' `
	ownedAndIn = owned + `AND EXISTS (SELECT 1 FROM devices WHERE user_id = u.id AND revoked_at = 0) `
)

func (t *tx) removeService(id, which string, until time.Time, ev storage.Event) ([]storage.Revocation, error) {
	revoked, err := t.removeSecrets(id, until)
	if err != nil {
		return nil, err
	}
	if err := t.must(`DELETE FROM services WHERE id = ?`, id); err != nil {
		return nil, err
	}
	users, err := list(t, column[string], which+`ORDER BY id`, id)
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
	return revoked, t.audit(ev)
}

// removeSecrets is for a service that is there.
func (t *tx) removeSecrets(service string, until time.Time) ([]storage.Revocation, error) {
	there, err := exists(t, `SELECT 1 FROM services WHERE id = ?`, service)
	if err == nil && !there {
		err = storage.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	secrets, err := list(t, scanSecret, selectSecrets+`WHERE service_id = ? ORDER BY id`, service)
	if err != nil {
		return nil, err
	}
	var revoked []storage.Revocation
	for _, v := range secrets {
		if revoked, err = t.removeSecret(revoked, v, until); err != nil {
			return nil, err
		}
	}
	t.st.revision++
	return revoked, nil
}

// revokeSome revokes all of some users, as many as one transaction takes; it tells
// how many.
func (t *tx) revokeSome(users []storage.User, reason string, now time.Time) (revoked []storage.Revocation, done int, err error) {
	for done < len(users) && len(revoked) < revokedAtOnce {
		entries, err := t.revokeAll(users[done].ID, reason, now)
		if err != nil {
			return nil, 0, err
		}
		revoked, done = append(revoked, entries...), done+1
	}
	return revoked, done, nil
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
