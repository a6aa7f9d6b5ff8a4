package guard_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gopkg.in/macaroon.v2"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/guard"
	"macaroond/service/httpapi"
	"macaroond/service/keyring"
	"macaroond/service/token"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// authority is a real one on a database of its own, behind a proxy that counts,
// can be cut, and can answer otherwise than the authority does.
type authority struct {
	t     *testing.T
	svc   *service.Service
	store *wire
	c     *client.Client // beside the proxy
	url   string         // of the proxy
	asked sync.Map       // path to *atomic.Int64
	twist atomic.Pointer[twist]
	line  atomic.Pointer[line]
	seal  func(epoch uint32) ([]byte, error)
	names []*api.Grant // everybody's
}

// line is the way through the proxy: what is on it ends with its context.
type line struct {
	context.Context
	end context.CancelFunc
}

func newLine() *line {
	ctx, end := context.WithCancel(context.Background())
	return &line{ctx, end}
}

// cut lets nothing through any more, not even what is on its way; heal ends that.
func (a *authority) cut()  { a.line.Load().end() }
func (a *authority) heal() { a.line.Store(newLine()) }

// twist answers a path in the authority's place; what it does not answer itself
// it may leave to the authority by calling next.
type twist struct {
	path string
	do   func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

// answer has a path's answers changed on their way.
func (a *authority) answer(path string, change func(*httptest.ResponseRecorder)) {
	a.between(path, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		change(rec)
		maps.Copy(w.Header(), rec.Header())
		w.Header().Del("Content-Length")
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
	})
}

func (a *authority) between(path string, do func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	a.twist.Store(&twist{path, do})
}

// honest ends what answer and between began.
func (a *authority) honest() { a.twist.Store(nil) }

// wire is the authority's way to its database. It can be cut, too, and be too
// slow for a name.
type wire struct {
	storage.Store
	cut, slow atomic.Bool
}

func (w *wire) User(ctx context.Context, id string) (storage.User, error) {
	if w.slow.Load() {
		<-ctx.Done()
		return storage.User{}, &storage.UnavailableError{Err: ctx.Err()}
	}
	return w.Store.User(ctx, id)
}

func (w *wire) State(ctx context.Context) (storage.State, error) {
	if w.cut.Load() {
		return storage.State{}, &storage.UnavailableError{Err: errors.New("the test has cut it off")}
	}
	return w.Store.State(ctx)
}

