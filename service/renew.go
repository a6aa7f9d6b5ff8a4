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
