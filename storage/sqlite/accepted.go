package sqlite

import (
	"context"

	"macaroond/storage"
)

// Accept implements [storage.Accepted]. The primary key decides who was first;
// a change that fails is undone whole.
func (s *Store) Accept(ctx context.Context, points []storage.AcceptedPoint) error {
	return s.w.do(ctx, func(t *tx) error {
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
	})
}
