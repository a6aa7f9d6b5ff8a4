package httpapi

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"macaroond/service"
	"macaroond/service/api"
)

func (a *authority) loginFrom(address, name, pw string) *reply {
	a.t.Helper()
	body := fmt.Sprintf(`{"username":%q,"password":%q,"device":{"name":"d"}}`, name, pw)
	return a.do(ask{method: "POST", path: "/v1/login", body: body, header: []string{"X-Forwarded-For", address}})
}

// Failures are limited per account and address; the owner elsewhere is not
// kept out, and time heals.
func TestLoginAttempts(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Limits = service.DefaultLimits; s.trust(proxy) })
	a.user("alice")
	const attacker, sameNet, elsewhere = "2001:db8:1:1::7", "2001:db8:1:1:ffff::8", "198.51.100.1"
	for range 10 {
		a.loginFrom(attacker, "alice", "wrong guess").want(401, "bad_credentials")
	}
	for _, from := range []string{attacker, sameNet} { // one subscriber has a /64
		for _, pw := range []string{"wrong guess", password("alice")} { // the right one too: else a 429 would tell
			r := a.loginFrom(from, "ALICE", pw)
			r.want(429, "rate_limited")
			if s, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || s < 1 || s > 60 {
				t.Errorf("Retry-After: %q", r.Header.Get("Retry-After"))
			}
		}
	}
	a.loginFrom(elsewhere, "alice", password("alice")).want(200, "")
	a.loginFrom("2001:db8:1:2::7", "alice", password("alice")).want(200, "")
	a.pass(10 * time.Second)
	a.loginFrom(attacker, "alice", password("alice")).want(200, "") // successes cost nothing
	a.loginFrom(attacker, "alice", password("alice")).want(200, "")
	a.loginFrom(attacker, "alice", "wrong guess").want(401, "bad_credentials")
	a.loginFrom(attacker, "alice", password("alice")).want(429, "rate_limited")
}

// One address is limited over all accounts, and cannot say that it is another.
func TestAddressAttempts(t *testing.T) {
	a := start(t, func(s *setup) {
		s.service.Limits = service.DefaultLimits
		s.service.Limits.Address = service.Rate{Burst: 5, Interval: time.Second}
	})
	a.user("alice")
	for i := range 5 {
		a.loginFrom(fmt.Sprintf("192.0.2.%d", i), fmt.Sprintf("user %d", i), "wrong guess").want(401, "bad_credentials") // X-Forwarded-For of no trusted proxy
	}
	a.loginFrom("192.0.2.9", "alice", password("alice")).want(429, "rate_limited")
	a.post("/v1/recover", "", api.RecoverIn{Username: "alice", Code: "0000-0000-0000-0000", Device: api.DeviceIn{Name: "d"}}).want(429, "rate_limited")
}

func TestSignupAttempts(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Limits = service.DefaultLimits; s.trust(proxy) })
	signup := func(from, name string) *reply {
		return a.do(ask{method: "POST", path: "/v1/signup", body: fmt.Sprintf(`{"username":%q,"device":{"name":"d"}}`, name), header: []string{"X-Forwarded-For", from}})
	}
	signup("192.0.2.1", "taken").want(201, "")
	for range 19 { // asking for taken names counts: it is how names are listed
		signup("192.0.2.1", "taken").want(409, "name_taken")
	}
	r := signup("192.0.2.1", "free")
	if r.want(429, "rate_limited"); r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	signup("192.0.2.2", "free").want(201, "")
}

// gauge reads one of the service's metrics.
func (a *authority) gauge(name string) float64 {
	reg := prometheus.NewRegistry()
	reg.MustRegister(a.svc.Metrics().Collectors()...)
	for _, f := range must(reg.Gather()) {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	a.t.Fatal("no metric " + name)
	return 0
}

// A full hashing pool is a 503 at once, for whoever comes next, and spends no
// memory on them.
func TestHashingPoolIsFull(t *testing.T) {
	a := start(t, func(s *setup) {
		s.service.Hashing = service.Hashing{MemoryKiB: 32 << 10, Time: 20, Threads: 1, Pool: 1, Queue: 0}
	})
	var first sync.WaitGroup
	first.Go(func() {
		a.loginFrom("", "nobody", "wrong guess").want(401, "bad_credentials")
	})
	for a.gauge("macaroond_hashing_in_progress") == 0 { // its hash takes half a second and more
		runtime.Gosched()
	}
	begin := time.Now()
	r := a.loginFrom("", "alice", password("alice"))
	took := time.Since(begin)
	r.want(503, "busy")
	if r.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %q", r.Header.Get("Retry-After"))
	}
	a.post("/v1/signup", "", api.SignupIn{Username: "x", Password: "long enough", Device: api.DeviceIn{Name: "d"}}).want(503, "busy")
	if a.gauge("macaroond_hashing_in_progress") == 0 {
		t.Error("the first was over before the second was answered")
	}
	if took > time.Second {
		t.Errorf("busy was said after %v", took)
	}
	// … and what needs no hash is answered meanwhile.
	a.post("/v1/signup", "", api.SignupIn{Username: "x", Device: api.DeviceIn{Name: "d"}}).want(201, "")
	first.Wait()
	a.loginFrom("", "nobody", "wrong guess").want(401, "bad_credentials")
}

// An unknown user costs what a wrong password does. The samples take turns, so
// that the machine's moods fall on all alike; a class that skipped the hash
// would be at a tenth of the others, and the bound is at half.
func TestUnknownUserTakesTheSameTime(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Hashing = service.Hashing{MemoryKiB: 16 << 10, Time: 1, Threads: 1, Pool: 1} })
	a.user("alice")
	a.post("/v1/signup", "", api.SignupIn{Username: "device only", Device: api.DeviceIn{Name: "d"}}).want(201, "")
	classes := []struct{ what, name, password string }{
		{"a wrong password", "alice", "wrong guess"},
		{"an unknown user", "nobody", "wrong guess"},
		{"a user without a password", "device only", "wrong guess"},
		{"an empty password", "alice", ""},
		{"an endless password", "alice", strings.Repeat("p", 2000)},
	}
	times := make([][]time.Duration, len(classes))
	for range 30 {
		for i, c := range classes {
			begin := time.Now()
			a.loginFrom("", c.name, c.password).want(401, "bad_credentials")
			times[i] = append(times[i], time.Since(begin))
		}
	}
	median := func(i int) time.Duration { slices.Sort(times[i]); return times[i][len(times[i])/2] }
	for i, c := range classes {
		if m, ref := median(i), median(0); m < ref/2 || m > 2*ref {
			t.Errorf("%s takes %v, a wrong password %v", c.what, m, ref)
		}
	}
}
