package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// backend is the resource server behind a gateway. It reads requests off the
// wire by itself, because an HTTP library would refuse or tidy up some of what
// a gateway must not let through, and a test would not see it.
type backend struct {
	listener net.Listener
	conns    sync.WaitGroup

	mu   sync.Mutex
	got  []received
	open map[net.Conn]bool
}

// received is one request as it came.
type received struct {
	method, target string
	header         []header
	body           string
}

type header struct{ name, value string }

const maxBody = 8 << 20

// all are the values under a name.
func (r received) all(name string) (values []string) {
	for _, h := range r.header {
		if strings.EqualFold(h.name, name) {
			values = append(values, h.value)
		}
	}
	return values
}

func startBackend(t *testing.T) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{listener: l, open: map[net.Conn]bool{}}
	b.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.open[c] = true
			b.mu.Unlock()
			b.conns.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		b.mu.Lock()
		for c := range b.open {
			c.Close()
		}
		b.mu.Unlock()
		b.conns.Wait()
	})
	return b
}

func (b *backend) addr() string { return b.listener.Addr().String() }

// take returns the requests since the last call.
func (b *backend) take() []received {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.got
	b.got = nil
	return got
}

func (b *backend) serve(c net.Conn) {
	defer func() {
		c.Close()
		b.mu.Lock()
		delete(b.open, c)
		b.mu.Unlock()
	}()
	in := bufio.NewReader(c)
	for {
		c.SetDeadline(time.Now().Add(startTimeout))
		r, err := readRequest(in)
		if err != nil {
			return // the gateway closed its connection
		}
		b.mu.Lock()
		b.got = append(b.got, r)
		b.mu.Unlock()
		body := "the backend\n"
		if r.method == "HEAD" {
			body = ""
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len("the backend\n"), body); err != nil {
			return
		}
	}
}

func readRequest(in *bufio.Reader) (r received, err error) {
	lines := textproto.NewReader(in)
	first, err := lines.ReadLine()
	if err != nil {
		return r, err
	}
	method, rest, _ := strings.Cut(first, " ")
	end := max(strings.LastIndexByte(rest, ' '), 0) // a target with a space in it is to be seen whole
	r.method, r.target = method, rest[:end]
	for {
		line, err := lines.ReadLine()
		if err != nil {
			return r, err
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		r.header = append(r.header, header{name, strings.TrimSpace(value)})
	}
	// A request counts when it has come whole: a gateway that finds a body too
	// large half way has cut it off.
	if n := r.all("Content-Length"); len(n) > 0 {
		length, err := strconv.Atoi(n[0])
		if err != nil || length > maxBody {
			return r, fmt.Errorf("Content-Length %q", n[0])
		}
		data := make([]byte, length)
		_, err = io.ReadFull(in, data)
		r.body = string(data)
		return r, err
	}
	if len(r.all("Transfer-Encoding")) > 0 {
		data, err := io.ReadAll(httputil.NewChunkedReader(in))
		if err != nil {
			return r, err
		}
		r.body = string(data)
		_, err = lines.ReadLine() // after the last chunk
		return r, err
	}
	return r, nil
}

// TestBackend: what the gateway tests lean on sees all there is to see.
func TestBackend(t *testing.T) {
	b := startBackend(t)
	c, err := net.Dial("tcp", b.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(startTimeout))
	const request = "PURGE //a/%zz b HTTP/1.1\r\nX_A: 1\r\nx-a: 2\r\nX-A: 3\r\nContent-Length: 3\r\n\r\nabc" +
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("the backend\n"), 2)
	var got bytes.Buffer
	for bytes.Count(got.Bytes(), []byte("the backend\n")) < 2 {
		if _, err := io.CopyN(&got, c, 1); err != nil {
			t.Fatalf("%v after %q, want %q", err, got.String(), want)
		}
	}
	seen := b.take()
	if len(seen) != 2 || seen[0].method != "PURGE" || seen[0].target != "//a/%zz b" || seen[0].body != "abc" || seen[1].body != "de" {
		t.Fatalf("the backend saw %+v", seen)
	}
	if under := seen[0].all("X-A"); len(under) != 2 || len(seen[0].all("X_A")) != 1 {
		t.Errorf("the backend saw %+v", seen[0].header)
	}
	if len(b.take()) != 0 {
		t.Error("a request was seen twice")
	}
}
