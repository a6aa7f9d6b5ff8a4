package sqlite

import (
	"context"
	"errors"

	"macaroond/storage"
)

const userColumns = `id, name, name_key, password_hash, role, created_at, suspended_at, suspended_by, owner, subject`

func scanUser(r scanner) (u storage.User, err error) {
	var created, suspended int64
	err = r.Scan(&u.ID, &u.Name, &u.NameKey, &u.PasswordHash, &u.Role, &created, &suspended, &u.SuspendedBy, &u.Owner, &u.Subject)
	u.CreatedAt, u.SuspendedAt = fromMilli(created), fromMilli(suspended)
	return u, err
}

func findUser(q queryer, id string) (storage.User, error) {
	return one(q, scanUser, `SELECT `+userColumns+` FROM users WHERE id = ?`, id)
}

// CreateUser implements [storage.Store].
func (s *Store) CreateUser(ctx context.Context, u storage.User, codes [][32]byte, first *storage.IssueDevice, ev storage.Event) (storage.Device, error) {
	return change(ctx, s, func(t *tx) (storage.Device, error) {
		var none storage.Device
		taken, err := exists(t, `SELECT 1 FROM users WHERE name_key = ?`, u.NameKey)
		if err != nil {
			return none, err
		}
		if taken {
			return none, storage.ErrNameTaken
		}
		if _, err := t.exec(`INSERT INTO users (`+userColumns+`, address_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			u.ID, u.Name, u.NameKey, u.PasswordHash, u.Role, milli(u.CreatedAt), milli(u.SuspendedAt), u.SuspendedBy, u.Owner, u.Subject, newAddressKey()); err != nil {
			return none, err
		}
		for _, code := range codes {
			if _, err := t.exec(`INSERT INTO recovery_codes (user_id, hash) VALUES (?, ?)`, u.ID, code[:]); err != nil {
				return none, err
			}
		}
		if u.Role != "" {
			t.st.revision++
		}
		if first == nil {
			return none, t.audit(ev)
		}
		in := *first
		in.UserID = u.ID
		issued, err := t.issue(in, ev)
		return issued.device, err
	})
}

// User implements [storage.Store].
func (s *Store) User(ctx context.Context, id string) (storage.User, error) {
	return findUser(s.reader(ctx), id)
}

// UserByNameKey implements [storage.Store].
func (s *Store) UserByNameKey(ctx context.Context, key string) (storage.User, error) {
	return one(s.reader(ctx), scanUser, `SELECT `+userColumns+` FROM users WHERE name_key = ?`, key)
}

// Users implements [storage.Store].
func (s *Store) Users(ctx context.Context, afterKey string, limit int) ([]storage.User, error) {
	return list(s.reader(ctx), scanUser, `SELECT `+userColumns+` FROM users WHERE name_key > ? ORDER BY name_key LIMIT ?`, afterKey, max(limit, 0))
}

// PasswordFrom implements [storage.Store].
func (s *Store) PasswordFrom(ctx context.Context, id string) (hash string, err error) {
	for _, from := range [...]string{id, ""} {
		hash, err = one(s.reader(ctx), column[string],
			`SELECT password_hash FROM users WHERE password_hash <> '' AND id >= ? ORDER BY id LIMIT 1`, from)
		if !errors.Is(err, storage.ErrNotFound) {
			break
		}
	}
	return hash, err
}

// SetPassword implements [storage.Store].
func (s *Store) SetPassword(ctx context.Context, in storage.SetPassword, ev storage.Event) ([]storage.Revocation, error) {
	return change(ctx, s, func(t *tx) ([]storage.Revocation, error) {
		u, err := findUser(t, in.UserID)
		if err != nil {
			return nil, err
		}
		if u.Owner != "" {
			return nil, storage.ErrOwned
		}
		if in.Was != nil && *in.Was != u.PasswordHash {
			return nil, storage.ErrPasswordChanged
		}
		if _, err := t.exec(`UPDATE users SET password_hash = ? WHERE id = ?`, in.Hash, u.ID); err != nil {
			return nil, err
		}
		var revoked []storage.Revocation
		if in.Revoke {
			if revoked, err = t.revokeAll(u.ID, "password changed", ev.Time); err != nil {
				return nil, err
			}
		}
		return revoked, t.audit(ev)
	})
}

// SuspendUser implements [storage.Store].
func (s *Store) SuspendUser(ctx context.Context, id string, ev storage.Event) ([]storage.Revocation, error) {
	return change(ctx, s, func(t *tx) ([]storage.Revocation, error) {
		u, err := findUser(t, id)
		if err == nil {
			err = t.notLastAdmin(u)
		}
		if err != nil {
			return nil, err
		}
		return t.suspend(u, "", ev)
	})
}

// suspend makes by who suspended the user, unless somebody above it did.
func (t *tx) suspend(u storage.User, by string, ev storage.Event) ([]storage.Revocation, error) {
	if !u.SuspendedAt.IsZero() {
		if u.SuspendedBy == by || by != "" {
			return nil, nil
		}
		if _, err := t.exec(`UPDATE users SET suspended_by = '' WHERE id = ?`, u.ID); err != nil {
			return nil, err
		}
		return nil, t.audit(ev)
	}
	if _, err := t.exec(`UPDATE users SET suspended_at = ?, suspended_by = ? WHERE id = ?`, milli(ev.Time), by, u.ID); err != nil {
		return nil, err
	}
	revoked, err := t.revokeAll(u.ID, "suspended", ev.Time)
	if err != nil {
		return nil, err
	}
	return revoked, t.audit(ev)
}

// ResumeUser implements [storage.Store].
func (s *Store) ResumeUser(ctx context.Context, id string, ev storage.Event) error {
	return s.w.do(ctx, func(t *tx) error {
		u, err := findUser(t, id)
		if err != nil {
			return err
		}
		return t.resume(u, ev)
	})
}

func (t *tx) resume(u storage.User, ev storage.Event) error {
	if u.SuspendedAt.IsZero() {
		return nil
	}
	if _, err := t.exec(`UPDATE users SET suspended_at = 0, suspended_by = '' WHERE id = ?`, u.ID); err != nil {
		return err
	}
	return t.audit(ev)
}
