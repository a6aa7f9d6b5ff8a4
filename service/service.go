// Package service is the authority: log in, sign up, recover, list, revoke,
// verify, introspect, and keep the rest of the house.
//
// Why it can be trusted: a token leaves only after one transaction that
// re-read the user and the epoch and stored the root key ID; a revocation is
// answered only after one that is durable, and is in the list in memory before
// the answer. Who is asking is only ever read from the mint caveats of a chain
// that held, or from a service credential whose hash matched. Every security
// event is audited in the transaction that it is about.
//
// What it leaves to others: the wire (httpapi), the database (storage), the
// verdict (verify), configuration (cmd/macaroond). It takes the time from
// [Config.Now], and leaves nothing running but in [Service.Run].
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"macaroond/service/dpop"
	"macaroond/service/keyring"
	"macaroond/service/revocation"
	"macaroond/service/verify"
	"macaroond/storage"
)

// Settings may change while the service runs; see [Service.SetSettings].
type Settings struct {
	Issuer          string        // public URL: the tokens' location
	Audience        string        // the authority's own
	GatewayAudience string        // what /authz judges for when the gateway names none
	Signup          string        // "off", "password" or "device"
	RootTTL         time.Duration // greatest lifetime of a root macaroon: how long a device may be idle
	SessionMax      time.Duration // how long after the login it may be renewed to live; 0 is no limit
	RenewGrace      time.Duration // how long a predecessor may be renewed after its successor was first used
	AccessTTL       time.Duration // lifetime of the narrowed token that login adds when asked
	MaxStaleness    time.Duration // see verify.Verifier
	OnceMaxTTL      time.Duration // how far away the end of a one-time token may be; 0: there are none
	MaxPrefixTTL    time.Duration // how far away the expiry that a prefix covers may be
	FreshLogin      time.Duration // how long after a login with a password or code a device needs no other proof; 0: it always does
	MaxDevices      int           // live devices a user may have
	AuditRetention  time.Duration // audit entries older than this go; 0 keeps all
	Browser         []string      // audiences besides its own for which the cookie's bare root is good
	RotateEvery     time.Duration // how old the signing epoch becomes; 0 leaves rotating to the command
	FormatEnds      []FormatEnd   // of earlier token formats; one that is not named verifies as long as its tokens live
}

// Config is what the service is made of.
type Config struct {
	Store    storage.Store
	Keys     *keyring.SealingKeys
	Hashing  Hashing
	Limits   Limits
	Settings Settings
	Now      func() time.Time // the one clock
	Log      *slog.Logger
}

// Service is the authority. It is safe for concurrent use.
type Service struct {
	store    storage.Store
	sealing  *keyring.SealingKeys
	keyring  *keyring.Keyring
	list     *revocation.List
	hasher   *hasher
	attempts *attempts
	names    *nameCache
	seen     *sightings
	proofs   *dpop.Verifier
	settings atomic.Pointer[Settings]
	services atomic.Pointer[credentials]
	policies atomic.Pointer[policyTable]
	now      func() time.Time
	clock    revocation.Clock // what expires goes by it; without a start in commands
	log      *slog.Logger
	metrics  *Metrics

	follow followState
	heard  atomic.Pointer[chan struct{}] // closed when others know the epoch that signs, too; nil: it signed at the start
	kick   chan struct{}                 // wakes the follower; one is enough
	feed   *feed
}

// followState is where the follower stands in the table of revocations.
type followState struct {
	sync.Mutex
	state  storage.State
	failed bool
}

// Open makes a service that has loaded nothing: for commands on the server,
// which need a database and no keys. Every verdict of it refuses.
func Open(c Config) (*Service, error) {
	s := &Service{
		store:   c.Store,
		sealing: c.Keys,
		keyring: keyring.New(c.Keys),
		list:    revocation.New(),
		now:     c.Now,
		log:     c.Log,
		kick:    make(chan struct{}, 1),
		feed:    newFeed(),
	}
	s.settings.Store(&c.Settings)
	s.services.Store(newCredentials(nil))
	s.policies.Store(new(policyTable))
	s.hasher = newHasher(c.Hashing)
	s.attempts = newAttempts(c.Limits, c.Now)
	s.seen = newSightings()
	s.proofs = dpop.NewVerifier(s.now())
	s.metrics = newMetrics(s)
	var err error
	s.names, err = newNameCache(c.Store)
	return s, err
}

// New opens the authority on a store: it makes the first epoch when there is
// none, opens the epochs, and reads the revocation list to its end. It is an
// error when any of this fails: an authority that does not know what is
// revoked must not start.
func New(ctx context.Context, c Config) (*Service, error) {
	s, err := Open(c)
	if err != nil {
		return nil, err
	}
	_, err = s.store.CreateEpoch(ctx, true, s.sealing.Seal, storage.Event{Time: s.now(), Type: EventEpochCreated, Actor: ActorOperator})
	if err == nil {
		s.proofs = dpop.NewVerifier(time.Time{}) // nobody was here before us, so nothing was accepted that is not known
	} else if !errors.Is(err, storage.ErrEpochExists) {
		return nil, fmt.Errorf("creating the first epoch: %w", err)
	}
	if err := s.CatchUp(ctx); err != nil {
		return nil, err
	}
	if s.keyring.Signing() == 0 {
		return nil, errors.New("the database has no signing epoch")
	}
	return s, nil
}

// Settings are the ones in force.
func (s *Service) Settings() *Settings { return s.settings.Load() }

// SetSettings replaces the settings from the next call on.
func (s *Service) SetSettings(to Settings) { s.settings.Store(&to) }

// Metrics are the service's collectors.
func (s *Service) Metrics() *Metrics { return s.metrics }

// verifier is the verifier under the settings in force.
func (s *Service) verifier() verify.Verifier {
	set := s.Settings()
	v := verify.Verifier{Keys: s.keyring, Revoked: s.list, MaxStaleness: set.MaxStaleness, OnceMax: set.OnceMaxTTL, Sealed: s.keyring}
	if p := s.policies.Load(); len(*p) > 0 {
		v.Policies = *p
	}
	if len(set.FormatEnds) > 0 {
		v.Ended = endedFormats(set.FormatEnds, s.now())
	}
	return v
}

// Revocations is how many live entries the list in memory has.
func (s *Service) Revocations() int { return s.list.Len() }
