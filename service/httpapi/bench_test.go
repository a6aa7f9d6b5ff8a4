package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/httpapi"
	"macaroond/service/keyring"
	"macaroond/service/token"
	"macaroond/storage/sqlite"
)

// BenchmarkRequests compares requests per second over HTTP keep-alive on
// loopback: POST /v1/verify and /authz/forwarded, each against a bare gin handler
// that answers the same request with a constant JSON. The same client asks them
// in turns that change their order, and the ratio is the median of such blocks:
// the machine is shared, so seconds say little. One run is
// with Go's own client, one with a client that costs next to nothing.
func BenchmarkRequests(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as serve does; for the bare handler, too
	s := benchAuthority(b)
	verify := target{
		method: "POST", path: "/v1/verify",
		body:   fmt.Sprintf(`{"token":%q,"request":{"method":"GET","path":"/photos/1","audience":"photos"}}`, s.token),
		header: http.Header{"Authorization": {"Basic " + s.basic}, "Content-Type": {"application/json"}},
	}
	authz := target{method: "GET", path: "/authz/forwarded?audience=photos", header: http.Header{
		"Authorization": {"Bearer " + s.token}, "X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {"/photos/1"},
	}}
	for _, c := range []struct {
		name string
		dial func(*testing.B, string, target) func() error
	}{{"net-http", goClient}, {"raw", rawClient}} {
		b.Run("verify/client="+c.name, func(b *testing.B) { compare(b, s, verify, c.dial) })
		b.Run("authz/client="+c.name, func(b *testing.B) { compare(b, s, authz, c.dial) })
	}
}

// target is a request to be made again and again.
type target struct {
	method, path, body string
	header             http.Header
}

func (t target) request(b *testing.B, address string) *http.Request {
	b.Helper()
	r, err := http.NewRequest(t.method, "http://"+address+t.path, strings.NewReader(t.body))
	must(b, err)
	r.Header = t.header.Clone()
	return r
}

// compare asks the bare handler and the authority in turn, each on its own
// connections.
func compare(b *testing.B, s benched, t target, dial func(*testing.B, string, target) func() error) {
	const connections, slice, blocks = 8, 40, 60
	connect := func(address string) (ask func() time.Duration) {
		var clients [connections]func() error
		for i := range clients {
			clients[i] = dial(b, address, t)
		}
		return func() time.Duration {
			begin := time.Now()
			var wg sync.WaitGroup
			for _, ask := range clients {
				wg.Go(func() {
					for range slice {
						if err := ask(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			return time.Since(begin)
		}
	}
	askBare, askUs := connect(s.bare), connect(s.address)
	var bare, ours, ratios []float64
	for b.Loop() {
		for range blocks {
			without := askBare()
			with := askUs() + askUs()
			without += askBare()
			bare = append(bare, 2*connections*slice/without.Seconds())
			ours = append(ours, 2*connections*slice/with.Seconds())
			ratios = append(ratios, without.Seconds()/with.Seconds())
		}
	}
	median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(bare), "bare_requests/s")
	b.ReportMetric(median(ours), "requests/s")
	b.ReportMetric(median(ratios), "of-bare")
}

type benched struct{ address, bare, basic, token string }

func benchAuthority(b *testing.B) benched {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	store, err := sqlite.Open(ctx, b.TempDir()+"/db", sqlite.Options{})
	must(b, err)
	keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	must(b, err)
	log := slog.New(slog.NewJSONHandler(io.Discard, nil))
	svc, err := service.New(ctx, service.Config{
		Store: store, Keys: keys, Now: time.Now, Log: log, Limits: service.DefaultLimits,
		Hashing:  service.Hashing{MemoryKiB: 19456, Time: 2, Threads: 1, Pool: 1, Queue: 1},
		Settings: service.Settings{Issuer: "https://auth.example.com", Audience: "macaroond", RootTTL: time.Hour, AccessTTL: time.Minute, MaxStaleness: 30 * time.Second, MaxDevices: 10},
	})
	must(b, err)
	var house sync.WaitGroup
	house.Go(func() { svc.Run(ctx) })
	b.Cleanup(func() { cancel(); house.Wait(); store.Close() })
	_, err = svc.AddUser(ctx, api.UserIn{Username: "ann", Password: "correct horse"}, "", service.Source{})
	must(b, err)
	grant, err := svc.Login(ctx, api.LoginIn{Username: "ann", Password: "correct horse"}, service.Source{})
	must(b, err)
	cred, err := svc.AddService(ctx, api.ServiceIn{Name: "photos", Serves: []string{"photos"}}, "", service.Source{})
	must(b, err)
	root, err := token.Parse(grant.Token)
	must(b, err)
	narrow, err := token.Attenuate(root, "audience photos", caveats.TimeBefore(time.Now().Add(time.Hour)).String(), "method GET")
	must(b, err)

	handler := httpapi.New(httpapi.Config{
		Service: svc, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Log: log, Requests: httpapi.NewRequests(),
	})
	g := gin.New()
	constant := func(c *gin.Context) {
		c.Data(http.StatusOK, "application/json", []byte(`{"allowed":true,"code":"ok","reason":"every caveat held"}`))
	}
	g.POST("/v1/verify", constant)
	g.GET("/authz/forwarded", constant)
	r, _ := http.NewRequest("GET", "/", nil)
	r.SetBasicAuth(cred.ID, cred.Secret)
	return benched{
		address: listenHTTP(b, httpapi.NewServer(handler, log)), bare: listenHTTP(b, httpapi.NewServer(g, log)),
		basic: strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "), token: narrow.Text(),
	}
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func listenHTTP(b *testing.B, s *http.Server) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	b.Cleanup(func() { s.Close(); <-done })
	return l.Addr().String()
}

// goClient asks with net/http on one connection of its own.
func goClient(b *testing.B, address string, t target) func() error {
	b.Helper()
	transport := &http.Transport{MaxConnsPerHost: 1}
	b.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	request := t.request(b, address)
	return func() error {
		r := request.Clone(context.Background())
		r.Body = io.NopCloser(strings.NewReader(t.body))
		resp, err := client.Do(r)
		if err != nil {
			return err
		}
		return answered(resp)
	}
}

// rawClient asks by writing the same bytes again and again.
func rawClient(b *testing.B, address string, t target) func() error {
	b.Helper()
	conn, err := net.Dial("tcp", address)
	must(b, err)
	b.Cleanup(func() { conn.Close() })
	var request bytes.Buffer
	must(b, t.request(b, address).Write(&request))
	in := bufio.NewReader(conn)
	return func() error {
		if _, err := conn.Write(request.Bytes()); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		return answered(resp)
	}
}

func answered(resp *http.Response) error {
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	_, err := io.Copy(io.Discard, resp.Body)
	return err
}
