package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

// staleness is the bound in tests that wait for it: the least that there may be.
const staleness = 3 * time.Second

// refusedAt waits until the edge refuses a token as revoked, and gives how long
// that took from since.
func refusedAt(t *testing.T, e *edge, text string, since time.Time) time.Duration {
	t.Helper()
	for {
		status, code := e.ask(t, text, "")
		took := time.Since(since)
		switch {
		case status == http.StatusUnauthorized && code == api.CodeRevoked, status == http.StatusUnauthorized && code == api.CodeInvalid:
			return took
		case status != http.StatusOK || took > 10*time.Second:
			t.Fatalf("%v after the revocation the answer is %d %s", took, status, code)
		}
	}
}

func accepted(t *testing.T, e *edge, text string) {
	t.Helper()
	if status, code := e.ask(t, text, ""); status != http.StatusOK {
		t.Fatalf("a good token: %d %s", status, code)
	}
}

func (a *authority) revoke(t *testing.T, text string) {
	t.Helper()
	if res := a.send(t, "POST", "/v1/revoke", "", encode(t, api.RevokeIn{Token: text})); res.status != http.StatusOK {
		t.Fatalf("revoking: %s", res)
	}
}

// holder is a new user's new device.
func (a *authority) holder(t *testing.T) holder {
	t.Helper()
	u := a.user(t)
	return holder{u, a.login(t, u)}
}

// TestEdgeRevocation: what is revoked at the authority is refused at two
// sidecars, measured from the authority's answer, and what is not is not.
func TestEdgeRevocation(t *testing.T) {
	a := sharedAuthority(t)
	edges := []*edge{startEdge(t, a.url, a.credential(t)), startEdge(t, a.url, a.credential(t))}
	u := a.user(t)
	var worst time.Duration
	const rounds = 10
	for range rounds {
		h := holder{u, a.login(t, u)}
		parent := h.photos(t)
		branch := narrow(t, parent, "note for Ben")
		for _, e := range edges {
			accepted(t, e, branch)
			accepted(t, e, narrow(t, branch, "method GET"))
		}
		revoke := func(what string, do func(), text string) {
			do()
			begin := time.Now()
			for _, e := range edges {
				worst = max(worst, refusedAt(t, e, text, begin))
			}
		}
		revoke("branch", func() { a.revoke(t, branch) }, narrow(t, branch, "method GET"))
		for _, e := range edges {
			accepted(t, e, parent)
		}
		revoke("device", func() {
			if res := a.send(t, "POST", "/v1/logout", bearer(h.Token), ""); res.status != http.StatusNoContent {
				t.Fatalf("logout: %s", res)
			}
		}, parent)
	}
	t.Logf("worst of %d revocations, at two edges: %v", 2*rounds, worst)
	if worst > 5*time.Second {
		t.Errorf("it took up to %v", worst)
	}
	for i, e := range edges {
		if n := e.metric(t, `macaroond_edge_verdicts_total{code="ok",how="introspected"}`); n != rounds {
			t.Errorf("edge %d asked about %v tokens, want one a device: %d", i, n, rounds)
		}
	}
}

