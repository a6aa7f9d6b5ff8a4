package guard_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/guard"
	"macaroond/service/guard/ginguard"
)

// frameworks are the guard in front of a handler that says whose the request is
// and repeats its body.
func frameworks(t *testing.T, g *guard.Guard) map[string]string {
	say := func(w http.ResponseWriter, r *http.Request) {
		pass, there := guard.From(r.Context())
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s %v %s %v", pass.User, pass.Username, pass.Device, pass.Audience, there, body, err)
	}
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(ginguard.Protect(g))
	engine.NoRoute(func(c *gin.Context) { c.Status(200); say(c.Writer, c.Request) })
	return map[string]string{
		"net/http": strings.TrimPrefix(listen(t, g.Protect(http.HandlerFunc(say))), "http://"),
		"gin":      strings.TrimPrefix(listen(t, engine), "http://"),
	}
}

// raw sends what no client library would, byte for byte.
func raw(t *testing.T, addr, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	ok(t, err)
	defer conn.Close()
	ok(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	var sending sync.WaitGroup
	sending.Go(func() { io.WriteString(conn, request) }) // the answer may come before all is sent
	defer sending.Wait()
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	ok(t, err)
	return resp, body(resp)
}

// What comes in over HTTP and what goes out, to the last header, the same in both
// frameworks.
func TestHTTP(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	var log journal
	g := a.guard(func(o *guard.Options) {
		o.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.MaxBody = 1000
		o.Facts = func(r *http.Request, facts *caveats.Request) {
			if ip, err := netip.ParseAddr(r.Header.Get("X-Client")); err == nil {
				facts.ClientIP = ip
			}
			facts.Actions = r.Header["X-Action"]
			// Neither is for a resource server to say.
			facts.Audience, facts.Time, facts.User = "mail", time.Unix(1, 0), "usr_admin00000000000"
		}
	})
	addrs := frameworks(t, g)
	begin := narrow(t, alice.Token, window(), "audience photos")
	with := func(caveats ...string) string {
		return "Authorization: Bearer " + narrow(t, begin, caveats...) + "\r\n"
	}
	// A one-time token is another one each time that the row is tried.
	oneTime := func(caveat string) string { return "one-time " + caveat + "\r\n" }
	fresh, tries := func(header string, n int) string {
		if rest, ok := strings.CutPrefix(header, "one-time "); ok {
			caveat, more, _ := strings.Cut(rest, "\r\n")
			return with(fmt.Sprint("once ", n), caveat) + more
		}
		return header
	}, 0
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return "body-sha256 " + hex.EncodeToString(h[:]) }
	sized := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
	thousand := strings.Repeat("x", 1000)
	revoked := narrow(t, begin, "note revoked")
	a.want("the prefix", g, begin, "ok", 1)
	a.revoke(g, revoked)
	const invalid, scope = `Bearer error="invalid_token"`, `Bearer error="insufficient_scope"`
	for _, row := range []struct {
		name, line, header, body string
		status                   int
		code, challenge          string
	}{
		{"good", "GET /photos/1", with(), "", 200, "", ""},
		{"the scheme in lower case", "GET /", "Authorization: bearer " + begin + "\r\n", "", 200, "", ""},
		{"two spaces", "GET /", "Authorization: BEARER  " + begin + " \r\n", "", 200, "", ""},
		{"the header's name in lower case", "GET /", "authorization: Bearer " + begin + "\r\n", "", 200, "", ""},
		{"no token", "GET /", "", "", 401, "no_token", `Bearer realm="macaroond"`},
		{"Basic", "GET /", "Authorization: Basic YTpi\r\n", "", 401, "no_token", `Bearer realm="macaroond"`},
		{"no scheme", "GET /", "Authorization: " + begin + "\r\n", "", 401, "no_token", `Bearer realm="macaroond"`},
		{"a scheme alone", "GET /", "Authorization: Bearer\r\n", "", 401, "no_token", `Bearer realm="macaroond"`},
		{"a tab", "GET /", "Authorization: Bearer\t" + begin + "\r\n", "", 401, "no_token", `Bearer realm="macaroond"`},
		{"in a cookie and in the query", "GET /?access_token=" + begin, "Cookie: token=" + begin + "\r\n", "", 401, "no_token", `Bearer realm="macaroond"`},
		{"in the authority's cookie", "GET /", "Cookie: __Host-macaroon=" + begin + "\r\n", "", 401, "no_token", `Bearer realm="macaroond"`},
		{"in the authority's cookie, too", "GET /", with() + "Cookie: a=b; __Host-macaroon=" + begin + "\r\n", "", 400, "bad_request", ""},
		{"beside another cookie", "GET /", with() + "Cookie: a=b\r\n", "", 200, "", ""},
		{"two headers", "GET /", with() + with(), "", 400, "bad_request", ""},
		{"two headers, one is empty", "GET /", with() + "Authorization:\r\n", "", 400, "bad_request", ""},
		{"two tokens", "GET /", "Authorization: Bearer " + begin + " " + begin + "\r\n", "", 401, "malformed", invalid},
		{"two tokens with a comma", "GET /", "Authorization: Bearer " + begin + ", Bearer " + begin + "\r\n", "", 401, "malformed", invalid},
		{"padded", "GET /", "Authorization: Bearer " + begin + "=\r\n", "", 401, "malformed", invalid},
		{"garbage", "GET /", "Authorization: Bearer garbage\r\n", "", 401, "malformed", invalid},
		{"4,096 characters", "GET /", "Authorization: Bearer " + strings.Repeat("A", 4096) + "\r\n", "", 401, "malformed", invalid},
		{"4,097 characters", "GET /", "Authorization: Bearer " + strings.Repeat("A", 4097) + "\r\n", "", 401, "too_large", invalid},
		{"forged", "GET /", "Authorization: Bearer " + forge(begin) + "\r\n", "", 401, "invalid", invalid},
		{"forged, of another beginning", "GET /", "Authorization: Bearer " + forge(narrow(t, alice.Token, "note x", "audience photos")) + "\r\n", "", 401, "invalid", invalid},
		{"a root", "GET /", "Authorization: Bearer " + alice.Token + "\r\n", "", 401, "wrong_audience", invalid},
		{"for another audience", "GET /", "Authorization: Bearer " + narrow(t, alice.Token, window(), "audience mail") + "\r\n", "", 401, "wrong_audience", invalid},
		{"revoked", "GET /", "Authorization: Bearer " + revoked + "\r\n", "", 401, "revoked", invalid},
		{"expired", "GET /", with("time-before 2020-01-01T00:00:00Z"), "", 401, "expired", invalid},
		{"not valid yet", "GET /", with("time-after 2099-01-01T00:00:00Z"), "", 401, "not_yet_valid", invalid},
		{"unknown", "GET /", with("colour blue"), "", 403, "unknown_caveat", scope},
		{"for the authority to judge", "GET /", oneTime("note x"), "", 200, "", ""},
		{"for the authority to judge, refused", "POST /", oneTime("method GET"), "", 403, "refused", scope},

		{"the method", "PUT /", with("method GET PUT"), "", 200, "", ""},
		{"another method", "POST /", with("method GET PUT"), "", 403, "refused", scope},
		{"HEAD is not GET", "HEAD /", with("method GET"), "", 403, "", scope},
		{"a method in lower case", "get /", with("method GET"), "", 403, "refused", scope},

		{"the path", "GET /photos/1", with("path /photos/*"), "", 200, "", ""},
		{"another path", "GET /albums/1", with("path /photos/*"), "", 403, "refused", scope},
		{"with a query", "GET /photos/1?path=/albums/1", with("path /photos/*"), "", 200, "", ""},
		{"escaped", "GET /photos/%31", with("path /photos/1"), "", 200, "", ""},
		{"escaped slash", "GET /photos/a%2Fb", with("path /photos/**"), "", 403, "refused", scope},
		{"escaped twice", "GET /photos/%252e", with("path /photos/**"), "", 403, "refused", scope},
		{"a dot", "GET /photos/./1", with("path /photos/**"), "", 403, "refused", scope},
		{"two dots", "GET /photos/../albums/1", with("path /photos/**"), "", 403, "refused", scope},
		{"two escaped dots", "GET /photos/%2e%2e/albums/1", with("path /photos/**"), "", 403, "refused", scope},
		{"two slashes", "GET /photos//1", with("path /photos/**"), "", 403, "refused", scope},
		{"a semicolon", "GET /photos/1;x", with("path /photos/**"), "", 403, "refused", scope},
		{"a backslash", `GET /photos/..\albums`, with("path /photos/**"), "", 403, "refused", scope},
		{"a NUL", "GET /photos/%00", with("path /photos/**"), "", 403, "refused", scope},
		{"bad UTF-8", "GET /photos/%FF", with("path /photos/**"), "", 403, "refused", scope},
		{"an absolute target", "GET http://host/photos/1", with("path /photos/*"), "", 403, "refused", scope},

		{"the body", "POST /", with(sum("hello")) + sized(5), "hello", 200, " hello ", ""},
		{"the body in chunks", "POST /", with(sum("hello")) + "Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200, " hello ", ""},
		{"another body", "POST /", with(sum("hello")) + sized(5), "jello", 403, "refused", scope},
		{"a part of the body", "POST /", with(sum("hello")) + sized(6), "hello!", 403, "refused", scope},
		{"no body", "POST /", with(sum("")), "", 200, "", ""},
		{"no body, but one is wanted", "GET /", with(sum("hello")), "", 403, "refused", scope},
		{"two bodies", "POST /", with(sum("hello"), sum("jello")) + sized(5), "hello", 403, "refused", scope},
		{"the longest body", "POST /", with(sum(thousand)) + sized(1000), thousand, 200, thousand, ""},
		{"a longer body", "POST /", with(sum(thousand+"x")) + sized(1001), thousand + "x", 413, "body_too_large", ""},
		{"a longer body that nobody binds", "POST /", with() + sized(1001), thousand + "x", 200, thousand + "x", ""},
		{"half a body", "POST /", with(sum("hello")) + "Transfer-Encoding: chunked\r\n", "2\r\nhe\r\nnonsense\r\n", 400, "bad_request", ""},
		{"a body on the way to the authority", "POST /", oneTime(sum("hello")) + sized(5), "hello", 200, " hello ", ""},
		{"another body on the way to the authority", "POST /", oneTime(sum("hello")) + sized(5), "jello", 403, "refused", scope},

		{"the origin", "GET /", with("origin https://a.example") + "Origin: https://a.example\r\n", "", 200, "", ""},
		{"another origin", "GET /", with("origin https://a.example") + "Origin: https://b.example\r\n", "", 403, "refused", scope},
		{"no origin", "GET /", with("origin https://a.example"), "", 403, "refused", scope},
		{"two origins", "GET /", with("origin https://a.example") + "Origin: https://a.example\r\nOrigin: https://a.example\r\n", "", 403, "refused", scope},

		{"the peer's address", "GET /", with("client-ip 127.0.0.0/8"), "", 200, "", ""},
		{"another address", "GET /", with("client-ip 192.0.2.0/24"), "", 403, "refused", scope},
		{"an address that nobody was told to believe", "GET /", with("client-ip 192.0.2.0/24") + "X-Forwarded-For: 192.0.2.1\r\n", "", 403, "refused", scope},
		{"an address that the server knows", "GET /", with("client-ip 192.0.2.0/24") + "X-Client: 192.0.2.1\r\n", "", 200, "", ""},
		{"no action", "GET /", with("allow photos:read"), "", 403, "refused", scope},
		{"an action that the server knows", "GET /", with("allow photos:read") + "X-Action: photos:read\r\n", "", 200, "", ""},

		{"its own user again", "GET /", with("user "+alice.User.ID, "device "+alice.Device.ID), "", 200, "", ""},
		{"somebody else's", "GET /", with("user usr_admin00000000000"), "", 403, "refused", scope},
	} {
		for name, addr := range addrs {
			resp, text := raw(t, addr, row.line+" HTTP/1.1\r\nHost: photos.example\r\nConnection: close\r\n"+fresh(row.header, tries)+"\r\n"+row.body)
			tries++
			where := name + ": " + row.name
			if resp.StatusCode != row.status {
				t.Errorf("%s: %d, want %d: %s", where, resp.StatusCode, row.status, text)
				continue
			}
			if row.status == 200 {
				who := fmt.Sprintf("%s alice %s photos true ", alice.User.ID, alice.Device.ID)
				if !strings.HasPrefix(text, who) || !strings.HasSuffix(text, " <nil>") || !strings.Contains(text, row.code) {
					t.Errorf("%s: %s, want %s", where, text, who)
				}
				continue
			}
			var p api.Problem
			if err := json.Unmarshal([]byte(text), &p); !strings.HasPrefix(row.line, "HEAD") &&
				(err != nil || p.Code != row.code || p.Status != row.status || p.Detail == "" || p.Type != "about:blank" || p.Title != http.StatusText(row.status)) {
				t.Errorf("%s: %s, want code %s", where, text, row.code)
			}
			for header, want := range map[string]string{
				"Content-Type": "application/problem+json", "Cache-Control": "no-store", "Www-Authenticate": row.challenge,
				"Retry-After": "", "Set-Cookie": "", "Location": "",
			} {
				if got := strings.Join(resp.Header[header], "|"); got != want {
					t.Errorf("%s: %s is %q, want %q", where, header, got, want)
				}
			}
			showsNothing(t, where, text+fmt.Sprint(resp.Header), row.header)
		}
	}
	showsNothing(t, "the log", log.String(), with())
	if n := a.introspections(); n != 2 {
		t.Errorf("%d questions, want the prefix's and the forged one's", n)
	}
}

// showsNothing looks for what is secret of the tokens in a request.
func showsNothing(t *testing.T, where, shown, request string) {
	t.Helper()
	for word := range strings.FieldsSeq(request) {
		data, err := base64.RawURLEncoding.DecodeString(word)
		if err != nil || len(data) < 64 {
			continue
		}
		tail := data[len(data)-32:]
		for _, secret := range []string{word[:40], word[len(word)-20:], string(tail), base64.RawURLEncoding.EncodeToString(tail), base64.StdEncoding.EncodeToString(tail), hex.EncodeToString(tail)} {
			if strings.Contains(shown, secret) {
				t.Errorf("%s shows %q", where, secret)
			}
		}
	}
}

// journal is a log that many write.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) count(s string) int { return strings.Count(j.String(), s) }

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// Who may come again later is told when.
func TestHTTPComeAgain(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	fresh := 0
	next := func() string {
		fresh++
		return narrow(t, alice.Token, fmt.Sprint("note ", fresh), window(), "audience photos")
	}
	now := time.Now()
	for _, row := range []struct {
		name      string
		all, each float64
		do        func()
		status    int
		code      string
	}{
		{"the client's limit", 0, 1, func() {}, 429, "rate_limited"},
		{"everybody's limit", 1, 10, func() {}, 503, "busy"},
		{"the authority is away", plenty, plenty, a.cut, 503, "stale"},
	} {
		g := a.guard(func(o *guard.Options) {
			o.Introspections, o.IntrospectionsPerClient, o.Now = row.all, row.each, func() time.Time { return now }
		})
		addrs := frameworks(t, g)
		first := next()
		for _, addr := range addrs {
			if resp, text := raw(t, addr, "GET / HTTP/1.0\r\nAuthorization: Bearer "+first+"\r\n\r\n"); resp.StatusCode != 200 {
				t.Errorf("%s: %d %s", row.name, resp.StatusCode, text)
			}
		}
		row.do()
		for name, addr := range addrs {
			text := next()
			resp, said := raw(t, addr, "GET / HTTP/1.0\r\nAuthorization: Bearer "+text+"\r\n\r\n")
			if resp.StatusCode != row.status || !strings.Contains(said, `"code":"`+row.code+`"`) || resp.Header.Get("Retry-After") != "1" ||
				resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Type") != "application/problem+json" || resp.Header["Www-Authenticate"] != nil {
				t.Errorf("%s: %s: %d %v %s", name, row.name, resp.StatusCode, resp.Header, said)
			}
			showsNothing(t, row.name, said, text)
			// Those who are known go on.
			if resp, text := raw(t, addr, "GET / HTTP/1.0\r\nAuthorization: Bearer "+narrow(t, first, "note x")+"\r\n\r\n"); resp.StatusCode != 200 {
				t.Errorf("%s: a known one: %d %s", row.name, resp.StatusCode, text)
			}
		}
	}
	a.heal()
}

