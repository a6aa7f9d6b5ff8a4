package service

import (
	"context"
	"errors"
	"time"

	"macaroond/service/api"
	"macaroond/service/verify"
	"macaroond/storage"
)

// settle is the last step of a verdict. What an acceptance uses up is used up
// here, after everything that could refuse the request: whoever is refused has
// lost nothing. It may turn an allowed verdict into replayed, and counts what it
// came to. With an error nobody knows whether the token was used, and the
// verdict is worth nothing.
func (s *Service) settle(ctx context.Context, v *verify.Verdict) error {
	if v.Allowed() && len(v.Points()) > 0 {
		if err := s.use(ctx, v); err != nil {
			s.count(api.CodeStale)
			return err
		}
	}
	s.count(v.Code)
	return nil
}

// use puts the points of a verdict into the ledger, all in one transaction.
func (s *Service) use(ctx context.Context, v *verify.Verdict) error {
	points := make([]storage.AcceptedPoint, len(v.Points()))
	for i, p := range v.Points() {
		points[i] = storage.AcceptedPoint{Point: p.Sum, ExpiresAt: p.Until}
	}
	err := s.store.Accept(ctx, points)
	if replayed, ok := errors.AsType[*storage.ReplayedError](err); ok {
		v.Replayed(replayed.Points)
		return nil
	}
	return err
}

// cannotKnow is what a gateway is told when the ledger cannot be written: 503,
// never that the token is bad.
func (s *Service) cannotKnow(err error) error {
	e := AsError(err)
	s.log.Warn("a one-time token cannot be judged", "error", e.Err, "reason", e.Detail)
	return &api.Refusal{Code: api.CodeStale, Reason: "the verifier cannot know whether the token was used before", RetryAfter: time.Second}
}
