package guard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/dpop"
	"macaroond/service/guard"
	"macaroond/service/httpapi"
)

// A path is judged in the bytes in which it is served, also by the authority,
// which is told of it in JSON.
func TestRawBytes(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	root := a.device("ann").Token
	for i, x := range []struct{ path, target, want string }{
		{"/photos/**", "/photos/\xff", api.CodeRefused},
		{"/photos/**", "/photos/\xc0\xae\xc0\xae/admin", api.CodeRefused}, // dots, in more bytes than they need
		{"/photos/**", "/photos/\xed\xa0\x80", api.CodeRefused},           // half of a surrogate pair
		{"/photos/\ufffd", "/photos/\xff", api.CodeRefused},
		{"/photos/\ufffd", "/photos/\ufffd", api.CodeOK},
		{"/photos/é", "/photos/é", api.CodeOK},
		{"/photos/é", "/photos/%C3\xa9?q=\xff", api.CodeOK},
		{"/photos/é", "/photos/e", api.CodeRefused},
	} {
		for where, with := range map[string][]string{
			"here":                  {"path " + x.path},
			"at the authority":      {"path " + x.path, fmt.Sprint("once ", i)},
			"sealed, the authority": {a.sealed(root, "path "+x.path)},
		} {
			text := narrow(t, root, append([]string{window(), "audience photos", soon()}, with...)...)
			if got := codeOf(g, text, caveats.Request{Method: "GET", Target: x.target}); got != x.want {
				t.Errorf("path %s for %q, %s: %s", x.path, x.target, where, got)
			}
		}
	}
}

