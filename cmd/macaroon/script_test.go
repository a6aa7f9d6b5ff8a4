package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

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
	const dir = "testdata/script"
	scripts, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in %s: %v", dir, err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Setenv("STORE", filepath.Join(env.WorkDir, "config", "macaroon", storeFile))
			env.Setenv("MACAROON_SERVER", "")
			env.Setenv("GORACE", "atexit_sleep_ms=10") // with -race each macaroon would end a second late
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":     exits,
			"mint":      mint,
			"keep":      keep,
			"authority": authority,
			"macaroond": macaroond,
			"member":    member,
			"nobody":    nobody,
		},
	})
}

// exits CODE PROGRAM ARG… runs a program that must end with the code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var status *exec.ExitError
	if errors.As(err, &status) {
		got = status.ExitCode()
		if ws, ok := status.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			got = 128 + int(ws.Signal())
		}
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// mint FILE LIFETIME makes a bare root of no authority in the world.
func mint(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mint FILE LIFETIME")
	}
	lifetime, err := time.ParseDuration(args[1])
	ts.Check(err)
	key := token.RootKey{1, 2, 3}
	id := token.Identifier{Epoch: 1, RootKeyID: token.NewRootKeyID()}
	who := token.Identity{User: token.NewID(token.UserPrefix), Device: token.NewID(token.DevicePrefix), Expires: time.Now().Add(lifetime)}
	t, err := token.Mint(&key, "https://auth.example", id, who)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(t.Text()+"\n"), 0o600))
}

// keep FILE URL stores the token in FILE as if URL had granted it.
func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keep FILE URL")
	}
	s := store{filepath.Dir(ts.Getenv("STORE"))}
	ts.Check(s.update(func(c *contents) {
		c.Servers[args[1]] = login{
			Token: strings.TrimSpace(ts.ReadFile(args[0])),
			User:  api.UserRef{ID: token.NewID(token.UserPrefix), Username: "alice"},
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

// member VARIABLE FILE PATH sets a variable to a member of the JSON in FILE;
// numbers in PATH (a.0.b) index arrays.
func member(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: member VARIABLE FILE PATH")
	}
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &v))
	for key := range strings.SplitSeq(args[2], ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			ts.Check(err)
			if i >= len(in) {
				ts.Fatalf("%s: no element %d", args[1], i)
			}
			v = in[i]
		}
	}
	if v == nil {
		ts.Fatalf("%s: no member %s", args[1], args[2])
	}
	ts.Setenv(args[0], fmt.Sprint(v))
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
