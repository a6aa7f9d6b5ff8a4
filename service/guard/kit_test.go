package guard_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

const password = "correct horse battery staple"

// authority is a real one on a database of its own, behind a proxy that counts
// and can be cut.
type authority struct {
	t     *testing.T
	svc   *service.Service
	store storage.Store
	c     *client.Client
	url   string      // of the proxy
	cut   atomic.Bool // nothing gets through
	asked sync.Map    // path to *atomic.Int64
}

func start(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	var err error
	a.store, err = sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "macaroond.db"), sqlite.Options{})
	ok(t, err)
	t.Cleanup(func() { a.store.Close() })
	keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	ok(t, err)
	log := slog.New(slog.DiscardHandler)
	a.svc, err = service.New(t.Context(), service.Config{
		Store: a.store, Keys: keys, Now: time.Now, Log: log, Limits: service.DefaultLimits,
		Hashing: service.Hashing{MemoryKiB: 19456, Time: 2, Threads: 1, Pool: 2, Queue: 8},
		Settings: service.Settings{
			Issuer: "https://auth.example", Audience: "macaroond", GatewayAudience: "macaroond", Signup: "device",
			RootTTL: 24 * time.Hour, AccessTTL: time.Minute, MaxStaleness: 30 * time.Second, MaxPrefixTTL: 2 * time.Hour, MaxDevices: 1000,
		},
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
	a.url = listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.count(r.URL.Path).Add(1)
		if a.cut.Load() {
			panic(http.ErrAbortHandler)
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
	return g
}

// credential is a new service's that serves the audiences.
func (a *authority) credential(serves ...string) client.Credential {
	a.t.Helper()
	s, err := a.svc.AddService(a.t.Context(), api.ServiceIn{Name: token.NewID("svc "), Serves: serves}, service.ActorOperator, service.Source{})
	ok(a.t, err)
	return client.Basic(s.ID, s.Secret)
}

// guard is one for photos, whose list is complete. change may change its options.
func (a *authority) guard(change func(*guard.Options)) *guard.Guard {
	a.t.Helper()
	o := guard.Options{Authority: a.url, Credential: a.credential("photos"), Audience: "photos"}
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
func code(g *guard.Guard, text string) string {
	_, err := g.Gateway(context.Background(), text, get())
	if err == nil {
		return api.CodeOK
	}
	return err.(*api.Refusal).Code
}

// eventually waits for a condition, for some seconds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
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
