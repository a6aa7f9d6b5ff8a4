package sqlite

import (
	"context"
	"time"

	"macaroond/storage"
)

// ChangePassword implements [storage.Store].
func (s *Store) ChangePassword(ctx context.Context, in storage.ChangePassword, act storage.Act, ev storage.Event) ([]storage.Revocation, *storage.Delayed, error) {
	out, err := change(ctx, s, func(t *tx) (out outcome, err error) {
		if err := t.speaks(act); err != nil {
			return out, err
		}
		u, err := findUser(t, act.UserID)
		if err != nil {
			return out, err
		}
		if u.PasswordHash != "" { // having logged in, or having waited, changes none
			act.FreshSince, act.Delay = time.Time{}, 0
		}
		if out.delayed, err = t.prove(act, ev.Time); err != nil || out.delayed != nil {
			return out, err
		}
		if _, err := t.exec(`UPDATE users SET password_hash = ? WHERE id = ?`, in.Hash, u.ID); err != nil {
			return out, err
		}
		if !in.KeepDevices {
			if out.revoked, err = t.revokeAllBut(u.ID, act.DeviceID, "password changed", ev.Time); err != nil {
				return out, err
			}
		}
		return out, t.audit(ev)
	})
	return out.revoked, out.delayed, err
}

// ReplaceRecoveryCodes implements [storage.Store].
func (s *Store) ReplaceRecoveryCodes(ctx context.Context, userID string, codes [][32]byte, act *storage.Act, ev storage.Event) (*storage.Delayed, error) {
	return change(ctx, s, func(t *tx) (*storage.Delayed, error) {
		if act != nil {
			if err := t.speaks(*act); err != nil {
				return nil, err
			}
		}
		u, err := findUser(t, userID)
		if err != nil {
			return nil, err
		}
		if u.Owner != "" {
			return nil, storage.ErrOwned
		}
		if act != nil {
			if d, err := t.prove(*act, ev.Time); err != nil || d != nil {
				return d, err
			}
		}
		if _, err := t.exec(`DELETE FROM recovery_codes WHERE user_id = ?`, userID); err != nil {
			return nil, err
		}
		for _, code := range codes {
			if _, err := t.exec(`INSERT INTO recovery_codes (user_id, hash) VALUES (?, ?)`, userID, code[:]); err != nil {
				return nil, err
			}
		}
		return nil, t.audit(ev)
	})
}

// RecoveryCodes implements [storage.Store].
func (s *Store) RecoveryCodes(ctx context.Context, userID string) (int, error) {
	return one(s.reader(ctx), column[int], `SELECT count(*) FROM recovery_codes WHERE user_id = ?`, userID)
}

// OwnInstall implements [storage.Store].
func (s *Store) OwnInstall(ctx context.Context, nameKey, installID string) (bool, error) {
	return exists(s.reader(ctx), `SELECT 1 FROM users u JOIN devices d ON d.user_id = u.id
		WHERE u.name_key = ? AND d.install_id = ? AND d.install_id <> '' LIMIT 1`, nameKey, installID)
}

// notLastAdmin refuses to take away the last user who has this one's role and
// may log in.
func (t *tx) notLastAdmin(u storage.User) error {
	if u.Role == "" || !u.SuspendedAt.IsZero() {
		return nil
	}
	other, err := exists(t, `SELECT 1 FROM users WHERE role = ? AND suspended_at = 0 AND id <> ? LIMIT 1`, u.Role, u.ID)
	if err == nil && !other {
		err = storage.ErrLastAdmin
	}
	return err
}

// SetRole implements [storage.Store].
func (s *Store) SetRole(ctx context.Context, in storage.SetRole, ev storage.Event) error {
	return s.w.do(ctx, func(t *tx) error {
		u, err := findUser(t, in.UserID)
		if err != nil || u.Role == in.Role {
			return err
		}
		if u.Owner != "" {
			return storage.ErrOwned
		}
		if !in.MayBeLast {
			if err := t.notLastAdmin(u); err != nil {
				return err
			}
		}
		if _, err := t.exec(`UPDATE users SET role = ? WHERE id = ?`, in.Role, u.ID); err != nil {
			return err
		}
		_, err = t.subjectChanged(u.ID, ev)
		return err
	})
}

// DeleteUser implements [storage.Store].
func (s *Store) DeleteUser(ctx context.Context, in storage.DeleteUser, ev storage.Event) ([]storage.Revocation, error) {
	return change(ctx, s, func(t *tx) ([]storage.Revocation, error) {
		if in.Act != nil {
			if err := t.speaks(*in.Act); err != nil {
				return nil, err
			}
		}
		u, err := findUser(t, in.UserID)
		if err != nil {
			return nil, err
		}
		if in.Act != nil {
			act := *in.Act
			act.Delay = 0 // what is gone is not there to be waited for
			if _, err := t.prove(act, ev.Time); err != nil {
				return nil, err
			}
		}
		if err := t.notLastAdmin(u); err != nil {
			return nil, err
		}
		revoked, err := t.revokeAll(u.ID, "deleted", ev.Time)
		if err == nil && in.RootKeyID != nil {
			revoked, err = t.revokeKey(revoked, *in.RootKeyID, in.ExpiresAt)
		}
		if err != nil {
			return nil, err
		}
		if err := t.audit(ev); err != nil {
			return nil, err
		}
		for _, query := range [...]string{
			`DELETE FROM policies WHERE target IN (SELECT id FROM devices WHERE user_id = ?)`,
			`DELETE FROM policies WHERE target = ?`,
			`DELETE FROM delayed WHERE user_id = ?`,
			`DELETE FROM links WHERE user_id = ?`,
			`DELETE FROM recovery_codes WHERE user_id = ?`,
			`DELETE FROM devices WHERE user_id = ?`,
			`DELETE FROM users WHERE id = ?`,
			// What was not sealed under the key that is gone now. Entries of the first
			// form have the address in their hash: they keep it until they have had
			// their time.
			`UPDATE audit SET client_ip = '', ip_salt = x'' WHERE user_id = ? AND user_id <> '' AND actor IN ('', user_id) AND client_ip <> '' AND length(ip_seal) = 32`,
			`UPDATE audit SET client_ip = '', ip_salt = x'' WHERE actor = ? AND actor <> '' AND actor <> user_id AND client_ip <> '' AND length(ip_seal) = 32`,
		} {
			if _, err := t.exec(query, u.ID); err != nil {
				return nil, err
			}
		}
		t.st.revision++
		return revoked, nil
	})
}
