package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A body has at most 64 KiB, announced or not; one byte more is a 413.
func TestBodyLimit(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	good := fmt.Sprintf(`{"token":%q,"request":{}}`, alice.Token)
	padded := func(n int) string { return good + strings.Repeat(" ", n-len(good)) }
	for _, chunked := range []bool{false, true} {
		send := func(path, auth, media, body string) *reply {
			r := must(http.NewRequest("POST", "http://"+a.addr+path, strings.NewReader(body)))
			r.Header.Set("Authorization", auth)
			r.Header.Set("Content-Type", media)
			if chunked {
				r.ContentLength = -1
			}
			return a.send(r)
		}
		send("/v1/verify", bearer(alice.Token), "application/json", padded(64<<10)).want(200, "")
		send("/v1/verify", bearer(alice.Token), "application/json", padded(64<<10+1)).want(413, "body_too_large")
		send("/v1/verify", bearer(alice.Token), "application/json", padded(1<<20)).want(413, "body_too_large")
		send("/oauth2/revoke", "", "application/x-www-form-urlencoded", "token="+strings.Repeat("x", 64<<10)).wantError(413, "invalid_request")
	}
	for _, e := range a.endpoints() {
		a.do(e.ask(e.good()+strings.Repeat(" ", 64<<10))).want(413, "body_too_large")
	}
	// A large announcement is refused before a byte of it was sent.
	a.raw("POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999999999\r\n\r\n").want(413, "body_too_large")
}

// Headers have at most 16 KiB.
func TestHeaderLimit(t *testing.T) {
	a := start(t)
	request := func(size int) string {
		const head, tail = "GET /livez HTTP/1.1\r\nHost: x\r\nX-Much: ", "\r\n\r\n"
		return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	}
	for size, want := range map[int]int{16<<10 - 64: 200, 16 << 10: 200, 16<<10 + 64: 431, 64 << 10: 431, 1 << 20: 431} {
		if got := a.raw(request(size)).StatusCode; got != want {
			t.Errorf("headers of %d bytes: %d, want %d", size, got, want)
		}
	}
	if got := a.raw("GET /livez?" + strings.Repeat("x", 17<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n").StatusCode; got != 431 {
		t.Errorf("a long target: %d", got)
	}
}

// pipes is a listener in memory, for a clock that is not the machine's.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error { close(p.done); return nil }
func (p *pipes) Addr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
}

// Slow clients are cut off: one that dribbles its headers, one that dribbles
// its body, one that reads nothing, one that stays and says nothing. Time is
// synctest's: nothing here waits.
func TestSlowClients(t *testing.T) {
	for _, row := range []struct {
		name        string
		first, then string // at once, and then one byte a second
		reads       bool
		atMost      time.Duration
	}{
		{"headers", "GET / HTTP/1.1\r\nHost: x\r\nX: ", "x", true, 5 * time.Second},
		{"body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "x", true, 10 * time.Second},
		{"idle", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", true, 2 * time.Minute},
		{"reading", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", "", false, 30 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				handled := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					if r.URL.Path == "/large" {
						w.Write(make([]byte, 1<<20))
					}
				})
				l := &pipes{make(chan net.Conn), make(chan struct{})}
				s := NewServer(handled, slog.New(slog.DiscardHandler))
				go s.Serve(l)
				defer s.Close()
				client, server := net.Pipe()
				ended := make(chan time.Duration, 1)
				begin := time.Now()
				l.conns <- &watched{Conn: server, closed: func() { ended <- time.Since(begin) }}
				var dribbling sync.WaitGroup
				dribbling.Go(func() {
					io.WriteString(client, row.first)
					for row.then != "" {
						time.Sleep(time.Second)
						if _, err := io.WriteString(client, row.then); err != nil {
							return
						}
					}
				})
				if row.reads {
					go io.Copy(io.Discard, bufio.NewReader(client))
				}
				took := <-ended
				if took > row.atMost+time.Second || took < row.atMost-time.Second {
					t.Errorf("cut off after %v, want %v", took, row.atMost)
				}
				client.Close()
				dribbling.Wait()
			})
		})
	}
}

type watched struct {
	net.Conn
	once   bool
	closed func()
}

func (w *watched) Close() error {
	if !w.once {
		w.once = true
		w.closed()
	}
	return w.Conn.Close()
}
