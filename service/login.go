package service

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// errBadCredentials is the one answer for an unknown user and a wrong
// password or code.
func errBadCredentials() error {
	return refuse(api.CodeBadCredentials, "the name or the password is wrong")
}

// Login checks a password and mints a root macaroon for the device. The answer
// and its time are the same for an unknown user and for a wrong password.
func (s *Service) Login(ctx context.Context, in api.LoginIn, src Source) (api.Grant, error) {
	if err := s.checkMode(in.Mode); err != nil {
		return api.Grant{}, err
	}
	ttl, err := s.ttl(in.TTL)
	if err != nil {
		return api.Grant{}, err
	}
	if in.Audience != "" && in.Mode == api.ModeCookie {
		return api.Grant{}, badField("/audience", "no token comes in the mode \"cookie\": a page asks for a ticket")
	}
	access, err := accessTo(in.Audience)
	if err != nil {
		return api.Grant{}, err
	}
	if in.Username == "" {
		return api.Grant{}, badField("/username", "no name: send username and password, or HTTP Basic")
	}
	device, key, attempt, err := s.begin(ctx, in.Username, in.Device, src, s.attempts.try)
	if err != nil {
		return api.Grant{}, err
	}
	defer attempt.end()
	if s.hasher.full() {
		return api.Grant{}, errBusy() // whoever comes too many is not even looked up
	}
	var user storage.User
	var grant api.Grant
	var ok, current bool
	for again := false; ; again = true {
		user, ok, current, err = s.checkLogin(ctx, key, in.Password)
		if err != nil {
			return api.Grant{}, err
		}
		if !ok {
			s.loginFailed(ctx, attempt, EventLoginFailed, user.ID, src)
			return api.Grant{}, errBadCredentials()
		}
		grant, err = s.issue(ctx, user, storage.IssueDevice{Device: device, PasswordHash: &user.PasswordHash}, ttl, s.eventOf(EventLogin, user.ID, src))
		// Changed while it was judged; or hashed anew by another login, and the same.
		if again || !errors.Is(err, storage.ErrPasswordChanged) {
			break
		}
	}
	if err == nil && in.Mode == api.ModeCookie {
		err = s.intoCookie(&grant)
	}
	if errors.Is(err, storage.ErrPasswordChanged) || errors.Is(err, storage.ErrNotFound) { // changed, or deleted, meanwhile
		err = errBadCredentials()
	}
	if err != nil {
		s.metrics.logins.WithLabelValues("refused").Inc()
		return api.Grant{}, err
	}
	if err := s.addAccess(&grant, access); err != nil {
		return api.Grant{}, err
	}
	if !current {
		s.rehash(ctx, user, in.Password)
	}
	s.metrics.logins.WithLabelValues("ok").Inc()
	return grant, nil
}

// loginFailed counts and audits an attempt that was judged and is wrong. user is
// whose account was tried; empty for nobody's.
func (s *Service) loginFailed(ctx context.Context, attempt *attempt, kind, user string, src Source) {
	attempt.fail()
	s.metrics.logins.WithLabelValues("refused").Inc()
	s.note(ctx, s.eventAbout(kind, "", user, src))
}

// checkLogin reports whether a password is the one of the user of that name, at the
// same price for a name that is nobody's; current as [hasher.verify] has it.
func (s *Service) checkLogin(ctx context.Context, key, password string) (user storage.User, ok, current bool, err error) {
	user, err = s.store.UserByNameKey(ctx, key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return user, false, false, err
	}
	known := user.PasswordHash
	if known == "" {
		if known, err = s.decoy(ctx, key); err != nil {
			return user, false, false, err
		}
	}
	ok, current, err = s.hasher.verify(ctx, password, known)
	return user, ok && user.PasswordHash != "", current, err
}

// ttl is the lifetime that is asked for; 0 is root_ttl.
func (s *Service) ttl(seconds int64) (time.Duration, error) {
	if most := int64(s.Settings().RootTTL / time.Second); seconds < 0 || seconds > most {
		return 0, badField("/ttl", "ttl is 1 to %d seconds", most)
	}
	return time.Duration(seconds) * time.Second, nil
}

// decoy is verified for a name that has no password, be it nobody's. It is as
// costly as that of some user, the same one each time: while hashes of different
// costs are stored, names without one are of each kind as often as names with one.
func (s *Service) decoy(ctx context.Context, nameKey string) (string, error) {
	point := token.UserPrefix + base64.RawURLEncoding.EncodeToString(s.sealing.StandIn(nameKey))
	phc, err := s.store.PasswordFrom(ctx, point)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	return s.hasher.like(phc), err
}

// rehash keeps a password that was just right under the costs that are
// configured now. Nobody waits for it in vain: the login has succeeded.
func (s *Service) rehash(ctx context.Context, user storage.User, password string) {
	phc, err := s.hasher.hash(ctx, password)
	if err == nil {
		ev := s.eventAbout(EventRehashed, "", user.ID, Source{}) // nobody set a password
		_, err = s.store.SetPassword(ctx, storage.SetPassword{UserID: user.ID, Hash: phc, Was: &user.PasswordHash}, ev)
	}
	if err != nil {
		s.log.Warn("a password keeps its former hash", "error", err)
	}
}

