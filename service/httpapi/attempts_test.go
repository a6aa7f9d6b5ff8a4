package httpapi

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
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

// atOnce sends n in parallel and counts the answers by status.
func (a *authority) atOnce(n int, send func(i int) *reply) map[int]int {
	a.t.Helper()
	replies := make([]*reply, n)
	var sending sync.WaitGroup
	for i := range n {
		sending.Go(func() { replies[i] = send(i) })
	}
	sending.Wait()
	got := map[int]int{}
	for _, r := range replies {
		if got[r.StatusCode]++; r.StatusCode == 429 {
			again, err := strconv.Atoi(r.Header.Get("Retry-After"))
			if r.want(429, "rate_limited"); err != nil || again < 1 || again > 10 {
				a.t.Errorf("Retry-After: %q", r.Header.Get("Retry-After"))
			}
		}
	}
	return got
}

// The limits hold to the number for whoever sends everything at once: no more
// are judged than may fail, and one more when an interval has passed.
func TestAttemptsInParallel(t *testing.T) {
	limits := service.DefaultLimits
	const own = "3f9c2b6c4e8a4f0c9d51"
	one := func(int) string { return "192.0.2.1" }
	many := func(i int) string { return fmt.Sprintf("192.0.2.%d", i) }
	post := func(path, format string, args ...any) ask {
		return ask{method: "POST", path: path, body: fmt.Sprintf(format, args...)}
	}
	for _, row := range []struct {
		what   string
		ask    func(alice api.Grant, i int) ask
		from   func(i int) string
		status int // of one that was judged
		rate   service.Rate
	}{
		{"passwords of one account from one address", func(_ api.Grant, i int) ask {
			return post("/v1/login", `{"username":"alice","password":"guess %d","device":{"name":"d"}}`, i)
		}, one, 401, limits.AccountAddress},
		{"passwords of nobody's account from one address", func(_ api.Grant, i int) ask {
			return post("/v1/login", `{"username":"nobody","password":"guess %d","device":{"name":"d"}}`, i)
		}, one, 401, limits.AccountAddress},
		{"passwords of one account from everywhere", func(_ api.Grant, i int) ask {
			return post("/v1/login", `{"username":"alice","password":"guess %d","device":{"name":"d"}}`, i)
		}, many, 401, limits.Account},
		{"passwords of all accounts from one address", func(_ api.Grant, i int) ask {
			return post("/v1/login", `{"username":"user %d","password":"wrong guess","device":{"name":"d"}}`, i)
		}, one, 401, limits.Address},
		{"passwords from the user's own install", func(_ api.Grant, i int) ask {
			return post("/v1/login", `{"username":"alice","password":"guess %d","device":{"name":"d","install_id":%q}}`, i, own)
		}, many, 401, limits.AccountAddress},
		{"recovery codes from one address", func(_ api.Grant, i int) ask {
			return post("/v1/recover", `{"username":"alice","code":"0000-0000-0000-%04d","device":{"name":"d"}}`, i)
		}, one, 401, limits.Address},
		{"recovery codes from the user's own install", func(_ api.Grant, i int) ask {
			return post("/v1/recover", `{"username":"alice","code":"0000-0000-0000-%04d","device":{"name":"d","install_id":%q}}`, i, own)
		}, many, 401, limits.AccountAddress},
		{"link codes of one account from one address", func(_ api.Grant, i int) ask {
			return post("/v1/link", `{"username":"alice","code":"zzzz-%04d","device":{"name":"d"}}`, i)
		}, one, 401, limits.AccountAddress},
		{"claims from one address", func(_ api.Grant, i int) ask {
			return post("/v1/link/claim", `{"claim":"lnk_%d.x"}`, i)
		}, one, 401, limits.Address},
		{"passwords as proofs", func(alice api.Grant, i int) ask {
			q := post("/v1/recovery-codes", `{"password":"guess %d"}`, i)
			q.auth = bearer(alice.Token)
			return q
		}, many, 403, limits.AccountAddress},
		{"codes as proofs", func(alice api.Grant, i int) ask {
			q := post("/v1/recovery-codes", `{"code":"0000-0000-0000-%04d"}`, i)
			q.auth = bearer(alice.Token)
			return q
		}, many, 403, limits.AccountAddress},
		{"names for sign-up", func(api.Grant, int) ask {
			return post("/v1/signup", `{"username":"alice","device":{"name":"d"}}`)
		}, one, 409, limits.Signup},
	} {
		t.Run(row.what, func(t *testing.T) {
			a := start(t, func(s *setup) {
				s.service.Limits = limits
				s.service.Hashing.Queue = 1000
				s.trust(proxy)
			})
			a.user("alice")
			alice := a.login("alice", api.DeviceIn{Name: "phone", InstallID: own})
			sent := row.rate.Burst + 50
			for round, want := range []int{row.rate.Burst, 1, 1} {
				got := a.atOnce(sent, func(i int) *reply {
					q := row.ask(alice, i)
					q.header = []string{"X-Forwarded-For", row.from(i)}
					return a.do(q)
				})
				if got[row.status] != want || got[429]+got[503] != sent-want {
					t.Errorf("round %d: %v, want %d times %d and else 429, or 503 while they are judged", round, got, want, row.status)
				}
				a.pass(row.rate.Interval)
			}
		})
	}
}

