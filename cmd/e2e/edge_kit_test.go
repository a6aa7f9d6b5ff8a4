package e2e

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"macaroond/service/api"
)

// edge is a running macaroond edge for the audience.
type edge struct {
	*process
	url, metrics string
}

// startEdge starts a sidecar of the authority at url and waits until it is
// ready. Its credential file is what service add --json printed.
func startEdge(t *testing.T, url string, credential api.Service, env ...string) *edge {
	t.Helper()
	e := launchEdge(t, url, credential, env...)
	eventually(t, "the edge is ready", func() bool {
		res, err := http.Get(e.url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return e
}

func launchEdge(t *testing.T, url string, credential api.Service, env ...string) *edge {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credential")
	if err := os.WriteFile(file, []byte(encode(t, credential)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := start(append([]string{"MACAROOND_METRICS_LISTEN=127.0.0.1:0"}, env...), macaroond,
		"edge", "--listen", "127.0.0.1:0", "--authority", url, "--credential-file", file, "--audience", audience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		asks.CloseIdleConnections() // one that was never used is waited for
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the edge's log:\n%s", p.stderr.tail())
		}
	})
	line, err := p.firstLine()
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{process: p}
	var ok bool
	if e.url, ok = strings.CutPrefix(line, "macaroond edge listens on "); !ok {
		t.Fatalf("the first line is %q", line)
	}
	eventually(t, "the edge's log says where its metrics are", func() bool {
		_, rest, _ := strings.Cut(p.stderr.String(), `"msg":"metrics","address":"`)
		e.metrics, _, ok = strings.Cut(rest, `"`)
		return ok
	})
	return e
}

func (e *edge) addr() string { return strings.TrimPrefix(e.url, "http://") }

// asks is one client of a sidecar, as a gateway would be: its connections are
// kept.
var asks = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// ask has the sidecar judge a GET of /photos/1; from is the client's address, or
// empty for 127.0.0.1. code is empty when it was allowed.
func (e *edge) ask(t *testing.T, text, from string) (status int, code string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url+"/authz/original?audience="+audience, nil)
	if err != nil {
		t.Fatal(err)
	}
	if from == "" {
		from = "127.0.0.1"
	}
	req.Header = http.Header{
		"Authorization": {bearer(text)}, "X-Forwarded-For": {from},
		"X-Original-Method": {"GET"}, "X-Original-Uri": {"/photos/1"},
	}
	res, err := asks.Do(req)
	if err != nil {
		t.Errorf("the edge does not answer: %v", err)
		return 0, ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, reply{body: body}.problem()
}

// metric is a value that the sidecar counts, by its name with labels.
func (e *edge) metric(t *testing.T, name string) float64 {
	t.Helper()
	res, err := http.Get("http://" + e.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := bytes.Cut(body, []byte("\n"+name+" "))
	if !ok {
		return 0
	}
	text, _, _ := bytes.Cut(rest, []byte("\n"))
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// beforeSidecar is beforeAuthority with a sidecar in between, on the same
// documented configurations.
func beforeSidecar(t *testing.T, test func(*testing.T, *gateway, *authority, holder)) {
	for _, p := range products {
		t.Run(p.name+" and a sidecar", func(t *testing.T) {
			program(t, p.name)
			a := sharedAuthority(t)
			u := a.user(t)
			h := holder{u, a.login(t, u)}
			e := startEdge(t, a.url, a.credential(t))
			test(t, startGateway(t, p, e.addr()), a, h)
		})
	}
}

// ownAuthority is an authority that the test may kill. data is its directory.
func ownAuthority(t *testing.T, data string, env ...string) *authority {
	t.Helper()
	a, err := startAuthority(data, env, "--dev")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the end of the authority's log:\n%s", a.stderr.tail())
		}
	})
	return a
}

// again starts an authority anew on the data of one that has ended.
func (a *authority) again(t *testing.T) *authority {
	t.Helper()
	b := ownAuthority(t, a.dataDir)
	b.service = a.service
	b.users.Store(a.users.Load())
	return b
}

// wire is the network between a sidecar and its authority. It is our own and
// not a library's: toxiproxy, the one that everybody knows, would bring eight
// modules for these lines, and its way to fall silent accepts and drops bytes,
// where a network keeps them to be sent again.
type wire struct {
	listener net.Listener
	ends     sync.WaitGroup

	mu     sync.Mutex
	to     string        // where new connections lead
	open   chan struct{} // closed while bytes go through
	refuse bool          // connections are broken at once
	conns  map[net.Conn]bool
}

func startWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to, open: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(w.open)
	w.ends.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.ends.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.heal()
		w.sever()
		w.ends.Wait()
	})
	return w
}

func (w *wire) url() string { return "http://" + w.listener.Addr().String() }

// lead makes new connections go elsewhere.
func (w *wire) lead(to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = to
}

// stall holds every byte back, both ways: the network is gone and nobody says so.
func (w *wire) stall() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = make(chan struct{})
}

// sever breaks every connection, and those to come: the authority's machine is
// there, its program is not.
func (w *wire) sever() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = true
	for c := range w.conns {
		c.Close()
	}
}

// heal ends a stall, whose bytes then arrive, or a severing.
func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = false
	select {
	case <-w.open:
	default:
		close(w.open)
	}
}

func (w *wire) carry(from net.Conn) {
	defer from.Close()
	w.mu.Lock()
	to, open, refuse := w.to, w.open, w.refuse
	w.mu.Unlock()
	if refuse {
		return
	}
	<-open
	there, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer there.Close()
	w.mu.Lock()
	refuse = w.refuse // it may have been severed meanwhile
	w.conns[from], w.conns[there] = true, true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.conns, from)
		delete(w.conns, there)
	}()
	if refuse {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { w.copy(there, from) })
	both.Go(func() { w.copy(from, there) })
	both.Wait()
}

// copy carries bytes one way until an end is gone.
func (w *wire) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		open := w.open
		w.mu.Unlock()
		<-open
		if n > 0 {
			if _, e := to.Write(buf[:n]); e != nil {
				err = errors.Join(err, e)
			}
		}
		if err != nil {
			return
		}
	}
}
