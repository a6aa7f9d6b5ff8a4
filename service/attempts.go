package service

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"macaroond/service/api"
)

// Limits bound how often a password or code may be tried, and names be asked
// for. Only failures count, so that nobody is kept out by logging in often.
// Each is a token bucket: a burst, and one more per interval.
type Limits struct {
	AccountAddress Rate // one account from one address
	Account        Rate // one account from everywhere
	Address        Rate // one address (IPv6: its /64), all accounts
	Signup         Rate // sign-ups from one address, taken or not
}

// Rate is a token bucket.
type Rate struct {
	Burst    int
	Interval time.Duration // until one more is allowed
}

func (r Rate) limiter() *rate.Limiter { return rate.NewLimiter(rate.Every(r.Interval), r.Burst) }

// DefaultLimits suit a service that people log in to by hand.
var DefaultLimits = Limits{
	AccountAddress: Rate{10, 10 * time.Second},
	Account:        Rate{100, 2 * time.Second},
	Address:        Rate{100, time.Second},
	Signup:         Rate{20, 10 * time.Second},
}

// attempts keeps the buckets: bounded in number, the least used forgotten
// first.
type attempts struct {
	limits  Limits
	buckets *otter.Cache[[32]byte, *rate.Limiter]
}

func newAttempts(l Limits) *attempts {
	return &attempts{l, otter.Must(&otter.Options[[32]byte, *rate.Limiter]{MaximumSize: 100_000})}
}

// bucket finds or makes one. The key holds what a stranger sent, of any
// length, so only its hash is kept.
func (a *attempts) bucket(key string, r Rate) *rate.Limiter {
	l, _ := a.buckets.ComputeIfAbsent(sha256.Sum256([]byte(key)), func() (*rate.Limiter, bool) { return r.limiter(), false })
	return l
}

// network is the part of an address that one subscriber has.
func network(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil || addr.Unmap().Is4() {
		return ip
	}
	p, _ := addr.Prefix(64)
	return p.String()
}

// try says whether an attempt may be made now; fail counts it. The check and
// the count are apart, so up to a pool's worth of attempts may overshoot.
func (a *attempts) try(now time.Time, account, ip string) (fail func(), err error) {
	net := network(ip)
	return allow(now, a.both(account, net), limited{a.bucket("account\x00"+account, a.limits.Account), a.limits.Account}, a.net(net))
}

// near is try without the limit of the account from everywhere, for secrets
// that bear only so many tries themselves.
func (a *attempts) near(now time.Time, account, ip string) (fail func(), err error) {
	net := network(ip)
	return allow(now, a.both(account, net), a.net(net))
}

// address limits by the address alone, for secrets that no number of tries finds.
func (a *attempts) address(now time.Time, ip string) (fail func(), err error) {
	return allow(now, a.net(network(ip)))
}

// own is for an attempt from what is known to be the account's own device or
// install: it has a bucket that strangers cannot empty, and empties none of
// theirs.
func (a *attempts) own(now time.Time, account, device string) (fail func(), err error) {
	return allow(now, limited{a.bucket("own\x00"+account+"\x00"+device, a.limits.AccountAddress), a.limits.AccountAddress})
}

func (a *attempts) both(account, net string) limited {
	return limited{a.bucket("both\x00"+account+"\x00"+net, a.limits.AccountAddress), a.limits.AccountAddress}
}

func (a *attempts) net(net string) limited {
	return limited{a.bucket("address\x00"+net, a.limits.Address), a.limits.Address}
}

type limited struct {
	bucket *rate.Limiter
	rate   Rate
}

func allow(now time.Time, buckets ...limited) (fail func(), err error) {
	for _, b := range buckets {
		if b.bucket.TokensAt(now) < 1 {
			return nil, &Error{Code: api.CodeRateLimited, Detail: "too many failed attempts", RetryAfter: max(b.rate.Interval, time.Second)}
		}
	}
	return func() {
		for _, b := range buckets {
			b.bucket.AllowN(now, 1)
		}
	}, nil
}

// minInstall is how long an install ID is at least to count as the owner's:
// what an attacker can guess would only give them a bucket more.
const minInstall = 16

// tryLogin is attempts.try, but for an attempt from an install that is one of
// the user's devices, which an attacker cannot name: however many others guess
// at the account, its owner gets in from there. Whether the user exists, and
// whether it has such an install, is one question to the database.
func (s *Service) tryLogin(ctx context.Context, key, install string, src Source) (fail func(), err error) {
	if len(install) >= minInstall {
		own, err := s.store.OwnInstall(ctx, key, install)
		if err != nil {
			return nil, err
		}
		if own {
			return s.attempts.own(s.now(), key, install)
		}
	}
	return s.attempts.try(s.now(), key, src.address())
}

// signup counts one sign-up.
func (a *attempts) signup(now time.Time, ip string) error {
	if !a.bucket("signup\x00"+network(ip), a.limits.Signup).AllowN(now, 1) {
		return &Error{Code: api.CodeRateLimited, Detail: "too many sign-ups from this address", RetryAfter: max(a.limits.Signup.Interval, time.Second)}
	}
	return nil
}