// Whoever has the right password many times at once is asked to come back at
// worst, and has used nothing up.
func TestRightPasswordsInParallel(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Limits = service.DefaultLimits; s.trust(proxy) })
	a.user("alice")
	right := func(int) *reply { return a.loginFrom("192.0.2.1", "alice", password("alice")) }
	for range 3 {
		if got := a.atOnce(10, right); got[200] != 10 {
			t.Errorf("ten at once: %v", got)
		}
		if got := a.atOnce(40, right); got[200] < 10 || got[200]+got[503] != 40 {
			t.Errorf("forty at once: %v", got)
		}
	}
	if got := a.atOnce(40, func(int) *reply { return a.loginFrom("192.0.2.1", "alice", "wrong guess") }); got[401] != 10 {
		t.Errorf("wrong ones thereafter: %v", got)
	}
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

// Behind a gateway that writes the client's port, too, each client is limited
// for itself, whatever port it comes from.
func TestAddressAttemptsWithPorts(t *testing.T) {
	a := start(t, func(s *setup) {
		s.trust(proxy)
		s.service.Limits = service.DefaultLimits
		s.service.Limits.Address = service.Rate{Burst: 5, Interval: time.Second}
	})
	a.user("alice")
	for i := range 5 {
		a.loginFrom(fmt.Sprintf("192.0.2.66:%d", 4000+i), fmt.Sprintf("user %d", i), "wrong guess").want(401, "bad_credentials")
	}
	a.loginFrom("192.0.2.66:5000", "alice", password("alice")).want(429, "rate_limited")
	a.loginFrom("192.0.2.67:4000", "alice", password("alice")).want(200, "")
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

// counted reads one of the service's counters, by its label.
func (a *authority) counted(name string) map[string]float64 {
	reg := prometheus.NewRegistry()
	reg.MustRegister(a.svc.Metrics().Collectors()...)
	got := map[string]float64{}
	for _, f := range must(reg.Gather()) {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return got
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

// An unknown user costs what a wrong password does, and so does every other
// refusal: not in the middle only, but over the whole distribution. The samples
// take turns in a new order each round, so that the machine's moods fall on all
// alike; a class that skipped the hash would be at a tenth of the others. What
// a mood did to one class all the same is gone when it is measured again: only
// a difference that stays is one.
func TestUnknownUserTakesTheSameTime(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Hashing = service.Hashing{MemoryKiB: 8 << 10, Time: 2, Threads: 1, Pool: 1} })
	a.user("alice")
	if err := a.svc.SuspendUser(t.Context(), a.user("mallory").User.ID, service.ActorOperator, noSource); err != nil {
		t.Fatal(err)
	}
	a.post("/v1/signup", "", api.SignupIn{Username: "device only", Device: api.DeviceIn{Name: "d"}}).want(201, "")
	classes := []timed{
		{what: "a wrong password", name: "alice", password: "wrong guess"},
		{what: "an unknown user", name: "nobody", password: "wrong guess"},
		{what: "a user without a password", name: "device only", password: "wrong guess"},
		{what: "a suspended user with a wrong password", name: "mallory", password: "wrong guess"},
		{what: "an empty password", name: "alice", password: ""},
		{what: "an endless password", name: "alice", password: strings.Repeat("p", 2000)},
		{what: "an endless password of an unknown user", name: "nobody", password: strings.Repeat("p", 2000)},
	}
	var stay map[string]string
	for try := range 5 {
		for i := range classes {
			classes[i].took = nil
		}
		for range 40 {
			for _, i := range rand.Perm(len(classes)) {
				c := &classes[i]
				begin := time.Now()
				r := a.loginFrom("", c.name, c.password)
				c.took = append(c.took, time.Since(begin))
				r.want(401, "bad_credentials")
			}
		}
		found := map[string]string{}
		for _, c := range classes[1:] {
			for where, how := range c.unlike(classes[0]) {
				if where = c.what + ", " + where; try == 0 || stay[where] != "" {
					found[where] = how
				}
			}
		}
		if stay = found; len(stay) == 0 {
			return
		}
		t.Logf("measurement %d: %v", try+1, stay)
	}
	for where, how := range stay {
		t.Errorf("%s: %s", where, how)
	}
}

// timed is a way to be refused, and how long it took each time.
type timed struct {
	what, name, password string
	took                 []time.Duration
}

// unlike says where the two can be told apart, and how.
func (c timed) unlike(ref timed) map[string]string {
	out := map[string]string{}
	at := func(s []time.Duration, percent int) time.Duration { return s[(len(s)-1)*percent/100] }
	mine, theirs := slices.Sorted(slices.Values(c.took)), slices.Sorted(slices.Values(ref.took))
	for _, p := range []int{10, 25, 50, 75, 90} {
		m, r := at(mine, p), at(theirs, p)
		if ratio := float64(m) / float64(r); ratio < 0.6 || ratio > 1.6 {
			out[fmt.Sprintf("percentile %d", p)] = fmt.Sprintf("%v, %s %v", m, ref.what, r)
		}
	}
	if z := mannWhitney(mine, theirs); math.Abs(z) > 6 {
		out["rank"] = fmt.Sprintf("z is %.1f", z)
	}
	return out
}

// mannWhitney is the rank statistic of two samples in standard deviations:
// above 0 when the first tends to be the greater. Two that do not overlap at
// all, of 40 each, are at 7.7.
func mannWhitney(x, y []time.Duration) float64 {
	u := 0.0
	for _, a := range x {
		for _, b := range y {
			u += float64(1+cmp.Compare(a, b)) / 2
		}
	}
	n, m := float64(len(x)), float64(len(y))
	return (u - n*m/2) / math.Sqrt(n*m*(n+m+1)/12)
}

// The comparison finds what it looks for.
func TestTimesAreCompared(t *testing.T) {
	spread := func(from, to time.Duration) (out timed) {
		for i := range 40 {
			out.took = append(out.took, from+(to-from)*time.Duration(i)/39)
		}
		return out
	}
	ref := spread(20*time.Millisecond, 40*time.Millisecond)
	for _, row := range []struct {
		what string
		got  timed
		like bool
	}{
		{"itself", ref, true},
		{"a tenth more", spread(22*time.Millisecond, 44*time.Millisecond), true},
		{"no hash", spread(time.Millisecond, 2*time.Millisecond), false},
		{"two hashes", spread(40*time.Millisecond, 80*time.Millisecond), false},
		{"the same median, narrower", spread(30*time.Millisecond, 30*time.Millisecond), true},
		{"the same median, a hash skipped at times", spread(5*time.Millisecond, 55*time.Millisecond), false},
		{"a fifth less", spread(16*time.Millisecond, 32*time.Millisecond), true},
		{"within the ratios, but nearly always less", spread(14*time.Millisecond, 26*time.Millisecond), false},
		{"the same again and again, a little less than the least", timed{took: slices.Repeat([]time.Duration{19 * time.Millisecond}, 40)}, false},
	} {
		if got := row.got.unlike(ref); (len(got) == 0) != row.like {
			t.Errorf("%s: %v", row.what, got)
		}
	}
	if z := mannWhitney(ref.took, ref.took); z != 0 {
		t.Errorf("a sample ranks %v apart from itself", z)
	}
	if z := mannWhitney(spread(1, 40).took, spread(50, 90).took); math.Abs(z+7.7) > 0.01 {
		t.Errorf("samples that do not overlap: z is %v", z)
	}
}

// Who has lost the only device has a recovery code and nothing else: strangers
// who guess at the account, passwords or codes, from anywhere, do not keep its
// owner from using it; only who fills an address keeps that one out. And guesses
// at codes keep nobody from a login.
func TestRecoveryIsNotLockedOut(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Limits = service.DefaultLimits; s.trust(proxy) })
	a.user("alice")
	codes := must(a.svc.RecoveryCodesFor(t.Context(), must(a.svc.FindUser(t.Context(), "alice")).ID, service.ActorOperator, noSource)).RecoveryCodes
	recoverFrom := func(from, code string) *reply {
		return a.do(ask{
			method: "POST", path: "/v1/recover", header: []string{"X-Forwarded-For", from},
			body: fmt.Sprintf(`{"username":"alice","code":%q,"device":{"name":"new phone"}}`, code),
		})
	}
	const wrong = "0000-0000-0000-0000"
	for i := range 150 {
		recoverFrom(fmt.Sprintf("192.0.2.%d", i), wrong).want(401, "bad_credentials")
	}
	a.loginFrom("203.0.113.9", "alice", password("alice")).want(200, "")
	for i := range 100 {
		a.loginFrom(fmt.Sprintf("198.51.100.%d", i/10), "alice", "wrong guess").want(401, "bad_credentials")
	}
	a.loginFrom("203.0.113.9", "alice", password("alice")).want(429, "rate_limited")
	recoverFrom("203.0.113.9", codes[0]).want(200, "")
	recoverFrom("198.51.100.1", codes[1]).want(200, "") // from where ten of the guesses came
	for range 90 {
		recoverFrom("198.51.100.1", wrong).want(401, "bad_credentials")
	}
	recoverFrom("198.51.100.1", codes[2]).want(429, "rate_limited")
	recoverFrom("198.51.100.2", codes[2]).want(200, "")
}

