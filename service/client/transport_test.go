package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/token"
)

// site is a resource server that writes down what came.
type site struct {
	*httptest.Server
	mu   sync.Mutex
	came []*http.Request
}

func newSite(t testing.TB, h http.HandlerFunc) *site {
	t.Helper()
	s := &site{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.came = append(s.came, r)
		s.mu.Unlock()
		if h != nil {
			h(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// requests are those that came so far.
func (s *site) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.came)
}

// put is what holders put on the token that came with a request, in order.
func put(t *testing.T, r *http.Request) []string {
	t.Helper()
	if len(r.Header["Authorization"]) != 1 {
		t.Fatalf("%d Authorization headers", len(r.Header["Authorization"]))
	}
	text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	tok, err := token.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := tok.Verify(&token.RootKey{7}); !ok { // rootToken's
		t.Error("the chain does not hold")
	}
	return tok.UnverifiedCaveats()[token.MintCaveats:]
}

func newTransport(t testing.TB, o TransportOptions) *Transport {
	t.Helper()
	if o.Narrowing.Audience == "" {
		o.Narrowing.Audience = "photos"
	}
	tr, err := NewTransport(rootToken(t, at("2126-04-01T00:00:00Z")), o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func clockAt(s string) func() time.Time { return func() time.Time { return at(s) } }

func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// done does a request and reads the answer's body.
func done(rt http.RoundTripper, r *http.Request) (*http.Response, error) {
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err
}

// What is put on a request's token, in the order of all our clients: the
// window, the audience, the rest.
func TestTransportPutsOn(t *testing.T) {
	const noon = "2026-03-01T12:00:00.9Z"
	for _, c := range []struct {
		name   string
		now    string
		o      TransportOptions
		has    []string // the token's own holder caveats
		method string
		target string
		want   []string
	}{
		{
			"an audience is all that is asked", noon,
			TransportOptions{Narrowing: Narrowing{Audience: "photos"}},
			nil, "GET", "/albums/7?page=2",
			[]string{"time-before 2026-03-01T13:00:00Z", "audience photos", "time-before 2026-03-01T12:01:00Z"},
		},
		{
			"bound to the request", noon,
			TransportOptions{Narrowing: Narrowing{Audience: "photos"}, BindRequest: true},
			nil, "DELETE", "/albums/f%C3%BCr%20Elise/*?page=2",
			[]string{"time-before 2026-03-01T13:00:00Z", "audience photos", "time-before 2026-03-01T12:01:00Z", "method DELETE", "path /albums/für%20Elise/%2A"},
		},
		{
			"no method is GET, no path is /", noon,
			TransportOptions{Narrowing: Narrowing{Audience: "photos"}, BindRequest: true},
			nil, "", "",
			[]string{"time-before 2026-03-01T13:00:00Z", "audience photos", "time-before 2026-03-01T12:01:00Z", "method GET", "path /"},
		},
		{
			"everything, and the next window", "2026-03-01T12:50:01Z",
			TransportOptions{BindRequest: true, Narrowing: Narrowing{
				For: 90 * time.Second, Audience: "photos", Actions: []string{"photos:read"}, ClientIPs: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")},
				Origins: []string{"https://app.example"}, Extra: []string{"x-tenant 7"}, Note: "sync",
			}},
			nil, "GET", "/a",
			[]string{
				"time-before 2026-03-01T14:00:00Z", "audience photos", "time-before 2026-03-01T12:51:31Z", "method GET", "path /a",
				"allow photos:read", "client-ip 192.0.2.7/32", "origin https://app.example", "x-tenant 7", "note sync",
			},
		},
		{
			"a token that names its audience", noon,
			TransportOptions{},
			[]string{"audience photos", "method GET"},
			"GET", "/a",
			[]string{"audience photos", "method GET", "time-before 2026-03-01T13:00:00Z", "time-before 2026-03-01T12:01:00Z"},
		},
		{
			"and is asked for it", noon,
			TransportOptions{Narrowing: Narrowing{Audience: "photos"}},
			[]string{"time-before 2026-03-01T13:00:00Z", "audience photos"},
			"GET", "/a",
			[]string{"time-before 2026-03-01T13:00:00Z", "audience photos", "time-before 2026-03-01T12:01:00Z"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, nil)
			from, err := token.Attenuate(rootToken(t, at("2126-04-01T00:00:00Z")), c.has...)
			if err != nil {
				t.Fatal(err)
			}
			c.o.Origins, c.o.Now = []string{s.URL}, clockAt(c.now)
			tr, err := NewTransport(from, c.o)
			if err != nil {
				t.Fatal(err)
			}
			r := request(t, c.method, s.URL+c.target, nil)
			r.Method = c.method
			if _, err := done(tr, r); err != nil {
				t.Fatal(err)
			}
			if got := put(t, s.requests()[0]); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestNewTransportRefuses(t *testing.T) {
	one, audience := []string{"https://photos.example"}, Narrowing{Audience: "photos"}
	for name, o := range map[string]TransportOptions{
		"no origin":                 {Narrowing: audience},
		"an empty origin":           {Origins: []string{""}, Narrowing: audience},
		"a host alone":              {Origins: []string{"photos.example"}, Narrowing: audience},
		"an origin with a path":     {Origins: []string{"https://photos.example/albums"}, Narrowing: audience},
		"an origin with a password": {Origins: []string{"https://u:" + secret + "@photos.example"}, Narrowing: audience},
		"an origin with a query":    {Origins: []string{"https://photos.example?" + secret}, Narrowing: audience},
		"plain http":                {Origins: append(one, "http://photos.example"), Narrowing: audience},
		"no audience":               {Origins: one},
		"no audience's name":        {Origins: one, Narrowing: Narrowing{Audience: "a b"}},
		"no time":                   {Origins: one, Narrowing: Narrowing{Audience: "photos", For: 9 * time.Second}},
		"negative":                  {Origins: one, Narrowing: Narrowing{Audience: "photos", For: -time.Minute}},
		"two ideas of the method":   {Origins: one, Narrowing: Narrowing{Audience: "photos", Methods: []string{"GET"}}, BindRequest: true},
		"two ideas of the path":     {Origins: one, Narrowing: Narrowing{Audience: "photos", Paths: []string{"/a"}}, BindRequest: true},
		"too many caveats":          {Origins: one, Narrowing: Narrowing{Audience: "photos", Extra: slices.Repeat([]string{"note n"}, 60)}},
	} {
		tr, err := NewTransport(rootToken(t, at("2126-04-01T00:00:00Z")), o)
		if err == nil || tr != nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v, %v", name, tr, err)
		}
	}
	if _, err := NewTransport(rootToken(t, at("2126-04-01T00:00:00Z")), TransportOptions{
		Origins: []string{"http://photos.example", "HTTPS://Photos.example:443/"}, Narrowing: Narrowing{Audience: "photos", For: 10 * time.Second, Methods: []string{"GET"}}, PlainHTTP: true,
	}); err != nil {
		t.Error(err)
	}
}

// body counts how often it is closed.
type body struct {
	io.Reader
	closed int
}

func (b *body) Close() error { b.closed++; return nil }

// What is refused is refused before anything is sent, the body is closed, and
// the error repeats neither token nor query.
func TestTransportRefuses(t *testing.T) {
	stranger := newSite(t, nil)
	s := newSite(t, nil)
	host := strings.TrimPrefix(s.URL, "http://")
	full, err := token.Attenuate(rootToken(t, at("2126-04-01T00:00:00Z")), slices.Repeat([]string{"note n"}, 64-3-4)...)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from   *token.Token
		url    string
		change func(*http.Request)
		want   error
	}{
		"another origin":                    {nil, stranger.URL, nil, ErrOrigin},
		"another scheme":                    {nil, "https://" + host, nil, ErrOrigin},
		"another name for it":               {nil, strings.Replace(s.URL, "127.0.0.1", "localhost", 1), nil, ErrOrigin},
		"another site on it":                {nil, s.URL, func(r *http.Request) { r.Host = "admin.example" }, ErrOrigin},
		"another port on it":                {nil, s.URL, func(r *http.Request) { r.Host = "127.0.0.1:1" }, ErrOrigin},
		"a Host that is none":               {nil, s.URL, func(r *http.Request) { r.Host = "a b" }, ErrOrigin},
		"a request line of its own":         {nil, s.URL, func(r *http.Request) { r.URL.Opaque = "//admin.example/" }, ErrOrigin},
		"a host that is none":               {nil, s.URL, func(r *http.Request) { r.URL.Host = "a b" }, ErrOrigin},
		"no URL":                            {nil, s.URL, func(r *http.Request) { r.URL = nil }, ErrOrigin},
		"a credential of its own":           {nil, s.URL, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) }, ErrAuthorization},
		"one in an odd spelling":            {nil, s.URL, func(r *http.Request) { r.Header["authorization"] = []string{"Bearer " + secret} }, ErrAuthorization},
		"an empty one":                      {nil, s.URL, func(r *http.Request) { r.Header["Authorization"] = nil }, ErrAuthorization},
		"dot segments":                      {nil, s.URL + "/a/../b", nil, caveats.ErrPath},
		"an escaped slash":                  {nil, s.URL + "/a%2Fb", nil, caveats.ErrPath},
		"empty segments":                    {nil, s.URL + "//a", nil, caveats.ErrPath},
		"a method that is none":             {nil, s.URL, func(r *http.Request) { r.Method = "get" }, caveats.ErrSyntax},
		"a path that is too long to bind":   {nil, s.URL + "/" + strings.Repeat("a", 600), nil, caveats.ErrSyntax},
		"a token with no room for the rest": {full, s.URL, nil, token.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			from := c.from
			if from == nil {
				from = rootToken(t, at("2126-04-01T00:00:00Z"))
			}
			tr, err := NewTransport(from, TransportOptions{Origins: []string{s.URL}, Narrowing: Narrowing{Audience: "photos"}, BindRequest: true})
			if err != nil {
				t.Fatal(err)
			}
			b := &body{Reader: strings.NewReader("x")}
			target := c.url
			if strings.Count(target, "/") < 3 {
				target += "/"
			}
			r := request(t, "POST", target+"?key="+secret, b)
			if c.change != nil {
				c.change(r)
			}
			_, err = done(tr, r)
			if !errors.Is(err, c.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if b.closed != 1 {
				t.Errorf("the body was closed %d times", b.closed)
			}
		})
	}
	if n := len(s.requests()) + len(stranger.requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	// The same request, with nothing wrong about it.
	if _, err := done(newTransport(t, TransportOptions{Origins: []string{s.URL}}), request(t, "POST", s.URL+"/?key="+secret, nil)); err != nil || len(s.requests()) != 1 {
		t.Errorf("%v, %d requests", err, len(s.requests()))
	}
}

// The caller's request is as it was, and the answer points to it and not to
// the one that has the token.
func TestTransportLeavesTheRequest(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusUnauthorized) // so that it is sent twice
	})
	tr := newTransport(t, TransportOptions{Origins: []string{s.URL}, BindRequest: true})
	for _, headers := range []http.Header{nil, {}, {"Accept": {"text/plain"}}} {
		before := len(s.requests())
		r := request(t, "PUT", s.URL+"/a", strings.NewReader("x"))
		r.Header = headers.Clone()
		body, target := r.Body, *r.URL
		resp, err := done(tr, r)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(r.Header, headers, slices.Equal) || (r.Header == nil) != (headers == nil) || r.Body != body || *r.URL != target || r.Method != "PUT" {
			t.Errorf("%+v", r)
		}
		if resp.Request != r {
			t.Errorf("the answer is to %+v", resp.Request)
		}
		if got := s.requests()[before:]; len(got) == 0 || headers != nil && got[0].Header.Get("Accept") != headers.Get("Accept") {
			t.Errorf("came: %v", got)
		}
	}
	if n := len(s.requests()); n != 4 { // the first one twice
		t.Errorf("%d requests", n)
	}
}

// A redirect within the origins has a token of its own. One that leads
// elsewhere has none, and has none when it comes back.
func TestTransportRedirects(t *testing.T) {
	var home, second *site
	elsewhere := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/back" {
			http.Redirect(w, r, home.URL+"/end", http.StatusFound)
		}
	})
	second = newSite(t, nil)
	home = newSite(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/here":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/second":
			http.Redirect(w, r, second.URL+"/end", http.StatusTemporaryRedirect)
		case "/away":
			http.Redirect(w, r, elsewhere.URL+"/end", http.StatusTemporaryRedirect)
		case "/away-and-back":
			http.Redirect(w, r, elsewhere.URL+"/back", http.StatusTemporaryRedirect)
		}
	})
	tr := newTransport(t, TransportOptions{Origins: []string{home.URL, second.URL}, BindRequest: true})
	c := &http.Client{Transport: tr}
	for _, row := range []struct {
		path   string
		last   *site
		tokens int // at home, second and elsewhere
	}{
		{"/end", home, 1},
		{"/here", home, 2},
		{"/second", second, 2},
		{"/away", elsewhere, 1},
		{"/away-and-back", home, 1},
	} {
		before := map[*site]int{home: len(home.requests()), second: len(second.requests()), elsewhere: len(elsewhere.requests())}
		resp, err := c.Post(home.URL+row.path, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Errorf("%s: %v", row.path, err)
			continue
		}
		resp.Body.Close()
		tokens := 0
		for s, n := range before {
			for _, r := range s.requests()[n:] {
				if r.Header.Get("Authorization") == "" {
					continue
				}
				tokens++
				if texts := put(t, r); s == elsewhere || texts[len(texts)-1] != "path "+r.URL.Path {
					t.Errorf("%s: %s %s came with %q", row.path, s.URL, r.URL.Path, texts)
				}
			}
		}
		if tokens != row.tokens || len(row.last.requests()) == before[row.last] {
			t.Errorf("%s: %d tokens, want %d; it ended at %s", row.path, tokens, row.tokens, resp.Request.URL)
		}
	}
}

