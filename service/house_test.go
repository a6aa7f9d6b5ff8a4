package service

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// What was seen is written down every so often, and when the service ends.
func TestHouseWritesDownWhatWasSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	synctest.Test(t, func(t *testing.T) {
		k := newFeedKit(t, path)
		k.SetSettings(Settings{Issuer: "https://auth.example", Audience: "macaroond", Signup: "device", RootTTL: time.Hour, MaxStaleness: time.Minute, MaxDevices: 10})
		g, err := k.Signup(t.Context(), api.SignupIn{Username: "ann", Device: api.DeviceIn{Name: "d"}}, Source{})
		if err != nil {
			t.Fatal(err)
		}
		use := func() time.Time {
			t.Helper()
			time.Sleep(time.Second)
			if _, err := k.Authorize(t.Context(), Shown{Token: g.Token, Facts: caveats.Request{Actions: []string{"devices:list"}}, Bare: true}); err != nil {
				t.Fatal(err)
			}
			return time.Now()
		}
		seen := func(what string, want time.Time) {
			t.Helper()
			d, err := k.store.Device(t.Context(), g.User.ID, g.Device.ID)
			if err != nil || !d.LastSeenAt.Equal(want) {
				t.Errorf("%s: seen %v, want %v (%v)", what, d.LastSeenAt, want, err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ended := make(chan struct{})
		go func() { k.Run(ctx); close(ended) }()
		at := use()
		time.Sleep(seenInterval)
		seen("in time", at)
		at = use()
		stop()
		<-ended
		seen("at the end", at)
	})
}

// sweepings is how much went in one transaction.
type sweepings struct {
	storage.Store
	most storage.Expired
}

func (s *sweepings) Expire(ctx context.Context, in storage.Expire) (storage.Expired, error) {
	out, err := s.Store.Expire(ctx, in)
	s.most.Revocations, s.most.Audit = max(s.most.Revocations, out.Revocations), max(s.most.Audit, out.Audit)
	return out, err
}

// Of what has had its time nothing is left, however much it is; entries of the
// audit have none unless one is configured. It goes in small steps, for a login
// that comes meanwhile waits for one.
func TestSweep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	k := newFeedKit(t, path)
	steps := &sweepings{Store: k.store}
	k.Service.store = steps
	insert(t, path, 2*expireLimit)
	k.catchUp()
	now := time.Now()
	check := func(at, retention time.Duration, revocations, entries int) {
		t.Helper()
		k.SetSettings(Settings{MaxStaleness: time.Minute, AuditRetention: retention})
		k.Sweep(t.Context(), now.Add(at))
		listed := 0
		for _, err := range k.store.Revocations(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			listed++
		}
		audit, err := k.store.Audit(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		if listed != revocations || k.list.Len() != revocations || len(audit) != entries {
			t.Errorf("after %v: %d revocations, %d in memory, and %d entries of the audit", at, listed, k.list.Len(), len(audit))
		}
	}
	check(23*time.Hour, 0, 2*expireLimit, 1) // that of the first epoch
	check(25*time.Hour, 26*time.Hour, 0, 1)
	check(25*time.Hour, 24*time.Hour, 0, 0)
	if steps.most.Revocations > 1000 || steps.most.Audit != 1 {
		t.Errorf("in one transaction went %+v", steps.most)
	}
}

// A clock that was wrong at the start deletes no revocation: nothing goes before
// it can have been set, nor while it is seen to be wrong.
func TestNothingExpiresSoonAfterAStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	synctest.Test(t, func(t *testing.T) {
		k := newFeedKit(t, path)
		over := func(n byte, in time.Duration) {
			entries, err := k.store.RevokeRootKey(t.Context(), [16]byte{n}, time.Now().Add(in), storage.Event{Time: time.Now(), Type: "test"})
			if err != nil {
				t.Fatal(err)
			}
			k.revoked(entries...)
		}
		over(1, -time.Hour)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { k.keepHouse(ctx); close(ended) }()
		defer func() { stop(); <-ended }()
		time.Sleep(settle - time.Second)
		if k.list.Len() != 1 {
			t.Error("it is gone before the clock is trusted")
		}
		time.Sleep(sweepInterval + time.Second)
		if k.list.Len() != 0 {
			t.Error("it stays for ever")
		}
		// Nor while the wall clock has jumped: it is as if it had begun two hours before.
		over(2, time.Second)
		begun := time.Now().Add(-time.Hour)
		k.clock.Start(begun, begun.Add(-2*time.Hour))
		time.Sleep(storage.ClockSkew + 2*sweepInterval)
		if got := gauge(t, k.metrics.clockJumped); k.list.Len() != 1 || got != 1 {
			t.Errorf("%d entries while the clock has jumped, and the metric says %v", k.list.Len(), got)
		}
		k.clock.Start(begun, begun)
		time.Sleep(storage.ClockSkew + 2*sweepInterval)
		if got := gauge(t, k.metrics.clockJumped); k.list.Len() != 0 || got != 0 {
			t.Errorf("%d entries when it has not, and the metric says %v", k.list.Len(), got)
		}
	})
}

// What seems to be over while the wall clock has jumped ahead is put on the list all
// the same: it is good again when the clock is set right, and somebody was told
// that it is revoked.
func TestRevokedWhileTheClockIsAhead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	synctest.Test(t, func(t *testing.T) {
		k := newFeedKit(t, path)
		k.SetSettings(Settings{Issuer: "https://auth.example", Audience: "macaroond", Signup: "device", RootTTL: time.Hour, MaxStaleness: 24 * time.Hour, MaxDevices: 10})
		g, err := k.Signup(t.Context(), api.SignupIn{Username: "ann", Device: api.DeviceIn{Name: "d"}}, Source{})
		if err != nil {
			t.Fatal(err)
		}
		root, err := token.Parse(g.Token)
		if err != nil {
			t.Fatal(err)
		}
		branch, err := token.Attenuate(root, caveats.TimeBefore(time.Now().Add(10*time.Minute)).String(), "audience photos")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.Sleep(2 * time.Hour)
		now := time.Now()
		for _, row := range []struct {
			what string
			tok  *token.Token
		}{{"a branch", branch}, {"a device", root}} {
			revoke := func() int {
				t.Helper()
				before := k.list.Len()
				if _, err := k.Revoke(t.Context(), row.tok.Text(), nil, Source{}); err != nil {
					t.Fatalf("%s: %v", row.what, err)
				}
				return k.list.Len() - before
			}
			k.clock.Start(start, start)
			if n := revoke(); n != 0 {
				t.Errorf("%s that is over: %d entries", row.what, n)
			}
			k.clock.Start(now.Add(-time.Minute), start) // so much has passed by the monotonic clock
			if n := revoke(); n != 1 {
				t.Errorf("%s that seems to be over: %d entries", row.what, n)
			}
		}
		// By its caveats a branch is revoked under every root that may be good by then.
		asked := &rootsAsked{Store: k.store}
		k.Service.store = asked
		v := k.verifier()
		chain, who, code := v.Authenticate(root.Text())
		if code != "" {
			t.Fatal(code)
		}
		if _, err := k.RevokeByCaveats(t.Context(), &Caller{who, chain}, []string{"audience photos"}, Source{}); err != nil {
			t.Fatal(err)
		}
		if want := start.Add(time.Minute - storage.ClockSkew); !asked.since.Equal(want) {
			t.Errorf("asked for roots that were good at %v, want %v", asked.since, want)
		}
	})
}

func gauge(t *testing.T, g prometheus.Gauge) float64 {
	t.Helper()
	all := prometheus.NewRegistry()
	all.MustRegister(g)
	got, err := all.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return got[0].GetMetric()[0].GetGauge().GetValue()
}

// rootsAsked keeps since when the roots of a device were asked for.
type rootsAsked struct {
	storage.Store
	since time.Time
}

func (r *rootsAsked) Roots(ctx context.Context, key [16]byte, since time.Time) ([]storage.Root, bool, error) {
	r.since = since
	return r.Store.Roots(ctx, key, since)
}
