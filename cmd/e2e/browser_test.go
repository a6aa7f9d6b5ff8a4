package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"macaroond/service/api"
)

// browserTimeout bounds the whole story in the browser, on a machine under load.
const browserTimeout = 4 * time.Minute

// chromium is the browser, and the node program that drives it.
func chromium(t *testing.T) (node, executable string) {
	t.Helper()
	const what = "that a browser keeps the cookie, and that pages of other origins cannot use it"
	executable, err := exec.LookPath("chromium")
	if err != nil {
		notProved(t, what, "chromium", "apt-get install chromium")
	}
	if node, err = exec.LookPath("node"); err != nil {
		notProved(t, what, "node", "install node.js 20 or later")
	}
	if _, err := os.Stat(filepath.Join(root, "testdata/browser/node_modules/playwright-core/package.json")); err != nil {
		notProved(t, what, "npm's package playwright-core", "run npm ci in testdata/browser")
	}
	return node, executable
}

// application is what stands behind the gateway: a page for everybody, an API
// that the gateway guards, and a WebSocket that takes tickets.
type application struct {
	*http.Server
	addr      string
	authority *authority
	service   string // its credential

	mu     sync.Mutex
	wrote  []string // by whom: the user of each POST
	leaked []string // what no application may see
	said   []string // why tickets were refused
}

func serve(t *testing.T, h http.Handler) (*http.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	t.Cleanup(func() { s.Close(); serving.Wait() })
	return s, l.Addr().String()
}

func startApplication(t *testing.T, a *authority) *application {
	t.Helper()
	app := &application{authority: a, service: basic(a.credential(t))}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, absolute(t, "testdata/browser/page.html"))
	})
	mux.HandleFunc("/api/photos", app.photos)
	mux.HandleFunc("/live", func(w http.ResponseWriter, r *http.Request) { app.live(w, r) })
	app.Server, app.addr = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app.mu.Lock()
		for _, name := range []string{"Cookie", "Authorization", "X-Csrf-Token"} {
			if v := r.Header[name]; len(v) > 0 {
				app.leaked = append(app.leaked, fmt.Sprintf("%s %s: %s: %q", r.Method, r.URL.Path, name, v))
			}
		}
		if strings.Contains(r.Header.Get("X-Auth-User"), "forged") {
			app.leaked = append(app.leaked, "a forged user: "+r.RequestURI)
		}
		if path, _, _ := strings.Cut(r.RequestURI, "?"); path != "/" && path != "/live" && r.Header.Get("X-Auth-User") == "" {
			app.leaked = append(app.leaked, "a path that nobody judged: "+r.RequestURI)
		}
		app.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	return app
}

func (app *application) photos(w http.ResponseWriter, r *http.Request) {
	user := r.Header.Get("X-Auth-User")
	if user == "" {
		app.mu.Lock()
		app.leaked = append(app.leaked, "a request that nobody judged: "+r.Method+" "+r.RequestURI)
		app.mu.Unlock()
	}
	if r.Method != http.MethodGet {
		app.mu.Lock()
		app.wrote = append(app.wrote, user)
		app.mu.Unlock()
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"user": user, "device": r.Header.Get("X-Auth-Device")})
}

// live takes a WebSocket whose ticket holds for just this request, and says whose
// it is. The ticket is one of the offered subprotocols and is never chosen, so
// that it goes back nowhere.
func (app *application) live(w http.ResponseWriter, r *http.Request) {
	ticket := ""
	for offered := range strings.SplitSeq(r.Header.Get("Sec-WebSocket-Protocol"), ",") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(offered), "ticket."); ok {
			ticket = text
		}
	}
	d, err := app.ask(r.Context(), api.VerifyIn{Token: ticket, Request: api.Request{
		Method: r.Method, Path: r.URL.EscapedPath(), Audience: audience, Origin: r.Header.Get("Origin"),
	}})
	if err != nil || !d.Allowed {
		app.mu.Lock()
		app.said = append(app.said, d.Code)
		app.mu.Unlock()
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	// The ticket says who asks, so this need not hold the Origin against the host.
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{audience}, InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	if c.Write(ctx, websocket.MessageText, []byte(d.Principal.User)) == nil {
		c.Read(ctx) // until the page closes it
	}
}

