package service

import (
	"context"
	"errors"
	"time"

	"macaroond/service/api"
	"macaroond/service/dpop"
	"macaroond/service/verify"
	"macaroond/storage"
)

// settle is the last step of a verdict. What an acceptance uses up is used up
// here, after everything that could refuse the request: whoever is refused has
// lost nothing. It may turn an allowed verdict into replayed, and counts what it
// came to. With an error nobody knows whether the token was used, and the
// verdict is worth nothing.
func (s *Service) settle(ctx context.Context, v *verify.Verdict, proof *dpop.Binding) error {
	if v.Allowed() {
		if err := s.useUp(ctx, v, proof); err != nil {
			s.count(AsError(err).Code)
			return err
		}
	}
	s.count(v.Code)
	if v.Allowed() {
		s.accepted(v.Chain.Identifier())
	}
	return nil
}

// useUp takes the proof first: it can be given back.
func (s *Service) useUp(ctx context.Context, v *verify.Verdict, proof *dpop.Binding) error {
	switch err := proof.Use(); {
	case errors.Is(err, dpop.ErrReplayed):
		v.ProofReplayed(err)
		return nil
	case err != nil:
		return &Error{Code: api.CodeBusy, Detail: err.Error(), RetryAfter: dpop.Skew}
	}
	if len(v.Points()) == 0 {
		return nil
	}
	err := s.use(ctx, v)
	if err != nil || !v.Allowed() {
		proof.Release()
	}
	return err
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

// cannotKnow is what a gateway is told when nobody can know whether the token
// or its proof was used: 503, never that the token is bad.
func (s *Service) cannotKnow(err error) error {
	e := AsError(err)
	if e.Code == api.CodeBusy {
		return &api.Refusal{Code: e.Code, Reason: e.Detail, RetryAfter: e.RetryAfter}
	}
	s.log.Warn("a one-time token cannot be judged", "error", e.Err, "reason", e.Detail)
	return &api.Refusal{Code: api.CodeStale, Reason: "the verifier cannot know whether the token was used before", RetryAfter: time.Second}
}
