package guard_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/dpop"
	"macaroond/service/guard"
)

func keyOf(t testing.TB, name string) *dpop.Key {
	t.Helper()
	if name == "ES256" {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ok(t, err)
		k, err := dpop.NewKey(key)
		ok(t, err)
		return k
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	k, err := dpop.NewKey(key)
	ok(t, err)
	return k
}

// A captured request at the edge: verified there and, for a one-time token, by
// the authority, with the same answers. Nobody is asked about a proof.
func TestCapturedRequest(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	now := time.Now().Add(time.Minute) // what was proved before it began is another test
	var ahead atomic.Int64
	clock := func() time.Time { return now.Add(time.Duration(ahead.Load())) }
	begun := time.Now()
	var settled atomic.Bool
	g := a.guard(func(o *guard.Options) {
		o.Now = func() time.Time {
			if settled.Load() {
				return clock()
			}
			return begun
		}
		o.MaxStaleness = time.Hour
	})
	settled.Store(true)
	mail := a.guard(func(o *guard.Options) {
		o.Audience, o.Credential, o.MaxStaleness, o.Now = "mail", a.credential("mail"), time.Hour, clock
	})
	const origin = "https://photos.example"
	for _, alg := range []string{"ES256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			mine, thief := keyOf(t, alg), keyOf(t, alg)
			text := narrow(t, alice.Token, window(), "audience photos", "cnf "+mine.Thumbprint())
			prove := func(k *dpop.Key, method, url, token string, after time.Duration) string {
				p, err := k.Prove(method, url, token, clock().Add(after))
				ok(t, err)
				return p
			}
			type captured struct {
				scheme, token string
				proofs        []string
				method, path  string
			}
			at := func(g *guard.Guard, c captured) string {
				r := httptest.NewRequest(c.method, origin+c.path, nil)
				r.Header.Set("Authorization", c.scheme+" "+c.token)
				r.Header["Dpop"] = c.proofs
				return codeOfRequest(g, r)
			}
			good := func() captured {
				return captured{"DPoP", text, []string{prove(mine, "GET", origin+"/photos/1", text, 0)}, "GET", "/photos/1?size=big"}
			}
			with := func(change func(*captured)) captured { c := good(); change(&c); return c }
			want := func(what string, c captured, code string) {
				t.Helper()
				if got := at(g, c); got != code {
					t.Errorf("%s: %s, want %s", what, got, code)
				}
			}
			first := good()
			want("the holder's", first, "ok")
			want("the same again", first, "replayed")
			want("the holder's next", good(), "ok")
			want("as Bearer, with a proof", with(func(c *captured) { c.scheme = "Bearer" }), "ok")
			unused := good()
			for what, c := range map[string]captured{
				"to another path":      with(func(c *captured) { c.path = "/photos/2" }),
				"by another method":    with(func(c *captured) { c.method = "PUT" }),
				"with another token":   with(func(c *captured) { c.token = narrow(t, text, "note x") }),
				"by another key":       with(func(c *captured) { c.proofs[0] = prove(thief, "GET", origin+"/photos/1", text, 0) }),
				"to another host":      with(func(c *captured) { c.proofs[0] = prove(mine, "GET", "https://mail.example/photos/1", text, 0) }),
				"over http":            with(func(c *captured) { c.proofs[0] = prove(mine, "GET", "http://photos.example/photos/1", text, 0) }),
				"without a proof":      with(func(c *captured) { c.proofs = nil }),
				"no proof, as Bearer":  with(func(c *captured) { c.scheme, c.proofs = "Bearer", nil }),
				"an empty proof":       with(func(c *captured) { c.proofs[0] = "" }),
				"two proofs":           with(func(c *captured) { c.proofs = append(c.proofs, good().proofs[0]) }),
				"the same proof twice": with(func(c *captured) { c.proofs = append(c.proofs, c.proofs[0]) }),
				"a proof that is old": with(func(c *captured) {
					c.proofs[0] = prove(mine, "GET", origin+"/photos/1", text, -dpop.Window-time.Second)
				}),
				"from the future": with(func(c *captured) { c.proofs[0] = prove(mine, "GET", origin+"/photos/1", text, dpop.Skew+time.Second) }),
				"narrowed to the thief's key": with(func(c *captured) {
					c.token = narrow(t, text, "cnf "+thief.Thumbprint())
					c.proofs[0] = prove(thief, "GET", origin+"/photos/1", c.token, 0)
				}),
			} {
				want(what, c, "refused")
			}
			want("forged", with(func(c *captured) { c.token = forge(c.token) }), "invalid")
			if got := at(mail, unused); got != "wrong_audience" {
				t.Errorf("to another audience: %s", got)
			}
			want("none of that used the holder's proof up", unused, "ok")
			plain := narrow(t, alice.Token, window(), "audience photos")
			want("a token bound to no key, under DPoP", captured{"DPoP", plain, nil, "GET", "/"}, "refused")
			want("as Bearer, with a proof that nobody asked for", captured{"Bearer", plain, []string{"rubbish"}, "GET", "/"}, "ok")

			// One-time: the authority judges, and is given the proof and the URL.
			link := narrow(t, text, "once "+alg)
			before := a.count("/v1/verify").Load()
			oneTime := func(p string) captured { return captured{"DPoP", link, []string{p}, "GET", "/photos/1"} }
			hers := func() string { // by the authority's clock
				p, err := mine.Prove("GET", origin+"/photos/1", link, time.Now().Add(dpop.Skew-time.Second))
				ok(t, err)
				return p
			}
			eventually(t, "the authority can know what was proved before it began", func() bool {
				other := narrow(t, text, "once try")
				p, err := mine.Prove("GET", origin+"/", other, time.Now())
				ok(t, err)
				c := at(g, captured{"DPoP", other, []string{p}, "GET", "/"})
				return c == "ok" || c == "replayed"
			})
			want("one-time, without a proof", captured{"DPoP", link, nil, "GET", "/photos/1"}, "refused")
			want("one-time, a proof that is no text", captured{"DPoP", link, []string{"\xff"}, "GET", "/photos/1"}, "refused")
			want("one-time, two proofs", captured{"DPoP", link, []string{hers(), hers()}, "GET", "/photos/1"}, "refused")
			want("one-time", oneTime(hers()), "ok")
			want("one-time, again", oneTime(hers()), "replayed")
			want("one-time, bound to no key, under DPoP", captured{"DPoP", narrow(t, plain, "once x"), nil, "GET", "/"}, "refused")
			if a.count("/v1/verify").Load() < before+4 {
				t.Error("the authority was not asked")
			}
		})
	}
	// Its time is over.
	mine := keyOf(t, "EdDSA")
	late := narrow(t, alice.Token, window(), "audience photos", "cnf "+mine.Thumbprint(), "time-before "+clock().Add(30*time.Second).UTC().Format(time.RFC3339))
	p, err := mine.Prove("GET", origin+"/", late, clock())
	ok(t, err)
	ahead.Store(int64(31 * time.Second))
	r := httptest.NewRequest("GET", origin+"/", nil)
	r.Header.Set("Authorization", "DPoP "+late)
	r.Header.Set("DPoP", p)
	if got := codeOfRequest(g, r); got != "expired" {
		t.Errorf("after its time: %s", got)
	}
}