// Whatever goes wrong with the authority, the log has no token, no signature and
// no secret.
func TestLogShowsNothing(t *testing.T) {
	t.Parallel()
	a := start(t)
	var log journal
	service := a.credentialIn("photos")
	var ahead atomic.Int64 // so that the log says each time that the feed cannot be read
	g := a.guard(func(o *guard.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		o.MaxStaleness = 3 * time.Second // so a question of the feed waits for one
		o.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Credential = client.Basic(service.ID, service.Secret)
	})
	alice := a.device("alice")
	begin := narrow(t, alice.Token, window(), "audience photos")
	all := alice.Token + " " + begin
	for i, say := range []string{"TOKEN", `{"active":true,"caveats":["TOKEN"]}`, `{"active":"TOKEN"}`, `{"TOKEN"`, `{"allowed":true,"code":"TOKEN"}`} {
		for _, path := range []string{"/oauth2/introspect", "/v1/verify", "/v1/revocations"} {
			text := narrow(t, begin, fmt.Sprint("note ", i))
			if path == "/v1/verify" {
				text = narrow(t, text, "once x")
			}
			all += " " + text
			a.answer(path, func(w *httptest.ResponseRecorder) {
				w.Body = bytes.NewBufferString(strings.ReplaceAll(say, "TOKEN", text))
			})
			_, err := g.Gateway(t.Context(), text, get(), nil)
			showsNothing(t, "the refusal", fmt.Sprint(err), text)
			if path == "/v1/revocations" {
				eventually(t, "the log says that the feed cannot be read", func() bool { return log.count("feed of revocations cannot be read") == i+1 })
				ahead.Add(int64(time.Minute))
			}
		}
	}
	a.cut()
	code(g, narrow(t, begin, "note y"))
	if log.count("cannot be asked about tokens") == 0 {
		t.Error("the log says nothing of questions")
	}
	showsNothing(t, "the log", log.String(), all)
	for _, secret := range []string{service.Secret, base64.StdEncoding.EncodeToString([]byte(service.ID + ":" + service.Secret))} {
		if strings.Contains(log.String(), secret) {
			t.Error("the log shows the credential")
		}
	}
	for _, shown := range []string{fmt.Sprintf("%v", client.Basic(service.ID, service.Secret))} {
		if strings.Contains(shown, service.Secret) {
			t.Error(shown)
		}
	}
}

