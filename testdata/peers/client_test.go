package peers

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dial opens a connection of its own, on which the request can be made again
// and again; ask reads the whole answer into the buffer.
type dial func(b *testing.B, r *http.Request) (ask func(*bytes.Buffer) (*http.Response, error))

// clients are Go's own, and one that costs next to nothing and so leaves more
// of the time to the servers.
var clients = []struct {
	name string
	dial dial
}{{"net-http", goClient}, {"raw", rawClient}}

// contender asks for a tenth of a second a slice, on eight connections. An
// endpoint that finds a forged token good does not compete. cost is the
// server's processor time for a request, in microseconds, since it was last
// asked for: the client takes its share of the cores, so requests per second
// alone tell too little of the servers.
func (e endpoint) contender(b *testing.B, dial dial) (c contender, cost func() float64) {
	b.Helper()
	var body bytes.Buffer
	if resp, err := dial(b, e.ask(forge(e.token)))(&body); err != nil || e.good != nil && e.good(resp, body.Bytes()) {
		b.Fatalf("%s about a forged token: %v", e.name, err)
	}
	const length = 100 * time.Millisecond
	var connections []func() error
	for range 8 {
		ask, body := dial(b, e.ask(e.token)), new(bytes.Buffer)
		connections = append(connections, func() error {
			body.Reset()
			resp, err := ask(body)
			if err == nil && e.good != nil && !e.good(resp, body.Bytes()) {
				err = fmt.Errorf("status %s, %q", resp.Status, body)
			}
			return err
		})
	}
	total, before := int64(0), e.server.cpu(b)
	cost = func() float64 {
		used := e.server.cpu(b)
		each := float64((used - before).Microseconds()) / float64(total)
		total, before = 0, used
		return each
	}
	return contender{e.name, func(b *testing.B) float64 {
		var done atomic.Int64
		var wg sync.WaitGroup
		begin := time.Now()
		for _, ask := range connections {
			wg.Go(func() {
				for time.Since(begin) < length {
					if err := ask(); err != nil {
						b.Errorf("%s: %v", e.name, err)
						return
					}
					done.Add(1)
				}
			})
		}
		wg.Wait()
		if b.Failed() {
			b.FailNow()
		}
		total += done.Load()
		return float64(done.Load()) / time.Since(begin).Seconds()
	}}, cost
}

// goClient asks with net/http.
func goClient(b *testing.B, r *http.Request) func(*bytes.Buffer) (*http.Response, error) {
	b.Helper()
	transport := &http.Transport{MaxConnsPerHost: 1}
	b.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	return func(body *bytes.Buffer) (*http.Response, error) {
		again := r.Clone(context.Background())
		if r.GetBody != nil {
			again.Body, _ = r.GetBody()
		}
		resp, err := client.Do(again)
		if err != nil {
			return nil, err
		}
		return resp, read(resp, body)
	}
}

// rawClient writes the same bytes again and again.
func rawClient(b *testing.B, r *http.Request) func(*bytes.Buffer) (*http.Response, error) {
	b.Helper()
	conn, err := net.Dial("tcp", r.URL.Host)
	must(b, err)
	b.Cleanup(func() { conn.Close() })
	var request bytes.Buffer
	must(b, r.Write(&request))
	in := bufio.NewReader(conn)
	return func(body *bytes.Buffer) (*http.Response, error) {
		if _, err := conn.Write(request.Bytes()); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return nil, err
		}
		return resp, read(resp, body)
	}
}

func read(resp *http.Response, body *bytes.Buffer) error {
	defer resp.Body.Close()
	_, err := io.Copy(body, resp.Body)
	return err
}
