package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"macaroond/storage"
)

// AddService implements [storage.Store].
func (s *Store) AddService(ctx context.Context, v storage.Service, ev storage.Event) error {
	return s.w.do(ctx, func(t *tx) error {
		taken, err := exists(t, `SELECT 1 FROM services WHERE name = ?`, v.Name)
		if err != nil {
			return err
		}
		if taken {
			return storage.ErrNameTaken
		}
		if _, err := t.exec(`INSERT INTO services (id, name, serves, calls, actions, rights, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			v.ID, v.Name, words(v.Serves), words(v.Calls), words(v.Actions), words(v.Rights), milli(v.CreatedAt)); err != nil {
			return err
		}
		for _, secret := range v.Secrets {
			if err := t.addSecret(v.ID, secret); err != nil {
				return err
			}
		}
		t.st.revision++
		return t.audit(ev)
	})
}

// Services implements [storage.Store]: one statement, so that a service and its
// secrets are of the same moment.
func (s *Store) Services(ctx context.Context) ([]storage.Service, error) {
	type row struct {
		storage.Service
		secret *storage.ServiceSecret
	}
	rows, err := list(s.reader(ctx), func(r scanner) (v row, err error) {
		var serves, calls, actions, rights string
		var created int64
		var id, device sql.NullString
		var hash, key []byte
		var made sql.NullInt64
		if err := r.Scan(&v.ID, &v.Name, &serves, &calls, &actions, &rights, &created, &id, &hash, &device, &key, &made); err != nil {
			return v, err
		}
		if id.Valid {
			v.secret = &storage.ServiceSecret{ID: id.String, DeviceID: device.String, CreatedAt: fromMilli(made.Int64)}
			copy(v.secret.Hash[:], hash)
			copy(v.secret.RootKeyID[:], key)
		}
		v.CreatedAt = fromMilli(created)
		err = errors.Join(fromWords(serves, &v.Serves), fromWords(calls, &v.Calls), fromWords(actions, &v.Actions), fromWords(rights, &v.Rights))
		return v, err
	}, `SELECT s.id, s.name, s.serves, s.calls, s.actions, s.rights, s.created_at,
		x.id, x.hash, x.device_id, x.root_key_id, x.created_at
		FROM services s LEFT JOIN service_secrets x ON x.service_id = s.id ORDER BY s.name, x.created_at, x.id`)
	if err != nil {
		return nil, err
	}
	var all []storage.Service
	for _, r := range rows {
		if n := len(all); n == 0 || all[n-1].ID != r.ID {
			all = append(all, r.Service)
		}
		if r.secret != nil {
			last := &all[len(all)-1]
			last.Secrets = append(last.Secrets, *r.secret)
		}
	}
	return all, nil
}

// words is how a list is stored: a JSON array, empty rather than null.
func words(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}

func fromWords(text string, list *[]string) error {
	if text == "[]" {
		return nil
	}
	return json.Unmarshal([]byte(text), list)
}
