package e2e

import (
	"bufio"
	"cmp"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The addresses that the documented configurations are written with.
const (
	documentedAuthority = "127.0.0.1:8420"
	documentedBackend   = "127.0.0.1:9000"
)

// product is a gateway and how to start it with its documented configuration.
type product struct {
	name   string
	config string // in docs/gateways
	listen string // the text in it that names the gateway's own address
	// command starts it on a configuration that lies in a directory of its own.
	// extra is what a run without root needs on top, or nil.
	command func(t *testing.T, config string) (env []string, name string, args []string)
	listens func(addr string) string // what takes the place of listen
	prepare func(dir, config string) string
	// away is its answer when the authority does not answer.
	away int
}

var products = []product{
	{
		name: "nginx", config: "nginx.conf", listen: "listen 127.0.0.1:8080;",
		listens: func(addr string) string { return "listen " + addr + ";" },
		command: func(t *testing.T, config string) ([]string, string, []string) {
			dir := filepath.Dir(config)
			globals := "daemon off; pid " + filepath.Join(dir, "pid") + "; error_log stderr warn;"
			if os.Getuid() == 0 {
				globals += " user root;" // its workers have to reach a temporary directory of root's
			}
			return nil, program(t, "nginx"), []string{"-e", "stderr", "-p", dir, "-c", config, "-g", globals}
		},
		// Its scratch files are in /var/lib/nginx unless an http block says otherwise.
		prepare: func(dir, config string) string {
			var paths strings.Builder
			for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				paths.WriteString(kind + "_temp_path " + filepath.Join(dir, kind) + ";\n")
			}
			return strings.Replace(config, "http {\n", "http {\n"+paths.String(), 1)
		},
		away: http.StatusServiceUnavailable,
	},
	{
		name: "caddy", config: "Caddyfile", listen: ":8080 {",
		listens: func(addr string) string {
			_, port, _ := net.SplitHostPort(addr)
			return ":" + port + " {"
		},
		command: func(t *testing.T, config string) ([]string, string, []string) {
			dir := filepath.Dir(config)
			env := []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
			return env, program(t, "caddy"), []string{"run", "--adapter", "caddyfile", "--config", config}
		},
		prepare: func(_, config string) string { return config },
		away:    http.StatusBadGateway,
	},
}

// gateway is a product that runs, before a backend.
type gateway struct {
	*process
	addr    string
	backend *backend
}

// startGateway starts a product on its documented configuration, with nothing
// changed but addresses (and, for nginx, where scratch files go).
func startGateway(t *testing.T, p product, authority string) *gateway {
	t.Helper()
	program(t, p.name) // says what is missing
	b := startBackend(t)
	g := startGatewayBefore(t, p, authority, b.addr())
	g.backend = b
	return g
}

// startGatewayBefore is startGateway with a backend of one's own.
func startGatewayBefore(t *testing.T, p product, authority, backend string) *gateway {
	t.Helper()
	documented, err := os.ReadFile(absolute(t, "docs/gateways", p.config))
	if err != nil {
		t.Fatal(err)
	}
	var last error
	for range 3 { // somebody else may take the free port first
		dir := t.TempDir()
		addr := freeAddr(t)
		config := string(documented)
		for _, swap := range [][2]string{
			{documentedAuthority, authority},
			{documentedBackend, backend},
			{p.listen, p.listens(addr)},
		} {
			// Once in the configuration itself, and perhaps in its first comment.
			if !strings.Contains(withoutComments(config), swap[0]) {
				t.Fatalf("%s does not say %s", p.config, swap[0])
			}
			config = strings.ReplaceAll(config, swap[0], swap[1])
		}
		file := filepath.Join(dir, p.config)
		if err := os.WriteFile(file, []byte(p.prepare(dir, config)), 0o600); err != nil {
			t.Fatal(err)
		}
		env, name, args := p.command(t, file)
		proc, err := start(env, name, args...)
		if err != nil {
			t.Fatal(err)
		}
		if last = proc.accepts(addr); last != nil {
			proc.stop()
			continue
		}
		t.Cleanup(func() {
			if err := proc.stop(); err != nil {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("what %s wrote:\n%s", p.name, proc.stderr)
			}
		})
		return &gateway{process: proc, addr: addr}
	}
	t.Fatal(last)
	return nil
}

func withoutComments(config string) string {
	var out strings.Builder
	for line := range strings.Lines(config) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// ask is one request, written to the socket as it stands here: no library has a
// say in what the target or the headers look like.
type ask struct {
	method string // GET when empty
	target string
	tokens []string // an Authorization header each
	header []header
	body   string
}

func (g *gateway) ask(t *testing.T, a ask) (reply, []received) {
	t.Helper()
	g.backend.take()
	method := cmp.Or(a.method, http.MethodGet)
	var b strings.Builder
	b.WriteString(method + " " + a.target + " HTTP/1.1\r\nHost: photos.example.com\r\n")
	for _, text := range a.tokens {
		b.WriteString("Authorization: Bearer " + text + "\r\n")
	}
	closes := "Connection: close\r\n"
	for _, h := range a.header {
		if h.name == "Connection" {
			closes = ""
		}
		b.WriteString(h.name + ": " + h.value + "\r\n")
	}
	b.WriteString(closes)
	if a.body != "" {
		b.WriteString("Content-Length: " + strconv.Itoa(len(a.body)) + "\r\n")
	}
	b.WriteString("\r\n" + a.body)

	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	wrote := make(chan error, 1)
	go func() { // a gateway may answer, and stop reading, before all is written
		_, err := io.WriteString(c, b.String())
		wrote <- err
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %q: %v", method, a.target, err)
	}
	data, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		t.Fatalf("%s %q: %v", method, a.target, err)
	}
	c.Close()
	<-wrote
	return reply{res.StatusCode, res.Header, data}, g.backend.take()
}
