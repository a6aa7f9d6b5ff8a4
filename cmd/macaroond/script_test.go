package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"macaroond/cmd/internal/script"
	"macaroond/service/api"
	"macaroond/service/client"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"macaroond": main})
}

// TestScripts runs testdata/script: the real macaroond, each in a process of
// its own.
func TestScripts(t *testing.T) {
	setup := func(env *testscript.Env) {
		env.Setenv("D", filepath.Join(env.WorkDir, "data"))
		env.Values[background{}] = &background{}
	}
	script.Run(t, setup, map[string]script.Command{
		"answers": answers,
		"asks":    asks,
		"edge":    startEdge,
		"edit":    edit,
		"login":   login,
		"server":  server,
		"halt":    halt,
	})
}

// background is the script's server, in the script's values.
type background struct{ cmd *exec.Cmd }

// server ARG… starts macaroond serve on a port of its own, with D as its data
// directory, and sets URL. Its log is the file log. It is killed when the
// script ends.
func server(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! server")
	}
	cmd, url := launch(ts, "log", "macaroond listens on ", append([]string{"serve", "--listen", "127.0.0.1:0", "--data-dir", ts.Getenv("D")}, args...))
	ts.Value(background{}).(*background).cmd = cmd
	ts.Setenv("URL", url)
}

// startEdge ARG… starts macaroond edge on a port of its own and sets EDGE. Its
// log is the file edgelog, begun anew. It is killed when the script ends.
func startEdge(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! edge")
	}
	ts.Check(os.RemoveAll(ts.MkAbs("edgelog")))
	_, url := launch(ts, "edgelog", "macaroond edge listens on ", append([]string{"edge", "--listen", "127.0.0.1:0"}, args...))
	ts.Setenv("EDGE", url)
}

// launch starts a macaroond and gives what its first line says after greeting.
func launch(ts *testscript.TestScript, logFile, greeting string, args []string) (*exec.Cmd, string) {
	cmd := exec.Command("macaroond", args...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "GORACE", "MACAROOND_ISSUER", "MACAROOND_KEY_FILE", "CREDENTIALS_DIRECTORY"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	log, err := os.OpenFile(ts.MkAbs(logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer log.Close()
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	first, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(first), greeting)
	if err != nil || !ok {
		ts.Fatalf("macaroond said %q: %v\n%s", first, err, ts.ReadFile(logFile))
	}
	return cmd, url
}

// asks STATUS PATH PATTERN asks the edge about a token that is none, as a
// gateway does, until it answers that; for ten seconds at most.
func asks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: asks STATUS PATH PATTERN")
	}
	req, err := http.NewRequest(http.MethodGet, ts.Getenv("EDGE")+args[1], nil)
	ts.Check(err)
	for _, name := range []string{"X-Original-", "X-Forwarded-"} {
		req.Header.Set(name+"Method", "GET")
		req.Header.Set(name+"Uri", "/photos/1")
	}
	req.Header.Set("Authorization", "Bearer AA")
	re, got := regexp.MustCompile(args[2]), ""
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		resp, err := http.DefaultClient.Do(req)
		ts.Check(err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if got = resp.Status + " " + string(body); strings.HasPrefix(got, args[0]) && re.MatchString(got) {
			return
		}
	}
	ts.Fatalf("the answer is %s\n%s", got, ts.ReadFile("edgelog"))
}

// halt ends the server as systemd does; it must end well.
func halt(ts *testscript.TestScript, neg bool, args []string) {
	b := ts.Value(background{}).(*background)
	if neg || len(args) > 0 || b.cmd == nil {
		ts.Fatalf("usage: halt, after server")
	}
	ts.Check(b.cmd.Process.Signal(syscall.SIGTERM))
	if err := b.cmd.Wait(); err != nil {
		ts.Fatalf("macaroond ended with %v\n%s", err, ts.ReadFile("log"))
	}
}

// login NAME PASSWORD FILE logs in and keeps the token; ! login must be refused.
func login(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: login NAME PASSWORD FILE")
	}
	c, err := client.New(ts.Getenv("URL"), client.Options{})
	ts.Check(err)
	grant, err := c.Login(context.Background(), api.LoginIn{Username: args[0], Password: args[1], Device: api.DeviceIn{Name: "script"}})
	if neg != (err != nil) {
		ts.Fatalf("login: %v", err)
	}
	if neg {
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(err.Error()+"\n"), 0o600))
		return
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(grant.Token+"\n"), 0o600))
	ts.Setenv("DEVICE", grant.Device.ID)
}

// answers CODE FILE asks with the token in FILE until the server's answer is
// CODE (ok, revoked, …), for two seconds at most.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: answers CODE FILE")
	}
	c, err := client.New(ts.Getenv("URL"), client.Options{})
	ts.Check(err)
	root := client.Bearer(strings.TrimSpace(ts.ReadFile(args[1])))
	got := ""
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		got = "ok"
		if _, err := c.Devices(context.Background(), root); err != nil {
			problem, ok := errors.AsType[*api.Problem](err)
			if !ok {
				ts.Fatalf("%v", err)
			}
			got = problem.Code
		}
		if got == args[0] {
			return
		}
	}
	ts.Fatalf("the answer is %s, want %s", got, args[0])
}

// edit STATEMENT changes the database behind everybody's back.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: edit STATEMENT")
	}
	db, err := sql.Open("sqlite", filepath.Join(ts.Getenv("D"), "macaroond.db"))
	ts.Check(err)
	defer db.Close()
	res, err := db.ExecContext(context.Background(), args[0])
	ts.Check(err)
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		ts.Fatalf("%s: changed %d rows, %v", args[0], n, err)
	}
}
