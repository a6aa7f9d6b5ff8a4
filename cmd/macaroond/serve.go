package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/httpapi"
	"macaroond/service/keyring"
	"macaroond/storage/sqlite"
)

// shutdownGrace is how long requests in progress have at the end.
const shutdownGrace = 10 * time.Second

// gcPercent lets a verdict's garbage, a few kilobytes, gather to some forty
// megabytes on a heap of ten before it is collected: a tenth more verdicts a
// second. A password's nineteen are collected at once (service's hashing pool),
// and TestLoginMemory holds the sum. GOGC in the environment says otherwise.
const gcPercent = 400

func newServe(e *env) *cobra.Command {
	c := &cobra.Command{
		Use: "serve", Short: "Run the service", Args: cobra.NoArgs,
		Long: `Run the service until SIGTERM or SIGINT; requests in progress are finished.
SIGHUP reads the configuration again: a bad one is reported and the old one kept.`,
		RunE: func(c *cobra.Command, _ []string) error { return e.serve(c) },
	}
	c.Flags().String("listen", "", "`address` of the API: HOST:PORT or unix:PATH")
	return c
}

// authority is a running server and what a reload changes of it.
type authority struct {
	cmd    *cobra.Command
	env    *env
	begun  *config // what it was started with: some keys stay as they were until a restart
	cfg    *config // what is in force
	svc    *service.Service
	log    *slog.Logger
	level  *slog.LevelVar
	swap   httpapi.Swap
	cert   atomic.Pointer[tls.Certificate]
	counts *httpapi.Requests
}

func (e *env) serve(c *cobra.Command) (err error) {
	ctx := c.Context()
	// From here on SIGHUP is a reload: it must not end a server that is starting.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	cfg, err := e.load(c)
	if err == nil {
		err = cfg.checkServe()
	}
	if err != nil {
		return err
	}
	level := &slog.LevelVar{}
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // checked by config.check
	log := slog.New(slog.NewJSONHandler(e.Stderr, &slog.HandlerOptions{Level: level}))
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("the data directory: %w", err)
	}
	unlock, err := lock(cfg.DataDir, syscall.LOCK_SH)
	if err != nil {
		return err
	}
	defer unlock()
	if err := cfg.makeDevKey(ctx); err != nil {
		return err
	}
	keys, _, err := cfg.sealingKeys()
	if err != nil {
		return err
	}
	listener, err := listen(cfg)
	if err != nil {
		return err
	}
	defer listener.Close()
	if cfg.Issuer == "" {
		cfg.Issuer = baseURL(cfg, listener)
	}

	begin := time.Now()
	store, err := sqlite.Open(ctx, cfg.databasePath(), sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var svc *service.Service
	err = e.working("loading the revocation list", func() (err error) {
		svc, err = service.New(ctx, cfg.service(store, keys, log))
		return err
	})
	if err != nil {
		return err
	}
	log.Info("the revocation list is loaded", "entries", svc.Revocations(), "took", time.Since(begin).String())

	a := &authority{cmd: c, env: e, begun: cfg, cfg: cfg, svc: svc, log: log, level: level, counts: httpapi.NewRequests()}
	if err := a.apply(cfg); err != nil {
		return err
	}
	return a.run(ctx, listener, hup)
}

// checkServe refuses what only a server cannot work with, before anything is
// made.
func (c *config) checkServe() error {
	if path, _ := c.keyPath(); c.Key == "" && path == "" {
		return errNoKey
	}
	if c.Issuer == "" && !c.dev {
		return usagef("issuer is not configured: give this service's public URL, such as https://auth.example.com")
	}
	for _, a := range [...]struct{ key, addr string }{{"listen", c.Listen}, {"metrics_listen", c.MetricsListen}} {
		if c.dev && a.addr != "" && !strings.HasPrefix(a.addr, "unix:") && !loopback(a.addr) {
			return usagef("%s: with --dev only loopback addresses, such as 127.0.0.1:8420", a.key)
		}
	}
	return nil
}

// makeDevKey makes a key for a new database. One with an epoch was made with
// another key, and a second key would hide that the first is gone.
func (c *config) makeDevKey(ctx context.Context) error {
	path, source := c.keyPath()
	if source != "--dev" || c.Key != "" {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	begun, err := c.hasEpoch(ctx)
	if err != nil {
		return err
	}
	if begun {
		return fmt.Errorf("%s is gone, and the database beside it cannot be used without it: put it back, or begin anew in another --data-dir", path)
	}
	return writeNew(path, keyring.NewKeyText()+"\n")
}

// hasEpoch reports whether any key has sealed anything in the database: one
// that user add made before the first serve has none.
func (c *config) hasEpoch(ctx context.Context) (has bool, err error) {
	if _, err := os.Stat(c.databasePath()); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	st, err := sqlite.Open(ctx, c.databasePath(), sqlite.Options{})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	epochs, err := st.Epochs(ctx)
	return len(epochs) > 0, err
}

// writeNew makes a file that only its owner can read, and never replaces one.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func listen(cfg *config) (net.Listener, error) {
	if path, ok := strings.CutPrefix(cfg.Listen, "unix:"); ok {
		if err := removeSocket(path); err != nil {
			return nil, err
		}
		return net.Listen("unix", path)
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use: stop what listens there, or give another --listen HOST:PORT", cfg.Listen)
	}
	return l, err
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

func baseURL(cfg *config, l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "http://localhost"
	}
	scheme := "http"
	if cfg.TLSCertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + l.Addr().String()
}

