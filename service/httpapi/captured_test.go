package httpapi

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/dpop"
)

func newKey() *dpop.Key {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return must(dpop.NewKey(must(key, err)))
}

// captured is a request as a thief has it, byte for byte, or nearly.
type captured struct {
	scheme, token string
	proofs        []string
	method, url   string
}

const photosOrigin = "https://api.example.com"

// A captured request: what somebody can do with one who has all of it but the
// key, at each place where the authority judges. The token is bound to a key, to
// an audience and to a minute; nothing binds it to a method or a path but the
// proof.
func TestCapturedRequest(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.http.AuthzOrigin = photosOrigin })
	alice := a.user("alice")
	_, photos := a.service("photos", "photos", "mail")
	a.pass(time.Minute) // what was proved before it began is another table

	asked := func(audience string) func(captured) string {
		return func(c captured) string {
			r := api.Request{Audience: audience, Method: c.method, URL: c.url}
			if len(c.proofs) == 1 {
				r.DPoP = c.proofs[0]
			}
			return into[api.Decision](a.verify(photos, c.token, r), 200).Code
		}
	}
	code := func(r *reply) string {
		if r.StatusCode == 200 {
			return "ok"
		}
		return into[api.Problem](r, r.StatusCode).Code
	}
	gateway := func(audience string) func(captured) string {
		return func(c captured) string {
			path := strings.TrimPrefix(c.url, photosOrigin)
			header := []string{"X-Original-Method", c.method, "X-Original-URI", path}
			for _, p := range c.proofs {
				header = append(header, "DPoP", p)
			}
			return code(a.do(ask{method: "GET", path: "/authz/original?audience=" + audience, auth: c.scheme + " " + c.token, header: header}))
		}
	}
	own := func(c captured) string {
		var header []string
		for _, p := range c.proofs {
			header = append(header, "DPoP", p)
		}
		return code(a.do(ask{method: c.method, path: strings.TrimPrefix(c.url, "https://auth.example"), auth: c.scheme + " " + c.token, header: header}))
	}
	for _, place := range []struct {
		name, audience, url, elsewhere string // elsewhere begins another path
		at                             func(captured) string
		other                          func(captured) string // a place of another audience
		schemes, several               bool                  // it hears of the scheme, and of every proof
	}{
		{"asked by a service", "photos", photosOrigin + "/photos/1", photosOrigin + "/photos/2", asked("photos"), asked("mail"), false, false},
		{"at a gateway", "photos", photosOrigin + "/photos/1", photosOrigin + "/photos/2", gateway("photos"), gateway("mail"), true, true},
		{"at the authority", "macaroond", "https://auth.example/v1/devices", "https://auth.example/v1/devices/", own, asked("photos"), true, true},
	} {
		t.Run(place.name, func(t *testing.T) {
			mine, thief := newKey(), newKey()
			token := narrow(alice.Token, a.until(time.Minute), "audience "+place.audience, "cnf "+mine.Thumbprint())
			sibling := narrow(token, "note sibling")
			prove := func(k *dpop.Key, method, url, token string, after time.Duration) string {
				return must(k.Prove(method, url, token, a.clock.Now().Add(after)))
			}
			good := func() captured {
				return captured{"DPoP", token, []string{prove(mine, "GET", place.url, token, 0)}, "GET", place.url}
			}
			want := func(what string, c captured, code string) {
				t.Helper()
				if got := place.at(c); got != code {
					t.Errorf("%s: %s, want %s", what, got, code)
				}
			}
			with := func(change func(*captured)) captured { c := good(); change(&c); return c }

			first := good()
			want("the holder's", first, "ok")
			want("the same again", first, "replayed")
			want("the holder's next", good(), "ok")
			want("as Bearer, with a proof", with(func(c *captured) { c.scheme = "Bearer" }), "ok")
			want("the scheme in another case", with(func(c *captured) { c.scheme = "dpop" }), "ok")

			unused := good()
			refused := map[string]captured{
				"to another path":        with(func(c *captured) { c.proofs[0] = prove(mine, "GET", place.elsewhere+"x", token, 0) }),
				"by another method":      with(func(c *captured) { c.proofs[0] = prove(mine, "POST", place.url, token, 0) }),
				"with another token":     with(func(c *captured) { c.token = sibling }),
				"its child's proof":      with(func(c *captured) { c.proofs[0] = prove(mine, "GET", place.url, sibling, 0) }),
				"by another key":         with(func(c *captured) { c.proofs[0] = prove(thief, "GET", place.url, token, 0) }),
				"without a proof":        with(func(c *captured) { c.proofs = nil }),
				"an empty proof":         with(func(c *captured) { c.proofs[0] = "" }),
				"no proof, as Bearer":    with(func(c *captured) { c.scheme, c.proofs = "Bearer", nil }),
				"a broken proof":         with(func(c *captured) { c.proofs[0] = forge(c.proofs[0]) }),
				"two proofs":             with(func(c *captured) { c.proofs = append(c.proofs, prove(mine, "GET", place.url, token, 0)) }),
				"the same proof twice":   with(func(c *captured) { c.proofs = append(c.proofs, c.proofs[0]) }),
				"two proofs in one":      with(func(c *captured) { c.proofs[0] += "," + prove(mine, "GET", place.url, token, 0) }),
				"a proof that is old":    with(func(c *captured) { c.proofs[0] = prove(mine, "GET", place.url, token, -dpop.Window-time.Second) }),
				"from the future":        with(func(c *captured) { c.proofs[0] = prove(mine, "GET", place.url, token, dpop.Skew+time.Second) }),
				"of another host":        with(func(c *captured) { c.proofs[0] = prove(mine, "GET", "https://evil.example/photos/1", token, 0) }),
				"the proof of no token":  with(func(c *captured) { c.proofs[0] = prove(mine, "GET", place.url, "", 0) }),
				"the token as the proof": with(func(c *captured) { c.proofs[0] = c.token }),
			}
			for what, c := range refused {
				want(what, c, "refused")
			}
			want("the thief narrows it to a key of their own", with(func(c *captured) {
				c.token = narrow(token, "cnf "+thief.Thumbprint())
				c.proofs[0] = prove(thief, "GET", place.url, c.token, 0)
			}), "refused")
			if got := place.other(unused); got != "wrong_audience" {
				t.Errorf("to another audience: %s", got)
			}
			want("forged", with(func(c *captured) { c.token = forge(c.token) }), "invalid")
			want("none of that used the holder's proof up", unused, "ok")
			if place.schemes {
				plain := narrow(alice.Token, a.until(time.Minute), "audience "+place.audience)
				want("a token that is bound to no key, under DPoP", captured{"DPoP", plain, nil, "GET", place.url}, "refused")
				want("with a proof", captured{"DPoP", plain, []string{prove(mine, "GET", place.url, plain, 0)}, "GET", place.url}, "refused")
				want("as Bearer, with a proof that nobody asked for", captured{"Bearer", plain, []string{"rubbish"}, "GET", place.url}, "ok")
			}

			late := good()
			a.pass(59 * time.Second)
			if place.name == "asked by a service" {
				want("just in time", good(), "ok")
			}
			a.pass(time.Second)
			want("after its time", late, "expired")
			want("after its time, proved anew", good(), "expired")
		})
	}
}

