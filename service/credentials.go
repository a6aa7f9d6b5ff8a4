package service

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// credentials are the service credentials in memory: there are few, and every
// verdict asks for one.
type credentials struct{ byID map[string]storage.Service }

func newCredentials(list []storage.Service) *credentials {
	c := &credentials{byID: make(map[string]storage.Service, len(list))}
	for _, s := range list {
		c.byID[s.ID] = s
	}
	return c
}

// secretPrefix lets a leak scanner know a service secret.
const secretPrefix = "mds_"

func newSecret() (secret string, hash [32]byte) {
	var b [32]byte
	rand.Read(b[:])
	secret = secretPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	return secret, sha256.Sum256([]byte(secret))
}

// AuthenticateService checks a service credential. One that is not known is
// looked for once more in the table: a command may have added it a moment ago,
// and whoever reads its output and uses it at once must not be refused.
func (s *Service) AuthenticateService(ctx context.Context, id, secret string, src Source) (storage.Service, error) {
	svc, _, err := s.authenticate(ctx, id, secret, src)
	return svc, err
}

// authenticate is AuthenticateService, and says which of the secrets it was.
func (s *Service) authenticate(ctx context.Context, id, secret string, src Source) (storage.Service, storage.ServiceSecret, error) {
	svc, with, good := s.service(id, secret)
	if !good && s.catchUp(ctx, coalesce) == nil {
		svc, with, good = s.service(id, secret)
	}
	if good {
		return svc, with, nil
	}
	ev := s.eventAbout(EventServiceRefused, "", svc.ID, src)
	if attempt, err := s.attempts.try("service "+id, src.address()); err == nil {
		attempt.fail()
		attempt.end()
		s.note(ctx, ev) // the audit of a flood is bounded by the limiter
	}
	return storage.Service{}, storage.ServiceSecret{}, errWrongSecret()
}

func errWrongSecret() error {
	return refuse(api.CodeBadCredentials, "the service id or secret is wrong")
}

// coalesce is how fresh the tables must be for a wrong credential to cost no
// look at them: a flood of those costs one look in this time.
const coalesce = 5 * time.Millisecond

// service finds a credential in memory. The secret is 256 random bits, so one
// SHA-256 is enough (a slow hash guards guessable passwords), and its hashes
// are compared in constant time.
func (s *Service) service(id, secret string) (svc storage.Service, with storage.ServiceSecret, good bool) {
	got := sha256.Sum256([]byte(secret))
	svc = s.services.Load().byID[id]
	for _, v := range svc.Secrets {
		if subtle.ConstantTimeCompare(got[:], v.Hash[:]) == 1 {
			with, good = v, true
		}
	}
	return svc, with, good
}

// serves reports whether the credential may judge tokens for the audience. The
// authority's own is nobody's to serve: what is good there is good for
// everything. That is looked at here because it may have been another one when
// the credential was made.
func (s *Service) serves(svc storage.Service, audience string) bool {
	return audience != s.Settings().Audience && slices.Contains(svc.Serves, audience)
}

var (
	errOwnAudience = errors.New("the authority's own audience is nobody else's to serve")
	errNoRight     = fmt.Errorf("the only right is %q", RightMint)
)

// AddService makes a service credential; its secret is in the answer and
// nowhere else.
func (s *Service) AddService(ctx context.Context, in api.ServiceIn, actor string, src Source) (api.Service, error) {
	out, rec, err := newCredential(in, s.Settings().Audience, s.now())
	if err != nil {
		return api.Service{}, err
	}
	// Its users' names begin with it, and many a backend knows no capitals. (Of two
	// that come at once the store knows only the same bytes.)
	there, err := s.store.Services(ctx)
	if err != nil {
		return api.Service{}, err
	}
	key := nameKey(rec.Name)
	if slices.ContainsFunc(there, func(v storage.Service) bool { return nameKey(v.Name) == key }) {
		return api.Service{}, storage.ErrNameTaken
	}
	if err := s.store.AddService(ctx, rec, s.eventAbout(EventServiceAdded, actor, rec.ID, src)); err != nil {
		return api.Service{}, err
	}
	s.learnServices(ctx)
	return out, nil
}

