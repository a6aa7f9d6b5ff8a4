package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"macaroond/cmd/internal/script"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

func TestMain(m *testing.M) {
	testscript.Main(tidy{m}, map[string]func(){"macaroon": main})
}

// tidy removes what the tests have serverBinary.
type tidy struct{ m *testing.M }

func (t tidy) Run() int {
	defer func() { os.RemoveAll(serverBinary.dir) }()
	return t.m.Run()
}

// serverBinary is the real server's binary, built when the first script wants it.
var serverBinary struct {
	once sync.Once
	dir  string
	err  error
}

func buildServer() (string, error) {
	serverBinary.once.Do(func() {
		if serverBinary.dir, serverBinary.err = os.MkdirTemp("", "macaroond-*"); serverBinary.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", serverBinary.dir, "macaroond/cmd/macaroond").CombinedOutput()
		if err != nil {
			serverBinary.err = fmt.Errorf("building macaroond: %w\n%s", err, out)
		}
	})
	return filepath.Join(serverBinary.dir, "macaroond"), serverBinary.err
}

// TestScripts runs testdata/script. The scripts start the real macaroon, as a
// process of its own, and the real macaroond, which is built here.
func TestScripts(t *testing.T) {
	setup := func(env *testscript.Env) {
		env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
		env.Setenv("STORE", filepath.Join(env.WorkDir, "config", "macaroon", storeFile))
		env.Setenv("MACAROON_SERVER", "")
	}
	script.Run(t, setup, map[string]script.Command{
		"mint":      mint,
		"keep":      keep,
		"authority": authority,
		"macaroond": macaroond,
		"nobody":    nobody,
		"losing":    losing,
	})
}

// mint FILE LIFETIME makes a bare root of no authority in the world.
func mint(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mint FILE LIFETIME")
	}
	lifetime, err := time.ParseDuration(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(bareRoot(lifetime)+"\n"), 0o600))
}

// bareRoot is the text of a root of no authority in the world.
func bareRoot(lifetime time.Duration) string {
	key := token.RootKey{1, 2, 3}
	id := token.Identifier{Epoch: 1, RootKeyID: token.NewRootKeyID()}
	who := token.Identity{User: token.NewID(token.UserPrefix), Device: token.NewID(token.DevicePrefix), Expires: time.Now().Add(lifetime)}
	t, err := token.Mint(&key, "https://auth.example", id, who)
	if err != nil {
		panic(err)
	}
	return t.Text()
}

// keep FILE URL stores the token in FILE as if URL had granted it.
func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keep FILE URL")
	}
	s := store{filepath.Dir(ts.Getenv("STORE"))}
	ts.Check(s.update(context.Background(), func(c *contents) {
		c.Servers[args[1]] = login{
			Token:     strings.TrimSpace(ts.ReadFile(args[0])),
			User:      api.UserRef{ID: token.NewID(token.UserPrefix), Username: "alice"},
			RenewAt:   api.At(time.Now().Add(time.Hour)),
			ExpiresAt: api.At(time.Now().Add(2 * time.Hour)),
		}
		if c.Default == "" {
			c.Default = args[1]
		}
	}))
}

// authority [NAME=VALUE…] starts a server on a port of its own, with D as its
// data directory and the settings in its environment, and sets MACAROON_SERVER.
// It is killed when the script ends.
func authority(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! authority")
	}
	program, err := buildServer()
	ts.Check(err)
	ts.Setenv("D", ts.MkAbs("data"))
	cmd := exec.Command(program, "serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir", ts.Getenv("D"))
	cmd.Env = append(os.Environ(), args...)
	log, err := os.Create(ts.MkAbs("macaroond.log"))
	ts.Check(err)
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
	})
	first, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(first), "macaroond listens on ")
	if err != nil || !ok {
		ts.Fatalf("macaroond said %q: %v\n%s", first, err, ts.ReadFile("macaroond.log"))
	}
	ts.Setenv("MACAROON_SERVER", url)
}

// macaroond ARG… runs a server command.
func macaroond(ts *testscript.TestScript, neg bool, args []string) {
	program, err := buildServer()
	ts.Check(err)
	if err := ts.Exec(program, args...); (err != nil) != neg {
		ts.Fatalf("macaroond: %v", err)
	}
}

// nobody VARIABLE sets a variable to a URL where nobody listens.
func nobody(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Check(l.Close())
	c, err := client.New("http://"+l.Addr().String(), client.Options{})
	ts.Check(err)
	ts.Setenv(args[0], c.URL())
}

// losing REQUEST LOST… sets MACAROON_SERVER to a way to it on which the first of
// some requests, such as 'GET /v1/links', get lost, one for each LOST: "cut" for
// no answer, or a status.
func losing(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: losing REQUEST LOST…")
	}
	to, err := url.Parse(ts.Getenv("MACAROON_SERVER"))
	ts.Check(err)
	var asked atomic.Int64
	way := httputil.NewSingleHostReverseProxy(to)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method+" "+r.URL.Path != args[0] {
			way.ServeHTTP(w, r)
			return
		}
		n := int(asked.Add(1))
		if n >= len(args) {
			way.ServeHTTP(w, r)
			return
		}
		status, err := strconv.Atoi(args[n])
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		http.Error(w, "", status)
	}))
	ts.Defer(s.Close)
	ts.Setenv("MACAROON_SERVER", s.URL)
}
