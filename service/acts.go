package service

import (
	"context"
	"errors"
	"slices"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// What a root alone is not enough for. Whoever has somebody's phone for a
// minute has a root; with these they would keep the account.
const (
	actRemove   = "remove"   // devices other than the one that asks
	actCodes    = "codes"    // new recovery codes
	actLink     = "link"     // another device
	actPassword = "password" // a first password
	actDelete   = "delete"   // the account; never waits
)

const (
	actDelay = 24 * time.Hour     // in which some device of the user can cancel
	actKeep  = 7 * 24 * time.Hour // in which it can be done
	maxActs  = 10                 // of a user that may wait
)

// proved is the one way to an act that needs a proof. It checks a password, if
// one is given, and says what the act may rest on; the store judges the rest in
// the act's own transaction. settle turns the store's error into the answer,
// and counts a wrong proof: whatever becomes of the act, it is called.
//
// A wrong password or code counts against the asking device, in a bucket of its
// own: a device that has a root is not kept from its own account by what
// strangers do, and a thief of one gets hardly more tries than a stranger. Nor is
// it by whom it lent a narrowed token to: those have one bucket, all together,
// for whoever has one can make as many as they like.
func (s *Service) proved(ctx context.Context, c *Caller, kind, target string, p api.Proof, src Source) (act storage.Act, settle func(error) error, err error) {
	id := c.Chain.Identifier()
	act = storage.Act{
		UserID: c.User, DeviceID: c.Device, RootKeyID: id.RootKeyID, Epoch: id.Epoch, Kind: kind, Target: target,
		ID: token.NewID("act_"), Delay: actDelay, Keep: actKeep, Max: maxActs, Local: kind != actRemove && kind != actDelete,
		Begun: s.eventBy(EventActDelayed, c, src),
	}
	act.Begun.Detail = kind
	if target != "" {
		act.Begun.Detail += " " + target
	}
	if fresh := s.Settings().FreshLogin; fresh > 0 {
		act.FreshSince = s.now().Add(-fresh)
	}
	settle = loggedOut
	if p == (api.Proof{}) {
		return act, settle, nil
	}
	if err := checkProof(p); err != nil {
		return act, nil, err
	}
	begin := s.attempts.own
	if !c.Chain.Bare() {
		begin = s.attempts.lent
	}
	attempt, err := begin(c.User, c.Device)
	if err != nil {
		return act, nil, err
	}
	judged := false // the password was right
	settle = func(err error) error {
		defer attempt.end()
		if judged && errors.Is(err, storage.ErrPasswordChanged) {
			// Changed since; or hashed anew by a login, and the same.
			return &Error{Code: api.CodeBusy, Detail: "the password was set at this moment: ask again", RetryAfter: time.Second}
		}
		if !errors.Is(err, storage.ErrCodeUnknown) && !errors.Is(err, storage.ErrPasswordChanged) {
			return loggedOut(err)
		}
		attempt.fail()
		ev := s.eventBy(EventProofFailed, c, src)
		ev.Detail = kind
		s.note(ctx, ev)
		return refuse(api.CodeProofRefused, "the password or the code is wrong")
	}
	if p.Code != "" {
		hash := recoveryHash(c.User, p.Code)
		act.RecoveryCode = &hash
		return act, settle, nil
	}
	user, err := s.store.User(ctx, c.User)
	if err != nil {
		return act, nil, settle(err)
	}
	ok, _, err := s.hasher.verify(ctx, p.Password, user.PasswordHash)
	if err == nil && !ok {
		err = storage.ErrPasswordChanged // it is not this one
	}
	if err != nil {
		return act, nil, settle(err)
	}
	judged = true
	act.PasswordHash = &user.PasswordHash
	return act, settle, nil
}

func checkProof(p api.Proof) error {
	if p.Password != "" && p.Code != "" {
		return badField("/code", "send the password or a code, not both")
	}
	return nil
}

// MayRemove finds out whether there is room for a removal that would have to
// wait, and whether the proof can be one. id is a device's, or empty for all, or
// for all but the one that asks. It is for [Service.Authorize], which must know
// before anything is used up; the act's own transaction judges it again.
func (s *Service) MayRemove(ctx context.Context, id string, butThis bool, p api.Proof) func(*Caller) error {
	return func(c *Caller) error {
		switch {
		case id == c.Device: // it goes at once, and no proof is looked at
			return nil
		case p != (api.Proof{}):
			return checkProof(p)
		case id == "" && butThis:
			return s.roomToWait(ctx, c, otherDevices)
		case id == "":
			return s.roomToWait(ctx, c, allDevices)
		}
		return s.roomToWait(ctx, c, id)
	}
}

// roomToWait refuses a removal that can only wait when as many acts wait as may.
func (s *Service) roomToWait(ctx context.Context, c *Caller, target string) error {
	now, fresh := s.now(), s.Settings().FreshLogin
	waiting, err := s.store.Delayed(ctx, c.User, now)
	if err != nil || len(waiting) < maxActs || slices.ContainsFunc(waiting, func(d storage.Delayed) bool {
		return d.DeviceID == c.Device && d.Kind == actRemove && d.Target == target
	}) {
		return err
	}
	devices, err := s.store.Devices(ctx, c.User)
	for _, d := range devices {
		switch {
		case d.ID == c.Device && fresh > 0 && !d.ProvedAt.IsZero() && !d.ProvedAt.Before(now.Add(-fresh)):
			return nil
		case d.ID != c.Device && d.RevokedAt.IsZero() && (target == d.ID || target == allDevices || target == otherDevices):
			err = storage.ErrTooManyActs
		}
	}
	return err
}

// DelayedActs lists what waits.
func (s *Service) DelayedActs(ctx context.Context, c *Caller) (api.DelayedActs, error) {
	list, err := s.store.Delayed(ctx, c.User, s.now())
	out := api.DelayedActs{Delayed: []api.Delayed{}}
	for i := range list {
		out.Delayed = append(out.Delayed, *delayedOut(&list[i], c.Device))
	}
	return out, err
}

// OwnAct finds out whether one of the caller's acts waits. It is for
// [Service.Authorize], which must know before a one-time token is used up.
func (s *Service) OwnAct(ctx context.Context, id string) func(*Caller) error {
	return func(c *Caller) error {
		waiting, err := s.store.Delayed(ctx, c.User, s.now())
		if err == nil && !slices.ContainsFunc(waiting, func(d storage.Delayed) bool { return d.ID == id }) {
			err = storage.ErrNotFound
		}
		return err
	}
}

// CancelDelayed forgets one. Any device of the user may.
func (s *Service) CancelDelayed(ctx context.Context, c *Caller, id string, src Source) error {
	ev := s.eventBy(EventActCancelled, c, src)
	ev.Detail = id
	return s.store.CancelDelayed(ctx, c.User, id, ev)
}

func delayedOut(d *storage.Delayed, current string) *api.Delayed {
	if d == nil {
		return nil
	}
	return &api.Delayed{
		ID: d.ID, Act: d.Kind, Target: d.Target, Device: d.DeviceID, Current: d.DeviceID == current,
		CreatedAt: api.At(d.CreatedAt), DueAt: atLeast(d.DueAt), ExpiresAt: api.At(d.ExpiresAt),
	}
}

// atLeast is a time in whole seconds from which something holds.
func atLeast(t time.Time) api.Time { return api.At(t.Add(time.Second - 1)) }