func start(t *testing.T, change ...func(*service.Settings)) *authority {
	t.Helper()
	a := &authority{t: t}
	a.heal()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "macaroond.db"), sqlite.Options{})
	ok(t, err)
	a.store = &wire{Store: db}
	t.Cleanup(func() { a.store.Close() })
	settings := service.Settings{
		Issuer: "https://auth.example", Audience: "macaroond", GatewayAudience: "macaroond", Signup: "device",
		RootTTL: 24 * time.Hour, RenewGrace: time.Minute, AccessTTL: time.Minute, MaxStaleness: 30 * time.Second, OnceMaxTTL: 24 * time.Hour, MaxPrefixTTL: 2 * time.Hour, MaxDevices: 1000, FreshLogin: time.Hour,
	}
	for _, f := range change {
		f(&settings)
	}
	keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	ok(t, err)
	a.seal = keys.Seal
	log := slog.New(slog.DiscardHandler)
	often := service.Rate{Burst: 100_000, Interval: time.Second}
	a.svc, err = service.New(t.Context(), service.Config{
		Store: a.store, Keys: keys, Now: time.Now, Log: log, Limits: service.Limits{AccountAddress: often, Account: often, Address: often, Signup: often},
		Hashing:  service.Hashing{MemoryKiB: 19456, Time: 2, Threads: 1, Pool: 2, Queue: 8},
		Settings: settings,
	})
	ok(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { a.svc.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	behind := listen(t, httpapi.New(httpapi.Config{Service: a.svc, Log: log, Requests: httpapi.NewRequests()}))
	to, err := url.Parse(behind)
	ok(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	proxy.FlushInterval = -1
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(proxy.Transport.(*http.Transport).CloseIdleConnections)
	a.url = listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.count(r.URL.Path).Add(1)
		line := a.line.Load()
		ctx, end := context.WithCancel(r.Context())
		defer end()
		defer context.AfterFunc(line, end)()
		if r = r.WithContext(ctx); line.Err() != nil {
			panic(http.ErrAbortHandler)
		}
		if x := a.twist.Load(); x != nil && x.path == r.URL.Path {
			x.do(w, r, proxy)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	a.c, err = client.New(behind, client.Options{})
	ok(t, err)
	return a
}

func listen(t *testing.T, h http.Handler) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return "http://" + l.Addr().String()
}

func (a *authority) count(path string) *atomic.Int64 {
	n, _ := a.asked.LoadOrStore(path, new(atomic.Int64))
	return n.(*atomic.Int64)
}

// introspections is how often the authority was asked about a token.
func (a *authority) introspections() int64 { return a.count("/oauth2/introspect").Load() }

// device signs a user up and gives the root.
func (a *authority) device(name string) *api.Grant {
	a.t.Helper()
	g, err := a.c.Signup(a.t.Context(), api.SignupIn{Username: name, Device: api.DeviceIn{Name: "phone"}})
	ok(a.t, err)
	a.names = append(a.names, g)
	a.warm()
	return g
}

// warm has the authority know everybody's name. It does not wait for one for
// long: on a busy machine an answer goes out without, and so a prefix has none.
func (a *authority) warm() {
	a.t.Helper()
	for _, g := range a.names {
		text, facts := narrow(a.t, g.Token, "audience names"), caveats.Request{Audience: "names"}
		eventually(a.t, "the authority knows the name", func() bool {
			pass, err := a.svc.Gateway(a.t.Context(), text, facts, nil)
			return err != nil || pass.Username == g.User.Username // revoked by now
		})
	}
}

// credential is a new service's that serves the audiences.
func (a *authority) credential(serves ...string) client.Credential {
	a.t.Helper()
	s := a.credentialIn(serves...)
	return client.Basic(s.ID, s.Secret)
}

func (a *authority) credentialIn(serves ...string) api.Service {
	a.t.Helper()
	defer a.warm() // a change of services makes the authority forget the names
	s, err := a.svc.AddService(a.t.Context(), api.ServiceIn{Name: token.NewID("svc "), Serves: serves}, service.ActorOperator, service.Source{})
	ok(a.t, err)
	ok(a.t, a.svc.CatchUp(a.t.Context()))
	return s
}

// plenty is more questions than a test can put.
const plenty = 1e6

// guard is one for photos, whose list is complete. change may change its options.
func (a *authority) guard(change func(*guard.Options)) *guard.Guard {
	a.t.Helper()
	o := guard.Options{Authority: a.url, Credential: a.credential("photos"), Audience: "photos", Introspections: plenty, IntrospectionsPerClient: plenty, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	g, err := guard.New(context.Background(), o)
	ok(a.t, err)
	a.t.Cleanup(g.Close)
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	defer cancel()
	ok(a.t, g.Wait(ctx))
	return g
}

// narrow appends caveats to a token's text.
func narrow(t testing.TB, text string, with ...string) string {
	t.Helper()
	tok, err := token.Parse(text)
	ok(t, err)
	tok, err = token.Attenuate(tok, with...)
	ok(t, err)
	return tok.Text()
}

// window is this hour's, as clients write it.
func window() string { return caveats.TimeBefore(client.Window(time.Now())).String() }

// soon is a time-before in a minute.
func soon() string { return caveats.TimeBefore(time.Now().Add(time.Minute)).String() }

// get is a request for photo 1.
func get() caveats.Request { return caveats.Request{Method: "GET", Target: "/photos/1"} }

// code is what the guard says of the token for that request.
func code(g *guard.Guard, text string) string { return codeOf(g, text, get()) }

func codeOf(g *guard.Guard, text string, facts caveats.Request) string {
	_, err := g.Gateway(context.Background(), text, facts, nil)
	return codeIn(err)
}

func codeIn(err error) string {
	if err == nil {
		return api.CodeOK
	}
	return err.(*api.Refusal).Code
}

// want is a verdict, and how many questions it cost.
func (a *authority) want(what string, g *guard.Guard, text, code string, questions int64) {
	a.t.Helper()
	before := a.introspections()
	if got := codeOf(g, text, get()); got != code {
		a.t.Errorf("%s: %s, want %s", what, got, code)
	}
	if n := a.introspections() - before; n != questions {
		a.t.Errorf("%s: %d questions, want %d", what, n, questions)
	}
}

// forge is the token with another signature.
func forge(text string) string {
	b, _ := base64.RawURLEncoding.DecodeString(text)
	b[len(b)-1]++
	return base64.RawURLEncoding.EncodeToString(b)
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

// revoke ends a branch, and waits until the guard has heard of it.
func (a *authority) revoke(g *guard.Guard, text string) {
	a.t.Helper()
	n := g.Revocations()
	_, err := a.c.Revoke(a.t.Context(), client.Credential{}, text)
	ok(a.t, err)
	eventually(a.t, "the guard hears of it", func() bool { return g.Revocations() > n })
}

// eventually waits for a condition, for up to a minute: machines are busy.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func body(r *http.Response) string {
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return string(b)
}
