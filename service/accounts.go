package service

import (
	"context"

	"macaroond/service/api"
	"macaroond/storage"
)

// ReplaceRecoveryCodes gives the caller new codes; those before are void.
func (s *Service) ReplaceRecoveryCodes(ctx context.Context, c *Caller, p api.Proof, src Source) (api.RecoveryCodes, *api.Delayed, error) {
	act, settle, err := s.proved(ctx, c, actCodes, "", p, src)
	if err != nil {
		return api.RecoveryCodes{}, nil, unknownHere(err)
	}
	codes, hashes := newRecoveryCodes(c.User)
	d, err := s.store.ReplaceRecoveryCodes(ctx, c.User, hashes, &act, s.eventBy(EventCodesReplaced, c, src))
	return api.RecoveryCodes{RecoveryCodes: codes}, delayedOut(d, c.Device), unknownHere(settle(err))
}

// RecoveryCodesFor gives a user new codes, as an operator.
func (s *Service) RecoveryCodesFor(ctx context.Context, id, actor string, src Source) (api.RecoveryCodes, error) {
	codes, hashes := newRecoveryCodes(id)
	_, err := s.store.ReplaceRecoveryCodes(ctx, id, hashes, nil, s.eventAbout(EventCodesReplaced, actor, id, src))
	return api.RecoveryCodes{RecoveryCodes: codes}, err
}

// RecoveryCodesLeft is how many of the caller's are unused.
func (s *Service) RecoveryCodesLeft(ctx context.Context, c *Caller) (api.RecoveryCodesLeft, error) {
	n, err := s.store.RecoveryCodes(ctx, c.User)
	return api.RecoveryCodesLeft{Left: n}, err
}

// ChangePassword sets the caller's password. One that is there is changed for
// the present one or a code only; a first one as any act. The caller's device
// stays, and unless asked otherwise no other.
func (s *Service) ChangePassword(ctx context.Context, c *Caller, in api.ChangePasswordIn, src Source) (*api.Delayed, error) {
	user, err := s.store.User(ctx, c.User)
	if err != nil {
		return nil, unknownHere(err)
	}
	if err := checkPassword(in.Password, user.NameKey); err != nil {
		return nil, err
	}
	act, settle, err := s.proved(ctx, c, actPassword, "", api.Proof{Password: in.Current, Code: in.Code}, src)
	if err != nil {
		return nil, unknownHere(err)
	}
	phc, err := s.hasher.hash(ctx, in.Password)
	if err != nil {
		return nil, settle(err)
	}
	ev := s.eventBy(EventPasswordSet, c, src)
	entries, d, err := s.store.ChangePassword(ctx, storage.ChangePassword{Hash: phc, KeepDevices: in.KeepDevices}, act, ev)
	return delayedOut(d, c.Device), unknownHere(settle(s.ended(ctx, entries, err)))
}

// SetRole gives a user a role or takes it. The last administrator keeps it,
// unless whoever owns the server (mayBeLast) takes it.
func (s *Service) SetRole(ctx context.Context, id, role, actor string, mayBeLast bool, src Source) (api.User, error) {
	if role != "" && role != RoleAdmin {
		return api.User{}, badField("/role", "the only role is %q", RoleAdmin)
	}
	ev := s.event(EventRoleSet, actor, src)
	ev.UserID, ev.Detail = id, role
	if err := s.store.SetRole(ctx, storage.SetRole{UserID: id, Role: role, MayBeLast: mayBeLast}, ev); err != nil {
		return api.User{}, err
	}
	if err := s.changed(ctx); err != nil {
		return api.User{}, err
	}
	u, err := s.store.User(ctx, id)
	return userOut(u), err
}

// DeleteUser removes a user and everything that says who it was.
func (s *Service) DeleteUser(ctx context.Context, id, actor string, src Source) error {
	return s.deleteUser(ctx, storage.DeleteUser{UserID: id}, s.eventAbout(EventUserDeleted, actor, id, src))
}

// DeleteSelf is the user's own wish. It cannot be taken back, so a login a
// moment ago is not enough: the password or a code goes with it.
func (s *Service) DeleteSelf(ctx context.Context, c *Caller, p api.Proof, src Source) error {
	if p == (api.Proof{}) {
		return storage.ErrProofRequired
	}
	act, settle, err := s.proved(ctx, c, actDelete, "", p, src)
	if err != nil {
		return unknownHere(err)
	}
	key := [16]byte(c.Chain.Identifier().RootKeyID)
	in := storage.DeleteUser{UserID: c.User, Act: &act, RootKeyID: &key, ExpiresAt: s.longestRoot()} // the database may not know it, as drop says
	return unknownHere(settle(s.deleteUser(ctx, in, s.eventOf(EventUserDeleted, c.User, src))))
}

func (s *Service) deleteUser(ctx context.Context, in storage.DeleteUser, ev storage.Event) error {
	entries, err := s.store.DeleteUser(ctx, in, ev)
	err = s.ended(ctx, entries, err)
	s.names.clear()
	return err
}
