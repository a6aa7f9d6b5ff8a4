package sqlite

import (
	"context"
	"fmt"
	"slices"
	"time"

	"macaroond/storage"
)

// keyExpires is the expiry of the latest root macaroon under a root key k that
// the table knows; keyUntil is what no root macaroon under it outlives.
const keyExpires = `COALESCE((SELECT next_expires_at FROM renewals WHERE root_key_id = k.id ORDER BY expires_at DESC LIMIT 1), k.known_until)`

const keyUntil = `MAX(` + keyExpires + `, k.unknown_until)`

const selectDevices = `SELECT d.id, d.user_id, d.name, d.install_id, d.root_key_id, d.created_at, d.last_seen_at, ` + keyExpires + `, d.revoked_at, d.revoked_reason,
	d.ttl, d.started_at, d.proved_at
	FROM devices d JOIN root_keys k ON k.id = d.root_key_id `

func scanDevice(r scanner) (d storage.Device, err error) {
	var key []byte
	var created, seen, expires, revoked, ttl, started, proved int64
	err = r.Scan(&d.ID, &d.UserID, &d.Name, &d.InstallID, &key, &created, &seen, &expires, &revoked, &d.RevokedReason, &ttl, &started, &proved)
	copy(d.RootKeyID[:], key)
	d.CreatedAt, d.LastSeenAt, d.ExpiresAt, d.RevokedAt = fromMilli(created), fromMilli(seen), fromMilli(expires), fromMilli(revoked)
	d.TTL, d.StartedAt, d.ProvedAt = time.Duration(ttl)*time.Millisecond, fromMilli(started), fromMilli(proved)
	return d, err
}

func findDevice(q queryer, userID, id string) (storage.Device, error) {
	return one(q, scanDevice, selectDevices+`WHERE d.id = ? AND d.user_id = ?`, id, userID)
}

// liveDevices are in the order of eviction: without install ID first, idle
// longest first.
func liveDevices(q queryer, userID string) ([]storage.Device, error) {
	return list(q, scanDevice, selectDevices+`WHERE d.user_id = ? AND d.revoked_at = 0
		ORDER BY CASE WHEN d.install_id = '' THEN 0 ELSE 1 END, d.last_seen_at, d.created_at, d.id`, userID)
}

// Devices implements [storage.Store].
func (s *Store) Devices(ctx context.Context, userID string) ([]storage.Device, error) {
	return list(s.reader(ctx), scanDevice, selectDevices+`WHERE d.user_id = ? ORDER BY d.created_at DESC, d.id DESC`, userID)
}

// Device implements [storage.Store].
func (s *Store) Device(ctx context.Context, userID, deviceID string) (storage.Device, error) {
	return findDevice(s.reader(ctx), userID, deviceID)
}

// RenameDevice implements [storage.Store].
func (s *Store) RenameDevice(ctx context.Context, userID, deviceID, name string, ev storage.Event) (storage.Device, error) {
	return change(ctx, s, func(t *tx) (storage.Device, error) {
		if err := t.must(`UPDATE devices SET name = ? WHERE id = ? AND user_id = ? AND revoked_at = 0`, name, deviceID, userID); err != nil {
			return storage.Device{}, err
		}
		if err := t.audit(ev); err != nil {
			return storage.Device{}, err
		}
		return findDevice(t, userID, deviceID)
	})
}

// IssueDevice implements [storage.Store].
func (s *Store) IssueDevice(ctx context.Context, in storage.IssueDevice, ev storage.Event) (storage.Device, []storage.Revocation, error) {
	out, err := change(ctx, s, func(t *tx) (issued, error) { return t.issue(in, ev) })
	return out.device, out.revoked, err
}

type issued struct {
	device  storage.Device
	revoked []storage.Revocation
}

// issue is the transaction without which no token leaves: user and epoch are
// read again here, so a login that races a suspension or a rotation either
// comes first and is found by it, or fails.
func (t *tx) issue(in storage.IssueDevice, ev storage.Event) (issued, error) {
	var none issued
	if in.MaxDevices < 1 {
		return none, fmt.Errorf("storage/sqlite: MaxDevices is %d", in.MaxDevices)
	}
	if err := t.mayIssue(in, ev.Time); err != nil {
		return none, err
	}
	live, err := liveDevices(t, in.UserID)
	if err != nil {
		return none, err
	}
	if _, err := t.exec(`INSERT INTO root_keys (id, user_id, epoch, known_until) VALUES (?, ?, ?, ?)`,
		in.RootKey.ID[:], in.UserID, in.RootKey.Epoch, milli(in.RootKey.ExpiresAt)); err != nil {
		return none, err
	}
	if _, err := t.exec(`UPDATE epochs SET expires_at = ? WHERE number = ? AND expires_at < ?`,
		milli(in.RootKey.ExpiresAt), in.RootKey.Epoch, milli(in.RootKey.ExpiresAt)); err != nil {
		return none, err
	}
	id, revoked, err := t.place(in, live, ev.Time)
	if err != nil {
		return none, err
	}
	if err := t.forgetRevoked(in.UserID, in.MaxDevices); err != nil {
		return none, err
	}
	ev.DeviceID, ev.RootKeyID = id, &in.RootKey.ID
	if err := t.audit(ev); err != nil {
		return none, err
	}
	d, err := findDevice(t, in.UserID, id)
	return issued{d, revoked}, err
}

