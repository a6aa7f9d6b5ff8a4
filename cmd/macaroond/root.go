package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// version is set by the release build (-ldflags "-X main.version=…").
var version string

func newRoot(p process) *cobra.Command {
	root := &cobra.Command{
		Use:   "macaroond",
		Short: "Capability token service: mint, narrow offline, verify, revoke at once",
		Long: `macaroond mints a root macaroon when a user logs in on a device. Holders
narrow it offline; services have it verified; dropping a device's root key ends
everything that was derived from it, at once.

Try it out:     macaroond serve --dev
Configuration:  macaroond config print
Exit codes:     0 done, 1 did not work, 2 wrong command or configuration`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.String("config", "", "configuration `file` (YAML)")
	f.String("data-dir", "", "`directory` of the database")
	f.Bool("dev", false, "try-out mode: loopback only, a key and a user are made in the data directory")
	f.Bool("json", false, "print JSON")
	e := &env{process: p}
	root.AddCommand(
		newServe(e), newEdge(e), newUser(e), newService(e), newDevice(e), newRevoke(e), newPolicy(e), newKeys(e),
		newBackup(e), newRestore(e), newAudit(e), newConfig(e), newDoctor(e), newVersion(e),
	)
	root.Args = cobra.ArbitraryArgs // else cobra refuses an unknown command itself, as any other error
	mistakes(root)
	return root
}

// mistakes makes wrong arguments a usage error all the way down.
func mistakes(c *cobra.Command) {
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, a []string) error {
			if err := args(c, a); err != nil {
				return usageError{fmt.Errorf("%w\nusage: %s", err, c.UseLine())}
			}
			return nil
		}
	}
	if c.HasSubCommands() && c.RunE == nil {
		c.RunE = func(c *cobra.Command, a []string) error {
			if len(a) > 0 {
				like := ""
				c.SuggestionsMinimumDistance = 2
				if near := c.SuggestionsFor(a[0]); len(near) > 0 {
					like = ": did you mean " + strings.Join(near, " or ") + "?"
				}
				return usagef("%s has no command %q (see %s --help)%s", c.CommandPath(), a[0], c.CommandPath(), like)
			}
			return c.Help()
		}
	}
	for _, sub := range c.Commands() {
		mistakes(sub)
	}
}

// env is what commands share.
type env struct{ process }

// load reads the configuration for a command.
func (e *env) load(c *cobra.Command) (*config, error) { return loadConfig(c.Flags(), e.Env) }

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
	if _, err := os.Stat(cfg.databasePath()); err != nil {
		return nil, nil, usagef("there is no database in %s: start the server once, or give --data-dir", cfg.DataDir)
	}
	return e.open(ctx, cfg)
}

// makeStore is store for a command that may come before the first serve: it
// makes the database, and says so, for --data-dir may be mistyped.
func (e *env) makeStore(c *cobra.Command, cfg *config) (storage.Store, func(), error) {
	_, missing := os.Stat(cfg.databasePath())
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, nil, usagef("there is no database in %s, and none can be made: %w", cfg.DataDir, err)
	}
	st, done, err := e.open(c.Context(), cfg)
	if err == nil && missing != nil && !flagBool(c.Flags(), "json") {
		fmt.Fprintf(e.Stderr, "macaroond: there was no database in %s: made one\n", cfg.DataDir)
	}
	return st, done, err
}

func (e *env) open(ctx context.Context, cfg *config) (storage.Store, func(), error) {
	unlock, err := lock(cfg.DataDir, syscall.LOCK_SH)
	if err != nil {
		return nil, nil, err
	}
	st, err := sqlite.Open(ctx, cfg.databasePath(), sqlite.Options{})
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return st, func() { st.Close(); unlock() }, nil
}

// service opens the authority's verbs for a command: without keys, so it
// manages users, services and devices and judges nothing.
func (e *env) service(c *cobra.Command) (*service.Service, *config, func(), error) {
	return e.serviceOn(c, e.store)
}

// makeService is service, and makes the database when there is none.
func (e *env) makeService(c *cobra.Command) (*service.Service, *config, func(), error) {
	return e.serviceOn(c, func(_ context.Context, cfg *config) (storage.Store, func(), error) { return e.makeStore(c, cfg) })
}

// keyService is service with the key-encryption keys, for commands about epochs.
func (e *env) keyService(c *cobra.Command) (*service.Service, func(), error) {
	cfg, err := e.load(c)
	if err != nil {
		return nil, nil, err
	}
	keys, _, err := cfg.sealingKeys()
	if err != nil {
		return nil, nil, err
	}
	st, done, err := e.store(c.Context(), cfg)
	if err != nil {
		return nil, nil, err
	}
	s, err := service.Open(cfg.service(st, keys, slog.New(slog.DiscardHandler)))
	if err != nil {
		done()
		return nil, nil, err
	}
	return s, done, nil
}

func (e *env) serviceOn(c *cobra.Command, store func(context.Context, *config) (storage.Store, func(), error)) (*service.Service, *config, func(), error) {
	cfg, err := e.load(c)
	if err != nil {
		return nil, nil, nil, err
	}
	st, done, err := store(c.Context(), cfg)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := service.Open(cfg.service(st, nil, slog.New(slog.DiscardHandler)))
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	return s, cfg, done, nil
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

// print writes v as JSON, or for people.
func (e *env) print(c *cobra.Command, v any, human func(w io.Writer)) error {
	if flagBool(c.Flags(), "json") {
		return writeJSON(e.Stdout, v)
	}
	human(e.Stdout)
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// secret reads a secret's one line from a file, or - for stdin. It never
// comes by argv, which every process of the machine can read. An interrupt ends
// a read that nothing else would; its goroutine ends with the process.
func (e *env) secret(ctx context.Context, path string) (string, error) {
	type read struct {
		b   []byte
		err error
	}
	done := make(chan read, 1)
	go func() {
		var r read
		if path == "-" {
			r.b, r.err = io.ReadAll(io.LimitReader(e.Stdin, 1<<16))
		} else {
			r.b, r.err = os.ReadFile(path)
		}
		done <- r
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return "", usageError{r.err}
		}
		line := strings.TrimSuffix(strings.TrimSuffix(string(r.b), "\n"), "\r")
		if strings.Contains(line, "\n") {
			if path == "-" {
				path = "stdin"
			}
			return "", usagef("%s has more than one line, and a secret is one", path)
		}
		return line, nil
	case <-ctx.Done():
		return "", errors.New("interrupted")
	}
}

// piped reports whether there is anybody to write to standard input: it is no
// terminal, and no other character device such as /dev/null.
func (e *env) piped() bool {
	f, ok := e.Stdin.(*os.File)
	if !ok {
		return e.Stdin != nil
	}
	info, err := f.Stat()
	return err != nil || info.Mode()&os.ModeCharDevice == 0
}

func newVersion(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := versionOf()
			return e.print(c, v, func(w io.Writer) {
				fmt.Fprintln(w, strings.TrimSpace(strings.Join([]string{"macaroond", v.Version, v.Go, v.Revision}, " ")))
			})
		},
	}
}

// versionOf is what the build recorded of itself: the other command says the same.
func versionOf() api.Version {
	v := api.Version{Version: cmp.Or(version, "dev"), Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if recorded := info.Main.Version; version == "" && recorded != "" && recorded != "(devel)" {
		v.Version = recorded
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}
