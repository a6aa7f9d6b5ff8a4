package service

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

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

// Rate is a token bucket's.
type Rate struct {
	Burst    int
	Interval time.Duration // until one more is allowed
}

// DefaultLimits suit a service that people log in to by hand.
var DefaultLimits = Limits{
	AccountAddress: Rate{10, 10 * time.Second},
	Account:        Rate{100, 2 * time.Second},
	Address:        Rate{100, time.Second},
	Signup:         Rate{20, 10 * time.Second},
}

// bucket knows when it is full again: each token that is taken puts that off by
// an interval.
type bucket struct {
	rate   Rate
	full   time.Time
	judged int // tokens that attempts hold which may give them back
}

// wait is how long there is no token to take, if none is given back before. A
// bucket misses no more than it holds, also when the clock was set back.
func (b *bucket) wait(now time.Time) time.Duration {
	all := time.Duration(b.rate.Burst) * b.rate.Interval
	missing := min(max(b.full.Sub(now), 0), all)
	b.full = now.Add(missing)
	return missing - (all - b.rate.Interval)
}

// crowded reports that there is a token as soon as the attempts that are being
// judged have come to nothing.
func (b *bucket) crowded(wait time.Duration) bool {
	return wait <= time.Duration(b.judged)*b.rate.Interval
}

func (b *bucket) take() {
	b.judged++
	b.full = b.full.Add(b.rate.Interval)
}

func (b *bucket) settle(failed bool) {
	b.judged--
	if !failed {
		b.full = b.full.Add(-b.rate.Interval)
	}
}

// attempts keeps the buckets: bounded in number, the least used forgotten
// first.
type attempts struct {
	limits  Limits
	now     func() time.Time
	mu      sync.Mutex // for what is in all buckets: an attempt takes a token of each of its own, or none
	buckets *otter.Cache[[32]byte, *bucket]
}

func newAttempts(l Limits, now func() time.Time) *attempts {
	return &attempts{limits: l, now: now, buckets: otter.Must(&otter.Options[[32]byte, *bucket]{MaximumSize: 100_000})}
}

// attempt is one that is being judged. It took its tokens when it began, so that
// as many are judged at once as may fail, and no more.
type attempt struct {
	of     *attempts
	holds  []*bucket
	failed bool
}

// fail keeps the tokens: the attempt counts.
func (t *attempt) fail() { t.failed = true }

// end gives the tokens back, unless the attempt failed: it succeeded, or nobody
// judged it. One that never ends counts as failed.
func (t *attempt) end() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	for _, b := range t.holds {
		b.settle(t.failed)
	}
	t.holds = nil
}

// limit names a bucket. What names it was sent by strangers, in any length, so
// only its hash is kept.
type limit struct {
	key  [32]byte
	rate Rate
}

func limitOf(r Rate, names ...string) limit {
	return limit{sha256.Sum256([]byte(strings.Join(names, "\x00"))), r}
}

// begin takes a token of each bucket, or says how long one of them has none: that
// there were too many (429), or that there are too many at this moment (503).
// Buckets after that one are not even made: an address that is refused forgets
// nobody's.
func (a *attempts) begin(what string, limits ...limit) (*attempt, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	t := &attempt{of: a}
	for _, l := range limits {
		b, _ := a.buckets.ComputeIfAbsent(l.key, func() (*bucket, bool) { return &bucket{rate: l.rate, full: now}, false })
		if wait := b.wait(now); wait > 0 {
			if b.crowded(wait) {
				return nil, &Error{Code: api.CodeBusy, Detail: "too many attempts at once", RetryAfter: time.Second}
			}
			return nil, &Error{Code: api.CodeRateLimited, Detail: "too many " + what, RetryAfter: wait}
		}
		t.holds = append(t.holds, b)
	}
	for _, b := range t.holds {
		b.take()
	}
	return t, nil
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

const failures = "failed attempts"

// try begins an attempt at what can be guessed.
func (a *attempts) try(account, ip string) (*attempt, error) {
	return a.begin(failures, a.net(ip), a.both(account, ip), limitOf(a.limits.Account, "account", account))
}

// near is try without the limit of the account from everywhere, for secrets
// that bear only so many tries themselves.
func (a *attempts) near(account, ip string) (*attempt, error) {
	return a.begin(failures, a.net(ip), a.both(account, ip))
}

// address limits by the address alone, for secrets that no number of tries finds.
func (a *attempts) address(ip string) (*attempt, error) { return a.begin(failures, a.net(ip)) }

// own is for an attempt from what is known to be the account's own device or
// install: it has a bucket that strangers cannot empty, and empties none of
// theirs.
func (a *attempts) own(account, device string) (*attempt, error) {
	return a.begin(failures, limitOf(a.limits.AccountAddress, "own", account, device))
}

// lent is for an attempt with a narrowed token of the account's device, which
// whoever holds it may have from the owner: it empties no bucket of own.
func (a *attempts) lent(account, device string) (*attempt, error) {
	return a.begin(failures, limitOf(a.limits.AccountAddress, "lent", account, device))
}

func (a *attempts) both(account, ip string) limit {
	return limitOf(a.limits.AccountAddress, "both", account, network(ip))
}

func (a *attempts) net(ip string) limit { return limitOf(a.limits.Address, "address", network(ip)) }

// signup counts one sign-up.
func (a *attempts) signup(ip string) error {
	return a.count("sign-ups from this address", limitOf(a.limits.Signup, "signup", network(ip)))
}

// admin counts one refusal of somebody who is no administrator.
func (a *attempts) admin(user string) error {
	return a.count("refusals", limitOf(a.limits.AccountAddress, "admin", user))
}

// count is for what takes a token whatever comes of it.
func (a *attempts) count(what string, l limit) error {
	t, err := a.begin(what, l)
	if err == nil {
		t.fail()
		t.end()
	}
	return err
}

// minInstall is how long an install ID is at least to count as the owner's:
// what an attacker can guess would only give them a bucket more.
const minInstall = 16

// ownInstall reports whether an attempt to log in is from an install that is one of
// the user's devices, which an attacker cannot name. It has its own bucket: however
// many others guess at the account, its owner gets in from there. Whether the user
// exists, and whether it has such an install, is one question to the database.
func (s *Service) ownInstall(ctx context.Context, key, install string) (bool, error) {
	if len(install) < minInstall {
		return false, nil
	}
	return s.store.OwnInstall(ctx, key, install)
}
