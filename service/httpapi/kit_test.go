package httpapi

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gopkg.in/macaroon.v2"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/service/token"
	"macaroond/storage/sqlite"
)

// authority is a real one: SQLite in a temporary directory, a keyring, argon2
// at its least cost, and the server with its limits on a loopback port. Only
// the clock is the test's. Whatever is asked of it over HTTP is held against
// the OpenAPI document, and its log against every secret that went either way.
type authority struct {
	t     *testing.T
	svc   *service.Service
	store *sqlite.Store
	path  string // of the database
	addr  string
	clock *clock
	keys  *keyring.SealingKeys
	log   *journal
	http  *http.Client

	made    *setup
	handler *atomic.Pointer[http.Handler]
}

// setup is what a test may want otherwise.
type setup struct {
	service service.Config
	http    Config
	store   sqlite.Options
}

const proxy = "127.0.0.1/32" // the test's own address, once it is trusted

func (s *setup) trust(prefixes ...string) {
	for _, p := range prefixes {
		s.http.TrustedProxies = append(s.http.TrustedProxies, netip.MustParsePrefix(p))
	}
}

func start(t *testing.T, change ...func(*setup)) *authority {
	t.Helper()
	a := &authority{t: t, path: filepath.Join(t.TempDir(), "macaroond.db"), clock: &clock{now: time.Now().Truncate(time.Second)}, log: &journal{}, handler: &atomic.Pointer[http.Handler]{}}
	t.Cleanup(func() { a.log.check(t) })
	a.keys = must(keyring.ParseSealingKeys(keyring.NewKeyText()))
	log := slog.New(slog.NewJSONHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	often := service.Rate{Burst: 10_000, Interval: time.Second}
	s := &setup{
		service: service.Config{
			Keys: a.keys, Now: a.clock.Now, Log: log,
			Hashing: service.Hashing{MemoryKiB: 8, Time: 1, Threads: 1, Pool: 4, Queue: 64},
			Limits:  service.Limits{AccountAddress: often, Account: often, Address: often, Signup: often},
			Settings: service.Settings{
				Issuer: "https://auth.example", Audience: "macaroond", GatewayAudience: "backend", Signup: "device",
				RootTTL: 30 * 24 * time.Hour, RenewGrace: time.Minute, AccessTTL: 10 * time.Minute, MaxStaleness: 30 * time.Second, OnceMaxTTL: 24 * time.Hour, MaxDevices: 100, FreshLogin: 10 * time.Minute,
			},
		},
		http: Config{Version: api.Version{Version: "v0", Go: "go"}, Log: log, Requests: NewRequests()},
	}
	for _, f := range change {
		f(s)
	}
	a.made = s
	a.open()
	t.Cleanup(func() { a.store.Close() })

	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	a.addr = listener.Addr().String()
	server := NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*a.handler.Load()).ServeHTTP(w, r) }), log)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	t.Cleanup(func() { server.Close(); serving.Wait() })

	wire := &http.Transport{}
	t.Cleanup(wire.CloseIdleConnections)
	a.http = &http.Client{
		Transport:     &watch{a: a, wire: wire},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a
}

// open begins the service on its database.
func (a *authority) open() {
	a.store = must(sqlite.Open(a.t.Context(), a.path, a.made.store))
	a.made.service.Store = a.store
	a.svc = must(service.New(a.t.Context(), a.made.service))
	a.made.http.Service = a.svc
	handler := New(a.made.http)
	a.handler.Store(&handler)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// clock is the service's only clock.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// drift moves the clock on and lets nobody read the database.
func (c *clock) drift(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// pass moves the clock on, as time does: the table is read in between.
func (a *authority) pass(d time.Duration) {
	a.t.Helper()
	a.clock.drift(d)
	if err := a.svc.CatchUp(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
}

// ask is a request.
type ask struct {
	method, path string
	auth         string // Authorization
	body         string // JSON, unless header says otherwise
	header       []string
}

func bearer(token string) string { return "Bearer " + token }

func basic(name, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+secret))
}

// reply is an answer, read to its end.
type reply struct {
	t *testing.T
	*http.Response
	body []byte
}

func (a *authority) do(q ask) *reply {
	a.t.Helper()
	r := must(http.NewRequestWithContext(a.t.Context(), q.method, "http://"+a.addr+q.path, strings.NewReader(q.body)))
	if q.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if q.auth != "" {
		r.Header.Set("Authorization", q.auth)
	}
	for i := 0; i+1 < len(q.header); i += 2 {
		if q.header[i] == "Content-Type" {
			r.Header.Del("Content-Type")
		}
		r.Header.Add(q.header[i], q.header[i+1])
	}
	return a.send(r)
}

func (a *authority) send(r *http.Request) *reply {
	a.t.Helper()
	resp, err := a.http.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	return &reply{a.t, resp, must(io.ReadAll(resp.Body))}
}

// raw sends what no client library would, byte for byte.
func (a *authority) raw(request string) *reply {
	a.t.Helper()
	conn := must(net.Dial("tcp", a.addr))
	defer conn.Close()
	var sending sync.WaitGroup
	sending.Go(func() { io.WriteString(conn, request) }) // the server may answer before it has it all
	defer sending.Wait()
	method, rest, _ := strings.Cut(request, " ")
	target, _, _ := strings.Cut(rest, " ")
	asked := &http.Request{Method: method, URL: &url.URL{Path: target}, Header: http.Header{}}
	if u, err := url.ParseRequestURI(target); err == nil {
		asked.URL = u
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), asked)
	if err != nil {
		a.t.Fatalf("%.60q: %v", request, err)
	}
	defer resp.Body.Close()
	out := &reply{a.t, resp, must(io.ReadAll(resp.Body))}
	if resp.Header.Get("X-Request-Id") != "" || resp.Header.Get("X-Auth-User") != "" { // else net/http answered, not we
		if err := document().response(asked, nil, resp, out.body); err != nil {
			a.t.Errorf("%s %s: %d is not as documented: %v\n%s", method, target, resp.StatusCode, err, out.body)
		}
	}
	if c := cookies(resp.Header); c != nil {
		a.t.Errorf("%s %s: the answer sets a cookie: %q", method, target, c)
	}
	conn.Close()
	return out
}