// A request's trailer is the caller's until the body has been read.
func TestTransportSendsTrailers(t *testing.T) {
	var sum string
	s := newSite(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		sum = r.Trailer.Get("X-Sum")
	})
	trailer := http.Header{"X-Sum": nil}
	r := request(t, "POST", s.URL, io.MultiReader(strings.NewReader("x"), readerFunc(func([]byte) (int, error) {
		trailer.Set("X-Sum", "42")
		return 0, io.EOF
	})))
	r.Trailer = trailer
	if _, err := done(newTransport(t, TransportOptions{Origins: []string{s.URL}}), r); err != nil || sum != "42" {
		t.Errorf("%v; the trailer says %q", err, sum)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// idle counts how often its idle connections are closed.
type idle struct {
	roundTripper
	closed int
}

func (i *idle) CloseIdleConnections() { i.closed++ }

func TestTransportClosesIdleConnections(t *testing.T) {
	base := &idle{}
	for _, base := range []http.RoundTripper{base, base.roundTripper} { // one knows how
		(&http.Client{Transport: newTransport(t, TransportOptions{Origins: []string{"https://photos.example"}, Base: base})}).CloseIdleConnections()
	}
	if base.closed != 1 {
		t.Errorf("closed %d times", base.closed)
	}
}

// An address with a zone is an origin as any other.
func TestTransportZones(t *testing.T) {
	var came []string
	tr := newTransport(t, TransportOptions{Origins: []string{"https://[fe80::1%25eth0]:8420"}, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		came = append(came, r.Host)
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	})})
	if _, err := done(tr, request(t, "GET", "https://[FE80::1%25eth0]:8420/a", nil)); err != nil || len(came) != 1 {
		t.Errorf("%v, came %q", err, came)
	}
	if _, err := done(tr, request(t, "GET", "https://[fe80::1%25eth1]:8420/a", nil)); !errors.Is(err, ErrOrigin) {
		t.Error(err)
	}
}