// Signup makes a user with a first device, where that is enabled. Without a
// password (where "device" is enabled) the device's token is the only
// credential, but for the recovery codes, which everybody gets.
func (s *Service) Signup(ctx context.Context, in api.SignupIn, src Source) (api.Grant, error) {
	mode := s.Settings().Signup
	if mode != "password" && mode != "device" {
		return api.Grant{}, refuse(api.CodeSignupOff, "sign-up is off here")
	}
	if err := s.checkMode(in.Mode); err != nil {
		return api.Grant{}, err
	}
	name, key, err := s.newName(ctx, "/username", in.Username, true)
	if err != nil {
		return api.Grant{}, err
	}
	device, err := deviceOf(in.Device)
	if err != nil {
		return api.Grant{}, err
	}
	if in.Password == "" && mode != "device" {
		return api.Grant{}, badField("/password", "a password is needed")
	}
	if in.Password != "" {
		if err := checkPassword(in.Password, key); err != nil {
			return api.Grant{}, err
		}
	}
	if err := s.attempts.signup(src.address()); err != nil {
		return api.Grant{}, err
	}
	user := storage.User{ID: token.NewID(token.UserPrefix), Name: name, NameKey: key, CreatedAt: s.now()}
	first := storage.IssueDevice{Device: device}
	if in.Password != "" {
		if user.PasswordHash, err = s.hasher.hash(ctx, in.Password); err != nil {
			return api.Grant{}, err
		}
		first.PasswordHash = &user.PasswordHash // it was shown a moment ago
	}
	codes, hashes := newRecoveryCodes(user.ID)
	grant, err := s.mint(ctx, user, 0, first, func(d storage.IssueDevice) (storage.Device, error) {
		return s.store.CreateUser(ctx, user, hashes, &d, s.eventOf(EventSignup, user.ID, src))
	})
	if err == nil && in.Mode == api.ModeCookie {
		err = s.intoCookie(&grant)
	}
	if err != nil {
		return api.Grant{}, err
	}
	s.metrics.logins.WithLabelValues("signup").Inc()
	grant.RecoveryCodes = codes
	return grant, nil
}

// begin is how every attempt to log in begins: whose, from which device, and
// whether one more is allowed; limited says so for those from elsewhere than the
// user's own installs.
func (s *Service) begin(ctx context.Context, username string, from api.DeviceIn, src Source, limited func(account, ip string) (*attempt, error)) (device storage.Device, key string, t *attempt, err error) {
	if device, err = deviceOf(from); err != nil {
		return device, "", nil, err
	}
	if key, err = s.soughtName(ctx, username); err != nil {
		return device, "", nil, err
	}
	own, err := s.ownInstall(ctx, key, device.InstallID)
	if err != nil {
		return device, "", nil, err
	}
	if own {
		t, err = s.attempts.own(key, device.InstallID)
	} else {
		t, err = limited(key, src.address())
	}
	if err != nil {
		s.metrics.logins.WithLabelValues("limited").Inc()
	}
	return device, key, t, err
}

// Recover takes a one-time recovery code instead of a password. All the user's
// other devices are revoked.
//
// A code is 80 random bits, which no number of tries finds, and for somebody
// without any other device it is the only way in: so there is no limit by
// account, which strangers could use up.
func (s *Service) Recover(ctx context.Context, in api.RecoverIn, src Source) (api.Grant, error) {
	if err := s.checkMode(in.Mode); err != nil {
		return api.Grant{}, err
	}
	byAddress := func(_, ip string) (*attempt, error) { return s.attempts.address(ip) }
	device, key, attempt, err := s.begin(ctx, in.Username, in.Device, src, byAddress)
	if err != nil {
		return api.Grant{}, err
	}
	defer attempt.end()
	user, err := s.store.UserByNameKey(ctx, key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return api.Grant{}, err
	}
	known := user.ID
	if err != nil {
		known, user.ID = "", "usr_" // nobody's: the same transaction fails for a stranger as for a wrong code
	}
	hash := recoveryHash(user.ID, in.Code)
	grant, err := s.issue(ctx, user, storage.IssueDevice{Device: device, RecoveryCode: &hash}, 0, s.eventOf(EventRecovered, user.ID, src))
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrCodeUnknown) {
		s.loginFailed(ctx, attempt, EventRecoveryFailed, known, src)
		return api.Grant{}, refuse(api.CodeBadCredentials, "the name or the code is wrong")
	}
	if err == nil && in.Mode == api.ModeCookie {
		err = s.intoCookie(&grant)
	}
	if err == nil {
		s.metrics.logins.WithLabelValues("recovery").Inc()
	}
	return grant, err
}

// issue stores the device and mints. Revocations that the transaction made (a
// replaced or evicted device, a recovery) are in memory before it returns.
func (s *Service) issue(ctx context.Context, user storage.User, in storage.IssueDevice, ttl time.Duration, ev storage.Event) (api.Grant, error) {
	return s.mint(ctx, user, ttl, in, func(in storage.IssueDevice) (storage.Device, error) {
		stored, revoked, err := s.store.IssueDevice(ctx, in, ev)
		if in.RecoveryCode != nil {
			return stored, s.ended(ctx, revoked, err)
		}
		s.revoked(revoked...)
		return stored, err
	})
}

// deviceOf takes what a client says of its device.
func deviceOf(in api.DeviceIn) (storage.Device, error) {
	d := storage.Device{ID: token.NewID(token.DevicePrefix), Name: "unnamed device", InstallID: in.InstallID}
	if in.Name != "" {
		name, err := shownName("/device/name", in.Name)
		if err != nil {
			return d, err
		}
		d.Name = name
	}
	if len(in.InstallID) > 128 || strings.ContainsFunc(in.InstallID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return d, badField("/device/install_id", "an install_id is 1 to 128 printable ASCII characters without space")
	}
	return d, nil
}
