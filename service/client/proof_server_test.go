package client_test

import (
	"crypto/ed25519"
	"crypto/rand"
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
	"macaroond/service/dpop"
)

// Requests of a holder with a key are accepted, each with a proof of its own; a
// request that somebody copied is not, nor is its token without the key. A clock
// that is wrong costs one retry.
func TestTransportWithAKey(t *testing.T) {
	p := newPhotos(t)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := must[*dpop.Key](t)(dpop.NewKey(private))
	var mu sync.Mutex
	var last http.Header
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		mu.Lock()
		last = r.Header.Clone()
		mu.Unlock()
		text, bound := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP ")
		d, err := p.authority.Verify(r.Context(), p.service, api.VerifyIn{Token: text, Request: api.Request{
			Audience: "photos", Method: r.Method, Path: r.URL.EscapedPath(), URL: "http://" + r.Host + r.RequestURI, DPoP: r.Header.Get("DPoP"),
		}})
		switch {
		case err != nil: // right after the authority's start
			w.WriteHeader(http.StatusServiceUnavailable)
		case !bound || !d.Allowed:
			w.WriteHeader(api.StatusOf(d.Code))
			io.WriteString(w, d.Code)
		default:
			io.Copy(w, r.Body)
		}
	}))
	defer server.Close()
	holder := func(off time.Duration) *http.Client {
		return &http.Client{Transport: must[*client.Transport](t)(client.NewTransport(p.root, client.TransportOptions{
			Origins: []string{server.URL}, Narrowing: client.Narrowing{Audience: "photos"}, BindRequest: true, Key: key,
			Now: func() time.Time { return time.Now().Add(off) },
		}))}
	}
	mine := holder(0)
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := echoed(mine, server.URL+"/a%20b?c=d", "hello")
		if err == nil {
			break
		}
		if !strings.HasPrefix(err.Error(), "503") || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	for range 5 {
		if err := echoed(mine, server.URL+"/photos/1", "hello"); err != nil {
			t.Error(err)
		}
	}
	replay := func(change func(http.Header)) string {
		mu.Lock()
		h := last.Clone()
		mu.Unlock()
		change(h)
		r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "POST", server.URL+"/photos/1", strings.NewReader("hello")))
		r.Header = h
		resp := must[*http.Response](t)(http.DefaultClient.Do(r))
		defer resp.Body.Close()
		return string(must[[]byte](t)(io.ReadAll(resp.Body)))
	}
	if got := replay(func(http.Header) {}); got != "replayed" {
		t.Errorf("the same request again: %q", got)
	}
	if got := replay(func(h http.Header) { h.Del("DPoP") }); got != "refused" {
		t.Errorf("without the proof: %q", got)
	}
	for _, off := range []time.Duration{-2 * time.Minute, 2 * time.Minute} {
		his := holder(off)
		before := asked.Load()
		for range 3 {
			if err := echoed(his, server.URL+"/photos/1", "hello"); err != nil {
				t.Errorf("a clock off by %v: %v", off, err)
			}
		}
		if n := asked.Load() - before; n != 4 {
			t.Errorf("a clock off by %v: %d requests, want one more than 3", off, n)
		}
	}
}