// Both kinds of keys, and both caveats that use something up, together: a
// one-time token refused for its proof is not used, and a proof is not used by a
// one-time token that was.
func TestOnceAndProof(t *testing.T) {
	a := start(t, func(s *setup) { s.store.BusyTimeout = 20 * time.Millisecond })
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	a.pass(time.Minute)
	key := must(dpop.NewKey(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
	base := narrow(alice.Token, a.until(time.Minute), "audience photos", "cnf "+key.Thumbprint())
	const url = photosOrigin + "/x"
	decide := func(text, proof string) *reply {
		return a.verify(photos, text, api.Request{Audience: "photos", Method: "GET", URL: url, DPoP: proof})
	}
	code := func(text, proof string) string { return into[api.Decision](decide(text, proof), 200).Code }
	link := narrow(base, "once a")
	proof := must(key.Prove("GET", url, link, a.clock.Now()))
	if got := code(link, ""); got != "refused" {
		t.Errorf("without a proof: %s", got)
	}
	release := a.locked()
	decide(link, proof).wantUnavailable("without the ledger")
	release()
	if got := code(link, proof); got != "ok" {
		t.Errorf("the proof was given back: %s", got)
	}
	if got := code(link, must(key.Prove("GET", url, link, a.clock.Now()))); got != "replayed" {
		t.Errorf("another proof, the same token: %s", got)
	}
	d := into[api.Decision](decide(base, must(key.Prove("POST", url, base, a.clock.Now()))), 200)
	if last := d.Caveats[5]; d.Code != "refused" || d.Reason != "the DPoP proof is for another method" || last.Reason != d.Reason || last.Held {
		t.Errorf("%+v", d)
	}
	proof = must(key.Prove("GET", url, base, a.clock.Now()))
	if got := code(base, proof); got != "ok" {
		t.Error(got)
	}
	d = into[api.Decision](decide(base, proof), 200)
	if last := d.Caveats[5]; d.Code != "replayed" || last.Reason != "the DPoP proof was used before" || last.Held {
		t.Errorf("%+v", d)
	}
	// One proof shown by many at once is one acceptance.
	proof = must(key.Prove("GET", url, base, a.clock.Now()))
	var in atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if code(base, proof) == "ok" {
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 {
		t.Errorf("%d were let in", in.Load())
	}
}

// Right after a start nobody knows what was used before it: 503, and a proof
// made a little later is good.
func TestProofAfterStart(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.http.AuthzOrigin = photosOrigin })
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	key := newKey()
	text := narrow(alice.Token, a.until(time.Minute), "audience photos", "cnf "+key.Thumbprint())
	url := photosOrigin + "/x"
	prove := func() string { return must(key.Prove("GET", url, text, a.clock.Now())) }
	// On a new database nobody was here before, so nothing can have been accepted.
	verified := func() *reply {
		return a.verify(photos, text, api.Request{Audience: "photos", Method: "GET", URL: url, DPoP: prove()})
	}
	if d := into[api.Decision](verified(), 200); !d.Allowed {
		t.Errorf("on a new database: %+v", d)
	}
	a.restart()
	r := verified()
	r.want(503, "busy")
	if r.Header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After %q", r.Header.Get("Retry-After"))
	}
	gateway := func(proof string) *reply {
		return a.do(ask{method: "GET", path: "/authz/original?audience=photos", auth: "DPoP " + text, header: []string{"X-Original-Method", "GET", "X-Original-URI", "/x?query", "DPoP", proof}})
	}
	early := prove()
	gateway(early).wantVerdict("at a gateway", 503, "busy")
	a.pass(dpop.Skew + time.Second)
	gateway(early).wantVerdict("what was proved then, later", 503, "busy")
	gateway(prove()).wantVerdict("a new one", 200, "")
}

