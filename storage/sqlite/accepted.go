package sqlite

import (
	"context"
	"errors"

	"macaroond/storage"
)

// Accept implements [storage.Accepted]. The primary key decides who was first.
// One point, as nearly always, is one statement.
func (s *Store) Accept(ctx context.Context, points []storage.AcceptedPoint) error {
	run := func(t *tx) error {
		var replayed storage.ReplayedError
		for i, p := range points {
			n, err := t.exec(`INSERT INTO accepted (point, expires_at) VALUES (?, ?) ON CONFLICT (point) DO NOTHING`,
				p.Point[:], milli(p.ExpiresAt.Add(storage.ClockSkew)))
			if err != nil {
				return err
			}
			if n == 0 {
				replayed.Points = append(replayed.Points, i)
			}
		}
		if replayed.Points != nil {
			return &replayed
		}
		return nil
	}
	if len(points) == 1 {
		return s.w.doPlain(ctx, run, func(err error) bool { return errors.Is(err, storage.ErrReplayed) })
	}
	return s.w.do(ctx, run)
}
