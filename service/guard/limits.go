package guard

import (
	"math"
	"net/netip"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"macaroond/service/api"
)

// limits bound what strangers can make the guard ask.
type limits struct {
	all    *rate.Limiter
	each   float64 // a second
	client *cache[netip.Addr, *rate.Limiter]
}

func (l *limits) init(all, each float64) (err error) {
	l.all, l.each = limiter(all), each
	l.client, err = otter.New(&otter.Options[netip.Addr, *rate.Limiter]{
		MaximumSize: 10_000, ExpiryCalculator: otter.ExpiryAccessing[netip.Addr, *rate.Limiter](time.Minute),
	})
	return err
}

// limiter lets so many through a second. Its burst is a second's worth, and at
// least one; what no counter holds is no limit.
func limiter(each float64) *rate.Limiter {
	each = min(each, math.MaxInt32)
	return rate.NewLimiter(rate.Limit(each), int(max(each, 1)))
}

// allow counts a question that a client's token causes. IPv6 addresses count by
// their /64: whoever has one of those has all of them.
func (l *limits) allow(from netip.Addr, now time.Time) *api.Refusal {
	if from = from.Unmap(); from.Is6() {
		network, _ := from.Prefix(64)
		from = network.Addr()
	}
	mine, _ := l.client.ComputeIfAbsent(from, func() (*rate.Limiter, bool) {
		return limiter(l.each), false
	})
	if !mine.AllowN(now, 1) {
		return &api.Refusal{Code: api.CodeRateLimited, Reason: "too many tokens from this address that are not known yet", RetryAfter: time.Second}
	}
	if !l.all.AllowN(now, 1) {
		return &api.Refusal{Code: api.CodeBusy, Reason: "too many tokens that are not known yet", RetryAfter: time.Second}
	}
	return nil
}