func (app *application) ask(ctx context.Context, in api.VerifyIn) (d api.Decision, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return d, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, app.authority.url+"/v1/verify", bytes.NewReader(body))
	if err != nil {
		return d, err
	}
	req.Header.Set("Authorization", app.service)
	req.Header.Set("Content-Type", "application/json")
	res, err := apiClient.Do(req)
	if err != nil {
		return d, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return d, fmt.Errorf("status %d", res.StatusCode)
	}
	return d, json.NewDecoder(res.Body).Decode(&d)
}

// browserProxies are the gateways with their documented configurations of browser mode.
func browserProxies() []product {
	all := slices.Clone(products)
	for name, config := range map[string]string{"nginx": "browser.conf", "caddy": "browser.Caddyfile"} {
		at := slices.IndexFunc(all, func(p product) bool { return p.name == name })
		all[at].config = config
	}
	return all
}

// What the driver saw.
type (
	answer struct {
		Status int
		Body   json.RawMessage
	}
	keptCookie struct {
		Value, Domain, Path, SameSite string
		HTTPOnly                      bool `json:"httpOnly"`
		Secure                        bool
		Expires                       float64
	}
	liveSeen struct {
		Ticket, Protocol, Said string
		Refused                bool
	}
	foreignSeen struct {
		Attack           map[string]any
		FormLogout       int `json:"form /v1/logout"`
		FormAPI          int `json:"form /api/photos"`
		Cookies          []string
		Session, Devices answer
	}
	sawBrowser struct {
		Before, Script, Reloaded, Linked         string
		Login, SecondTab, Renamed, Read, Written answer
		Cookies, CookiesAfter                    []keptCookie
		CookiesAfterDead, CookiesAfterDeadOwn    []keptCookie
		Elsewhere                                int
		Unprotected                              struct{ Own, API, Wrong, BearerToo int }
		Live, LiveAgain, LiveWithout             liveSeen
		Cross, Neighbour                         foreignSeen
		Logout, After, ReadAfter, Dead, DeadOwn  answer
	}
)

// TestBrowser: a page in a real browser, behind a real gateway with the documented
// configuration, does what pages do; pages of another site and of another port
// try the same, in the same browser, and change nothing.
func TestBrowser(t *testing.T) {
	for _, p := range browserProxies() {
		t.Run(p.name, func(t *testing.T) { testBrowser(t, p) })
	}
}

