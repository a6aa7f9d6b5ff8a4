package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"macaroond/cmd/internal/terminal"
	"macaroond/service/api"
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
	root.InitDefaultHelpCmd()
	root.Args = cobra.ArbitraryArgs // else cobra refuses an unknown command itself, as any other error
	mistakes(root)
	help(root)
	return root
}

// help makes help on a command that is not there the mistake that the command
// would be.
func help(root *cobra.Command) {
	c, _, _ := root.Find([]string{"help"})
	c.Run = nil
	c.RunE = func(_ *cobra.Command, args []string) error {
		of, rest, err := root.Find(args)
		if err != nil {
			return usageError{err}
		}
		if of.HasSubCommands() {
			return of.RunE(of, rest)
		}
		return of.Help()
	}
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

// print writes v as JSON, or for people, in one piece. What cannot be written is
// an error, for it may be a secret that is kept nowhere else.
func (e *env) print(c *cobra.Command, v any, human func(w io.Writer)) error {
	var out bytes.Buffer
	if flagBool(c.Flags(), "json") {
		if err := writeJSON(&out, v); err != nil {
			return err
		}
	} else {
		human(&out)
	}
	if _, err := e.Stdout.Write(out.Bytes()); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// secret reads a secret's one line from a file, or - for stdin. It never comes by
// argv, which every process of the machine can read.
func (e *env) secret(ctx context.Context, path string) (string, error) {
	line, err := terminal.Asker{In: e.Stdin}.ReadFile(ctx, path)
	if ctx.Err() != nil {
		return "", errors.New("interrupted")
	}
	if err == nil {
		line, err = terminal.OneLine(line, path)
	}
	if err != nil {
		return "", usageError{err}
	}
	return line, nil
}

func newVersion(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := api.Built(version)
			return e.print(c, v, func(w io.Writer) { fmt.Fprintln(w, v.Of("macaroond")) })
		},
	}
}
