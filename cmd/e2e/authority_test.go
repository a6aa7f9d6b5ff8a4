package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
)

// audience is the resource server's name in these tests and in the documented
// gateway configurations.
const audience = "photos"

const password = "correct horse battery staple 42"

// authority is a running macaroond with a service credential that may verify
// for the audience.
type authority struct {
	*process
	url     string
	dataDir string
	env     []string // also of the commands beside it
	service api.Service
	users   atomic.Int64
}

// shared is the one server of the tests that do not need one of their own.
var shared = sync.OnceValues(func() (*authority, error) {
	dir, err := os.MkdirTemp(filepath.Dir(macaroond), "data-")
	if err != nil {
		return nil, err
	}
	return startAuthority(dir, nil, "--dev")
})

// stopShared ends the shared server, if a test started it.
var stopShared = func() error { return nil }

func sharedAuthority(t *testing.T) *authority {
	t.Helper()
	a, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	stopShared = a.stop
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the server's log so far:\n%s", a.stderr.tail())
		}
	})
	return a
}

func startAuthority(dir string, env []string, flags ...string) (*authority, error) {
	p, err := start(env, macaroond, append([]string{"serve", "--listen", "127.0.0.1:0", "--data-dir", dir}, flags...)...)
	if err != nil {
		return nil, err
	}
	a := &authority{process: p, dataDir: dir, env: env}
	line, err := p.firstLine()
	if err == nil {
		var ok bool
		if a.url, ok = strings.CutPrefix(line, "macaroond listens on "); !ok {
			err = fmt.Errorf("the first line is %q", line)
		}
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return a, nil
}

func (a *authority) addr() string { return strings.TrimPrefix(a.url, "http://") }

// command runs macaroond beside the running server and reads its JSON.
func (a *authority) command(t *testing.T, out any, args ...string) {
	t.Helper()
	data, err := tool(t, "", a.env, macaroond, append(args, "--data-dir", a.dataDir, "--json")...)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, out); err != nil {
		t.Fatalf("macaroond %s printed %q: %v", strings.Join(args, " "), data, err)
	}
}

// credential is the service credential that serves the audience, made on first
// use and known to the server when it is returned.
func (a *authority) credential(t *testing.T) api.Service {
	t.Helper()
	if a.service.ID == "" {
		a.command(t, &a.service, "service", "add", "e2e", "--serves", audience)
		eventually(t, "the server knows the new service credential", func() bool {
			res := a.send(t, "POST", "/v1/verify", basic(a.service), `{"token":"AA","request":{"audience":"`+audience+`"}}`)
			return res.status == http.StatusOK
		})
	}
	return a.service
}

// account is a user that the tests made.
type account struct{ ID, Username, Password string }

// user makes a new user with the command.
func (a *authority) user(t *testing.T) account {
	t.Helper()
	u := account{Username: "ana" + strconv.FormatInt(a.users.Add(1), 10), Password: password}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(u.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var made struct{ ID, Username string }
	a.command(t, &made, "user", "add", u.Username, "--password-file", file)
	if made.Username != u.Username || !token.IsID(made.ID, token.UserPrefix) {
		t.Fatalf("user add printed %+v", made)
	}
	u.ID = made.ID
	return u
}

// login is a new device of the user.
func (a *authority) login(t *testing.T, u account) api.Grant {
	t.Helper()
	var g api.Grant
	body := encode(t, api.LoginIn{Username: u.Username, Password: u.Password, Device: api.DeviceIn{Name: t.Name()}})
	if res := a.send(t, "POST", "/v1/login", "", body); res.status != http.StatusOK {
		t.Fatalf("login: %s", res)
	} else if err := json.Unmarshal(res.body, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// verify has the service credential judge a token.
func (a *authority) verify(t *testing.T, text string, r api.Request) api.Decision {
	t.Helper()
	var d api.Decision
	res := a.send(t, "POST", "/v1/verify", basic(a.credential(t)), encode(t, api.VerifyIn{Token: text, Request: r}))
	if res.status != http.StatusOK {
		t.Fatalf("verify: %s", res)
	}
	if err := json.Unmarshal(res.body, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) String() string { return fmt.Sprintf("status %d: %s", r.status, r.body) }

// problem is the code of a problem+json body.
func (r reply) problem() string {
	var p api.Problem
	json.Unmarshal(r.body, &p)
	return p.Code
}

var apiClient = &http.Client{
	Timeout:       30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// send makes one request to the API. auth is the Authorization header.
func (a *authority) send(t *testing.T, method, path, auth, body string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := apiClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, data}
}

func bearer(text string) string { return "Bearer " + text }

func basic(s api.Service) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(s.ID, s.Secret)
	return r.Header.Get("Authorization")
}

func encode(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// narrow appends caveats in Go, for tests whose subject is something else.
func narrow(t *testing.T, text string, caveats ...string) string {
	t.Helper()
	parsed, err := token.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	narrowed, err := token.Attenuate(parsed, caveats...)
	if err != nil {
		t.Fatal(err)
	}
	return narrowed.Text()
}

// in is a time-before that many seconds from now.
func in(d time.Duration) string {
	return "time-before " + time.Now().Add(d).UTC().Format("2006-01-02T15:04:05Z")
}

// eventually polls until ok, within a bound.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