// TestEdgeCut: the network between the authority and one of two edges goes away
// and comes back. Until the bound known devices go on; beyond it nobody knows, and
// nobody is told to log in again; afterwards what was revoked meanwhile is.
func TestEdgeCut(t *testing.T) {
	for name, cut := range map[string]func(*wire){"silent": (*wire).stall, "broken": (*wire).sever} {
		t.Run(name, func(t *testing.T) {
			a := sharedAuthority(t)
			w := startWire(t, a.addr())
			near := startEdge(t, a.url, a.credential(t))
			far := startEdge(t, w.url(), a.credential(t), "MACAROOND_MAX_STALENESS="+staleness.String())
			h := a.holder(t)
			good, revoked, stranger := h.photos(t, "note good"), h.photos(t, "note bad"), a.holder(t).photos(t)
			for _, e := range []*edge{near, far} {
				accepted(t, e, good)
				accepted(t, e, revoked)
			}

			cut(w)
			begin := time.Now()
			a.revoke(t, revoked)
			refusedAt(t, near, revoked, begin)
			var unknown sync.WaitGroup
			unknown.Go(func() { // waits for the authority as long as may be
				if status, code := far.ask(t, stranger, ""); status != http.StatusServiceUnavailable || code != api.CodeStale {
					t.Errorf("a device that is not known, while the authority is away: %d %s", status, code)
				}
			})
			defer unknown.Wait()
			var lastGood, lastBad time.Duration
			for {
				asked := time.Now()
				status, code := far.ask(t, good, "")
				if status == http.StatusServiceUnavailable && code == api.CodeStale {
					break
				}
				badStatus, badCode := far.ask(t, revoked, "")
				if badStatus == http.StatusOK {
					lastBad = asked.Sub(begin)
				}
				if status != http.StatusOK || badStatus != http.StatusOK && (badStatus != http.StatusServiceUnavailable || badCode != api.CodeStale) {
					t.Fatalf("%v after the cut: %d %s and %d %s", time.Since(begin), status, code, badStatus, badCode)
				}
				if lastGood = asked.Sub(begin); lastGood > 4*staleness {
					t.Fatal("the edge never becomes stale")
				}
				time.Sleep(5 * time.Millisecond)
			}
			unknown.Wait()
			t.Logf("known devices went on for %v of %v, a revoked token for %v", lastGood, staleness, lastBad)
			// The knowledge was a poll old when the cut came.
			if lastGood < staleness/5 || lastGood > staleness || lastBad > staleness {
				t.Errorf("good for %v, revoked for %v; the bound is %v", lastGood, lastBad, staleness)
			}
			if age := far.metric(t, "macaroond_edge_revocations_age_seconds"); age < staleness.Seconds() {
				t.Errorf("the metric says %v s", age)
			}
			if name == "broken" {
				g := startGateway(t, products[0], far.addr())
				res, got := g.ask(t, ask{target: "/photos/1", tokens: []string{good}})
				checkRefused(t, res, got, http.StatusServiceUnavailable)
				if res.header.Get("WWW-Authenticate") != "" {
					t.Error("a challenge: clients would log out")
				}
			}

			w.heal()
			healed := time.Now()
			for {
				status, code := far.ask(t, good, "")
				badStatus, badCode := far.ask(t, revoked, "")
				if badStatus == http.StatusOK {
					t.Fatalf("the revoked token is accepted %v after healing", time.Since(healed))
				}
				if status == http.StatusOK && badCode == api.CodeRevoked {
					break
				}
				if status != http.StatusOK && code != api.CodeStale || badStatus == http.StatusUnauthorized && badCode != api.CodeRevoked && badCode != api.CodeInvalid {
					t.Fatalf("after healing: %d %s and %d %s", status, code, badStatus, badCode)
				}
				if time.Since(healed) > 20*time.Second {
					t.Fatalf("20 s after healing: %d %s and %d %s", status, code, badStatus, badCode)
				}
				time.Sleep(50 * time.Millisecond) // until the list is back each token is a question, and those are limited per client
			}
			t.Logf("all is well %v after healing", time.Since(healed))
		})
	}
}

// TestEdgeKilled: the authority is killed in the middle of a poll and started
// again on the same data. Known devices go on all the while, and nothing that was
// revoked before, meanwhile or afterwards is skipped.
func TestEdgeKilled(t *testing.T) {
	a := ownAuthority(t, t.TempDir())
	credential := a.credential(t)
	w := startWire(t, a.addr())
	edges := []*edge{startEdge(t, w.url(), credential), startEdge(t, w.url(), credential)}
	before, during, after, good := a.holder(t), a.holder(t), a.holder(t), a.holder(t)
	for _, e := range edges {
		for _, h := range []holder{before, during, after, good} {
			accepted(t, e, h.photos(t))
		}
	}

	// Somebody asks at all times.
	stop, asking := make(chan struct{}), sync.WaitGroup{}
	var answered, worst atomic.Int64
	text := good.photos(t)
	for _, e := range edges {
		accepted(t, e, text)
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				begin := time.Now()
				if status, code := e.ask(t, text, ""); status != http.StatusOK {
					t.Errorf("a known device: %d %s", status, code)
					return
				}
				answered.Add(1)
				worst.Store(max(worst.Load(), int64(time.Since(begin))))
				time.Sleep(time.Millisecond)
			}
		})
	}
	dead := make([]string, 0, 3)
	for round := range 2 {
		if round > 0 {
			before, during, after = a.holder(t), a.holder(t), a.holder(t)
		}
		texts := []string{before.photos(t), during.photos(t), after.photos(t)}
		for _, e := range edges {
			for _, text := range texts {
				accepted(t, e, text)
			}
		}
		a.revoke(t, before.Token)
		a.signal(syscall.SIGKILL) // the answer to the poll that brings the revocation may be on its way
		<-a.done
		var ended struct{ Revoked int }
		a.command(t, &ended, "device", "revoke", during.ID, during.Device.ID)
		a = a.again(t)
		w.lead(a.addr())
		a.revoke(t, after.Token)
		dead = append(dead, texts...)
		begin := time.Now()
		for _, e := range edges {
			for _, text := range dead {
				refusedAt(t, e, text, begin)
			}
		}
		t.Logf("round %d: all refused at both edges %v after the last revocation", round, time.Since(begin))
	}
	close(stop)
	asking.Wait()
	t.Logf("%d answers to known devices meanwhile, the slowest took %v", answered.Load(), time.Duration(worst.Load()))
}

