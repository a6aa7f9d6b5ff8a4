package guard_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/guard"
)

func (a *authority) policy(target api.PolicyTarget, ttl time.Duration, caveats ...string) string {
	a.t.Helper()
	in := api.PolicyIn{Target: target, Caveats: caveats, Reason: "a test", TTL: int64(ttl / time.Second)}
	p, err := a.svc.AddPolicy(a.t.Context(), in, service.ActorOperator, service.Source{})
	ok(a.t, err)
	return p.ID
}

func (a *authority) unpolicy(id string) {
	a.t.Helper()
	ok(a.t, a.svc.RemovePolicy(a.t.Context(), id, service.ActorOperator, service.Source{}))
}

// becomes waits for a verdict, which is to come in a second.
func (a *authority) becomes(what string, g *guard.Guard, text, want string) {
	a.t.Helper()
	begin := time.Now()
	eventually(a.t, fmt.Sprintf("%s: %s", what, want), func() bool { return code(g, text) == want })
	if took := time.Since(begin); took > 5*time.Second {
		a.t.Errorf("%s: it took %v", what, took)
	}
}

// A role that is given or taken reaches the edge as a policy does: what is told
// to the backend of tokens whose prefix is known, or which are remembered, is
// not the role of an hour ago.
func TestRolesChange(t *testing.T) {
	a := start(t)
	alice, bob := a.device("alice"), a.device("bob")
	g := a.guard(nil)
	known := narrow(t, alice.Token, window(), "audience photos")
	whole := narrow(t, alice.Token, "audience photos")
	his := narrow(t, bob.Token, window(), "audience photos")
	role := func(text string) string {
		pass, err := g.Gateway(t.Context(), text, get(), nil)
		ok(t, err)
		return pass.Role
	}
	for _, to := range []string{service.RoleAdmin, "", service.RoleAdmin} {
		for _, text := range []string{known, whole, his} { // learned before
			role(text)
		}
		_, err := a.svc.SetRole(t.Context(), alice.User.ID, to, service.ActorOperator, true, service.Source{})
		ok(t, err)
		for _, text := range []string{known, whole} {
			eventually(t, "the role "+to, func() bool { return role(text) == to })
		}
		if got := role(his); got != "" {
			t.Errorf("another user has the role %q", got)
		}
	}
}

// The change of one's policies is not forgotten for the next one's.
func TestPoliciesOfOneAfterAnother(t *testing.T) {
	a := start(t)
	alice, bob := a.device("alice"), a.device("bob")
	g := a.guard(nil)
	hers, later := narrow(t, alice.Token, window(), "audience photos"), narrow(t, alice.Token, "audience photos") // the second a whole token
	his := narrow(t, bob.Token, window(), "audience photos")
	for _, text := range []string{hers, later, his} {
		a.want("learned", g, text, "ok", 1)
	}
	a.policy(api.PolicyTarget{User: alice.User.ID}, 0, "method PUT")
	a.becomes("hers", g, hers, "refused")
	a.policy(api.PolicyTarget{User: bob.User.ID}, 0, "method PUT")
	a.becomes("his", g, his, "refused")
	a.want("hers that nobody used since", g, later, "refused", 1)
}

