package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// oneConn is a listener to which one client comes.
type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *oneConn) Close() error   { close(l.done); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// A request in progress at the end has ten seconds. One that takes longer is cut
// off, which the log says and which is no failure: any client can be slow. The
// time is synctest's: nothing here waits.
func TestShutdownGrace(t *testing.T) {
	for _, row := range []struct {
		takes, ends time.Duration
		answered    bool
	}{
		{9 * time.Second, 9 * time.Second, true},
		{11 * time.Second, 10 * time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			f := newFront(&log, "info")
			l := &oneConn{make(chan net.Conn), make(chan struct{})}
			f.listener = l
			began := make(chan struct{})
			f.swap.Set(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				close(began)
				time.Sleep(row.takes)
			}))
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- f.serve(ctx, serving{announce: func() {}}) }()
			client, server := net.Pipe()
			defer client.Close()
			l.conns <- server
			io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			<-began
			begin := time.Now()
			stop()
			resp, err := http.ReadResponse(bufio.NewReader(client), nil)
			if (err == nil) != row.answered {
				t.Errorf("%s: %v, %v", row.takes, resp, err)
			}
			err = <-ended
			// What is in progress is looked at twice a second.
			if took := time.Since(begin); took < row.ends || took > row.ends+time.Second {
				t.Errorf("%s: ended after %s", row.takes, took)
			}
			told := strings.Contains(log.String(), `"level":"WARN","msg":"requests in progress were cut off","after":"10s"`)
			if err != nil || told == row.answered {
				t.Errorf("%s: %v\n%s", row.takes, err, &log)
			}
			synctest.Wait()
			time.Sleep(row.takes) // the handler ends, too
		})
	}
}

// Where it cannot listen it says so.
func TestListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for addr, says := range map[string]string{
		taken.Addr().String():   "is in use: stop what listens there",
		"192.0.2.1:0":           "cannot assign requested address",
		"unix:" + file:          "is there and is no socket",
		"unix:" + file + "/s":   "not a directory",
		"unix:" + file + "no/s": "no such file or directory",
	} {
		if err := new(front).listen(addr); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", addr, err, says)
		}
	}
}
