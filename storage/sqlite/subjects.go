package sqlite

import (
	"context"
	"errors"

	"macaroond/storage"
)

// IssueSubject implements [storage.Store].
func (s *Store) IssueSubject(ctx context.Context, u storage.User, in storage.IssueDevice, ev storage.Event) (storage.Device, []storage.Revocation, error) {
	out, err := change(ctx, s, func(t *tx) (issued, error) {
		if err := t.subject(u); err != nil {
			return issued{}, err
		}
		in.UserID = u.ID
		return t.issue(in, ev)
	})
	return out.device, out.revoked, err
}

// subject finds the user again as the owner's own, or makes it. An empty owner
// is no service, so it never comes near a local user.
func (t *tx) subject(u storage.User) error {
	there, err := exists(t, `SELECT 1 FROM services WHERE id = ?`, u.Owner)
	if err != nil {
		return err
	}
	if !there {
		return storage.ErrServiceGone
	}
	was, err := findSubject(t, u.Owner, u.Subject)
	if errors.Is(err, storage.ErrNotFound) {
		// An id that had a key was a user's that is deleted since it was looked up:
		// no id is anybody's twice.
		had, err := exists(t, `SELECT 1 FROM root_keys WHERE user_id = ? LIMIT 1`, u.ID)
		if err != nil {
			return err
		}
		if had {
			return storage.ErrNameTaken
		}
		_, err = t.exec(`INSERT INTO users (`+userColumns+`, address_key) VALUES (?, ?, ?, '', '', ?, 0, '', ?, ?, ?)`,
			u.ID, u.Name, u.NameKey, milli(u.CreatedAt), u.Owner, u.Subject, newAddressKey())
		return err
	}
	switch {
	case err != nil:
		return err
	case was.ID != u.ID:
		return storage.ErrNameTaken
	case was.Role != "" || was.PasswordHash != "":
		return storage.ErrPrivileged
	case u.Name != "" && u.Name != was.Name:
		if _, err := t.exec(`UPDATE users SET name = ? WHERE id = ?`, u.Name, u.ID); err != nil {
			return err
		}
		t.st.revision++ // names are remembered until it moves
	}
	return nil
}

// Subject implements [storage.Store].
func (s *Store) Subject(ctx context.Context, owner, subject string) (storage.User, error) {
	return findSubject(s.reader(ctx), owner, subject)
}

// findSubject says what the index is of, or it is not used.
func findSubject(q queryer, owner, subject string) (storage.User, error) {
	return one(q, scanUser, `SELECT `+userColumns+` FROM users WHERE owner = ? AND owner <> '' AND subject = ?`, owner, subject)
}

// Subjects implements [storage.Store].
func (s *Store) Subjects(ctx context.Context, owner, after string, limit int) ([]storage.User, error) {
	return list(s.reader(ctx), scanUser, `SELECT `+userColumns+` FROM users WHERE owner = ? AND owner <> '' AND subject > ? ORDER BY subject LIMIT ?`,
		owner, after, max(limit, 0))
}

// SuspendSubject implements [storage.Store].
func (s *Store) SuspendSubject(ctx context.Context, owner, subject string, ev storage.Event) ([]storage.Revocation, error) {
	return change(ctx, s, func(t *tx) ([]storage.Revocation, error) {
		u, err := findSubject(t, owner, subject)
		if err != nil {
			return nil, err
		}
		ev.UserID = u.ID
		return t.suspend(u, owner, ev)
	})
}

// ResumeSubject implements [storage.Store].
func (s *Store) ResumeSubject(ctx context.Context, owner, subject string, ev storage.Event) error {
	return s.w.do(ctx, func(t *tx) error {
		u, err := findSubject(t, owner, subject)
		if err != nil {
			return err
		}
		if !u.SuspendedAt.IsZero() && u.SuspendedBy != owner {
			return storage.ErrSuspended
		}
		ev.UserID = u.ID
		return t.resume(u, ev)
	})
}
