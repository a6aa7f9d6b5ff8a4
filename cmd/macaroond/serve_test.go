package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

// hangup asks this process's server to read its configuration again.
func hangup(t *testing.T) {
	t.Helper()
	must(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
}

// A reload drops no request, neither on a kept connection nor on a new one,
// and what it changes is in force; a bad file changes nothing and is told.
func TestReload(t *testing.T) {
	s := newSite(t, nil)
	s.serve()
	s.addUser("alice")
	root := s.login("alice").Token

	var served atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	ask := func(hc *http.Client) {
		for n := 0; ; n++ {
			select {
			case <-stop:
				if n >= 20 {
					return
				}
			default:
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/devices", nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+root)
			resp, err := hc.Do(req)
			if err != nil {
				t.Errorf("dropped: %v", err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("status %d", resp.StatusCode)
				return
			}
			served.Add(1)
		}
	}
	for _, tr := range []*http.Transport{{}, {}, {DisableKeepAlives: true}} {
		wg.Go(func() {
			ask(&http.Client{Transport: tr})
			tr.CloseIdleConnections()
		})
	}
	signup := func(name string) string {
		_, err := s.client.Signup(t.Context(), api.SignupIn{Username: name, Password: password, Device: api.DeviceIn{Name: "d"}})
		return s.code(err)
	}
	reloads := func() int { return strings.Count(s.log.String(), "configuration reloaded") }

	if got := signup("before"); got != api.CodeSignupOff {
		t.Errorf("before: %s", got)
	}
	for n := range 5 {
		s.set(map[string]string{"signup": []string{"password", "off"}[n%2], "max_devices": fmt.Sprint(100 + n)})
		hangup(t)
		s.log.wait(t, fmt.Sprintf(`(?s)(configuration reloaded.*){%d}`, n+1))
	}
	if got := signup("after"); got != api.CodeOK {
		t.Errorf("after: %s", got)
	}

	// A bad file.
	for _, bad := range []string{"signup: 'nobody'\n", "lissen: x\n", "listen: [\n", ""} {
		old, err := os.ReadFile(s.file)
		must(t, err)
		was := strings.Count(s.log.String(), "the old one stays")
		if bad == "" {
			must(t, os.Remove(s.file))
		} else {
			s.write(s.file, string(old)+bad)
		}
		hangup(t)
		s.log.wait(t, fmt.Sprintf(`(?s)("level":"ERROR","msg":"the configuration is bad; the old one stays in force".*){%d}`, was+1))
		s.write(s.file, string(old))
	}
	s.set(map[string]string{"issuer": ""})
	hangup(t)
	s.log.wait(t, `the old one stays in force","error":"issuer is not configured"`)
	s.set(map[string]string{"issuer": "https://auth.example"})
	if got := signup("still"); got != api.CodeOK {
		t.Errorf("with the old one: %s", got)
	}

	// What a reload cannot change is named, each time.
	s.set(map[string]string{"listen": "127.0.0.1:1", "hash_pool": "3"})
	n := reloads()
	for i := range 2 {
		hangup(t)
		s.log.wait(t, fmt.Sprintf(`(?s)(configuration reloaded.*){%d}`, n+i+1))
	}
	if got := strings.Count(s.log.String(), `"needs_restart":["listen","hash_pool"]`); got != 2 {
		t.Errorf("told %d times:\n%s", got, s.log)
	}

	close(stop)
	wg.Wait()
	if code := s.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	t.Logf("%d requests served during the reloads", served.Load())
}

// What pages and gateways are told is as configured, and as a reload has it.
func TestFrontSettings(t *testing.T) {
	s := newSite(t, map[string]string{"trusted_proxies": "127.0.0.0/8", "authz_audience": "photos"})
	s.serve()
	alice := s.addUser("alice")
	photos := narrow(t, s.login("alice").Token, "audience photos")
	answered := func(header string, sent map[string]string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/authz/original", nil)
		must(t, err)
		if header != "Remote-User" {
			req.URL.Path = "/v1/devices"
		}
		for name, value := range sent {
			req.Header.Set(name, value)
		}
		resp, err := s.pool.RoundTrip(req)
		must(t, err)
		resp.Body.Close()
		return resp.Header.Get(header)
	}
	gateway := map[string]string{"Authorization": "Bearer " + photos, "X-Original-Method": "GET", "X-Original-URI": "/1"}
	page := map[string]string{"Origin": "https://app.example"}
	for n, row := range []struct{ remoteUser, origins, user, allowed string }{
		{"id", "", alice.ID, ""},
		{"username", "https://app.example", "alice", "https://app.example"},
		{"id", "https://other.example", alice.ID, ""},
	} {
		s.set(map[string]string{"remote_user": row.remoteUser, "cors_origins": row.origins})
		hangup(t)
		s.log.wait(t, fmt.Sprintf(`(?s)(configuration reloaded.*){%d}`, n+1))
		if got := answered("Remote-User", gateway); got != row.user {
			t.Errorf("remote_user %s: %q", row.remoteUser, got)
		}
		if got := answered("Access-Control-Allow-Origin", page); got != row.allowed {
			t.Errorf("cors_origins %s: %q", row.origins, got)
		}
	}
	s.set(map[string]string{"log_level": "debug"})
	hangup(t)
	s.log.wait(t, `(?s)(configuration reloaded.*){4}`)
	answered("Remote-User", gateway)
	s.log.wait(t, `"level":"DEBUG"`)
}

// With --dev the issuer is where the server listens, also after a reload.
func TestDevIssuer(t *testing.T) {
	s := newSite(t, map[string]string{"issuer": ""})
	s.serve("--dev")
	s.addUser("alice")
	for n := range 2 {
		tok, err := token.Parse(s.login("alice").Token)
		must(t, err)
		if got := tok.UnverifiedLocation(); got != s.url {
			t.Errorf("the issuer is %q at %s", got, s.url)
		}
		hangup(t)
		s.log.wait(t, fmt.Sprintf(`(?s)(configuration reloaded.*){%d}`, n+1))
	}
}

// What serve refuses before it makes anything; and a key that was given is not made.
func TestCheckServe(t *testing.T) {
	for _, row := range []struct {
		want string // in the error; empty: none
		c    config
	}{
		{"", config{Listen: "0.0.0.0:1", MetricsListen: "0.0.0.0:2", Issuer: "https://auth.example", KeyFile: "key"}},
		{"", config{Listen: "0.0.0.0:1", Issuer: "https://auth.example", Key: "key"}},
		{"no key-encryption key", config{Listen: "0.0.0.0:1", Issuer: "https://auth.example"}},
		{"issuer is not configured", config{Listen: "127.0.0.1:1", KeyFile: "key"}},
		{"", config{Listen: "127.0.0.1:1", dev: true}},
		{"", config{Listen: "unix:socket", MetricsListen: "[::1]:1", dev: true}},
		{"listen: with --dev only loopback", config{Listen: "0.0.0.0:1", dev: true}},
		{"metrics_listen: with --dev only loopback", config{Listen: "127.0.0.1:1", MetricsListen: ":1", dev: true}},
	} {
		if err := row.c.checkServe(); (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%+v: %v", row.c, err)
		}
	}
	for key, made := range map[string]bool{"": true, "given": false} {
		c := config{DataDir: t.TempDir(), Key: key, dev: true}
		must(t, c.makeDevKey(t.Context()))
		if _, err := os.Stat(c.devKeyPath()); (err == nil) != made {
			t.Errorf("key %q: %v", key, err)
		}
	}
}

// doctor's pattern finds a token of this issuer, however long its URL is, and of no
// other where the URL is known.
// All that js-macaroon wrote for the vectors is found, but for a signature that is
// UTF-8 by chance, which random bytes are not.
func TestLeakPatternJSON(t *testing.T) {
	text, err := os.ReadFile("../../testdata/vectors/tokens.json")
	must(t, err)
	var file struct {
		Vectors []struct {
			Name string `json:"name"`
			JSON string `json:"text_json"`
		} `json:"vectors"`
	}
	must(t, json.Unmarshal(text, &file))
	re, found := regexp.MustCompile("^"+leakPatternJSON+"$"), 0
	for _, v := range file.Vectors {
		if re.MatchString(v.JSON) {
			found++
		} else if !strings.Contains(v.Name, "by chance") {
			t.Errorf("%s: %s does not match %s", v.Name, re, v.JSON)
		}
	}
	if found < 10 {
		t.Errorf("found %d of %d", found, len(file.Vectors))
	}
}

func TestLeakPattern(t *testing.T) {
	mint := func(issuer string) string {
		who := token.Identity{User: token.NewID(token.UserPrefix), Device: token.NewID(token.DevicePrefix), Expires: time.Now().Add(time.Hour)}
		tok, err := token.Mint(&token.RootKey{}, issuer, token.Identifier{Epoch: 1, RootKeyID: token.NewRootKeyID()}, who)
		must(t, err)
		return tok.Text()
	}
	const other = "https://other.example"
	for _, length := range []int{0, 20, 21, 22, 127, 128, 256} {
		issuer := ("https://a.example/" + strings.Repeat("x", 256))[:length]
		re, whose := regexp.MustCompile("^"+leakPattern(issuer)+"$"), issuer
		if issuer == "" {
			whose = other
		}
		if tok := mint(whose); !re.MatchString(tok) {
			t.Errorf("%d: %s does not match %s", length, re, tok)
		}
		if issuer != "" && re.MatchString(mint(other)) {
			t.Errorf("%d: %s matches a token of %s", length, re, other)
		}
	}
}

// doctor asks the server at listen, whoever answers at the issuer, and a
// certificate that is not good here is not a server that is not there.
func TestDoctorAsksListen(t *testing.T) {
	s, _, certFile, _ := tlsSite(t)
	addr := strings.TrimPrefix(s.url, "https://")
	for _, row := range []struct{ listen, issuer, want string }{
		{addr, "https://auth.example/path", "BAD  server       a server answers on " + addr + ", but its certificate is not good here: x509: "},
		{"127.0.0.1:1", s.url, "BAD  server       no server answers on 127.0.0.1:1: start it"},
	} {
		s.set(map[string]string{"listen": row.listen, "issuer": row.issuer})
		if out, _ := s.run("", "doctor"); !strings.Contains(out, row.want) {
			t.Errorf("listen %s, issuer %s:\n%s", row.listen, row.issuer, out)
		}
	}
	s.set(map[string]string{"listen": addr, "issuer": "https://auth.example"})
	trusting := exec.Command("macaroond", "doctor", "--config", s.file) // SSL_CERT_FILE is read once in a process
	trusting.Env = append(os.Environ(), "SSL_CERT_FILE="+certFile)
	if out, _ := trusting.Output(); !strings.Contains(string(out), "ok   server       answers on "+addr+" and is ready") {
		t.Errorf("%s", out)
	}
}

// What config check finds unsafe, serve logs at its start.
func TestServeLogsUnsafe(t *testing.T) {
	s := newSite(t, map[string]string{"issuer": "http://auth.example", "trusted_proxies": "127.0.0.1/32"})
	must(t, os.Chmod(s.settings["key_file"], 0o644))
	s.serve()
	s.end()
	for _, want := range []string{`"level":"WARN","msg":"unsafe: issuer is plain http`, `"level":"WARN","msg":"unsafe: key_file `} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("no %s in\n%s", want, s.log)
		}
	}
	if n := strings.Count(s.log.String(), `"unsafe: `); n != 2 {
		t.Errorf("%d findings:\n%s", n, s.log)
	}
	if strings.Contains(s.log.String(), `"msg":"metrics"`) {
		t.Errorf("metrics are served, and nobody asked for them:\n%s", s.log)
	}
	// Whoever asked for errors only is spared them.
	var log bytes.Buffer
	f := newFront(&log, "error")
	if f.warn([]string{"x"}); log.Len() > 0 {
		t.Error(&log)
	}
}

// SIGTERM lets a request in progress end, and takes no new one.
func TestGracefulShutdown(t *testing.T) {
	s := newSite(t, nil)
	s.serve()
	s.addUser("alice")
	addr := strings.TrimPrefix(s.url, "http://")
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	body := fmt.Sprintf(`{"username":"alice","password":%q,"device":{"name":"late"}}`, password)
	fmt.Fprintf(conn, "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	// 100 Continue is sent when the handler reads the body: the request is in progress.
	first := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	_, err = io.ReadFull(conn, first)
	must(t, err)

	ended := make(chan int, 1)
	go func() { ended <- s.end() }()
	s.log.wait(t, `"msg":"stopping"`)
	for deadline := time.Now().Add(patience); ; { // the listener closes right after
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("it still takes connections")
		}
	}
	select {
	case code := <-ended:
		t.Fatalf("ended with %d before the request did", code)
	default:
	}
	io.WriteString(conn, body)
	rest, err := io.ReadAll(conn)
	must(t, err)
	if !bytes.HasPrefix(rest, []byte("HTTP/1.1 200")) || !bytes.Contains(rest, []byte(`"token":`)) {
		t.Errorf("%s", rest)
	}
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// A Unix socket's peers count as 127.0.0.1: for trusted_proxies and client-ip.
func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "m") // short enough for a socket's name
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	s := newSite(t, map[string]string{"listen": "unix:" + path, "trusted_proxies": "127.0.0.1/32"})
	s.serve()
	s.addUser("alice")
	root := s.login("alice").Token
	gateway := func(forwarded string, holder ...string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/authz/original?audience=photos", nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+narrow(t, root, append([]string{"audience photos"}, holder...)...))
		req.Header.Set("X-Original-Method", "GET")
		req.Header.Set("X-Original-URI", "/photos/1")
		if forwarded != "" {
			req.Header.Set("X-Forwarded-For", forwarded)
		}
		resp, err := s.pool.RoundTrip(req)
		must(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, row := range []struct {
		forwarded, caveat string
		want              int
	}{
		{"", "client-ip 127.0.0.1/32", 403}, // the gateway does not say who asks, and it is not itself
		{"", "client-ip 10.0.0.0/8", 403},
		{"10.1.2.3", "client-ip 10.0.0.0/8", 200},
		{"10.1.2.3", "client-ip 127.0.0.1/32", 403},
	} {
		if got := gateway(row.forwarded, row.caveat); got != row.want {
			t.Errorf("X-Forwarded-For %q, %s: %d, want %d", row.forwarded, row.caveat, got, row.want)
		}
	}
	if out, code := s.run("", "doctor"); code != exitOK {
		t.Errorf("doctor: %d\n%s", code, out)
	}
	if out, _ := s.run("", "audit", "tail"); !strings.Contains(out, "client_ip=127.0.0.1") {
		t.Errorf("audit:\n%s", out)
	}

	// A second server does not take the socket from the first.
	if _, code := s.run("", "serve"); code != exitFailed || !strings.Contains(s.log.String(), "is in use: stop what listens there") {
		t.Errorf("exit code %d\n%s", code, s.log)
	}
	if got := s.answer(root); got != api.CodeOK {
		t.Error(got)
	}
	if code := s.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	// What a killed server left is no obstacle; another file is never removed.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	left.SetUnlinkOnClose(false)
	left.Close()
	s.serve()
	if got := s.answer(root); got != api.CodeOK {
		t.Error(got)
	}
	s.end()
	s.write(path, "precious")
	if _, code := s.run("", "serve"); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}

// metrics_listen serves what Prometheus reads, on a listener of its own.
func TestMetrics(t *testing.T) {
	s := newSite(t, map[string]string{"metrics_listen": "127.0.0.1:0", "max_staleness": "45s"})
	s.serve()
	s.addUser("alice")
	g := s.login("alice")
	must(t, s.client.Logout(t.Context(), client.Bearer(g.Token)))
	if got := s.answer(g.Token); got != api.CodeRevoked {
		t.Error(got)
	}
	addr := s.log.wait(t, `"msg":"metrics","address":"([^"]+)"`)
	resp, err := http.Get("http://" + addr + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(resp.Body)
	must(t, err)
	value := func(name, label string) float64 {
		t.Helper()
		f := all[name]
		if f == nil {
			t.Fatalf("no %s", name)
		}
		for _, m := range f.Metric {
			if label == "" || len(m.Label) > 0 && m.Label[0].GetValue() == label {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		t.Fatalf("%s has no %q", name, label)
		return 0
	}
	if age := value("macaroond_revocations_age_seconds", ""); age < 0 || age > 5 {
		t.Errorf("age %v", age)
	}
	for _, row := range []struct {
		name, label string
		want        float64
	}{
		{"macaroond_revocations_age_bound_seconds", "", 45},
		{"macaroond_revocations_live", "", 1},
		{"macaroond_revocations_total", "device", 1},
		{"macaroond_logins_total", "ok", 1},
		{"macaroond_verdicts_total", api.CodeRevoked, 1},
		// What is alerted on is there before it happens.
		{"macaroond_logins_total", "limited", 0},
		{"macaroond_logins_total", "recovery", 0},
		{"macaroond_renewals_total", "theft", 0},
		{"macaroond_renewals_total", "again", 0},
		{"macaroond_revocations_total", "branch", 0},
		{"macaroond_revocations_total", "epoch", 0},
		{"macaroond_verdicts_total", api.CodeStale, 0},
		{"macaroond_epochs", "", 1},
		{"macaroond_clock_jumped", "", 0},
		{"macaroond_hashing_in_progress", "", 0},
		{"macaroond_hashing_waiting", "", 0},
		{"macaroond_feed_waiting", "", 0},
	} {
		if got := value(row.name, row.label); got != row.want {
			t.Errorf("%s %s: %v, want %v", row.name, row.label, got, row.want)
		}
	}
	if all["macaroond_http_request_seconds"] == nil || all["process_resident_memory_bytes"] == nil {
		t.Error("no requests or no process")
	}
	// Every one of ours is in the manual, and the manual names no other.
	manual, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if f := all[name]; strings.HasPrefix(name, "macaroond_") && (f.GetHelp() == "" || !bytes.Contains(manual, []byte("`"+name+"`")) && !bytes.Contains(manual, []byte("`"+name+"{"))) {
			t.Errorf("%s has no help text or is not in docs/operations.md", name)
		}
	}
	// They are nowhere else.
	resp, err = http.Get(s.url + "/metrics")
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("/metrics on the API: %d", resp.StatusCode)
	}
	// A listener that is taken ends the start, not later.
	second := newSite(t, map[string]string{"metrics_listen": addr})
	if _, code := second.run("", "serve"); code != exitFailed || !strings.Contains(second.log.String(), "metrics_listen") {
		t.Errorf("exit code %d\n%s", code, second.log)
	}
}

// An interrupt ends a read that nothing else would.
func TestInterrupted(t *testing.T) {
	s := newSite(t, nil)
	s.serve()
	s.end()
	for _, args := range [][]string{
		{"user", "add", "alice", "--password-file", "-"},
		{"revoke", "--token-file", "-"},
		{"audit", "tail", "-f"},
	} {
		r, w := io.Pipe() // nobody writes
		ctx, cancel := context.WithCancel(t.Context())
		code := make(chan int, 1)
		go func() {
			code <- run(ctx, process{Args: append(args, "--config", s.file), Stdin: r, Stdout: s.out, Stderr: s.log})
		}()
		cancel()
		select {
		case <-code:
		case <-time.After(patience):
			t.Errorf("%v goes on", args)
		}
		w.Close()
	}
	if users, _ := s.run("", "user", "list", "--json"); !strings.Contains(users, `"users":[]`) {
		t.Error(users)
	}
}
