package service

import (
	"context"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// RoleAdmin may use /v1/admin.
const RoleAdmin = "admin"

// Administrator checks that the caller, who shows a bare root, has the role
// now: roles are read from the store, not from a cache, and not from the token.
func (s *Service) Administrator(ctx context.Context, c *Caller, src Source) error {
	u, err := s.store.User(ctx, c.User)
	if err != nil {
		return unknownHere(err)
	}
	if u.Role != RoleAdmin || !u.SuspendedAt.IsZero() || u.Owner != "" { // another backend's user never has one
		if s.attempts.admin(c.User) == nil { // the audit of a flood is bounded by the limiter
			s.note(ctx, s.eventOf(EventAdminRefused, c.User, src))
		}
		return refuse(api.CodeForbidden, "this is for administrators")
	}
	return nil
}

// AddUser makes a user with a password, and a role if one is given. Reserved
// names are allowed: this is an operator's or administrator's act.
func (s *Service) AddUser(ctx context.Context, in api.UserIn, actor string, src Source) (api.User, error) {
	name, key, err := s.newName(ctx, "/username", in.Username, false)
	if err != nil {
		return api.User{}, err
	}
	if in.Role != "" && in.Role != RoleAdmin {
		return api.User{}, badField("/role", "the only role is %q", RoleAdmin)
	}
	if err := checkPassword(in.Password, key); err != nil {
		return api.User{}, err
	}
	u := storage.User{ID: token.NewID(token.UserPrefix), Name: name, NameKey: key, Role: in.Role, CreatedAt: s.now()}
	if u.PasswordHash, err = s.hasher.hash(ctx, in.Password); err != nil {
		return api.User{}, err
	}
	ev := s.event(EventUserAdded, actor, src)
	ev.UserID, ev.Detail = u.ID, in.Role
	if _, err := s.store.CreateUser(ctx, u, nil, nil, ev); err != nil {
		return api.User{}, err
	}
	return userOut(u), nil
}

func userOut(u storage.User) api.User {
	return api.User{ID: u.ID, Username: u.Name, Role: u.Role, CreatedAt: api.At(u.CreatedAt), SuspendedAt: apiTime(u.SuspendedAt), Owner: u.Owner}
}

// Users is one page of users, by name. after is the former page's Next.
func (s *Service) Users(ctx context.Context, after string, limit int) (api.Users, error) {
	list, err := s.store.Users(ctx, after, limit)
	if err != nil {
		return api.Users{}, err
	}
	out := api.Users{Users: []api.User{}}
	for _, u := range list {
		out.Users = append(out.Users, userOut(u))
	}
	if len(list) == limit {
		out.Next = list[len(list)-1].NameKey
	}
	return out, nil
}

// FindUser takes an id or a name.
func (s *Service) FindUser(ctx context.Context, who string) (api.User, error) {
	if token.IsID(who, token.UserPrefix) {
		u, err := s.store.User(ctx, who)
		return userOut(u), err
	}
	key, err := s.keptKey(ctx, who)
	if err != nil {
		return api.User{}, err
	}
	u, err := s.store.UserByNameKey(ctx, key)
	return userOut(u), err
}

// SuspendUser refuses further logins and revokes every device, at once.
func (s *Service) SuspendUser(ctx context.Context, id, actor string, src Source) error {
	entries, err := s.store.SuspendUser(ctx, id, s.eventAbout(EventUserSuspended, actor, id, src))
	return s.ended(ctx, entries, err)
}

// ResumeUser allows logins again. No device comes back.
func (s *Service) ResumeUser(ctx context.Context, id, actor string, src Source) error {
	return s.store.ResumeUser(ctx, id, s.eventAbout(EventUserResumed, actor, id, src))
}

// SetPassword replaces a password and revokes every device.
func (s *Service) SetPassword(ctx context.Context, id, password, actor string, src Source) error {
	user, err := s.store.User(ctx, id)
	if err != nil {
		return err
	}
	if err := checkPassword(password, user.NameKey); err != nil {
		return err
	}
	phc, err := s.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	entries, err := s.store.SetPassword(ctx, storage.SetPassword{UserID: id, Hash: phc, Revoke: true}, s.eventAbout(EventPasswordSet, actor, id, src))
	return s.ended(ctx, entries, err)
}
