package service

import (
	"context"
	"slices"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// MaxServiceSecrets is how many secrets a service may have at a time: enough to
// give each of its places one of its own while they are exchanged.
const MaxServiceSecrets = 10

// newServiceSecret draws a secret with a device and a root key of its own.
func newServiceSecret(now time.Time) (secret string, rec storage.ServiceSecret) {
	secret, hash := newSecret()
	return secret, storage.ServiceSecret{
		ID: token.NewID(secretIDPrefix), Hash: hash,
		DeviceID: token.NewID(token.DevicePrefix), RootKeyID: token.NewRootKeyID(), CreatedAt: now,
	}
}

const secretIDPrefix = "sec_"

func secretOut(r storage.ServiceSecret) api.ServiceSecret {
	return api.ServiceSecret{ID: r.ID, Device: r.DeviceID, CreatedAt: api.At(r.CreatedAt)}
}

// AddServiceSecret gives a service one more secret, so that the former one can
// be exchanged wherever it is used, and then be removed.
func (s *Service) AddServiceSecret(ctx context.Context, id, actor string, src Source) (api.ServiceSecret, error) {
	secret, rec := newServiceSecret(s.now())
	ev := s.event(EventServiceSecretAdded, actor, src)
	ev.UserID, ev.DeviceID, ev.Detail = id, rec.DeviceID, rec.ID
	if err := s.store.AddServiceSecret(ctx, storage.AddServiceSecret{ServiceID: id, Secret: rec, Max: MaxServiceSecrets}, ev); err != nil {
		return api.ServiceSecret{}, err
	}
	s.learnServices(ctx)
	out := secretOut(rec)
	out.Secret = secret
	return out, nil
}

// RemoveServiceSecret ends a secret, and every token that was minted with it.
func (s *Service) RemoveServiceSecret(ctx context.Context, id, secretID, actor string, src Source) error {
	ev := s.event(EventServiceSecretRemoved, actor, src)
	ev.UserID, ev.Detail = id, secretID
	entries, err := s.store.RemoveServiceSecret(ctx, id, secretID, s.longestServiceToken(), ev)
	if err := s.ended(ctx, entries, err); err != nil {
		return err
	}
	s.changeServices(func(m map[string]storage.Service) {
		if svc, ok := m[id]; ok {
			svc.Secrets = slices.DeleteFunc(slices.Clone(svc.Secrets), func(v storage.ServiceSecret) bool { return v.ID == secretID })
			m[id] = svc
		}
	})
	return nil
}

// longestServiceToken is a time that no token of a service outlives that was
// minted until now.
func (s *Service) longestServiceToken() time.Time {
	return s.now().Add(s.Settings().AccessTTL + time.Second)
}