// What a flood of failures writes to the audit is bounded by the limits'
// bursts, however much of it comes at once: what is refused by them is not
// written.
func TestFloodsAreAuditedUpToTheBurst(t *testing.T) {
	a := start(t, func(s *setup) {
		s.service.Limits = service.DefaultLimits
		s.service.Hashing.Queue = 1000
		s.trust(proxy)
	})
	a.user("alice")
	svc, auth := a.service("photos", "photos")
	audited := func(kind string) (n int) {
		for _, e := range must(a.store.Audit(t.Context(), 0, 10_000)) {
			if e.Type == kind {
				n++
			}
		}
		return n
	}
	from := func(q ask, address string) *reply {
		q.header = append(slices.Clone(q.header), "X-Forwarded-For", address)
		return a.do(q)
	}
	verify := func(id, secret string) ask {
		return ask{method: "POST", path: "/v1/verify", auth: basic(id, secret), body: `{"token":"x","request":{"audience":"photos"}}`}
	}
	eve := a.user("eve")
	introspect := func(id, secret string) ask {
		return ask{method: "POST", path: "/oauth2/introspect", auth: basic(id, secret), body: "token=x", header: form}
	}
	limits := service.DefaultLimits
	for _, row := range []struct {
		what, kind string
		ask        func(i int) ask
		address    string
		most       int
	}{
		{"wrong secrets of one service", "service_refused", func(int) ask { return verify(svc.ID, "mds_wrong") }, "192.0.2.1", limits.AccountAddress.Burst},
		{"services that are none", "service_refused", func(i int) ask { return introspect(fmt.Sprint("svc_", i), "mds_wrong") }, "192.0.2.2", limits.Address.Burst},
		{"wrong passwords of one user", "login_failed", func(int) ask {
			return ask{method: "POST", path: "/v1/login", body: `{"username":"alice","password":"wrong guess","device":{"name":"d"}}`}
		}, "192.0.2.3", limits.AccountAddress.Burst},
		{"users that are none", "login_failed", func(i int) ask {
			return ask{method: "POST", path: "/v1/login", body: fmt.Sprintf(`{"username":"user %d","password":"wrong guess","device":{"name":"d"}}`, i)}
		}, "192.0.2.4", limits.Address.Burst},
		{"wrong codes of one user", "recovery_failed", func(int) ask {
			return ask{method: "POST", path: "/v1/recover", body: `{"username":"alice","code":"0000-0000-0000-0000","device":{"name":"d"}}`}
		}, "192.0.2.5", limits.Address.Burst},
		{"somebody who is no administrator", "admin_refused", func(int) ask {
			return ask{method: "GET", path: "/v1/admin/users", auth: bearer(eve.Token)}
		}, "192.0.2.6", limits.AccountAddress.Burst},
	} {
		before := audited(row.kind)
		all := must(a.store.State(t.Context())).Audit
		a.atOnce(2*row.most, func(i int) *reply { return from(row.ask(i), row.address) })
		if n := audited(row.kind) - before; n != row.most {
			t.Errorf("%s: %d of %d failures are in the audit, want the burst of %d", row.what, n, 2*row.most, row.most)
		}
		if n := must(a.store.State(t.Context())).Audit - all; n > int64(row.most) {
			t.Errorf("%s: the audit grew by %d", row.what, n)
		}
	}
	// That is no more than the audit's: eve has lost no try at anything.
	a.post("/v1/recovery-codes", bearer(eve.Token), api.Proof{Password: password("eve")}).want(201, "")
	// Nobody who has the secret is kept out by that.
	q := verify(svc.ID, "")
	q.auth = auth
	from(q, "192.0.2.1").want(200, "")
}
