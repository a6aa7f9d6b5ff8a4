package httpapi_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"macaroond/service/httpapi"
)

// exhausted has no file to give for the first connections.
type exhausted struct {
	net.Listener
	left atomic.Int32
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// A server that has too many files open says so once, and goes on when there is
// room. Its end is no such trouble.
func TestTooManyFiles(t *testing.T) {
	for times, want := range map[int32]int{0: 0, 3: 1} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		logger := slog.New(slog.NewJSONHandler(&log, nil))
		full := &exhausted{Listener: l}
		full.left.Store(times)
		s := httpapi.NewServer(http.NotFoundHandler(), logger)
		done := make(chan error, 1)
		go func() { done <- s.Serve(httpapi.Listener(full, logger)) }()
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if n := strings.Count(log.String(), `"level":"ERROR","msg":"no connection can be taken`); n != want || strings.Count(log.String(), "too many open files") != want {
			t.Errorf("after %d times the log has\n%s", times, &log)
		}
	}
}