// The base's error is the caller's, as it is; the caller's end is the base's.
func TestTransportErrors(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	tr := newTransport(t, TransportOptions{Origins: []string{closed.URL}})
	b := &body{Reader: strings.NewReader("x")}
	if _, err := done(tr, request(t, "POST", closed.URL, b)); err == nil || b.closed == 0 {
		t.Errorf("%v; body closed %d times", err, b.closed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := newSite(t, nil)
	tr = newTransport(t, TransportOptions{Origins: []string{s.URL}})
	if _, err := done(tr, request(t, "GET", s.URL, nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// What base has no word about whom it asked.
	tr = newTransport(t, TransportOptions{Origins: []string{s.URL}, Base: roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{"Date": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}}}, nil
	})})
	if _, err := done(tr, request(t, "GET", s.URL, nil)); err != nil || tr.origins[s.URL].get() == 0 {
		t.Errorf("%v, %v ahead", err, tr.origins[s.URL].get())
	}
}

// tail is the last signature of a token, as bytes that do print.
func tail(t *testing.T, tok *token.Token) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(tok.Text())
	if err != nil {
		t.Fatal(err)
	}
	return b[len(b)-32:]
}

func TestTransportDoesNotPrint(t *testing.T) {
	root := rootToken(t, at("2126-04-01T00:00:00Z"))
	base := roundTripper(func(*http.Request) (*http.Response, error) { return nil, nil }) // printing net/http's, which is in use, would be a race
	tr, err := NewTransport(root, TransportOptions{Origins: []string{"https://photos.example"}, Narrowing: Narrowing{Audience: "photos"}, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "transport", tr, "in", http.Client{Transport: tr})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "transport", tr, "in", http.Client{Transport: tr})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		fmt.Fprintf(&log, verb, tr)
		fmt.Fprintf(&log, verb, *tr)
		fmt.Fprintf(&log, verb, struct{ hidden *Transport }{tr})
	}
	text := root.Text()
	if !strings.Contains(log.String(), "photos.example") { // it prints something
		t.Error(log.String())
	}
	sig := fmt.Sprint(tail(t, root))
	if strings.Contains(log.String(), text[len(text)-44:]) || strings.Contains(log.String(), sig[1:len(sig)-1]) || strings.Contains(log.String(), "usr_") {
		t.Errorf("the token is in %s", log.String())
	}
}

// What a token for each request costs, beside an answer that costs nothing.
func BenchmarkTransport(b *testing.B) {
	resp := &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}}
	base := roundTripper(func(*http.Request) (*http.Response, error) { return resp, nil })
	for _, bind := range []bool{false, true} {
		b.Run(fmt.Sprintf("bind=%v", bind), func(b *testing.B) {
			tr := newTransport(b, TransportOptions{Origins: []string{"https://photos.example"}, Base: base, BindRequest: bind})
			r := &http.Request{Method: "GET", URL: &url.URL{Scheme: "https", Host: "photos.example", Path: "/albums/7"}, Header: http.Header{"Accept": {"*/*"}}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tr.RoundTrip(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
