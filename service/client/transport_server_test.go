package client_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

// photos is a resource server that asks the authority about each request.
type photos struct {
	*httptest.Server
	authority *client.Client
	service   client.Credential
	root      *token.Token // a user's
	asked     atomic.Int64 // requests that came
	mu        sync.Mutex
	tokens    []string // of the accepted ones
}

func newPhotos(t *testing.T) *photos {
	t.Helper()
	c, ctx := authority(t), t.Context()
	admin := must[*api.Grant](t)(c.Login(ctx, api.LoginIn{Username: "root", Password: password, Device: api.DeviceIn{Name: "console"}}))
	svc := must[*api.Service](t)(c.AddService(ctx, client.Bearer(admin.Token), api.ServiceIn{Name: "photos", Serves: []string{"photos"}}))
	alice := must[*api.Grant](t)(c.Signup(ctx, api.SignupIn{Username: "alice", Device: api.DeviceIn{Name: "phone"}}))
	p := &photos{authority: c, service: client.Basic(svc.ID, svc.Secret), root: must[*token.Token](t)(token.Parse(alice.Token))}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		d, err := p.verify(text, r.Method, r.URL.EscapedPath(), r)
		switch {
		case err != nil:
			t.Error(err)
			w.WriteHeader(http.StatusInternalServerError)
		case !d.Allowed:
			w.WriteHeader(api.StatusOf(d.Code))
			io.WriteString(w, d.Code)
		default:
			p.mu.Lock()
			p.tokens = append(p.tokens, text)
			p.mu.Unlock()
			io.Copy(w, r.Body)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *photos) verify(text, method, path string, r *http.Request) (*api.Decision, error) {
	return p.authority.Verify(r.Context(), p.service, api.VerifyIn{Token: text, Request: api.Request{Audience: "photos", Method: method, Path: path}})
}

// client is an HTTP client whose machine's clock is off by so much.
func (p *photos) client(t *testing.T, off time.Duration) *http.Client {
	t.Helper()
	return &http.Client{Transport: must[*client.Transport](t)(client.NewTransport(p.root, client.TransportOptions{
		Origins: []string{p.URL}, Narrowing: client.Narrowing{Audience: "photos"}, BindRequest: true,
		Now: func() time.Time { return time.Now().Add(off) },
	}))}
}

// echoed posts a body and wants it back.
func echoed(c *http.Client, url, body string) error {
	resp, err := c.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(got) != body) {
		err = fmt.Errorf("%d %q, want %q", resp.StatusCode, got, body)
	}
	return err
}

// Whatever the machine's clock shows, every request is accepted, and it takes
// at most one retry to know the time. A clock that is ahead is noticed as well,
// though it is not refused: its tokens would live for longer than they should.
func TestTransportWithAWrongClock(t *testing.T) {
	p := newPhotos(t)
	for _, c := range []struct {
		off     time.Duration
		retries int64
	}{
		{0, 0},
		{2 * time.Second, 0},
		{-2 * time.Second, 0},
		{5 * time.Minute, 0},
		{-5 * time.Minute, 1},
		{-14 * time.Hour, 1}, // the window is over, too
		{14 * time.Hour, 0},
	} {
		t.Run(c.off.String(), func(t *testing.T) {
			web := p.client(t, c.off)
			before := p.asked.Load()
			const n = 5
			for i := range n {
				if err := echoed(web, p.URL+"/albums/"+fmt.Sprint(i), fmt.Sprint("body ", i)); err != nil {
					t.Errorf("request %d: %v", i, err)
				}
			}
			if got := p.asked.Load() - before; got != n+c.retries {
				t.Errorf("%d requests were sent, want %d", got, n+c.retries)
			}
			last := must[*token.Token](t)(token.Parse(p.tokens[len(p.tokens)-1]))
			if expiry, ok := client.UnverifiedExpiry(last); !ok || time.Until(expiry).Abs() > 65*time.Second || time.Until(expiry) < 30*time.Second {
				t.Errorf("the last token is good for %v", time.Until(expiry))
			}
		})
	}
}

// A hundred requests at once, none of which knows yet that the clock is wrong.
func TestTransportAtOnce(t *testing.T) {
	p := newPhotos(t)
	web := p.client(t, -5*time.Minute)
	const n = 100
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := echoed(web, fmt.Sprintf("%s/albums/%d", p.URL, i), fmt.Sprint("body ", i)); err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	before := p.asked.Load()
	if len(p.tokens) != n || before > 2*n {
		t.Errorf("%d accepted of %d sent", len(p.tokens), before)
	}
	if err := echoed(web, p.URL+"/a", "x"); err != nil || p.asked.Load() != before+1 {
		t.Errorf("after them: %v, %d sent", err, p.asked.Load()-before)
	}
}

// A token that is bound to its request is refused by the authority for any
// other, and never takes the place of the root.
func TestTransportBindsForTheAuthority(t *testing.T) {
	p := newPhotos(t)
	if err := echoed(p.client(t, 0), p.URL+"/albums/f%C3%BCr%20Elise?page=2", "x"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, path, want string }{
		{"POST", "/albums/f%C3%BCr%20Elise", api.CodeOK},
		{"POST", "/albums/für%20Elise?page=3", api.CodeOK},
		{"GET", "/albums/f%C3%BCr%20Elise", api.CodeRefused},
		{"POST", "/albums/f%C3%BCr%20Elise/", api.CodeRefused},
		{"POST", "/albums", api.CodeRefused},
		{"POST", "/albums/f%C3%BCr%20Elise/1", api.CodeRefused},
		{"POST", "/", api.CodeRefused},
		{"", "", api.CodeRefused},
	} {
		d := must[*api.Decision](t)(p.verify(p.tokens[0], c.method, c.path, &http.Request{}))
		if d.Code != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.path, d.Code, c.want)
		}
	}
	_, err := p.authority.Devices(t.Context(), client.Bearer(p.tokens[0]))
	wantCode(t, err, api.CodeWrongAudience)
}