// TestEdgeRestored: an authority that was restored from a backup has another
// history. What an edge had learned counts for nothing, and every old token is
// refused there as at the authority; new ones are good.
func TestEdgeRestored(t *testing.T) {
	copy := filepath.Join(t.TempDir(), "copy.db")
	a := ownAuthority(t, t.TempDir())
	credential := a.credential(t)
	w := startWire(t, a.addr())
	e := startEdge(t, w.url(), credential)
	u := a.user(t)
	h := holder{u, a.login(t, u)}
	var told any
	a.command(t, &told, "backup", copy)
	late := holder{u, a.login(t, u)} // no row of the backup knows it
	old := []string{h.photos(t), h.photos(t, "method GET"), late.photos(t)}
	for _, text := range old {
		accepted(t, e, text)
	}
	if n := e.metric(t, "macaroond_edge_prefixes"); n != 2 {
		t.Errorf("%v prefixes", n)
	}
	w.sever()
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	a.command(t, &told, "restore", copy, "--dev")
	a = a.again(t)
	w.lead(a.addr())
	w.heal()
	begin := time.Now()
	for _, text := range old {
		took := refusedAt(t, e, text, begin)
		t.Logf("refused %v after the network was back", took)
	}
	for range 20 {
		for _, text := range old {
			if status, _ := e.ask(t, text, ""); status != http.StatusUnauthorized {
				t.Errorf("an old token: %d", status)
			}
		}
	}
	// The first of them may be asked about before the list is known to be whole.
	fresh := holder{u, a.login(t, u)}.photos(t)
	eventually(t, "a new token is good", func() bool { status, _ := e.ask(t, fresh, ""); return status == http.StatusOK })
	if n := e.metric(t, "macaroond_edge_prefixes"); n != 1 {
		t.Errorf("%v prefixes after the restore, want the new one", n)
	}
}