func testBrowser(t *testing.T, p product) {
	node, executable := chromium(t)
	program(t, p.name)
	a, err := startAuthority(t.TempDir(), []string{"MACAROOND_BROWSER_AUDIENCES=" + audience}, "--dev")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the server's log:\n%s", a.stderr.tail())
		}
	})
	alice, mallory := a.user(t), a.user(t)
	app := startApplication(t, a)
	g := startGatewayBefore(t, p, a.addr(), app.addr)
	_, foreign := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, absolute(t, "testdata/browser/foreign.html"))
	}))
	_, port, _ := net.SplitHostPort(g.addr)
	_, foreignPort, _ := net.SplitHostPort(foreign)
	// To a browser localhost and 127.0.0.1 are two sites, and two ports of localhost
	// one site with two origins.
	in := map[string]string{
		"executable": executable, "app": "http://localhost:" + port,
		"cross": "http://127.0.0.1:" + foreignPort, "neighbour": "http://localhost:" + foreignPort,
		"username": alice.Username, "password": password, "mallory": mallory.Username,
	}
	saw := drive(t, node, in)

	var grant api.Grant
	read(t, "login", saw.Login, 200, &grant)
	if saw.Before != "nobody" || grant.User.ID != alice.ID || grant.Token != "" || grant.CSRFToken == "" || bytes.Contains(saw.Login.Body, []byte(`"token"`)) {
		t.Errorf("before the login %q, its answer %s", saw.Before, saw.Login.Body)
	}
	if len(saw.Cookies) != 1 {
		t.Fatalf("the browser keeps %+v", saw.Cookies)
	}
	c := saw.Cookies[0]
	if !c.HTTPOnly || !c.Secure || c.SameSite != "Lax" || c.Path != "/" || c.Domain != "localhost" || c.Expires < float64(time.Now().Add(29*24*time.Hour).Unix()) {
		t.Errorf("the cookie is %+v", c)
	}
	if saw.Script != "" || saw.Elsewhere != 0 {
		t.Errorf("scripts see %q; another site has %d cookies", saw.Script, saw.Elsewhere)
	}

	// The page is logged in after a reload, in another tab, and when linked to.
	var session api.Session
	read(t, "another tab", saw.SecondTab, 200, &session)
	if saw.Reloaded != alice.Username || saw.Linked != alice.Username || session.CSRFToken != grant.CSRFToken || session.User != grant.User || session.Device != grant.Device {
		t.Errorf("reloaded %q, linked %q, session %+v", saw.Reloaded, saw.Linked, session)
	}
	var device api.Device
	read(t, "rename", saw.Renamed, 200, &device)
	var photos struct{ User, Device string }
	for what, got := range map[string]answer{"read": saw.Read, "write": saw.Written} {
		read(t, what, got, 200, &photos)
		if photos.User != alice.ID || photos.Device != grant.Device.ID {
			t.Errorf("%s: the application hears of %+v", what, photos)
		}
	}
	if u := saw.Unprotected; u.Own != 403 || u.API != 403 || u.Wrong != 403 || u.BearerToo != 403 {
		t.Errorf("without the synchronizer token, or with two credentials: %+v", u)
	}
	if l := saw.Live; l.Said != alice.ID || l.Protocol != audience || l.Ticket == "" || strings.Contains(l.Ticket, c.Value) {
		t.Errorf("the WebSocket: %+v", l)
	}
	if !saw.LiveAgain.Refused || !saw.LiveWithout.Refused {
		t.Errorf("a ticket again: %+v, none: %+v", saw.LiveAgain, saw.LiveWithout)
	}

	for name, f := range map[string]foreignSeen{"another site": saw.Cross, "another port": saw.Neighbour} {
		checkForeign(t, name, f, c.Value)
		var devices api.Devices
		read(t, name+": the session after it", f.Session, 200, &session)
		read(t, name+": the devices after it", f.Devices, 200, &devices)
		if len(devices.Devices) != 1 || devices.Devices[0].Name != "my browser" || devices.Devices[0].RevokedAt != nil || session.User != grant.User {
			t.Errorf("%s: the devices are %+v, the session %+v", name, devices, session)
		}
	}
	app.mu.Lock()
	if got := strings.Join(app.said, " "); got != "replayed malformed" {
		t.Errorf("tickets were refused as %q", got)
	}
	app.mu.Unlock()
	// No spelling of a path gets a request to the application unjudged, or with a
	// user of its own choice.
	for _, target := range []string{"/api/photos", "//api/photos", "/api/../", "/api/photos/..", "/x/../api/photos", "/api/photos/../../live", "/live/../api/photos", "/v1/../api/photos", "/v1/%2e%2e/api/photos", "/./api/photos", "/api/photos/../../v1/session"} {
		res := spelt(t, g.addr, target)
		if strings.Contains(strings.TrimPrefix(target, "/api/"), "api/photos") && res.StatusCode != 401 {
			t.Errorf("%s without a session: %d", target, res.StatusCode)
		}
		if got := res.Header.Values("WWW-Authenticate"); res.StatusCode == 401 && len(got) != 1 {
			t.Errorf("%s without a session: WWW-Authenticate %q, want one", target, got)
		}
	}
	app.mu.Lock()
	defer app.mu.Unlock()
	if len(app.wrote) != 1 || app.wrote[0] != alice.ID {
		t.Errorf("the application was written to by %q", app.wrote)
	}
	if len(app.leaked) != 0 {
		t.Errorf("the application saw %q", app.leaked)
	}
	// A neighbour's requests did come with the cookie, and were refused for whose
	// they were.
	if log := a.stderr.String(); strings.Count(log, `"code":"csrf"`) < 5 {
		t.Errorf("few requests were refused for coming from elsewhere")
	}

	if saw.Logout.Status != 204 || len(saw.CookiesAfter) != 0 {
		t.Errorf("logout: %d, and the browser keeps %+v", saw.Logout.Status, saw.CookiesAfter)
	}
	for what, got := range map[string]answer{"its own": saw.After, "the application's": saw.ReadAfter, "with a dead cookie": saw.Dead, "of its own, with a dead cookie": saw.DeadOwn} {
		if got.Status != 401 {
			t.Errorf("after the logout, %s: %d %s", what, got.Status, got.Body)
		}
	}
	if len(saw.CookiesAfterDead) != 0 || len(saw.CookiesAfterDeadOwn) != 0 {
		t.Errorf("a dead cookie stays: %+v %+v", saw.CookiesAfterDead, saw.CookiesAfterDeadOwn)
	}
}

