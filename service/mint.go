package service

import (
	"context"
	"errors"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// mint stores a device under a fresh root key and only then makes the token.
// ttl 0 is the configured time.
func (s *Service) mint(ctx context.Context, user storage.User, ttl time.Duration, in storage.IssueDevice, store func(storage.IssueDevice) (storage.Device, error)) (api.Grant, error) {
	set := s.Settings()
	var stored storage.Device
	var id token.Identifier
	now := s.now()
	in.UserID, in.Device.CreatedAt, in.MaxDevices = user.ID, now, set.MaxDevices
	in.Device.TTL = ttl
	if ttl == 0 {
		ttl = set.RootTTL
	}
	if set.SessionMax > 0 {
		ttl = min(ttl, set.SessionMax)
	}
	// Whole seconds, rounded up: nobody gets less than was asked for.
	expires := now.Add(ttl + time.Second - 1).UTC().Truncate(time.Second)
	err := s.withSigning(ctx, func(epoch uint32) (err error) {
		id = token.Identifier{Epoch: epoch, RootKeyID: token.NewRootKeyID()}
		in.RootKey = storage.RootKey{ID: id.RootKeyID, Epoch: id.Epoch, ExpiresAt: expires}
		stored, err = store(in)
		return err
	})
	if err != nil {
		return api.Grant{}, err
	}
	return s.rootGrant(ctx, id, token.Identity{User: user.ID, Device: stored.ID, Expires: expires}, user.Name, stored.Name)
}

// mintService stores that the secret's root key has a token until expires, and
// only then makes it.
func (s *Service) mintService(ctx context.Context, svc storage.Service, with storage.ServiceSecret, expires time.Time, limits []caveats.Caveat, src Source) (*token.Token, error) {
	ev := s.eventOf(EventServiceToken, svc.ID, src)
	id := token.Identifier{RootKeyID: with.RootKeyID}
	err := s.withSigning(ctx, func(epoch uint32) error {
		id.Epoch = epoch
		return s.store.MintService(ctx, storage.MintService{ServiceID: svc.ID, SecretID: with.ID, Epoch: epoch, ExpiresAt: expires}, ev)
	})
	if err != nil {
		return nil, err
	}
	return s.mintStored(ctx, id, token.Identity{User: svc.ID, Device: with.DeviceID, Expires: expires}, limits...)
}

// withSigning runs what stores something for a token of the signing epoch. A
// rotation between choosing the epoch and storing is met by reading the epochs
// once more.
func (s *Service) withSigning(ctx context.Context, store func(epoch uint32) error) error {
	err := store(s.keyring.Signing())
	if !errors.Is(err, storage.ErrEpochNotSigning) {
		return err
	}
	if err := s.CatchUp(ctx); err != nil {
		return err
	}
	return store(s.keyring.Signing())
}

// rootKey derives the root key of an identifier whose epoch another process may
// have made since we looked.
func (s *Service) rootKey(ctx context.Context, id token.Identifier) (key token.RootKey, known bool, err error) {
	if key, known = s.keyring.RootKey(id); known {
		return key, true, nil
	}
	if err := s.CatchUp(ctx); err != nil {
		return token.RootKey{}, false, err
	}
	key, known = s.keyring.RootKey(id)
	return key, known, nil
}

// mintStored makes a token whose root key is stored, when every process knows its epoch.
func (s *Service) mintStored(ctx context.Context, id token.Identifier, who token.Identity, limits ...caveats.Caveat) (*token.Token, error) {
	key, known, err := s.rootKey(ctx, id)
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, errors.New("the epoch of a token that was stored is not on the ring")
	}
	if err := s.heardElsewhere(ctx, id.Epoch); err != nil {
		return nil, err
	}
	return token.Mint(&key, s.Settings().Issuer, id, who, limits...)
}

// rootGrant makes the root macaroon that was stored, and what is answered with it.
func (s *Service) rootGrant(ctx context.Context, id token.Identifier, who token.Identity, username, device string) (api.Grant, error) {
	t, err := s.mintStored(ctx, id, who)
	if err != nil {
		return api.Grant{}, err
	}
	return api.Grant{
		Token: t.Text(), TokenType: "Bearer",
		ExpiresAt: api.At(who.Expires), ExpiresIn: int64(who.Expires.Sub(s.now()).Seconds()),
		User:      api.UserRef{ID: who.User, Username: username},
		Device:    api.DeviceRef{ID: who.Device, Name: device},
		RootKeyID: id.RootKeyID.String(),
	}, nil
}
