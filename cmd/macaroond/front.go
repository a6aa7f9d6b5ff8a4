package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"macaroond/service/httpapi"
)

// shutdownGrace is how long requests in progress have at the end.
const shutdownGrace = 10 * time.Second

// gcPercent lets a verdict's garbage, a few kilobytes, gather to some forty
// megabytes on a heap of ten before it is collected: a tenth more verdicts a
// second. A password's nineteen are collected at once (service's hashing pool),
// and TestLoginMemory holds the sum. GOGC in the environment says otherwise.
const gcPercent = 400

// beginServing takes SIGHUP, which from here on is a reload and must not end a
// server that is starting, and sets how garbage is collected.
func beginServing() (hup chan os.Signal, end func()) {
	hup = make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	return hup, func() { signal.Stop(hup) }
}

// front is a listener, what is served there, and the log: the same for the
// authority and for a sidecar.
type front struct {
	listener net.Listener
	swap     *httpapi.Swap
	cert     *atomic.Pointer[tls.Certificate] // of nil: no TLS
	log      *slog.Logger
	level    *slog.LevelVar
	counts   *httpapi.Requests
}

func newFront(stderr io.Writer, level string) front {
	f := front{swap: new(httpapi.Swap), cert: new(atomic.Pointer[tls.Certificate]), level: new(slog.LevelVar), counts: httpapi.NewRequests()}
	f.setLevel(level)
	f.log = slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: f.level}))
	return f
}

// setLevel takes a level that was checked with the configuration.
func (f *front) setLevel(level string) { _ = f.level.UnmarshalText([]byte(level)) }

// warn logs what config check would find.
func (f *front) warn(unsafe []string) {
	for _, finding := range unsafe {
		f.log.Warn("unsafe: " + finding)
	}
}

func (f *front) loadCertificate(certFile, keyFile string) error {
	if certFile == "" {
		return nil
	}
	cert, err := loadKeyPair(certFile, keyFile)
	if err != nil {
		return err
	}
	f.cert.Store(&cert)
	return nil
}

func loadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		err = usagef("tls_cert_file with tls_key_file: %w", err)
	}
	return cert, err
}

func (f *front) reloaded(needsRestart []string) {
	f.log.Info("configuration reloaded", "needs_restart", needsRestart)
}

func (f *front) badReload(err error) {
	f.log.Error("the configuration is bad; the old one stays in force", "error", err)
}

// serving is what a front needs to run.
type serving struct {
	metricsListen string // empty: none
	collectors    []prometheus.Collector
	hup           <-chan os.Signal
	reload        func() // at each hup
	announce      func() // when it serves
	ending        func() // at the end, before requests in progress are waited for; nil: nothing
}

// serve serves what is in swap until ctx ends, and finishes requests in progress.
// Those that take longer than they have are cut off: a client that is slow, or
// means to be, makes no failure of a stop.
func (f *front) serve(ctx context.Context, s serving) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	server := httpapi.NewServer(f.swap, f.log)
	if s.ending != nil {
		server.RegisterOnShutdown(s.ending)
	}
	if f.cert.Load() != nil {
		server.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.cert.Load(), nil },
		}
	}
	metrics, err := f.metricsServer(s)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	wg.Go(func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(f.listener, "", "") // speaks HTTP/2, too
			return
		}
		failed <- server.Serve(f.listener)
	})
	if metrics != nil {
		wg.Go(func() { failed <- metrics.serve() })
	}
	s.announce()

	for {
		select {
		case <-s.hup:
			s.reload()
			continue
		case err = <-failed:
		case <-ctx.Done():
		}
		break
	}
	f.log.Info("stopping")
	end, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer done()
	if metrics != nil {
		metrics.Close()
	}
	if e := server.Shutdown(end); errors.Is(e, context.DeadlineExceeded) {
		f.log.Warn("requests in progress were cut off", "after", shutdownGrace.String())
		server.Close()
	} else {
		err = errors.Join(err, e)
	}
	return err
}

type metricsServer struct {
	*http.Server
	listener net.Listener
}

func (m *metricsServer) serve() error { return m.Serve(m.listener) }

// metricsServer serves /metrics on a listener of its own; nil when it is off.
func (f *front) metricsServer(s serving) (*metricsServer, error) {
	if s.metricsListen == "" {
		return nil, nil
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), f.counts)
	reg.MustRegister(s.collectors...)
	l, err := net.Listen("tcp", s.metricsListen)
	if err != nil {
		return nil, fmt.Errorf("metrics_listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	f.log.Info("metrics", "address", l.Addr().String())
	return &metricsServer{httpapi.NewServer(mux, f.log), l}, nil
}

// listen opens HOST:PORT or unix:PATH.
func (f *front) listen(addr string) (err error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if err := removeSocket(path); err != nil {
			return err
		}
		return f.on("unix", path)
	}
	err = f.on("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use: stop what listens there, or give another --listen HOST:PORT", addr)
	}
	return err
}

func (f *front) on(network, addr string) error {
	l, err := net.Listen(network, addr)
	if err == nil {
		f.listener = httpapi.Listener(l, f.log)
	}
	return err
}

// removeSocket removes the socket of a server that was killed: never another
// file, and never one where somebody listens.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen: %s is there and is no socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("unix:%s is in use: stop what listens there, or give another --listen unix:PATH", path)
	}
	return os.Remove(path)
}

// url is where it listens, as it is announced. It is known with the certificate.
func (f *front) url() string {
	addr := f.listener.Addr()
	switch {
	case addr.Network() == "unix":
		return "unix:" + addr.String()
	case f.cert.Load() != nil:
		return "https://" + addr.String()
	}
	return "http://" + addr.String()
}

// needRestart names keys that a reload cannot change.
func needRestart(old, next any) []string {
	var keys []string
	values := map[string]string{}
	certs := [2]string{}
	fields(old, func(key string, f reflect.StructField, v reflect.Value) {
		if f.Tag.Get("reload") == "" {
			values[key] = fmt.Sprint(v.Interface())
		}
		if key == "tls_cert_file" {
			certs[0] = v.String()
		}
	})
	fields(next, func(key string, _ reflect.StructField, v reflect.Value) {
		if was, fixed := values[key]; fixed && was != fmt.Sprint(v.Interface()) {
			keys = append(keys, key)
		}
		if key == "tls_cert_file" {
			certs[1] = v.String()
		}
	})
	if (certs[0] == "") != (certs[1] == "") {
		keys = append(keys, "tls_cert_file") // another certificate is taken at once; TLS on or off is not
	}
	return keys
}