// mayIssue refuses, or consumes the recovery code or the link. Whether the user is
// suspended is told only to those whose code or password is right.
func (t *tx) mayIssue(in storage.IssueDevice, now time.Time) error {
	u, err := findUser(t, in.UserID)
	if err != nil {
		return err
	}
	if in.RecoveryCode != nil {
		if err := t.consumeCode(in.UserID, *in.RecoveryCode); err != nil {
			return err
		}
	}
	if in.LinkID != "" {
		if err := t.consumeLink(in.UserID, in.LinkID, now); err != nil {
			return err
		}
	}
	if in.PasswordHash != nil && *in.PasswordHash != u.PasswordHash {
		return storage.ErrPasswordChanged
	}
	if !u.SuspendedAt.IsZero() {
		return storage.ErrSuspended
	}
	retired, err := exists(t, `SELECT 1 FROM epochs WHERE number = ? AND state = ?`, in.AskedIn, storage.EpochRetired)
	if err != nil {
		return err
	}
	if retired {
		return storage.ErrRevoked
	}
	signing, err := exists(t, `SELECT 1 FROM epochs WHERE number = ? AND state = ?`, in.RootKey.Epoch, storage.EpochSigning)
	if err == nil && !signing {
		err = storage.ErrEpochNotSigning
	}
	return err
}

// place gives the root key to the device of the same install, or to a new one,
// and makes room.
func (t *tx) place(in storage.IssueDevice, live []storage.Device, now time.Time) (id string, revoked []storage.Revocation, err error) {
	id = in.Device.ID
	started, proved := milli(in.Device.CreatedAt), int64(0)
	if in.PasswordHash != nil || in.RecoveryCode != nil {
		proved = started
	}
	same := slices.IndexFunc(live, func(d storage.Device) bool { return d.InstallID != "" && d.InstallID == in.Device.InstallID })
	if same >= 0 {
		old := live[same]
		id, live = old.ID, slices.Delete(live, same, same+1)
		if _, err := t.exec(`UPDATE devices SET name = ?, root_key_id = ?, last_seen_at = ?, ttl = ?, started_at = ?, proved_at = ? WHERE id = ?`,
			in.Device.Name, in.RootKey.ID[:], max(milli(old.LastSeenAt), started), in.Device.TTL.Milliseconds(), started, proved, old.ID); err != nil {
			return "", nil, err
		}
		if err := t.forgetAsked(old); err != nil { // by whoever had the former root
			return "", nil, err
		}
		if revoked, err = t.revokeKey(revoked, old.RootKeyID, old.ExpiresAt); err != nil {
			return "", nil, err
		}
	} else if _, err := t.exec(`INSERT INTO devices (id, user_id, name, install_id, root_key_id, created_at, last_seen_at, revoked_at, revoked_reason,
		ttl, started_at, proved_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0, '', ?, ?, ?)`, in.Device.ID, in.UserID, in.Device.Name,
		in.Device.InstallID, in.RootKey.ID[:], started, started, in.Device.TTL.Milliseconds(), started, proved); err != nil {
		return "", nil, err
	}
	switch {
	case in.RecoveryCode != nil:
		revoked, err = t.revokeDevices(revoked, live, "recovery", now)
	case same < 0 && len(live) >= in.MaxDevices:
		revoked, err = t.revokeDevices(revoked, live[:len(live)+1-in.MaxDevices], "evicted", now)
	}
	return id, revoked, err
}

// forgetRevoked unlists all but the latest revoked devices. Their root keys
// stay.
func (t *tx) forgetRevoked(userID string, keep int) error {
	_, err := t.exec(`DELETE FROM devices WHERE id IN (SELECT id FROM devices WHERE user_id = ? AND revoked_at <> 0
		ORDER BY revoked_at DESC, created_at DESC, id DESC LIMIT -1 OFFSET ?)`, userID, keep)
	return err
}