// Whose a request is comes from a guard and from nowhere else.
func TestFrom(t *testing.T) {
	if pass, there := guard.From(context.Background()); there || pass != (api.Pass{}) {
		t.Errorf("%+v", pass)
	}
	type passKey struct{}
	if _, there := guard.From(context.WithValue(context.Background(), passKey{}, &api.Pass{User: "usr_admin"})); there {
		t.Error("somebody else's key")
	}
	a := start(t)
	alice, bob := a.device("alice"), a.device("bob")
	var seen []guard.Observation
	g := a.guard(func(o *guard.Options) { o.Observe = func(x guard.Observation) { seen = append(seen, x) } })
	for _, row := range []struct {
		name, text string
		user       string
	}{
		{"alice's", narrow(t, alice.Token, window(), "audience photos"), alice.User.ID},
		{"bob's", narrow(t, bob.Token, window(), "audience photos"), bob.User.ID},
		{"bob's, who says that he is alice", narrow(t, bob.Token, window(), "audience photos", "user "+alice.User.ID), ""},
		{"bob's, who says so before the audience", narrow(t, bob.Token, "user "+alice.User.ID, window(), "audience photos"), ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+row.text)
		reached := false
		g.Protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			pass, there := guard.From(r.Context())
			if reached = true; !there || pass.User != row.user {
				t.Errorf("%s: %+v", row.name, pass)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
		if reached != (row.user != "") {
			t.Errorf("%s: reached: %v", row.name, reached)
		}
		if _, there := guard.From(r.Context()); there {
			t.Error("the request outside of the guard has an identity")
		}
	}
	want := []guard.Observation{{"ok", guard.Introspected}, {"ok", guard.Introspected}, {"refused", guard.Local}, {"refused", guard.Introspected}}
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("observed %v, want %v", seen, want)
	}
}

