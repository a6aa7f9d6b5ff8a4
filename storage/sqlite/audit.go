package sqlite

import (
	"context"
	"errors"
	"strings"

	"macaroond/storage"
)

var errNoTime = errors.New("storage/sqlite: event without a time")

// audit appends one event to the chain, whose head is in the state row.
func (t *tx) audit(ev storage.Event) error {
	if ev.Time.IsZero() {
		return errNoTime
	}
	ev.Time = fromMilli(milli(ev.Time))
	key := noBytes
	if ev.RootKeyID != nil {
		key = ev.RootKeyID[:]
	}
	seq, prev := t.st.auditSeq+1, t.st.auditHash
	address := storage.SealAddress(ev.ClientIP)
	hash := storage.ChainHash(prev, seq, ev, address)
	if _, err := t.exec(`INSERT INTO audit (seq, time, type, actor, user_id, device_id, root_key_id, client_ip, detail, prev, hash, ip_salt, ip_seal)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, seq, milli(ev.Time), ev.Type, ev.Actor, ev.UserID, ev.DeviceID, key, ev.ClientIP, ev.Detail,
		prev[:], hash[:], address.Salt, address.Seal[:]); err != nil {
		return err
	}
	t.st.auditSeq, t.st.auditHash = seq, hash
	return nil
}

// note is audit for what read no user in this transaction: one who was deleted
// meanwhile leaves no address behind.
func (t *tx) note(ev storage.Event) error {
	whose := ev.Actor
	if whose == "" {
		whose = ev.UserID
	}
	if strings.HasPrefix(whose, "usr_") && ev.ClientIP != "" {
		there, err := exists(t, `SELECT 1 FROM users WHERE id = ?`, whose)
		if err != nil {
			return err
		}
		if !there {
			ev.ClientIP = ""
		}
	}
	return t.audit(ev)
}

// AppendAudit implements [storage.Store].
func (s *Store) AppendAudit(ctx context.Context, ev ...storage.Event) error {
	if len(ev) == 0 {
		return nil
	}
	return s.w.do(ctx, func(t *tx) error {
		for _, e := range ev {
			if err := t.note(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// Audit implements [storage.Store].
func (s *Store) Audit(ctx context.Context, after int64, limit int) ([]storage.AuditEntry, error) {
	return list(s.reader(ctx), func(r scanner) (e storage.AuditEntry, err error) {
		var at int64
		var key, prev, hash, seal []byte
		err = r.Scan(&e.Seq, &at, &e.Type, &e.Actor, &e.UserID, &e.DeviceID, &key, &e.ClientIP, &e.Detail, &prev, &hash, &e.Address.Salt, &seal)
		e.Time = fromMilli(at)
		if len(key) > 0 {
			e.RootKeyID = new([16]byte)
			copy(e.RootKeyID[:], key)
		}
		copy(e.Prev[:], prev)
		copy(e.Hash[:], hash)
		copy(e.Address.Seal[:], seal)
		return e, err
	}, `SELECT seq, time, type, actor, user_id, device_id, root_key_id, client_ip, detail, prev, hash, ip_salt, ip_seal FROM audit WHERE seq > ? ORDER BY seq LIMIT ?`,
		after, max(limit, 0))
}
