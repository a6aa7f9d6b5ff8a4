package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// app is one run of the command: what it was given, and the global flags.
type app struct {
	in  io.Reader
	out *sink
	err io.Writer
	env []string

	server    string
	plainHTTP bool
	json      bool

	began bool // a command's own work has begun: an error is no longer one of usage
}

// run is the whole command. The exit codes are those of `macaroon help
// exit-codes`. Only exec, when all went well, does not return: the process
// becomes the command.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env []string) int {
	a := &app{in: stdin, out: &sink{w: stdout}, err: stderr, env: env}
	root := a.root()
	root.SetArgs(slices.Concat([]string{}, args)) // never nil, for then cobra reads os.Args
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = a.out.failed()
	}
	return a.finish(ctx, cmd, err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "macaroon",
		Short: "hold, narrow and explain macaroond's tokens",
		Long: `macaroon holds the root token of this device and makes narrower ones from it:
for a minute, for one audience, for one path. Narrowing needs no server.

  macaroon login --server https://auth.example alice
  macaroon attenuate --for 5m --audience photos --read-only --path '/photos/**'
  macaroon attenuate --for 1m < root.token | macaroon inspect
  macaroon exec --audience photos -- ./sync-photos`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return notEmpty(cmd.Flags()) },
		SilenceErrors:     true,
		SilenceUsage:      true,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.server, "server", "", "the authority's `URL` (default $MACAROON_SERVER, then the stored one)")
	f.BoolVar(&a.plainHTTP, "plain-http", false, "permit http:// to another machine: tokens can be read on the way")
	f.BoolVar(&a.json, "json", false, "print JSON")
	root.AddGroup(
		&cobra.Group{ID: "session", Title: "Being logged in:"},
		&cobra.Group{ID: "token", Title: "Tokens:"},
	)
	for _, c := range []*cobra.Command{a.login(), a.signup(), a.recover(), a.renew(), a.logout(), a.devices(), a.delayed(), a.link(), a.passwd(), a.recoveryCodes()} {
		c.GroupID = "session"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{a.attenuate(), a.inspect(), a.verify(), a.revoke(), a.exec()} {
		c.GroupID = "token"
		root.AddCommand(c)
	}
	root.AddCommand(a.version())
	root.AddCommand(topics()...)
	return root
}

// does marks where a command's own work begins; whatever goes wrong before it
// is usage.
func (a *app) does(f func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.began = true
		return f(cmd, args)
	}
}

// getenv is the last value of a variable in the environment, or "".
func (a *app) getenv(name string) string {
	for _, kv := range slices.Backward(a.env) {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

// sink remembers that a write failed, so that a full disk is no success.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if s.err == nil {
		s.err = err
	}
	return n, err
}

func (s *sink) failed() error {
	if s.err == nil {
		return nil
	}
	return fmt.Errorf("writing the output: %w", s.err)
}
