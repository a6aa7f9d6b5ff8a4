package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// opened is the database of a command that needs nothing else.
func (e *env) opened(c *cobra.Command) (storage.Store, func(), error) {
	cfg, err := e.load(c)
	if err != nil {
		return nil, nil, err
	}
	return e.store(c.Context(), cfg)
}

// store opens the database of a command, under a shared lock so that nobody
// restores a backup meanwhile.
func (e *env) store(ctx context.Context, cfg *config) (storage.Store, func(), error) {
	switch _, err := os.Stat(cfg.databasePath()); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, usagef("there is no database in %s: start the server once, or give --data-dir", cfg.DataDir)
	case err != nil:
		return nil, nil, fmt.Errorf("the data directory cannot be used: %w", err)
	}
	return e.open(ctx, cfg)
}

// makeStore is store for a command that may come before the first serve: it
// makes the database, and says so, for --data-dir may be mistyped.
func (e *env) makeStore(c *cobra.Command, cfg *config) (storage.Store, func(), error) {
	_, err := os.Stat(cfg.databasePath())
	missing := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, nil, usagef("there is no database in %s, and none can be made: %w", cfg.DataDir, err)
	}
	st, done, err := e.open(c.Context(), cfg)
	if err == nil && missing && !flagBool(c.Flags(), "json") {
		fmt.Fprintf(e.Stderr, "macaroond: there was no database in %s: made one\n", cfg.DataDir)
	}
	return st, done, err
}

func (e *env) open(ctx context.Context, cfg *config) (storage.Store, func(), error) {
	unlock, err := lock(cfg.DataDir, syscall.LOCK_SH)
	if err != nil {
		return nil, nil, err
	}
	// Many commands only read, and are needed above all when nothing can be written.
	st, err := sqlite.Open(ctx, cfg.databasePath(), sqlite.Options{AllowReadOnly: true})
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return st, func() { st.Close(); unlock() }, nil
}

// needs is what a command needs of the service beyond a database that is there.
type needs struct {
	create bool // the database is made when there is none
	keys   bool // the key-encryption keys: the command is about epochs
	load   bool // the epochs and the list of revocations: it judges a token
}

// service opens the authority's verbs for a command: without keys it manages
// users, services and devices and judges nothing.
func (e *env) service(c *cobra.Command, n needs) (s *service.Service, done func(), err error) {
	cfg, err := e.load(c)
	if err != nil {
		return nil, nil, err
	}
	var keys *keyring.SealingKeys
	if n.keys {
		if keys, _, err = cfg.sealingKeys(); err != nil {
			return nil, nil, err
		}
	}
	var st storage.Store
	if n.create {
		st, done, err = e.makeStore(c, cfg)
	} else {
		st, done, err = e.store(c.Context(), cfg)
	}
	if err != nil {
		return nil, nil, err
	}
	with := cfg.service(st, keys, slog.New(slog.DiscardHandler))
	if n.load {
		err = e.working("reading the revocation list", func() (err error) {
			s, err = service.New(c.Context(), with)
			return err
		})
	} else {
		s, err = service.Open(with)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return s, done, nil
}

// onService is a command on the service.
func (e *env) onService(n needs, f func(c *cobra.Command, s *service.Service, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		s, done, err := e.service(c, n)
		if err != nil {
			return err
		}
		defer done()
		return f(c, s, args)
	}
}

// onUser is a command on the user whom the first argument names.
func (e *env) onUser(f func(c *cobra.Command, s *service.Service, u api.User, args []string) error) func(*cobra.Command, []string) error {
	return e.onService(needs{}, func(c *cobra.Command, s *service.Service, args []string) error {
		u, err := findUser(c, s, args[0])
		if err != nil {
			return err
		}
		return f(c, s, u, args)
	})
}

// onCredential is a command on the service credential that the first argument
// names.
func (e *env) onCredential(f func(c *cobra.Command, s *service.Service, svc api.Service, args []string) error) func(*cobra.Command, []string) error {
	return e.onService(needs{}, func(c *cobra.Command, s *service.Service, args []string) error {
		svc, err := findService(c.Context(), s, args[0])
		if err != nil {
			return err
		}
		return f(c, s, svc, args)
	})
}

// service is the service's part of the configuration.
func (c *config) service(st storage.Store, keys *keyring.SealingKeys, log *slog.Logger) service.Config {
	return service.Config{
		Store: st, Keys: keys, Now: time.Now, Log: log, Limits: service.DefaultLimits,
		Settings: c.settings(),
		Hashing: service.Hashing{
			MemoryKiB: uint32(c.HashMemory), Time: uint32(c.HashTime), Threads: uint8(c.HashThreads),
			Pool: c.HashPool, Queue: c.HashQueue,
		},
	}
}

func (c *config) settings() service.Settings {
	gateway := c.AuthzAudience
	if gateway == "" {
		gateway = c.Audience
	}
	return service.Settings{
		Issuer: c.Issuer, Audience: c.Audience, GatewayAudience: gateway, Signup: c.Signup,
		RootTTL: c.RootTTL, RenewGrace: c.RenewGrace, SessionMax: c.SessionMax, AccessTTL: c.AccessTTL, MaxStaleness: c.MaxStaleness, OnceMaxTTL: c.OnceMaxTTL, MaxPrefixTTL: c.MaxPrefixTTL,
		Browser:    c.BrowserAud,
		MaxDevices: c.MaxDevices, FreshLogin: c.FreshLogin, AuditRetention: c.AuditRetention, RotateEvery: c.RotateEvery,
		FormatEnds: c.formatEnds,
	}
}

// lock takes the data directory's lock: shared to use the database, exclusive
// to replace it.
func lock(dir string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data directory cannot be used: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data directory %s is in use: stop macaroond and its commands, or wait until a restore has ended", dir)
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}