// stale is for what the authority does not know, and not for what a client did:
// somebody is called in the night for it.
func TestClientsFaultsAreNotStale(t *testing.T) {
	a := start(t)
	var seen []guard.Observation
	var log bytes.Buffer
	g := a.guard(func(o *guard.Options) {
		o.Observe = func(x guard.Observation) { seen = append(seen, x) }
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	root := a.device("ann").Token
	long := caveats.Request{Method: "GET", Target: "/" + strings.Repeat("<", 12<<10)}
	if c := codeOf(g, forge(narrow(t, root, window(), "audience photos", soon(), "once a")), long); c != api.CodeBadRequest {
		t.Errorf("a path that is too long: %s", c)
	}
	shown := &dpop.Presented{Proofs: []string{"x.y.z"}, URL: "http://a@b/photos/1"} // "Host: a@b"
	_, err := g.Gateway(t.Context(), forge(narrow(t, root, window(), "audience photos", soon(), "cnf "+strings.Repeat("A", 43), "once b")), get(), shown)
	if c := codeIn(err); c != api.CodeBadRequest {
		t.Errorf("a URL with a user: %s", c)
	}
	for i, change := range []func(*caveats.Request){ // what JSON cannot say
		func(r *caveats.Request) { r.Method = "\xff" },
		func(r *caveats.Request) { r.Actions = []string{"photos:\xff"} },
		func(r *caveats.Request) { r.Extra = map[string]string{"tenant": "\xff"} }, // as a header said
	} {
		facts := get()
		change(&facts)
		if c := codeOf(g, forge(narrow(t, root, window(), "audience photos", soon(), fmt.Sprint("once c", i))), facts); c != api.CodeBadRequest {
			t.Errorf("%+v: %s", facts, c)
		}
	}
	for path, token := range map[string]string{
		"/oauth2/introspect": forge(narrow(t, root, window(), "audience photos", soon())),
		"/v1/verify":         forge(narrow(t, root, window(), "audience photos", soon(), "once gone")),
	} {
		a.between(path, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			time.Sleep(50 * time.Millisecond)
			next.ServeHTTP(w, r)
		})
		ctx, hangUp := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer hangUp()
		_, err = g.Gateway(ctx, token, get(), nil)
		if c := codeIn(err); c != api.CodeStale {
			t.Errorf("who hung up, %s: %s", path, c)
		}
	}
	unsaid := foreign(narrow(t, root, window(), "audience photos"), "note \xff")
	if c := codeOf(g, unsaid, get()); c != api.CodeInvalid {
		t.Errorf("a caveat that the authority cannot tell in JSON: %s", c)
	}
	if c := codeOf(g, narrow(t, root, window(), "audience photos"), get()); c != api.CodeOK {
		t.Fatalf("its beginning: %s", c)
	}
	if c := codeOf(g, foreign(unsaid, "note x"), get()); c != api.CodeUnknownCaveat {
		t.Errorf("the same, of a device that is known: %s", c)
	}
	for _, x := range seen {
		if x.Code == api.CodeStale {
			t.Errorf("counted: %+v", x)
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged: %s", &log)
	}
}

// What is known of a request is known to the authority, too.
func TestAuthorityIsToldOfTheRequest(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	root := a.device("ann").Token
	facts := caveats.Request{
		Method: "PUT", Target: "/photos/1?x=y", Actions: []string{"photos:read", "photos:write"}, ClientIP: netip.MustParseAddr("192.0.2.1"),
		Origins: []string{"https://a.example"}, BodySHA256: strings.Repeat("0a", 32),
	}
	for i, x := range []struct{ held, refused string }{
		{"method PUT", "method GET"},
		{"path /photos/1", "path /photos/2"},
		{"allow photos:*", "allow photos:read"},
		{"client-ip 192.0.2.0/24", "client-ip 198.51.100.0/24"},
		{"origin https://a.example", "origin https://b.example"},
		{"body-sha256 " + strings.Repeat("0a", 32), "body-sha256 " + strings.Repeat("0b", 32)},
	} {
		for caveat, want := range map[string]string{x.held: api.CodeOK, x.refused: api.CodeRefused} {
			if got := codeOf(g, narrow(t, root, window(), "audience photos", caveat, fmt.Sprint("once ", i)), facts); got != want {
				t.Errorf("%s: %s", caveat, got)
			}
		}
	}
}

// While the authority is away, the log says so now and then and not for each
// request.
func TestAwayIsLoggedOnce(t *testing.T) {
	a := start(t)
	var log safeBuffer
	g := a.guard(func(o *guard.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	text := narrow(t, a.device("ann").Token, window(), "audience photos", soon())
	for _, path := range []string{"/oauth2/introspect", "/v1/verify"} {
		a.between(path, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(http.StatusBadGateway) })
		for i := range 20 {
			if path == "/v1/verify" {
				text = narrow(t, text, fmt.Sprint("once ", i))
			}
			if c := code(g, text); c != api.CodeStale {
				t.Fatalf("%s: %s", path, c)
			}
		}
	}
	if n := strings.Count(log.String(), "cannot be asked"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}

// To a backend that goes by names, two users whose names are not known would be
// one.
func TestRemoteUserWithoutName(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	roots := map[string]string{"ann": a.device("ann").Token, "bob": a.device("bob").Token}
	conf := httpapi.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, RemoteUser: "username", Log: slog.New(slog.DiscardHandler), Requests: httpapi.NewRequests()}
	edge := httpapi.NewEdge(conf, g)
	conf.Service = a.svc
	servers := map[string]http.Handler{"sidecar": edge, "authority": httpapi.New(conf)}
	ask := func(h http.Handler, root string) (status int, user string) {
		r := httptest.NewRequest("GET", "/authz/original?audience=photos", nil)
		r.Header.Set("Authorization", "Bearer "+narrow(t, root, window(), "audience photos", soon()))
		r.Header.Set("X-Original-Method", "GET")
		r.Header.Set("X-Original-URI", "/")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Header().Get("Remote-User")
	}
	a.names = nil
	_ = a.credentialIn("another") // the authority forgets names
	a.store.slow.Store(true)
	for where, h := range servers {
		for user, root := range roots {
			if status, told := ask(h, root); status != http.StatusServiceUnavailable || told != "" {
				t.Errorf("slow, %s: %s is %d, Remote-User %q", where, user, status, told)
			}
		}
	}
	a.store.slow.Store(false)
	for user, root := range roots {
		if status, told := ask(servers["authority"], root); status != http.StatusOK || told != user {
			t.Errorf("well again: %s is %d, Remote-User %q", user, status, told)
		}
	}
}

// A gateway understands 401 and 403, and no 429: a client that has asked too much
// for now is told 503, and neither to log in nor that it may not.
func TestTooManyQuestionsThroughAGateway(t *testing.T) {
	a := start(t)
	g := a.guard(func(o *guard.Options) { o.IntrospectionsPerClient = 1 })
	edge := httpapi.NewEdge(httpapi.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Log: slog.New(slog.DiscardHandler), Requests: httpapi.NewRequests()}, g)
	for i, want := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		r := httptest.NewRequest("GET", "/authz/original?audience=photos", nil)
		for name, value := range map[string]string{
			"Authorization":     "Bearer " + narrow(t, a.device(fmt.Sprint("user", i)).Token, window(), "audience photos", soon()),
			"X-Original-Method": "GET", "X-Original-URI": "/", "X-Forwarded-For": "192.0.2.7",
		} {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		edge.ServeHTTP(w, r)
		if w.Code != want || (w.Header().Get("Retry-After") != "") != (want != http.StatusOK) || w.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("question %d: %d %v %s, want %d", i, w.Code, w.Header(), w.Body, want)
		}
	}
}

// What the sidecar learned without a name it does not keep.
func TestNamelessIsNotKept(t *testing.T) {
	a := start(t)
	now := time.Now()
	g := a.guard(func(o *guard.Options) { o.Now = func() time.Time { return now } })
	text := narrow(t, a.device("ann").Token, window(), "audience photos", soon())
	name := func() string {
		pass, err := g.Gateway(t.Context(), text, get(), nil)
		ok(t, err)
		return pass.Username
	}
	a.names = nil
	_ = a.credentialIn("another")
	a.store.slow.Store(true)
	if got := name(); got != "" {
		t.Fatalf("slow: %q", got)
	}
	a.store.slow.Store(false)
	now = now.Add(10 * time.Second)
	if got := name(); got != "ann" {
		t.Errorf("ten seconds later: %q", got)
	}
}

// An answer of another history than the feed's is good for the request that
// caused it: later changes cannot be compared with it.
func TestAnswerOfAnotherHistory(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	text := narrow(t, a.device("ann").Token, window(), "audience photos")
	a.answer("/oauth2/introspect", func(w *httptest.ResponseRecorder) {
		var in map[string]any
		ok(t, json.Unmarshal(w.Body.Bytes(), &in))
		in["feed"] = map[string]any{"generation": "another", "sequence": 100000}
		b, err := json.Marshal(in)
		ok(t, err)
		w.Body = bytes.NewBuffer(b)
	})
	a.want("of another history", g, text, "ok", 1)
	a.want("and once more", g, text, "ok", 1)
	a.honest()
	a.want("of the feed's", g, text, "ok", 1)
	a.want("which is kept", g, text, "ok", 0)
}
