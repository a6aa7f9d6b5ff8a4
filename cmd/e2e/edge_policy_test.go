package e2e

import (
	"net/http"
	"testing"
	"time"

	"macaroond/service/api"
)

// saysAt waits until an edge's answer to a token has one of the codes ("" is
// allowed), and gives how long that took from since.
func saysAt(t *testing.T, e *edge, text string, since time.Time, codes ...string) time.Duration {
	t.Helper()
	for {
		_, code := e.ask(t, text, "")
		took := time.Since(since)
		for _, want := range codes {
			if code == want {
				return took
			}
		}
		if took > 10*time.Second {
			t.Fatalf("%v after the change the answer is %q, want one of %q", took, code, codes)
		}
	}
}

// TestEdgePolicy: a policy that is put on tokens which are out is enforced at two
// edges and the authority within the bound of a revocation, by command and by an
// administrator; who is none of its target goes on without a question, and so
// do all when it is removed.
func TestEdgePolicy(t *testing.T) {
	a := ownAuthority(t, t.TempDir())
	edges := []*edge{startEdge(t, a.url, a.credential(t)), startEdge(t, a.url, a.credential(t))}
	u := a.user(t)
	phone, tablet, bob := holder{u, a.login(t, u)}, holder{u, a.login(t, u)}, a.holder(t)
	good := map[string]string{"phone": phone.photos(t), "tablet": tablet.photos(t), "bob": bob.photos(t)}
	for _, e := range edges {
		for _, text := range good {
			accepted(t, e, text)
		}
	}
	var worst time.Duration
	const bound = time.Second
	for _, row := range []struct {
		name   string
		target []string
		hit    map[string]bool
	}{
		{"everyone", []string{"--everyone"}, map[string]bool{"phone": true, "tablet": true, "bob": true}},
		{"a user", []string{"--user", u.Username}, map[string]bool{"phone": true, "tablet": true}},
		{"a device", []string{"--device", tablet.Device.ID}, map[string]bool{"tablet": true}},
	} {
		for caveat, code := range map[string][]string{
			"audience mail":                {api.CodeInvalid, api.CodeWrongAudience},
			"method POST":                  {api.CodeRefused},
			"client-ip 192.0.2.0/24":       {api.CodeRefused},
			in(-time.Minute):               {api.CodeInvalid, api.CodeExpired},
			"user usr_0123456789abcdef":    {api.CodeInvalid, api.CodeRefused},
			"path /albums/** /other/paths": {api.CodeRefused},
		} {
			var p api.Policy
			a.command(t, &p, append([]string{"policy", "add", "--caveat", caveat, "--reason", "e2e"}, row.target...)...)
			begin := time.Now()
			for who, text := range good {
				for _, e := range edges {
					if row.hit[who] {
						worst = max(worst, saysAt(t, e, text, begin, code...))
					} else {
						accepted(t, e, text)
					}
				}
			}
			// At the authority: other requests of theirs, too.
			for who, text := range good {
				d := a.verify(t, text, api.Request{Audience: audience, Method: "GET", Path: "/photos/1", ClientIP: "127.0.0.1"})
				if d.Allowed == row.hit[who] {
					t.Errorf("%s, %s: at the authority %s is %s", row.name, caveat, who, d.Code)
				}
			}
			var gone any
			a.command(t, &gone, "policy", "remove", p.ID)
			begin = time.Now()
			for _, text := range good {
				for _, e := range edges {
					worst = max(worst, saysAt(t, e, text, begin, ""))
				}
			}
		}
	}
	t.Logf("worst of all changes, at two edges: %v", worst)
	if worst > bound {
		t.Errorf("it took up to %v, want %v", worst, bound)
	}

	// A policy that all meet changes nothing but that each is asked about once more.
	var p api.Policy
	a.command(t, &p, "policy", "add", "--everyone", "--caveat", "audience "+audience, "--reason", "e2e")
	// The policy is for the edges' audience, so devices cannot be managed meanwhile;
	// a session is ended all the same.
	eventually(t, "the policy is known at the authority: devices are not listed", func() bool {
		res := a.send(t, "GET", "/v1/devices", bearer(phone.Token), "")
		return res.status == http.StatusForbidden && res.problem() == api.CodeForbidden
	})
	for _, e := range edges {
		for _, text := range good {
			eventually(t, "a token that meets the policy is good", func() bool { status, _ := e.ask(t, text, ""); return status == http.StatusOK })
		}
		before := e.metric(t, `macaroond_edge_verdicts_total{code="ok",how="introspected"}`)
		for range 20 {
			for _, text := range good {
				accepted(t, e, text)
			}
		}
		if n := e.metric(t, `macaroond_edge_verdicts_total{code="ok",how="introspected"}`) - before; n > float64(len(good)) {
			t.Errorf("%v questions more", n)
		}
	}
	if res := a.send(t, "POST", "/v1/logout", bearer(phone.Token), ""); res.status != http.StatusNoContent {
		t.Errorf("logout: %s", res)
	}
	begin := time.Now()
	for _, e := range edges {
		refusedAt(t, e, good["phone"], begin)
		accepted(t, e, good["tablet"])
	}
}

// TestEdgePolicyWhileAway: an edge that cannot hear of a policy goes on for its
// bound and no longer; when the line is back it enforces the policy before it
// accepts anything from what it knew.
func TestEdgePolicyWhileAway(t *testing.T) {
	a := ownAuthority(t, t.TempDir())
	w := startWire(t, a.addr())
	e := startEdge(t, w.url(), a.credential(t), "MACAROOND_MAX_STALENESS="+staleness.String())
	h := a.holder(t)
	text := h.photos(t)
	accepted(t, e, text)
	w.sever()
	var p api.Policy
	a.command(t, &p, "policy", "add", "--user", h.Username, "--caveat", "method POST", "--reason", "e2e")
	cut := time.Now()
	if took := saysAt(t, e, text, cut, api.CodeStale); took > staleness+time.Second {
		t.Errorf("it went on for %v", took)
	}
	w.heal()
	healed := time.Now()
	for {
		status, code := e.ask(t, text, "")
		if status == http.StatusOK {
			t.Fatalf("accepted %v after healing", time.Since(healed))
		}
		if code == api.CodeRefused {
			break
		}
		if time.Since(healed) > 20*time.Second {
			t.Fatalf("20 s after healing: %d %s", status, code)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("enforced %v after healing", time.Since(healed))
}
