package service

import (
	"context"
	"slices"
	"strings"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/service/verify"
	"macaroond/storage"
)

// RightMint is the right to mint for users of one's own.
const RightMint = "mint"

// ClaimsService reports whether a token says that it is a service's. Nothing is
// believed of it: it decides which question is asked about the token, and both
// answers read who it is from the mint caveats of a chain that held.
func ClaimsService(text string) bool {
	if text == "" {
		return false
	}
	t, err := token.Parse(text)
	if err != nil {
		return false
	}
	texts := t.UnverifiedCaveats()
	return len(texts) > token.UserPosition && strings.HasPrefix(texts[token.UserPosition], "user "+token.ServicePrefix)
}

// AuthorizeService judges a service's token at the authority's own endpoint: it
// names the authority's audience and holds in all its caveats. What the service
// may do is read from what is known of it now, never from the token. A policy
// that refuses is no 401, and ready is asked before anything is used up: both as
// [Service.Authorize] has it. epoch is the token's.
func (s *Service) AuthorizeService(ctx context.Context, in Shown, ready ...func(storage.Service) error) (svc storage.Service, epoch uint32, err error) {
	in.Facts.Time, in.Facts.Audience = s.now(), s.Settings().Audience
	v := new(verify.Verdict)
	q := verify.Question{Token: in.Token, Request: in.Facts}
	proof := q.Bind(s.proofs, in.DPoP)
	s.judge(&q, v)
	if v.Allowed() {
		if svc, err = s.asService(ctx, v, ready); err != nil {
			s.count(v.Code)
			return storage.Service{}, 0, err
		}
	}
	if err := s.settle(ctx, v, proof); err != nil {
		return storage.Service{}, 0, err
	}
	if v.ByPolicy() {
		return storage.Service{}, 0, refuse(api.CodeForbidden, "the token is good, but not under %s", v.Reason())
	}
	if !v.Allowed() {
		return storage.Service{}, 0, refusalOf(v)
	}
	return svc, v.Chain.Identifier().Epoch, nil
}

// asService is what the authority's own endpoints ask of a service's token that
// holds.
func (s *Service) asService(ctx context.Context, v *verify.Verdict, more []func(storage.Service) error) (storage.Service, error) {
	if !strings.HasPrefix(v.Identity.User, token.ServicePrefix) {
		return storage.Service{}, refuse(api.CodeForbidden, "this is for services")
	}
	svc, good := s.holder(v.Identity)
	if !good && s.catchUp(ctx, coalesce) == nil { // another process may have added it a moment ago
		svc, good = s.holder(v.Identity)
	}
	if !good {
		return svc, &api.Refusal{Code: api.CodeRevoked, Reason: "the service or its secret was removed"}
	}
	if v.UsesUp() {
		for _, ask := range more {
			if err := ask(svc); err != nil {
				return svc, err
			}
		}
	}
	return svc, nil
}

// holder finds the service whose secret an identity is of.
func (s *Service) holder(id token.Identity) (storage.Service, bool) {
	svc := s.services.Load().byID[id.User]
	return svc, slices.ContainsFunc(svc.Secrets, func(v storage.ServiceSecret) bool { return v.DeviceID == id.Device })
}

// HasRight reports whether the service has the right.
func HasRight(svc storage.Service, right string) bool { return slices.Contains(svc.Rights, right) }

// IsService reports whether an identity's user is a service.
func IsService(user string) bool { return strings.HasPrefix(user, token.ServicePrefix) }
