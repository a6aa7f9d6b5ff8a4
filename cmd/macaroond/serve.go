package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/httpapi"
	"macaroond/service/keyring"
	"macaroond/storage/sqlite"
)

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
	front
	cmd   *cobra.Command
	env   *env
	begun *config // what it was started with: some keys stay as they were until a restart
	cfg   *config // what is in force
	svc   *service.Service
	demo  string // the try-out user's password, with --dev
}

func (e *env) serve(c *cobra.Command) (err error) {
	ctx := c.Context()
	hup, end := beginServing()
	defer end()
	cfg, err := e.load(c)
	if err == nil {
		err = cfg.checkServe()
	}
	if err != nil {
		return err
	}
	front := newFront(e.Stderr, cfg.LogLevel)
	log := front.log
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
	front.warn(cfg.unsafe())
	if err := front.listen(cfg.Listen); err != nil {
		return err
	}
	defer front.listener.Close()
	if err := front.loadCertificate(cfg.TLSCertFile, cfg.TLSKeyFile); err != nil {
		return err
	}
	if cfg.Issuer == "" {
		if cfg.Issuer = front.url(); strings.HasPrefix(cfg.Issuer, "unix:") {
			cfg.Issuer = "http://localhost"
		}
	}

	shareProcessors(cfg.HashPool)
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

	a := &authority{front: front, cmd: c, env: e, begun: cfg, cfg: cfg, svc: svc}
	if err := a.apply(cfg); err != nil {
		return err
	}
	if cfg.dev { // before anybody is answered
		if a.demo, err = a.demoUser(ctx); err != nil {
			return err
		}
	}
	return a.run(ctx, hup)
}

// shareProcessors gives password hashing processors of its own, which the kernel
// shares among the cores by the millisecond. A hash takes tens of them, and Go
// lets a goroutine have its processor for ten before another gets a turn: with as
// many hashes as processors every other request would wait for that.
func shareProcessors(hashes int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + min(hashes, runtime.NumCPU()))
	}
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

// apply puts a configuration in force, as a whole or not at all.
func (a *authority) apply(cfg *config) error {
	proxies, err := prefixes(cfg.TrustedProxies)
	if err != nil {
		return err
	}
	if err := a.loadCertificate(cfg.TLSCertFile, cfg.TLSKeyFile); err != nil {
		return err
	}
	a.setLevel(cfg.LogLevel)
	a.svc.SetSettings(cfg.settings())
	a.swap.Set(httpapi.New(httpapi.Config{
		Service: a.svc, TrustedProxies: proxies, CORSOrigins: cfg.CORSOrigins, AuthzOrigin: cfg.AuthzOrigin, RemoteUser: cfg.RemoteUser,
		Version: api.Built(version), Log: a.log, Requests: a.counts,
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
			a.reloaded(fixed)
			return
		}
	}
	a.badReload(err)
}

func (a *authority) run(ctx context.Context, hup <-chan os.Signal) error {
	// The service outlives the listener, so that the last requests still find it.
	house, stopHouse := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stopHouse()
	wg.Go(func() { a.svc.Run(house) })
	return a.serve(ctx, serving{
		metricsListen: a.cfg.MetricsListen, collectors: a.svc.Metrics().Collectors(),
		hup: hup, reload: a.reload, ending: a.svc.EndWaits, announce: a.announce,
	})
}