// codeOfRequest is what the middleware says.
func codeOfRequest(g *guard.Guard, r *http.Request) string {
	w := httptest.NewRecorder()
	if _, admitted := g.Admit(w, r); admitted {
		return api.CodeOK
	}
	return codeOfBody(w)
}

// Of many who show one proof at once, one is let in; and what was proved before
// the guard began is not accepted, which is not the token's fault.
func TestProofOnce(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	now := time.Now()
	var ahead atomic.Int64
	g := a.guard(func(o *guard.Options) { o.Now = func() time.Time { return now.Add(time.Duration(ahead.Load())) } })
	mine := keyOf(t, "EdDSA")
	text := narrow(t, alice.Token, window(), "audience photos", "client-ip 192.0.2.0/24", "cnf "+mine.Thumbprint())
	shown := func() *dpop.Presented {
		p, err := mine.Prove("GET", "https://photos.example/photos/1", text, now.Add(time.Duration(ahead.Load())))
		ok(t, err)
		return &dpop.Presented{Proofs: []string{p}, URL: "https://photos.example/photos/1", Scheme: true}
	}
	here := get()
	here.ClientIP = netip.MustParseAddr("192.0.2.1")
	_, err := g.Gateway(context.Background(), text, here, shown())
	if refusal, is := err.(*api.Refusal); !is || refusal.Code != api.CodeBusy || refusal.RetryAfter != dpop.Skew {
		t.Errorf("as it begins: %v", err)
	}
	ahead.Store(int64(dpop.Skew + time.Second))
	one := shown()
	elsewhere := get()
	elsewhere.ClientIP = netip.MustParseAddr("198.51.100.1")
	if _, err := g.Gateway(context.Background(), text, elsewhere, one); codeIn(err) != api.CodeRefused {
		t.Errorf("from elsewhere: %v", err) // which uses the proof up for nobody
	}
	var in, out atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			_, err := g.Gateway(context.Background(), text, here, one)
			switch codeIn(err) {
			case api.CodeOK:
				in.Add(1)
			case api.CodeReplayed:
				out.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 || out.Load() != 63 {
		t.Errorf("%d were let in, %d told that it was used", in.Load(), out.Load())
	}
}

// A server behind a proxy says itself what the client asked for.
func TestProofBehindProxy(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	now := time.Now()
	var ahead atomic.Int64
	g := a.guard(func(o *guard.Options) {
		o.Now = func() time.Time { return now.Add(time.Duration(ahead.Load())) }
		o.URL = func(r *http.Request) string { return "https://public.example/api" + r.URL.EscapedPath() }
	})
	ahead.Store(int64(10 * time.Second))
	mine := keyOf(t, "EdDSA")
	text := narrow(t, alice.Token, window(), "audience photos", "cnf "+mine.Thumbprint())
	for url, want := range map[string]string{"https://public.example/api/photos/1": "ok", "http://inside:8080/photos/1": "refused"} {
		p, err := mine.Prove("GET", url, text, now.Add(10*time.Second))
		ok(t, err)
		r := httptest.NewRequest("GET", "http://inside:8080/photos/1", nil)
		r.Header.Set("Authorization", "DPoP "+text)
		r.Header.Set("DPoP", p)
		if got := codeOfRequest(g, r); got != want {
			t.Errorf("%s: %s", url, got)
		}
	}
}

func codeOfBody(w *httptest.ResponseRecorder) string {
	var p api.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		return err.Error()
	}
	return p.Code
}
