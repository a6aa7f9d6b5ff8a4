package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/keyring"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

func newBackup(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Write a consistent copy of the database, while the server runs", Args: cobra.ExactArgs(1),
		Long: `Write a consistent copy of the database to a new file, while the server runs.
The copy holds no key-encryption key: keep a copy of the key file somewhere else.`,
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] == "-" { // elsewhere it is standard input
				return usagef("a backup is a file: give its name")
			}
			st, done, err := e.opened(c)
			if err != nil {
				return err
			}
			defer done()
			err = e.working("writing the backup", func() error { return st.Backup(c.Context(), args[0]) })
			if err != nil {
				return err
			}
			ev := storage.Event{Time: time.Now(), Type: service.EventBackup, Actor: service.ActorOperator}
			if err := st.AppendAudit(c.Context(), ev); err != nil { // the copy is whole, and may be wanted because of that
				fmt.Fprintf(e.Stderr, "macaroond: the backup is not in the audit: %s\n", said(err))
			}
			return e.print(c, map[string]string{"backup": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "backup written to %s\n", args[0]) })
		},
	}
}

func newRestore(e *env) *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use: "restore FILE", Short: "Put a backup in place; the server must be stopped", Args: cobra.ExactArgs(1),
		Long: `Put a backup in place of the database; the server must be stopped. What was
revoked after the backup was taken is not in it, so every token minted before is
ended and everybody logs in again. --keep-tokens keeps them: only for a backup
that you know to be newer than the last revocation. The former database is kept
beside the new one.`,
		RunE: func(c *cobra.Command, args []string) error { return e.restore(c, args[0], keep) },
	}
	c.Flags().BoolVar(&keep, "keep-tokens", false, "keep tokens alive: what was revoked after the backup comes back")
	return c
}

func (e *env) restore(c *cobra.Command, file string, keep bool) error {
	cfg, err := e.load(c)
	if err != nil {
		return err
	}
	keys, _, err := cfg.sealingKeys()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	unlock, err := lock(cfg.DataDir, syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()

	// Everything is made ready beside the database, then one rename puts it in place.
	now := time.Now()
	fresh := cfg.databasePath() + ".restoring"
	if err := removeDatabase(fresh); err != nil {
		return err
	}
	defer removeDatabase(fresh)
	if err := e.working("copying the backup", func() error { return copyNew(fresh, file) }); err != nil {
		return err
	}
	var state storage.State
	err = e.working("checking it, and beginning a new history", func() (err error) {
		state, err = newHistory(c.Context(), fresh, keys, keep, now)
		return err
	})
	if down, ok := errors.AsType[*storage.UnavailableError](err); ok && down.Err != nil { // its advice is about the data directory
		err = down.Err
	}
	if err != nil {
		return fmt.Errorf("%s cannot be restored: %w", file, err)
	}
	former := ""
	if _, err := os.Stat(cfg.databasePath()); err == nil {
		former = cfg.databasePath() + ".before-restore-" + now.UTC().Format("20060102T150405Z")
		if former, err = setAside(c.Context(), cfg.databasePath(), former); err != nil {
			return err
		}
	}
	if err := replace(cfg.databasePath(), fresh); err != nil {
		return err
	}
	out := map[string]any{"generation": state.Generation, "kept_tokens": keep, "former": former}
	return e.print(c, out, func(w io.Writer) {
		fmt.Fprintf(w, "restored; generation %s\n", state.Generation)
		if keep {
			fmt.Fprintln(w, "Tokens were kept: what was revoked after the backup was taken is good again until it expires.")
		} else {
			fmt.Fprintln(w, "Every token minted before is ended: users log in again.")
		}
		fmt.Fprintln(w, "All else is as it was in the backup: passwords, unused recovery codes, suspensions, roles, policies, service credentials and their secrets. Take back again what was taken back since.")
		if former != "" {
			fmt.Fprintf(w, "the former database is %s\n", former)
		}
	})
}

// newHistory opens the copy, checks that the keys belong to it, and begins a
// new generation.
func newHistory(ctx context.Context, path string, keys *keyring.SealingKeys, keep bool, now time.Time) (state storage.State, err error) {
	st, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return state, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := st.Check(ctx); err != nil {
		return state, err
	}
	epochs, err := st.Epochs(ctx)
	if err != nil {
		return state, err
	}
	if len(epochs) == 0 { // an empty file opens as a new database
		return state, errors.New("the file is not a backup: nothing is in it")
	}
	if err := keyring.New(keys).Load(epochs); err != nil {
		return state, err
	}
	ev := storage.Event{Time: now, Type: service.EventRestored, Actor: service.ActorOperator}
	if keep {
		ev.Detail = "tokens kept"
	}
	if state, err = st.Restored(ctx, keep, ev); err != nil || keep {
		return state, err
	}
	ev.Type, ev.Detail = service.EventEpochCreated, ""
	_, err = st.CreateEpoch(ctx, false, keys.Seal, ev)
	return state, err
}

func copyNew(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// sidecars are SQLite's log and its index, beside the database. A database that
// was closed well has none.
var sidecars = []string{"-wal", "-shm"}

func removeDatabase(path string) error {
	for _, suffix := range append([]string{""}, sidecars...) {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// setAside gives the former database a second name, or that with a number when
// there is such a file: the one of a restore in the same second. Closing it well
// first puts what is in its log into its one file, so that neither the second name
// nor a crash from here on leaves anything behind. One that cannot be opened any
// more takes its log along.
func setAside(ctx context.Context, path, name string) (former string, err error) {
	if st, err := sqlite.Open(ctx, path, sqlite.Options{}); err == nil {
		if err := st.Close(); err != nil {
			return "", err
		}
	}
	former = name
	for n := 2; ; n++ {
		if err = os.Link(path, former); !errors.Is(err, fs.ErrExist) {
			break
		}
		former = fmt.Sprintf("%s-%d", name, n)
	}
	if err != nil {
		return "", err
	}
	for _, suffix := range sidecars {
		if err := os.Rename(path+suffix, former+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return former, nil
}

// replace puts the fresh database in place with one rename: at every moment
// there is the former one or the fresh one, whole.
func replace(path, fresh string) error {
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