// A body that breaks, and a request without one or without an address, as other
// frameworks and tests make them.
func TestOddRequests(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	begin := narrow(t, a.device("alice").Token, window(), "audience photos")
	empty := sha256.Sum256(nil)
	for _, row := range []struct {
		name   string
		with   string
		change func(*http.Request)
		status int
	}{
		{"a body that breaks", "body-sha256 " + hex.EncodeToString(empty[:]), func(r *http.Request) { r.Body = io.NopCloser(broken{}) }, 400},
		{"a body that is nil", "body-sha256 " + hex.EncodeToString(empty[:]), func(r *http.Request) { r.Body = nil }, 200},
		{"a body that breaks, and nobody binds", "note x", func(r *http.Request) { r.Body = io.NopCloser(broken{}) }, 200},
		{"a Unix socket", "client-ip 0.0.0.0/0 ::/0", func(r *http.Request) { r.RemoteAddr = "@" }, 403},
		{"a Unix socket, and no such caveat", "note x", func(r *http.Request) { r.RemoteAddr = "" }, 200},
		{"an address with a zone", "client-ip fe80::/10", func(r *http.Request) { r.RemoteAddr = "[fe80::1%eth0]:1234" }, 200},
		{"a mapped address", "client-ip 192.0.2.0/24", func(r *http.Request) { r.RemoteAddr = "[::ffff:192.0.2.1]:1234" }, 200},
		{"no target", "path /**", func(r *http.Request) { r.RequestURI = "" }, 403},
	} {
		r := httptest.NewRequest("POST", "/photos/1", nil)
		r.Header.Set("Authorization", "Bearer "+narrow(t, begin, row.with))
		row.change(r)
		w := httptest.NewRecorder()
		g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})).ServeHTTP(w, r)
		if w.Code != row.status {
			t.Errorf("%s: %d %s", row.name, w.Code, w.Body)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken") }

// The parameters of the route are facts, in both frameworks by the same words
// (http.Request.PathValue): a caveat about them would else refuse everything.
func TestRouteParameters(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	language, err := caveats.NewLanguage(caveats.Extension{Name: "x-album", Check: func(args string, r *caveats.Request) error {
		if r.Extra["album"] != args {
			return errors.New("it is for another album")
		}
		return nil
	}})
	ok(t, err)
	g := a.guard(func(o *guard.Options) {
		o.Language = language
		o.Facts = func(r *http.Request, facts *caveats.Request) {
			facts.Extra = map[string]string{"album": r.PathValue("album")}
		}
	})
	mux := http.NewServeMux()
	mux.Handle("/albums/{album}/{rest...}", g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.PathValue("album")) })))
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(ginguard.Protect(g))
	engine.GET("/albums/:album/*rest", func(c *gin.Context) { c.String(200, c.Param("album")) })
	text := narrow(t, alice.Token, window(), "audience photos", "x-album a b")
	for name, url := range map[string]string{"net/http": listen(t, mux), "gin": listen(t, engine)} {
		for path, want := range map[string]int{"/albums/a%20b/1": 200, "/albums/a/1": 403, "/albums/a%20b%20/1": 403} {
			r, err := http.NewRequest("GET", url+path, nil)
			ok(t, err)
			r.Header.Set("Authorization", "Bearer "+text)
			resp, err := http.DefaultClient.Do(r)
			ok(t, err)
			if said := body(resp); resp.StatusCode != want || want == 200 && said != "a b" {
				t.Errorf("%s %s: %d %s, want %d", name, path, resp.StatusCode, said, want)
			}
		}
	}
}