// What Caddyfile deletes from a client's request, browser.Caddyfile deletes, too.
func TestBrowserCaddyfileDeletesAsMuch(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(absolute(t, "docs/gateways", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	browser, found := read("browser.Caddyfile"), 0
	for line := range strings.Lines(read("Caddyfile")) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "request_header ") && !strings.Contains(line, "@") {
			found++
			if !strings.Contains(browser, "\t\t"+line+"\n") {
				t.Errorf("browser.Caddyfile lacks %s", line)
			}
		}
	}
	if found < 20 {
		t.Errorf("Caddyfile has %d such lines", found)
	}
}

// spelt asks for a target byte by byte, as somebody without a session who says
// who they are.
func spelt(t *testing.T, addr, target string) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nX-Auth-User: usr_forged\r\nConnection: close\r\n\r\n", target)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	res.Body.Close()
	return res
}

// checkForeign: nothing that a foreign page tried was answered in a way that it
// could read, nor by anything but a refusal.
func checkForeign(t *testing.T, name string, f foreignSeen, cookie string) {
	t.Helper()
	tried := 0
	for what, got := range f.Attack {
		tried++
		kind, _, _ := strings.Cut(what, " ")
		want := map[string]any{
			"no-cors": "opaque 0", // sent; what came of it is seen elsewhere
			"cors":    "blocked", "image": "failed", "beacon": true, "read": "blocked", "frame": "sent", "login": "opaque 0", "socket": "refused",
		}[kind]
		if got != want {
			t.Errorf("%s: %s: %v, want %v", name, what, got, want)
		}
	}
	if tried < 19 {
		t.Errorf("%s: it tried only %d things", name, tried)
	}
	for what, got := range map[string]int{"/v1/logout": f.FormLogout, "/api/photos": f.FormAPI} {
		if got != 401 && got != 403 { // without the cookie, or with it
			t.Errorf("%s: a form to %s: %d", name, what, got)
		}
	}
	if len(f.Cookies) != 1 || f.Cookies[0] != cookie {
		t.Errorf("%s: the cookie is another one", name)
	}
}

func read(t *testing.T, what string, got answer, status int, into any) {
	t.Helper()
	if got.Status != status {
		t.Fatalf("%s: %d %s", what, got.Status, got.Body)
	}
	if err := json.Unmarshal(got.Body, into); err != nil {
		t.Fatalf("%s: %v: %s", what, err, got.Body)
	}
}

func drive(t *testing.T, node string, in any) (saw sawBrowser) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), browserTimeout)
	defer cancel()
	home := t.TempDir()
	cmd := exec.CommandContext(ctx, node, absolute(t, "testdata/browser/drive.mjs"))
	cmd.Env = environment("HOME="+home, "TMPDIR="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	cmd.Stdin = strings.NewReader(encode(t, in))
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // the browser with it
	cmd.WaitDelay = stopTimeout
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, errs.String(), out.String())
	}
	if err := json.Unmarshal(out.Bytes(), &saw); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return saw
}
