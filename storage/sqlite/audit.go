package sqlite

import (
	"context"
	"errors"

	"macaroond/storage"
)

var errNoTime = errors.New("storage/sqlite: event without a time")

// audit appends one event to the chain, whose head is in the state row. Of a user
// who was deleted meanwhile no address is left behind.
func (t *tx) audit(ev storage.Event) error {
	key, err := t.addressKey(&ev)
	if err != nil {
		return err
	}
	return t.append(ev, storage.SealAddress(ev.ClientIP), key)
}

// append is audit for what has sealed the address before it came into the one
// writer, and has read its user's key.
func (t *tx) append(ev storage.Event, address storage.AddressSeal, addressKey []byte) error {
	if ev.Time.IsZero() {
		return errNoTime
	}
	ev.Time = fromMilli(milli(ev.Time))
	key := noBytes
	if ev.RootKeyID != nil {
		key = ev.RootKeyID[:]
	}
	seq, prev := t.st.auditSeq+1, t.st.auditHash
	hash := storage.ChainHash(prev, seq, ev, address)
	box, err := sealAddress(addressKey, &address, &ev.ClientIP)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO audit (seq, time, type, actor, user_id, device_id, root_key_id, client_ip, detail, prev, hash, ip_salt, ip_seal, ip_box)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, seq, milli(ev.Time), ev.Type, ev.Actor, ev.UserID, ev.DeviceID, key, ev.ClientIP, ev.Detail,
		prev[:], hash[:], address.Salt, address.Seal[:], box); err != nil {
		return err
	}
	t.st.auditSeq, t.st.auditHash = seq, hash
	return nil
}

// AppendAudit implements [storage.Store].
func (s *Store) AppendAudit(ctx context.Context, ev ...storage.Event) error {
	if len(ev) == 0 {
		return nil
	}
	return s.w.do(ctx, func(t *tx) error {
		for _, e := range ev {
			if err := t.audit(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// selectEntries has each entry with the address key of the user whose address it
// has: see whose.
const selectEntries = `SELECT a.seq, a.time, a.type, a.actor, a.user_id, a.device_id, a.root_key_id, a.client_ip, a.detail, a.prev, a.hash,
	a.ip_salt, a.ip_seal, a.ip_box, COALESCE(u.address_key, x'')
	FROM audit a LEFT JOIN users u ON u.id = CASE a.actor WHEN '' THEN a.user_id ELSE a.actor END WHERE a.seq > ? ORDER BY a.seq LIMIT ?`

func scanEntry(r scanner) (e storage.AuditEntry, err error) {
	var at int64
	var key, prev, hash, seal, box, addressKey []byte
	err = r.Scan(&e.Seq, &at, &e.Type, &e.Actor, &e.UserID, &e.DeviceID, &key, &e.ClientIP, &e.Detail, &prev, &hash,
		&e.Address.Salt, &seal, &box, &addressKey)
	e.Time = fromMilli(at)
	if len(key) > 0 {
		e.RootKeyID = new([16]byte)
		copy(e.RootKeyID[:], key)
	}
	copy(e.Prev[:], prev)
	copy(e.Hash[:], hash)
	copy(e.Address.Seal[:], seal)
	openAddress(addressKey, box, &e)
	return e, err
}

// Audit implements [storage.Store].
func (s *Store) Audit(ctx context.Context, after int64, limit int) ([]storage.AuditEntry, error) {
	return list(s.reader(ctx), scanEntry, selectEntries, after, max(limit, 0))
}