// TestEdgeSuspended: an authority whose process stands still answers nothing and
// breaks no connection. The edge's age shows it, and it recovers by itself.
func TestEdgeSuspended(t *testing.T) {
	a := ownAuthority(t, t.TempDir())
	e := startEdge(t, a.url, a.credential(t), "MACAROOND_MAX_STALENESS="+staleness.String())
	h := a.holder(t)
	text, gone := h.photos(t), a.holder(t)
	goneText := gone.photos(t)
	accepted(t, e, text)
	accepted(t, e, goneText)
	age := func() float64 { return e.metric(t, "macaroond_edge_revocations_age_seconds") }
	if bound := e.metric(t, "macaroond_edge_revocations_age_bound_seconds"); bound != staleness.Seconds() || age() > bound {
		t.Errorf("age %v, bound %v", age(), bound)
	}

	a.signal(syscall.SIGSTOP)
	defer a.signal(syscall.SIGCONT)
	begin := time.Now()
	status, code := 0, ""
	for {
		status, code = e.ask(t, text, "")
		if status != http.StatusOK || time.Since(begin) > 3*staleness {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	stood := time.Since(begin)
	if status != http.StatusServiceUnavailable || code != api.CodeStale {
		t.Errorf("after %v: %d %s", stood, status, code)
	}
	if got := age(); got < staleness.Seconds() || got > stood.Seconds()+staleness.Seconds() {
		t.Errorf("%v after it stood still the metric says %v s", stood, got)
	}
	if res, err := http.Get(e.url + "/readyz"); err != nil || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %v, %v", res, err)
	} else {
		res.Body.Close()
	}

	a.signal(syscall.SIGCONT)
	begin = time.Now()
	a.revoke(t, gone.Token)
	for {
		if status, code = e.ask(t, goneText, ""); code == api.CodeRevoked || code == api.CodeInvalid {
			break
		} else if time.Since(begin) > 20*time.Second {
			t.Fatalf("20 s after it went on: %d %s", status, code)
		}
		time.Sleep(20 * time.Millisecond)
	}
	eventually(t, "the edge knows again", func() bool {
		status, _ := e.ask(t, text, "")
		return status == http.StatusOK && age() < staleness.Seconds()
	})
	t.Logf("stale after %v; %v after it went on all was well", stood, time.Since(begin))
}

// TestEdgeManyDevices: a thousand devices' tokens cost the authority a question
// each, whatever they go on with.
func TestEdgeManyDevices(t *testing.T) {
	devices, each := 1000, 4
	if raceEnabled {
		devices = 100 // sign-ups take some thirty times as long
	}
	a := ownAuthority(t, t.TempDir(), "MACAROOND_SIGNUP=device")
	e := startEdge(t, a.url, a.credential(t))

	// Sign-ups are limited per address, and each device has its own, as the
	// authority's gateway says.
	address := func(n int) string { return fmt.Sprintf("198.18.%d.%d", n/250, n%250+1) }
	roots := make([]string, devices)
	parallel := func(do func(n int)) time.Duration {
		begin := time.Now()
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for n := int(next.Add(1)) - 1; n < devices && !t.Failed(); n = int(next.Add(1)) - 1 {
					do(n)
				}
			})
		}
		wg.Wait()
		return time.Since(begin)
	}
	took := parallel(func(n int) {
		body := encode(t, api.SignupIn{Username: fmt.Sprintf("bee%d", n), Device: api.DeviceIn{Name: "d"}})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+"/v1/signup", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header = http.Header{"Content-Type": {"application/json"}, "X-Forwarded-For": {address(n)}}
		res, err := asks.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		var g api.Grant
		if err = errors.Join(err, json.Unmarshal(data, &g)); err != nil || res.StatusCode != http.StatusCreated {
			t.Errorf("sign-up %d: %s: %s %v", n, res.Status, data, err)
			return
		}
		roots[n] = g.Token
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d devices signed up in %v", devices, took)

	hour := in(time.Hour)
	took = parallel(func(n int) {
		text := narrow(t, roots[n], hour, "audience "+audience)
		for i := range each {
			if status, code := e.ask(t, narrow(t, text, fmt.Sprintf("note %d", i)), address(n)); status != http.StatusOK {
				t.Errorf("device %d, token %d: %d %s", n, i, status, code)
			}
		}
	})
	t.Logf("%d verdicts in %v, first ones among them", devices*each, took)
	took = parallel(func(n int) {
		if status, code := e.ask(t, narrow(t, roots[n], hour, "audience "+audience, "method GET"), address(n)); status != http.StatusOK {
			t.Errorf("device %d: %d %s", n, status, code)
		}
	})
	t.Logf("%d verdicts on known devices in %v: %.0f/s, the test's own work included", devices, took, float64(devices)/took.Seconds())
	asked := e.metric(t, `macaroond_edge_verdicts_total{code="ok",how="introspected"}`)
	local := e.metric(t, `macaroond_edge_verdicts_total{code="ok",how="local"}`)
	if asked != float64(devices) || local != float64(devices*each) {
		t.Errorf("%v questions and %v local verdicts, want %d and %d", asked, local, devices, devices*each)
	}
	if n := e.metric(t, "macaroond_edge_prefixes"); n != float64(devices) {
		t.Errorf("%v prefixes", n)
	}
}

// TestEdgeWrongClock: a client whose clock is five minutes off ends accepted,
// through the Go client's transport, nginx and the sidecar.
func TestEdgeWrongClock(t *testing.T) {
	program(t, "nginx")
	a := sharedAuthority(t)
	g := startGateway(t, products[0], startEdge(t, a.url, a.credential(t)).addr())
	root, err := token.Parse(a.holder(t).Token)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []time.Duration{-5 * time.Minute, 0, 5 * time.Minute} {
		tr, err := client.NewTransport(root, client.TransportOptions{
			Origins: []string{"http://" + g.addr}, Narrowing: client.Narrowing{Audience: audience}, BindRequest: true,
			Now: func() time.Time { return time.Now().Add(off) },
		})
		if err != nil {
			t.Fatal(err)
		}
		c := &http.Client{Transport: tr, Timeout: 30 * time.Second}
		for i := range 3 {
			g.backend.take()
			res, err := c.Post("http://"+g.addr+"/photos/1", "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if got := g.backend.take(); res.StatusCode != http.StatusOK || len(got) != 1 || got[0].body != "hello" {
				t.Errorf("clock off by %v, request %d: %s, and the backend saw %d", off, i, res.Status, len(got))
			}
		}
	}
}

// TestEdgeStartsAlone: without the authority a sidecar starts, is not ready and
// tells nobody to log in again; then it becomes ready by itself.
func TestEdgeStartsAlone(t *testing.T) {
	a := sharedAuthority(t)
	w := startWire(t, a.addr())
	w.sever()
	e := launchEdge(t, w.url(), a.credential(t))
	text := a.holder(t).photos(t)
	if status, code := e.ask(t, text, ""); status != http.StatusServiceUnavailable || code != api.CodeStale {
		t.Errorf("%d %s", status, code)
	}
	res, err := http.Get(e.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %s", res.Status)
	}
	w.heal()
	eventually(t, "the edge judges", func() bool {
		status, code := e.ask(t, text, "")
		if status == http.StatusUnauthorized {
			t.Fatalf("%d %s", status, code)
		}
		return status == http.StatusOK
	})
}
