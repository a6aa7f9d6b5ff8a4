package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/keyring"
	"macaroond/service/token"
)

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

// record keeps what a program writes, and lets a test wait for it.
type record struct {
	mu    sync.Mutex
	text  []byte
	grown chan struct{}
}

func newRecord() *record { return &record{grown: make(chan struct{})} }

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, p...)
	close(r.grown)
	r.grown = make(chan struct{})
	return len(p), nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}

// wait waits until the pattern matches, and gives its first group.
func (r *record) wait(t *testing.T, pattern string) string {
	t.Helper()
	re, late := regexp.MustCompile(pattern), time.After(patience)
	for {
		r.mu.Lock()
		m, grown := re.FindSubmatch(r.text), r.grown
		r.mu.Unlock()
		if m != nil {
			return string(m[len(m)-1])
		}
		select {
		case <-grown:
		case <-late:
			t.Fatalf("%q was not written; what was:\n%s", pattern, r)
		}
	}
}

// site is a data directory with a key and a configuration file, and servers
// started on it one after another.
type site struct {
	t        *testing.T
	dir      string // data_dir
	file     string // configuration file
	settings map[string]string
	out, log *record // standard output and error of every server and command of the site
	url      string
	client   *client.Client
	end      func() int      // ends the server and gives its exit code; nil when none runs
	cmd      *exec.Cmd       // the server's process; nil when it runs in this one
	tls      *tls.Config     // for a server with TLS
	pool     *http.Transport // of client
}

func newSite(t *testing.T, settings map[string]string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, dir: filepath.Join(dir, "data"), file: filepath.Join(dir, "macaroond.yaml"), out: newRecord(), log: newRecord()}
	key := filepath.Join(dir, "key")
	s.write(key, keyring.NewKeyText()+"\n")
	s.settings = map[string]string{"issuer": "https://auth.example", "key_file": key, "data_dir": s.dir, "listen": "127.0.0.1:0"}
	s.set(settings)
	return s
}

func (s *site) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// set changes the configuration file.
func (s *site) set(settings map[string]string) {
	s.t.Helper()
	text := ""
	for k, v := range settings {
		s.settings[k] = v
	}
	for k, v := range s.settings {
		text += k + ": '" + v + "'\n"
	}
	s.write(s.file, text)
}

// run runs a command in this process.
func (s *site) run(stdin string, args ...string) (stdout string, code int) {
	s.t.Helper()
	var out bytes.Buffer
	code = run(s.t.Context(), process{
		Args: append(args, "--config", s.file), Env: []string{},
		Stdin: strings.NewReader(stdin), Stdout: io.MultiWriter(&out, s.out), Stderr: s.log,
	})
	return out.String(), code
}

// must is run for a command that has to work, with JSON decoded into out.
func (s *site) must(out any, stdin string, args ...string) {
	s.t.Helper()
	text, code := s.run(stdin, append(args, "--json")...)
	if code != exitOK {
		s.t.Fatalf("%v: exit code %d\n%s", args, code, s.log)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(text), out); err != nil {
			s.t.Fatalf("%v: %v in %q", args, err, text)
		}
	}
}

// serve starts run in this process.
func (s *site) serve(flags ...string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	out := newRecord()
	go func() {
		code <- run(ctx, process{
			Args: append([]string{"serve", "--config", s.file}, flags...), Env: []string{},
			Stdout: io.MultiWriter(s.out, out), Stderr: s.log,
		})
	}()
	s.end = sync.OnceValue(func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(patience):
			s.t.Error("the server does not end")
			return -1
		}
	})
	s.t.Cleanup(func() { s.end() })
	s.connect(out.wait(s.t, `macaroond listens on (\S+)`))
}

// spawn starts the server as a process of its own, which may be killed.
func (s *site) spawn() {
	s.t.Helper()
	out := newRecord()
	cmd := exec.Command("macaroond", "serve", "--config", s.file)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=10"}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(s.out, out), s.log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = cmd
	s.end = sync.OnceValue(func() int {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			s.t.Error(err)
		}
		cmd.Wait()
		return cmd.ProcessState.ExitCode()
	})
	s.t.Cleanup(func() { s.end() })
	s.connect(out.wait(s.t, `macaroond listens on (\S+)`))
}

// kill ends a spawned server as a power cut would, as far as a process can tell.
func (s *site) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	if code := s.end(); code != -1 {
		s.t.Fatalf("it had ended by itself: %d", code)
	}
}

func (s *site) connect(url string) {
	s.t.Helper()
	if s.pool != nil {
		s.pool.CloseIdleConnections()
	}
	path, unix := strings.CutPrefix(url, "unix:")
	s.pool = &http.Transport{TLSClientConfig: s.tls, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if unix {
			network, addr = "unix", path
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	s.t.Cleanup(s.pool.CloseIdleConnections)
	if s.url = url; unix {
		s.url = "http://localhost"
	}
	var err error
	if s.client, err = client.New(s.url, client.Options{Transport: s.pool}); err != nil {
		s.t.Fatal(err)
	}
}

const password = "correct horse battery staple"

func (s *site) addUser(name string) (u api.User) {
	s.t.Helper()
	s.must(&u, password, "user", "add", name, "--password-file", "-")
	return u
}

func (s *site) login(name string) *api.Grant {
	s.t.Helper()
	g, err := s.client.Login(s.t.Context(), api.LoginIn{Username: name, Password: password, Device: api.DeviceIn{Name: "test"}})
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

// answer is what the server says to a root: "ok" or a code.
func (s *site) answer(root string) string {
	s.t.Helper()
	_, err := s.client.Devices(s.t.Context(), client.Bearer(root))
	return s.code(err)
}

func (s *site) code(err error) string {
	s.t.Helper()
	if err == nil {
		return api.CodeOK
	}
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		s.t.Fatal(err)
	}
	return p.Code
}

func narrow(t *testing.T, root string, holder ...string) string {
	t.Helper()
	tok, err := token.Parse(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range holder {
		if _, err := caveats.Parse(c); err != nil {
			t.Fatal(err)
		}
	}
	if tok, err = token.Attenuate(tok, holder...); err != nil {
		t.Fatal(err)
	}
	return tok.Text()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
