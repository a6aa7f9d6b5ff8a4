package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
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
// loopback: POST /v1/verify and /authz/forwarded against a bare gin handler
// that answers a constant JSON. All three are asked in turn by the same client,
// in slices of a few hundred requests, and the ratios are those of the medians:
// the machine is shared, so seconds alone say little.
func BenchmarkRequests(b *testing.B) {
	const connections, slice = 8, 100
	s := benchAuthority(b)
	targets := []struct{ name, address, request string }{
		{"bare", s.bare, "POST /constant HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"},
		{"verify", s.address, "POST /v1/verify HTTP/1.1\r\nHost: a\r\nAuthorization: Basic " + s.basic + "\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"},
		{"authz", s.address, "GET /authz/forwarded?audience=photos HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + s.token + "\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Uri: /photos/1\r\n\r\n"},
	}
	body := fmt.Sprintf(`{"token":%q,"request":{"method":"GET","path":"/photos/1","audience":"photos"}}`, s.token)
	clients := make([][]*rawClient, len(targets))
	for i, t := range targets {
		if strings.Contains(t.request, "%d") {
			t.request = fmt.Sprintf(t.request, len(body), body)
		}
		for range connections {
			clients[i] = append(clients[i], dial(b, t.address, t.request))
		}
	}
	rates := make([][]float64, len(targets))
	for b.Loop() {
		for i := range targets {
			begin := time.Now()
			var wg sync.WaitGroup
			for _, c := range clients[i] {
				wg.Go(func() {
					for range slice {
						if err := c.ask(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			rates[i] = append(rates[i], connections*slice/time.Since(begin).Seconds())
		}
	}
	median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	bare := median(rates[0])
	b.ReportMetric(0, "ns/op")
	for i, t := range targets {
		b.ReportMetric(median(rates[i]), t.name+"_requests/s")
		if i > 0 {
			b.ReportMetric(median(rates[i])/bare, t.name+"/bare")
		}
	}
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
	g.POST("/constant", func(c *gin.Context) {
		c.Data(http.StatusOK, "application/json", []byte(`{"allowed":true,"code":"ok","reason":"every caveat held"}`))
	})
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

// rawClient writes the same bytes again and again and reads the answers: it
// costs next to nothing beside the server.
type rawClient struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
}

func dial(b *testing.B, address, request string) *rawClient {
	b.Helper()
	conn, err := net.Dial("tcp", address)
	must(b, err)
	b.Cleanup(func() { conn.Close() })
	return &rawClient{conn, bufio.NewReader(conn), []byte(request)}
}

func (c *rawClient) ask() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
