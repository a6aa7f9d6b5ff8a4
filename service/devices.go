package service

import (
	"context"
	"errors"
	"strings"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// Reasons for which a device is revoked: stable words, shown on the list.
const (
	ReasonLogout   = "logout"
	ReasonOwner    = "owner"    // by its user, from a device
	ReasonToken    = "token"    // somebody presented its root to be revoked
	ReasonOperator = "operator" // by a command or an administrator
)

// Devices lists the caller's devices, newest first; revoked ones stay for a
// while.
func (s *Service) Devices(ctx context.Context, c *Caller) (api.Devices, error) {
	return s.UserDevices(ctx, c.User, c.Device)
}

// UserDevices lists the devices of any user, for operators. current is the one
// that asks, if it is one of them.
func (s *Service) UserDevices(ctx context.Context, userID, current string) (api.Devices, error) {
	list, err := s.store.Devices(ctx, userID)
	if err != nil {
		return api.Devices{}, err
	}
	out := api.Devices{Devices: []api.Device{}}
	waiting, err := s.store.Delayed(ctx, userID, s.now())
	if err != nil {
		return api.Devices{}, err
	}
	for _, d := range list {
		o := deviceOut(d, current)
		for _, w := range waiting {
			if w.Kind == actRemove && d.RevokedAt.IsZero() && (w.Target == d.ID || w.Target == allDevices || w.Target == otherDevices && w.DeviceID != d.ID) &&
				(o.RemovalDueAt == nil || w.DueAt.Before(o.RemovalDueAt.Time)) {
				due := atLeast(w.DueAt)
				o.RemovalDueAt = &due
			}
		}
		out.Devices = append(out.Devices, o)
	}
	return out, nil
}

func deviceOut(d storage.Device, current string) api.Device {
	return api.Device{
		ID: d.ID, Name: d.Name, RootKeyID: token.RootKeyID(d.RootKeyID).String(),
		CreatedAt: api.At(d.CreatedAt), LastSeenAt: api.At(d.LastSeenAt), ExpiresAt: api.At(d.ExpiresAt),
		Current: d.ID == current, RevokedAt: apiTime(d.RevokedAt), RevokedReason: d.RevokedReason,
	}
}

// OwnDevice finds out whether the caller has the device, revoked or not. It is
// for [Service.Authorize], which must know before a one-time token is used up.
// The one that asks is theirs whatever the database knows.
func (s *Service) OwnDevice(ctx context.Context, id string) func(*Caller) error {
	return func(c *Caller) error {
		if id == c.Device {
			return nil
		}
		_, err := s.store.Device(ctx, c.User, id)
		return err
	}
}

// NoProof refuses a one-time token with a proof beside it: whether that is right
// is known only when it is used, and the token would be used up by a mistyped
// password. It is for [Service.Authorize], too.
func NoProof(p api.Proof) func(*Caller) error {
	return func(c *Caller) error {
		if p == (api.Proof{}) {
			return nil
		}
		for i := range c.Chain.Len() {
			if text, _ := c.Chain.Caveat(i); strings.HasPrefix(text, "once ") {
				return refuse(api.CodeBadRequest, "a one-time token takes no password or code beside it: send another token")
			}
		}
		return nil
	}
}

// MayRename is OwnDevice for what RenameDevice is asked.
func (s *Service) MayRename(ctx context.Context, id, name string) func(*Caller) error {
	return func(c *Caller) error {
		if _, err := shownName("/name", name); err != nil {
			return err
		}
		d, err := s.store.Device(ctx, c.User, id)
		if err == nil && !d.RevokedAt.IsZero() {
			err = storage.ErrNotFound
		}
		return err
	}
}

// RenameDevice renames one of the caller's devices.
func (s *Service) RenameDevice(ctx context.Context, c *Caller, id, name string, src Source) (api.Device, error) {
	name, err := shownName("/name", name)
	if err != nil {
		return api.Device{}, err
	}
	ev := s.eventOf(EventDeviceRenamed, c.User, src)
	ev.DeviceID = id
	d, err := s.store.RenameDevice(ctx, c.User, id, name, ev)
	if err != nil {
		return api.Device{}, err
	}
	return deviceOut(d, c.Device), nil
}

// Targets of a removal, but for a device's id.
const (
	allDevices   = "all"
	otherDevices = "others"
)

// RevokeDevice drops one device of the caller's: the one that asks at once,
// another one with a proof, or in a day. What is no device's id must not come to
// be one of the other targets.
func (s *Service) RevokeDevice(ctx context.Context, c *Caller, id string, p api.Proof, src Source) (*api.Delayed, error) {
	if !token.IsID(id, token.DevicePrefix) {
		return nil, storage.ErrNotFound
	}
	return s.remove(ctx, c, storage.RevokeDevices{UserID: c.User, DeviceID: id, Reason: ReasonOwner}, id, p, src)
}

// RevokeAllDevices drops all of the caller's devices, or all but the one that asks.
func (s *Service) RevokeAllDevices(ctx context.Context, c *Caller, butThis bool, p api.Proof, src Source) (*api.Delayed, error) {
	in, target := storage.RevokeDevices{UserID: c.User, Reason: ReasonOwner}, allDevices
	if butThis {
		in.Except, target = c.Device, otherDevices
	}
	return s.remove(ctx, c, in, target, p, src)
}

// remove ends the asking device, if it is one of the target, by its root key in
// the end: the database may not know it, as drop says.
func (s *Service) remove(ctx context.Context, c *Caller, in storage.RevokeDevices, target string, p api.Proof, src Source) (*api.Delayed, error) {
	if target == c.Device {
		p = api.Proof{} // none is needed to go oneself
	}
	later, err := s.removeKnown(ctx, c, in, target, p, src)
	switch {
	case later != nil || err != nil && !errors.Is(err, storage.ErrNotFound):
	case target == c.Device, target == allDevices:
		err = s.dropKey(ctx, c.Chain.Identifier().RootKeyID, c.Identity, in.Reason, c.User, src)
	case target == otherDevices:
		err = unknownHere(err)
	}
	return delayedOut(later, c.Device), err
}

func (s *Service) removeKnown(ctx context.Context, c *Caller, in storage.RevokeDevices, target string, p api.Proof, src Source) (*storage.Delayed, error) {
	act, settle, err := s.proved(ctx, c, actRemove, target, p, src)
	if err != nil {
		return nil, err
	}
	ev := s.eventOf(EventDeviceRevoked, c.User, src)
	ev.Detail = in.Reason
	entries, later, err := s.store.RemoveDevices(ctx, in, act, ev)
	return later, settle(s.ended(ctx, entries, err))
}

// Logout drops the caller's own device.
func (s *Service) Logout(ctx context.Context, c *Caller, src Source) error {
	return s.drop(ctx, c.Chain, c.Identity, ReasonLogout, c.User, src)
}

// RevokeDevices drops root keys: they are durably on the list, and in memory,
// when it returns nil.
func (s *Service) RevokeDevices(ctx context.Context, in storage.RevokeDevices, actor string, src Source) error {
	ev := s.event(EventDeviceRevoked, actor, src)
	ev.UserID, ev.Detail = in.UserID, in.Reason
	entries, err := s.store.RevokeDevices(ctx, in, ev)
	if in.RootKeyID != nil && len(entries) == 1 { // all that there was to end
		s.revoked(entries...)
		return err
	}
	return s.ended(ctx, entries, err)
}
