package service

import (
	"context"
	"errors"
	"strings"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// A service with the right "mint" has users of its own: it has checked who they
// are, and no password of theirs is here. Such a user is found by owner and
// subject and by nothing else, so no subject, however it is spelt, is ever
// somebody else's user:
//
//   - the id is drawn here, and the subject is compared byte for byte within
//     one service;
//   - the name's key is one that no name folds to, so login, sign-up and
//     recovery never come to it;
//   - the name that is shown has the service's name and a colon before it, and
//     no local name has a colon;
//   - the transaction that mints refuses a user who has a role or a password.

// subjectKey is the name key of a user that a service minted for. nameKey gives
// no capital letter, and a name has no colon.
func subjectKey(userID string) string { return "S:" + userID }

// subjectMint is what a service mints: for a subject whose name is shown, unless
// it is empty, on a device, for so long, with an access token if it has limits.
type subjectMint struct {
	name   string
	device storage.Device
	ttl    time.Duration
	access []caveats.Caveat
}

// subjectMintOf checks what a service asks for.
func (s *Service) subjectMintOf(svc storage.Service, in api.MintIn) (m subjectMint, err error) {
	if err := api.CheckSubject(in.Subject); err != nil {
		return m, badField("/subject", "%s", err)
	}
	if in.Username != "" {
		shown, err := shownName("/username", in.Username)
		if err != nil {
			return m, err
		}
		if strings.Contains(shown, ":") { // one colon, so that two services' names never meet
			return m, badField("/username", "a name has no colon")
		}
		m.name = svc.Name + ":" + shown
	}
	if m.device, err = deviceOf(in.Device); err != nil {
		return m, err
	}
	if m.ttl, err = s.ttl(in.TTL); err != nil {
		return m, err
	}
	m.access, err = accessTo(in.Audience)
	return m, err
}

// MayMintFor finds out whether MintFor would refuse. It is for
// [Service.AuthorizeService], which must know before a one-time token is used up.
func (s *Service) MayMintFor(ctx context.Context, in api.MintIn) func(storage.Service) error {
	return func(svc storage.Service) error {
		if _, err := s.subjectMintOf(svc, in); err != nil {
			return err
		}
		u, err := s.subject(ctx, svc, in.Subject, "")
		switch {
		case err != nil:
			return err
		case u.Role != "" || u.PasswordHash != "":
			return storage.ErrPrivileged
		case !u.SuspendedAt.IsZero():
			return storage.ErrSuspended
		}
		return nil
	}
}

// MintFor makes a root macaroon for a user of the service's own, who is made
// when the service never spoke of the subject before. epoch is of the service's
// token that asks, 0 when its secret does: with that token's end nothing is minted
// into the next one.
func (s *Service) MintFor(ctx context.Context, svc storage.Service, epoch uint32, in api.MintIn, src Source) (api.Grant, error) {
	m, err := s.subjectMintOf(svc, in)
	if err != nil {
		return api.Grant{}, err
	}
	grant, err := s.mintSubject(ctx, svc, epoch, in.Subject, m, src)
	if errors.Is(err, storage.ErrNameTaken) { // the subject's first two mints at once: the other one made it
		grant, err = s.mintSubject(ctx, svc, epoch, in.Subject, m, src)
	}
	switch {
	case errors.Is(err, storage.ErrServiceGone):
		return api.Grant{}, errWrongSecret()
	case errors.Is(err, storage.ErrRevoked):
		return api.Grant{}, &api.Refusal{Code: api.CodeInvalid, Reason: "the epoch of the token has just been retired"}
	case err != nil:
		return api.Grant{}, err
	}
	if err := s.addAccess(&grant, m.access); err != nil {
		return api.Grant{}, err
	}
	s.metrics.logins.WithLabelValues("minted").Inc()
	return grant, nil
}

// mintSubject mints for the subject as it is known now.
func (s *Service) mintSubject(ctx context.Context, svc storage.Service, epoch uint32, subject string, m subjectMint, src Source) (api.Grant, error) {
	user, err := s.subject(ctx, svc, subject, m.name)
	if err != nil {
		return api.Grant{}, err
	}
	return s.mint(ctx, user, m.ttl, storage.IssueDevice{Device: m.device, AskedIn: epoch}, func(d storage.IssueDevice) (storage.Device, error) {
		stored, revoked, err := s.store.IssueSubject(ctx, user, d, s.eventAbout(EventMinted, svc.ID, user.ID, src))
		s.revoked(revoked...)
		return stored, err
	})
}

// subject is the service's user as stored, or one to be stored. name, unless it
// is empty, is the one to be shown from now on.
func (s *Service) subject(ctx context.Context, svc storage.Service, subject, name string) (storage.User, error) {
	u, err := s.store.Subject(ctx, svc.ID, subject)
	if errors.Is(err, storage.ErrNotFound) {
		id := token.NewID(token.UserPrefix)
		u, err = storage.User{
			ID: id, Name: svc.Name + ":" + id, NameKey: subjectKey(id), Owner: svc.ID, Subject: subject, CreatedAt: s.now(),
		}, nil
	}
	if name != "" {
		u.Name = name
	}
	return u, err
}

func subjectOut(u storage.User) api.Subject {
	return api.Subject{Subject: u.Subject, ID: u.ID, Username: u.Name, CreatedAt: api.At(u.CreatedAt), SuspendedAt: apiTime(u.SuspendedAt)}
}

// Subjects is one page of the service's users, by subject.
func (s *Service) Subjects(ctx context.Context, svc storage.Service, after string, limit int) (api.Subjects, error) {
	list, err := s.store.Subjects(ctx, svc.ID, after, limit)
	if err != nil {
		return api.Subjects{}, err
	}
	out := api.Subjects{Subjects: []api.Subject{}}
	for _, u := range list {
		out.Subjects = append(out.Subjects, subjectOut(u))
	}
	if len(list) == limit {
		out.Next = list[len(list)-1].Subject
	}
	return out, nil
}

// OwnSubject finds out whether the service has the user and, unless id is empty,
// the user has the device, revoked or not. It is for [Service.AuthorizeService].
func (s *Service) OwnSubject(ctx context.Context, subject, id string) func(storage.Service) error {
	return func(svc storage.Service) error {
		u, err := s.store.Subject(ctx, svc.ID, subject)
		if err == nil && id != "" {
			_, err = s.store.Device(ctx, u.ID, id)
		}
		return err
	}
}

// SubjectDevices lists the devices of one of the service's users.
func (s *Service) SubjectDevices(ctx context.Context, svc storage.Service, subject string) (api.Devices, error) {
	u, err := s.store.Subject(ctx, svc.ID, subject)
	if err != nil {
		return api.Devices{}, err
	}
	return s.UserDevices(ctx, u.ID, "")
}

// ReasonService is why a device is revoked by the service whose user has it.
const ReasonService = "service"

// RevokeSubjectDevices drops one device of one of the service's users, or all
// when id is empty.
func (s *Service) RevokeSubjectDevices(ctx context.Context, svc storage.Service, subject, id string, src Source) error {
	u, err := s.store.Subject(ctx, svc.ID, subject)
	if err != nil {
		return err
	}
	return s.RevokeDevices(ctx, storage.RevokeDevices{UserID: u.ID, DeviceID: id, Reason: ReasonService}, svc.ID, src)
}

// SuspendSubject refuses further mints and revokes every device, at once.
func (s *Service) SuspendSubject(ctx context.Context, svc storage.Service, subject string, src Source) error {
	entries, err := s.store.SuspendSubject(ctx, svc.ID, subject, s.event(EventUserSuspended, svc.ID, src))
	return s.ended(ctx, entries, err)
}

// MayResume is OwnSubject for what ResumeSubject is asked.
func (s *Service) MayResume(ctx context.Context, subject string) func(storage.Service) error {
	return func(svc storage.Service) error {
		u, err := s.store.Subject(ctx, svc.ID, subject)
		if err == nil && !u.SuspendedAt.IsZero() && u.SuspendedBy != svc.ID {
			err = errSuspendedAbove()
		}
		return err
	}
}

// ResumeSubject allows mints again, unless an administrator suspended the user.
func (s *Service) ResumeSubject(ctx context.Context, svc storage.Service, subject string, src Source) error {
	err := s.store.ResumeSubject(ctx, svc.ID, subject, s.event(EventUserResumed, svc.ID, src))
	if errors.Is(err, storage.ErrSuspended) {
		err = errSuspendedAbove()
	}
	return err
}

func errSuspendedAbove() error {
	return refuse(api.CodeForbidden, "an administrator suspended this user, and an administrator can resume it")
}