// A policy tightens tokens of known prefixes and remembered ones, for exactly
// whom it is for, and removing it gives back what it took. With it a device costs one question as
// without, and refusing costs none.
func TestPolicies(t *testing.T) {
	a := start(t)
	alice, bob := a.device("alice"), a.device("bob")
	g := a.guard(nil)
	for _, row := range []struct {
		name   string
		target api.PolicyTarget
		bobToo bool
	}{
		{"everyone", api.PolicyTarget{Everyone: true}, true},
		{"the user", api.PolicyTarget{User: alice.User.ID}, false},
		{"the device", api.PolicyTarget{Device: alice.Device.ID}, false},
	} {
		for _, c := range []struct{ caveat, refused string }{
			{"method POST", "refused"},
			{"client-ip 192.0.2.0/24", "refused"},
			{"audience mail", "wrong_audience"},
			{"time-before 2026-01-01T00:00:00Z", "expired"},
			{"user usr_0123456789abcdef", "refused"},
		} {
			name := row.name + ", " + c.caveat
			known := narrow(t, alice.Token, "note "+name, window(), "audience photos")
			whole := narrow(t, alice.Token, "note "+name, "audience photos")
			his := narrow(t, bob.Token, "note "+name, window(), "audience photos")
			for _, text := range []string{known, whole, his} {
				a.want(name+": before", g, text, "ok", 1)
				a.want(name+": before, known", g, text, "ok", 0)
			}
			id := a.policy(row.target, 0, c.caveat)
			a.becomes(name, g, known, c.refused)
			a.becomes(name+", a whole token", g, whole, c.refused)
			a.becomes(name+", one made since", g, narrow(t, known, "method GET"), c.refused)
			if row.bobToo {
				a.becomes(name+", bob", g, his, c.refused)
			} else {
				a.want(name+": bob", g, his, "ok", 0)
			}
			a.want(name+": known with the policy", g, narrow(t, known, "note y"), c.refused, 0)
			a.unpolicy(id)
			a.becomes(name+", after it", g, known, "ok")
			a.becomes(name+", after it, whole", g, whole, "ok")
			a.want(name+": known again", g, narrow(t, known, "note y"), "ok", 0)
		}
	}
}

// The address that a policy is about is worked out, as for a caveat.
func TestPolicyAboutTheAddress(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	text := narrow(t, a.device("alice").Token, window(), "audience photos")
	a.policy(api.PolicyTarget{Everyone: true}, 0, "client-ip 192.0.2.0/24")
	h := g.Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for from, want := range map[string]int{"192.0.2.7:1": 204, "198.51.100.7:1": 403} {
		for range 2 {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/photos/1", nil)
			r.RemoteAddr = from
			r.Header.Set("Authorization", "Bearer "+text)
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != want {
				t.Errorf("from %s: %d, want %d", from, w.Code, want)
			}
		}
	}
}

// An answer that was given before a policy, and comes when the feed has told of
// it, counts for nothing: neither for the request that waited nor for one after
// it. The same the other way round, when a policy was removed.
func TestAnswerFromBeforeThePolicy(t *testing.T) {
	for _, removal := range []bool{false, true} {
		t.Run(fmt.Sprint("removal: ", removal), func(t *testing.T) {
			a := start(t)
			alice := a.device("alice")
			g := a.guard(nil)
			id, was, is := "", "ok", "wrong_audience"
			if removal {
				id, was, is = a.policy(api.PolicyTarget{User: alice.User.ID}, 0, "audience mail"), is, was
			}
			// A token of the same user tells when the guard has heard of the change.
			witness := narrow(t, alice.Token, "note witness", window(), "audience photos")
			a.becomes("the witness", g, witness, was)

			text := narrow(t, alice.Token, window(), "audience photos")
			answered, goOn := make(chan struct{}), make(chan struct{})
			var first atomic.Bool
			a.between("/oauth2/introspect", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if !first.CompareAndSwap(false, true) {
					next.ServeHTTP(w, r)
					return
				}
				rec := httptest.NewRecorder()
				next.ServeHTTP(rec, r)
				close(answered)
				<-goOn
				w.Header().Set("Content-Type", "application/json")
				w.Write(rec.Body.Bytes())
			})
			var waiting sync.WaitGroup
			var got string
			waiting.Go(func() { got = code(g, text) })
			<-answered // by an authority that knows of no change
			if removal {
				a.unpolicy(id)
			} else {
				a.policy(api.PolicyTarget{User: alice.User.ID}, 0, "audience mail")
			}
			a.becomes("the witness, after the change", g, witness, is)
			close(goOn)
			waiting.Wait()
			if removal {
				// Who asked before the removal may be told what held then.
				if got != was && got != is {
					t.Errorf("who waited: %s", got)
				}
			} else if got != is {
				t.Errorf("who waited: %s, want %s", got, is)
			}
			for range 3 {
				if c := code(g, text); c != is {
					t.Errorf("after it: %s, want %s", c, is)
				}
			}
		})
	}
}