// newCredential checks what is asked for and draws an id and a secret.
// ownAudience is the authority's, which nobody else may serve.
func newCredential(in api.ServiceIn, ownAudience string, now time.Time) (api.Service, storage.Service, error) {
	fail := func(err error) (api.Service, storage.Service, error) {
		return api.Service{}, storage.Service{}, err
	}
	name, err := shownName("/name", in.Name)
	if err != nil {
		return fail(err)
	}
	if err := likeNoID("/name", nameKey(name)); err != nil {
		return fail(err)
	}
	if strings.Contains(nameKey(name), ":") { // which ends it in its users' names
		return fail(badField("/name", "a name has no colon"))
	}
	audience := func(a string) error { _, err := caveats.Audience(a); return err }
	for _, list := range []struct {
		field string
		names []string
		check func(string) error
	}{
		{"/serves", in.Serves, func(a string) error {
			if a == ownAudience {
				return errOwnAudience
			}
			return audience(a)
		}},
		{"/calls", in.Calls, audience},
		{"/actions", in.Actions, func(a string) error { _, err := caveats.Allow(a); return err }},
		{"/rights", in.Rights, func(r string) error {
			if r != RightMint {
				return errNoRight
			}
			return nil
		}},
	} {
		if len(list.names) > 100 {
			return fail(badField(list.field, "at most 100"))
		}
		for i, n := range list.names {
			if err := list.check(n); err != nil {
				return fail(badField(list.field, "number %d: %s", i+1, err))
			}
		}
	}
	// All of them go into one caveat of a token.
	if len(in.Actions) > 0 {
		if _, err := caveats.Allow(unique(in.Actions)...); err != nil {
			return fail(badField("/actions", "all of them together are longer than a caveat"))
		}
	}
	secret, first := newServiceSecret(now)
	rec := storage.Service{
		ID: token.NewID(token.ServicePrefix), Name: name, CreatedAt: now,
		Serves: unique(in.Serves), Calls: unique(in.Calls), Actions: unique(in.Actions), Rights: unique(in.Rights),
		Secrets: []storage.ServiceSecret{first},
	}
	out := serviceOut(rec)
	out.Secret, out.SecretID = secret, first.ID
	return out, rec, nil
}

func unique(in []string) []string {
	out := append([]string{}, in...)
	slices.Sort(out)
	return slices.Compact(out)
}

func serviceOut(r storage.Service) api.Service {
	return api.Service{
		ID: r.ID, Name: r.Name, Serves: unique(r.Serves), Calls: unique(r.Calls),
		Actions: unique(r.Actions), Rights: unique(r.Rights), CreatedAt: api.At(r.CreatedAt),
	}
}

// Services lists the live service credentials, without secrets.
func (s *Service) Services(ctx context.Context) (api.Services, error) {
	list, err := s.store.Services(ctx)
	if err != nil {
		return api.Services{}, err
	}
	out := api.Services{Services: []api.Service{}}
	for _, r := range list {
		v := serviceOut(r)
		v.Secrets = []api.ServiceSecret{}
		for _, secret := range r.Secrets {
			v.Secrets = append(v.Secrets, secretOut(secret))
		}
		out.Services = append(out.Services, v)
	}
	return out, nil
}

// RemoveService ends a credential, every token that was minted with its secrets,
// and the devices of its users: its next request is refused.
func (s *Service) RemoveService(ctx context.Context, id, actor string, src Source) error {
	entries, err := s.store.RemoveService(ctx, id, s.longestServiceToken(), s.eventAbout(EventServiceRemoved, actor, id, src))
	if err := s.ended(ctx, entries, err); err != nil {
		return err
	}
	s.changeServices(func(m map[string]storage.Service) { delete(m, id) })
	return nil
}

// learnServices makes what was added known here without waiting for the follower.
// It reads the table: what was added may be removed by now, and the follower may
// know it, who does not look again. When the table cannot be read, whoever comes
// with the credential finds it (see [Service.AuthenticateService]).
func (s *Service) learnServices(ctx context.Context) {
	s.follow.Lock()
	defer s.follow.Unlock()
	if list, err := s.store.Services(ctx); err == nil {
		s.services.Store(newCredentials(list))
	}
}

// changeServices makes an end known here without waiting for the follower.
func (s *Service) changeServices(change func(map[string]storage.Service)) {
	s.follow.Lock()
	defer s.follow.Unlock()
	next := &credentials{byID: maps.Clone(s.services.Load().byID)}
	change(next.byID)
	s.services.Store(next)
}