// apply puts a configuration in force, as a whole or not at all.
func (a *authority) apply(cfg *config) error {
	proxies, err := prefixes(cfg.TrustedProxies)
	if err != nil {
		return err
	}
	if cfg.TLSCertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.TLSCertFile, cfg.TLSKeyFile)
		if err != nil {
			return fmt.Errorf("tls_cert_file: %w", err)
		}
		a.cert.Store(&cert)
	}
	_ = a.level.UnmarshalText([]byte(cfg.LogLevel))
	a.svc.SetSettings(cfg.settings())
	a.swap.Set(httpapi.New(httpapi.Config{
		Service: a.svc, TrustedProxies: proxies, CORSOrigins: cfg.CORSOrigins, RemoteUser: cfg.RemoteUser,
		Version: versionOf(), Log: a.log, Requests: a.counts,
	}))
	a.cfg = cfg
	return nil
}

// reload reads the configuration again.
func (a *authority) reload() {
	next, err := a.env.load(a.cmd)
	if err == nil {
		if next.Issuer == "" && next.dev {
			next.Issuer = a.cfg.Issuer
		}
		if next.Issuer == "" {
			err = errors.New("issuer is not configured")
		}
	}
	if err == nil {
		fixed := needRestart(a.begun, next)
		if err = a.apply(next); err == nil {
			a.log.Info("configuration reloaded", "needs_restart", fixed)
			return
		}
	}
	a.log.Error("the configuration is bad; the old one stays in force", "error", err)
}

func (a *authority) run(ctx context.Context, listener net.Listener, hup <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()

	// The service outlives the listener, so that the last requests still find it.
	house, stopHouse := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHouse()
	wg.Go(func() { a.svc.Run(house) })

	server := httpapi.NewServer(&a.swap, a.log)
	server.RegisterOnShutdown(a.svc.EndWaits)
	if a.cert.Load() != nil {
		server.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.cert.Load(), nil },
		}
	}
	metrics, err := a.metricsServer()
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	wg.Go(func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(listener, "", "") // speaks HTTP/2, too
			return
		}
		failed <- server.Serve(listener)
	})
	if metrics != nil {
		wg.Go(func() { failed <- metrics.serve() })
	}
	if err := a.announce(ctx, listener); err != nil {
		server.Close()
		if metrics != nil {
			metrics.Close()
		}
		return err
	}

	for {
		select {
		case <-hup:
			a.reload()
			continue
		case err = <-failed:
		case <-ctx.Done():
			err = nil
		}
		break
	}
	a.log.Info("stopping")
	end, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer done()
	if metrics != nil {
		metrics.Close()
	}
	if e := server.Shutdown(end); e != nil {
		server.Close()
		err = errors.Join(err, e)
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

type metricsServer struct {
	*http.Server
	listener net.Listener
}

func (m *metricsServer) serve() error { return m.Serve(m.listener) }

// metricsServer serves /metrics on a listener of its own; nil when it is off.
func (a *authority) metricsServer() (*metricsServer, error) {
	if a.cfg.MetricsListen == "" {
		return nil, nil
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), a.counts)
	reg.MustRegister(a.svc.Metrics().Collectors()...)
	l, err := net.Listen("tcp", a.cfg.MetricsListen)
	if err != nil {
		return nil, fmt.Errorf("metrics_listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	a.log.Info("metrics", "address", l.Addr().String())
	return &metricsServer{httpapi.NewServer(mux, a.log), l}, nil
}

// needRestart names keys that a reload cannot change.
func needRestart(old, next *config) []string {
	var keys []string
	values := map[string]string{}
	old.fields(func(key string, f reflect.StructField, v reflect.Value) {
		if f.Tag.Get("reload") == "" {
			values[key] = fmt.Sprint(v.Interface())
		}
	})
	next.fields(func(key string, _ reflect.StructField, v reflect.Value) {
		if was, fixed := values[key]; fixed && was != fmt.Sprint(v.Interface()) {
			keys = append(keys, key)
		}
	})
	if (old.TLSCertFile == "") != (next.TLSCertFile == "") {
		keys = append(keys, "tls_cert_file") // another certificate is taken at once; TLS on or off is not
	}
	return keys
}