// An authority's node that stays behind the feed is asked again, and then nobody
// knows: its word from before the policy lets nobody in.
func TestNodeBehindTheFeed(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	g := a.guard(nil)
	text := narrow(t, alice.Token, window(), "audience photos")
	witness := narrow(t, alice.Token, "note witness", window(), "audience photos")
	a.want("before", g, witness, "ok", 1)
	var old []byte
	a.answer("/oauth2/introspect", func(r *httptest.ResponseRecorder) {
		if old == nil {
			old = r.Body.Bytes()
		}
		r.Body.Reset()
		r.Body.Write(old)
	})
	other := a.guard(nil) // has the old answer fetched
	if c := code(other, text); c != "ok" {
		t.Fatal(c)
	}
	a.policy(api.PolicyTarget{User: alice.User.ID}, 0, "method POST")
	for _, x := range []*guard.Guard{g, other} {
		a.becomes("with old answers only", x, text, "stale")
	}
	a.want("it is asked again, not for ever", g, text, "stale", 3)
	a.honest()
	a.becomes("when the node knows", g, text, "refused")
}

// A policy's time ends at an edge when it ends at the authority.
func TestPolicyEnds(t *testing.T) {
	a := start(t)
	var ahead atomic.Int64
	g := a.guard(func(o *guard.Options) {
		o.MaxStaleness = 100 * time.Hour
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	text := narrow(t, a.device("alice").Token, window(), "audience photos")
	a.policy(api.PolicyTarget{Everyone: true}, 3*time.Second, "method POST")
	a.becomes("with it", g, text, "refused")
	a.want("it is known", g, text, "refused", 0)
	ahead.Store(int64(4 * time.Second)) // over by the guard's clock: it asks, and the authority says that it is not
	a.want("over here, not there", g, text, "refused", 1)
	ahead.Store(0)
	a.becomes("over", g, text, "ok")
	a.want("and known", g, text, "ok", 0)
}

// An edge that was away for longer than the list tells of changes begins anew
// with what it learned, though nothing on the list concerns it.
func TestAwayForLonger(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	alice := a.device("alice")
	text := narrow(t, alice.Token, window(), "audience photos")
	a.want("before", g, text, "ok", 1)
	// What was missed: the entry has come and gone.
	jump := func(by time.Duration) {
		a.answer("/v1/revocations", func(r *httptest.ResponseRecorder) {
			const form = "2006-01-02T15:04:05.000Z"
			b := r.Body.String()
			const name = `"as_of":"`
			at := 0
			for i := range b {
				if len(b) > i+len(name) && b[i:i+len(name)] == name {
					at = i + len(name)
					break
				}
			}
			if at == 0 {
				return
			}
			was, err := time.Parse(form, b[at:at+len(form)])
			if err != nil {
				return
			}
			date, err := http.ParseTime(r.Header().Get("Date"))
			if err != nil {
				date = time.Now()
			}
			r.Header().Set("Date", date.Add(by).UTC().Format(http.TimeFormat))
			r.Body.Reset()
			r.Body.WriteString(b[:at] + was.Add(by).Format(form) + b[at+len(form):])
		})
	}
	jump(time.Hour)
	a.revoke(g, narrow(t, alice.Token, "note gone 1"))
	a.want("after an hour", g, text, "ok", 0)
	jump(26 * time.Hour)
	a.revoke(g, narrow(t, alice.Token, "note gone 2"))
	eventually(t, "it asks anew", func() bool {
		before := a.introspections()
		return code(g, text) == "ok" && a.introspections() > before
	})
	a.want("and knows", g, text, "ok", 0)
}
