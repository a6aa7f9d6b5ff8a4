package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A client that neither ends its request nor goes away is cut off when its time
// is over: the stop is no failure, and the log says what happened.
func TestStopCutsOff(t *testing.T) {
	var log bytes.Buffer
	f := newFront(&log, "info")
	f.grace = 10 * time.Millisecond
	must(t, f.listen("127.0.0.1:0"))
	reading, ended := make(chan struct{}), make(chan error, 1)
	f.swap.Set(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(reading)
		_, err := io.ReadAll(r.Body)
		ended <- err
	}))
	ctx, stop := context.WithCancel(t.Context())
	conn, err := net.Dial("tcp", f.listener.Addr().String())
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- f.serve(ctx, serving{announce: func() {}}) }()
	<-reading
	stop()
	if err := <-served; err != nil {
		t.Errorf("the stop failed: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the request was not cut off")
	}
	if n := strings.Count(log.String(), `"level":"WARN","msg":"requests in progress were cut off"`); n != 1 {
		t.Errorf("the log says so %d times:\n%s", n, &log)
	}
}