func (a *authority) post(path, auth string, in any) *reply {
	a.t.Helper()
	return a.do(ask{method: "POST", path: path, auth: auth, body: string(must(json.Marshal(in)))})
}

// into reads an answer that must have this status.
func into[T any](r *reply, status int) (v T) {
	r.t.Helper()
	if r.StatusCode != status {
		r.t.Fatalf("%s %s: %d, want %d: %s", r.Request.Method, r.Request.URL.Path, r.StatusCode, status, r.body)
	}
	if err := json.Unmarshal(r.body, &v); err != nil {
		r.t.Fatalf("%v: %s", err, r.body)
	}
	return v
}

// want holds an answer against the policy: its status, its code, and what
// WWW-Authenticate then is. The code "" is a success.
func (r *reply) want(status int, code string) api.Problem {
	r.t.Helper()
	var p api.Problem
	if status >= 400 {
		_ = json.Unmarshal(r.body, &p)
	}
	if r.StatusCode != status || p.Code != code {
		r.t.Errorf("%s %s: %d %s, want %d %s: %.300s", r.Request.Method, r.Request.URL.Path, r.StatusCode, p.Code, status, code, r.body)
		return p
	}
	if got := r.Header.Values("WWW-Authenticate"); strings.Join(got, "|") != challenges[code] {
		r.t.Errorf("%s %s: %d %s with WWW-Authenticate %q, want %q", r.Request.Method, r.Request.URL.Path, status, code, got, challenges[code])
	}
	if r.Header.Get("Cache-Control") != "no-store" {
		r.t.Errorf("%s %s: %d without Cache-Control: no-store", r.Request.Method, r.Request.URL.Path, status)
	}
	return p
}

func password(name string) string { return "the password of " + name }

// user makes an account with a password and logs in.
func (a *authority) user(name string) api.Grant {
	a.t.Helper()
	return a.userOf(name, "")
}

// admin is a user with the role.
func (a *authority) admin() api.Grant { a.t.Helper(); return a.userOf("chief", service.RoleAdmin) }

func (a *authority) userOf(name, role string) api.Grant {
	a.t.Helper()
	in := api.UserIn{Username: name, Password: password(name), Role: role}
	if _, err := a.svc.AddUser(a.t.Context(), in, service.ActorOperator, service.Source{}); err != nil {
		a.t.Fatal(err)
	}
	return a.login(name, api.DeviceIn{Name: "phone"})
}

func (a *authority) login(name string, device api.DeviceIn) api.Grant {
	a.t.Helper()
	return into[api.Grant](a.post("/v1/login", "", api.LoginIn{Username: name, Password: password(name), Device: device}), http.StatusOK)
}

// service makes a service credential and gives its Authorization.
func (a *authority) service(name string, serves ...string) (api.Service, string) {
	a.t.Helper()
	s, err := a.svc.AddService(a.t.Context(), api.ServiceIn{Name: name, Serves: serves}, service.ActorOperator, service.Source{})
	if err != nil {
		a.t.Fatal(err)
	}
	return s, basic(s.ID, s.Secret)
}

// narrow appends caveats offline.
func narrow(text string, add ...string) string {
	return must(token.Attenuate(must(token.Parse(text)), add...)).Text()
}

// foreign appends one caveat as another implementation may: any bytes, of which
// ours refuses some.
func foreign(text, caveat string) string {
	b, _ := base64.RawURLEncoding.DecodeString(text)
	var m macaroon.Macaroon
	if err := m.UnmarshalBinary(b); err != nil {
		panic(err)
	}
	if err := m.AddFirstPartyCaveat([]byte(caveat)); err != nil {
		panic(err)
	}
	b, _ = m.MarshalBinary()
	return base64.RawURLEncoding.EncodeToString(b)
}

// until is a time-before so far from now.
func (a *authority) until(d time.Duration) string {
	return caveats.TimeBefore(a.clock.Now().Add(d)).String()
}

// alive holds a token's life against what it should be, by a bare root of the
// same user, with nothing else known of a request than its audience.
func (a *authority) alive(owner api.Grant, text, audience string, want bool) {
	a.t.Helper()
	d := into[api.Decision](a.post("/v1/verify", bearer(owner.Token), api.VerifyIn{Token: text, Request: api.Request{Audience: audience}}), http.StatusOK)
	if d.Allowed != want || !want && d.Code != api.CodeRevoked {
		a.t.Errorf("alive: %s, want %v", d.Code, want)
	}
}

// in runs a part of a test against the same authority.
func (a *authority) in(name string, f func(*authority)) {
	a.t.Run(name, func(t *testing.T) {
		b := *a
		b.t = t
		b.http = &http.Client{Transport: &watch{a: &b, wire: a.http.Transport.(*watch).wire}, CheckRedirect: a.http.CheckRedirect}
		f(&b)
	})
}

func same(a, b []byte) bool { return bytes.Equal(a, b) }

func hexSum(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}
