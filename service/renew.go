package service

import (
	"context"
	"errors"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// Renew gives the successor of a bare root: same device, same root key, later
// expiry. A predecessor gets the successor that it got before, so that lost
// answers and races log nobody out, until that one has been seen in use and the
// grace has passed: then somebody has both, and the device is revoked.
// What it cannot tell is a thief who renews first from the holder: it learns of
// the theft when the other of the two presents the predecessor.
// facts are the request's; they say whether the root came in the cookie.
func (s *Service) Renew(ctx context.Context, text string, facts caveats.Request, src Source) (api.Grant, error) {
	facts.Actions = []string{"renew"}
	c, err := s.Authorize(ctx, Shown{Token: text, Facts: facts, Bare: true})
	if err != nil {
		return api.Grant{}, err
	}
	set, id := s.Settings(), c.Chain.Identifier()
	in := storage.RenewDevice{
		UserID: c.User, DeviceID: c.Device, RootKeyID: id.RootKeyID, Epoch: id.Epoch, ExpiresAt: c.Expires,
		RootTTL: set.RootTTL, SessionMax: set.SessionMax, Grace: set.RenewGrace,
		Seen: s.seen.of(id.RootKeyID),
	}
	ev := s.eventOf(EventRenewed, c.User, src)
	var out storage.Renewed
	err = s.withSigning(ctx, func(epoch uint32) (err error) {
		in.Signing = epoch
		out, err = s.store.RenewDevice(ctx, in, EventRenewalTheft, ev)
		return err
	})
	s.metrics.renewals.WithLabelValues(renewalResult(out, err)).Inc()
	switch {
	case errors.Is(err, storage.ErrRevoked), errors.Is(err, storage.ErrSuspended): // while the verdict was on its way
		return api.Grant{}, loggedOut(storage.ErrRevoked)
	case err != nil:
		return api.Grant{}, unknownHere(err)
	case out.Theft:
		s.revoked(out.Revoked...)
		s.log.Warn("a root token was presented again long after its successor was in use: the device is revoked", "user", c.User, "device", c.Device)
		return api.Grant{}, &api.Refusal{Code: api.CodeRevoked, Reason: "this root token was renewed long ago and somebody uses its successor: the device is logged out"}
	}
	id.Epoch = out.Epoch
	who := token.Identity{User: c.User, Device: c.Device, Expires: out.ExpiresAt}
	grant, err := s.rootGrant(ctx, id, who, out.UserName, out.DeviceName)
	if err == nil && facts.Via == caveats.Cookie {
		err = s.intoCookie(&grant)
	}
	return grant, err
}

func renewalResult(out storage.Renewed, err error) string {
	switch {
	case errors.Is(err, storage.ErrRenewalLimit):
		return "limited"
	case err != nil:
		return "refused"
	case out.Theft:
		return "theft"
	case !out.New:
		return "again"
	}
	return "ok"
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

// rootGrant makes the root macaroon that was stored, and what is answered with it.
func (s *Service) rootGrant(ctx context.Context, id token.Identifier, who token.Identity, username, device string) (api.Grant, error) {
	key, known, err := s.rootKey(ctx, id)
	if err != nil {
		return api.Grant{}, err
	}
	if !known {
		return api.Grant{}, errors.New("the epoch of a root macaroon is not on the ring")
	}
	if err := s.heardElsewhere(ctx, id.Epoch); err != nil {
		return api.Grant{}, err
	}
	t, err := token.Mint(&key, s.Settings().Issuer, id, who)
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