// A gateway that does not say its origin knows no URL, and refuses.
func TestProofWithoutOrigin(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	key := newKey()
	a.pass(time.Minute)
	text := narrow(alice.Token, a.until(time.Minute), "audience photos", "cnf "+key.Thumbprint())
	r := a.do(ask{method: "GET", path: "/authz/original?audience=photos", auth: "DPoP " + text, header: []string{
		"X-Original-Method", "GET", "X-Original-URI", "/x", "DPoP", must(key.Prove("GET", photosOrigin+"/x", text, a.clock.Now())),
	}})
	r.wantVerdict("no origin", 403, "refused")
	if p := into[api.Problem](r, 403); p.Detail != "the verifier does not know the request's URL" {
		t.Error(p.Detail)
	}
}

// Nor is a URL known that another host's name would begin: a proof for that host
// must not pass here, for the target is the client's.
func TestProofForAnotherHost(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.http.AuthzOrigin = photosOrigin })
	alice := a.user("alice")
	key := newKey()
	a.pass(time.Minute)
	text := narrow(alice.Token, a.until(time.Minute), "audience photos", "cnf "+key.Thumbprint())
	for target, want := range map[string]int{"/x": 200, ".evil.example/x": 403, ":8443/x": 403, "*": 403, photosOrigin + "/x": 403} {
		proof := must(key.Prove("GET", photosOrigin+target, text, a.clock.Now()))
		r := a.do(ask{method: "GET", path: "/authz/original?audience=photos", auth: "DPoP " + text, header: []string{
			"X-Original-Method", "GET", "X-Original-URI", target, "DPoP", proof,
		}})
		if r.StatusCode != want {
			t.Errorf("%s: %s %s", target, r.Status, r.body)
		}
	}
}
