package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service/token"
)

// tokenVariable is where a command that exec starts finds its token. It is
// read nowhere in this program: a token comes in by flags that say so.
const tokenVariable = "MACAROON_TOKEN"

func (a *app) exec() *cobra.Command {
	var n narrowFlags
	var t tokenFlags
	cmd := &cobra.Command{
		Use:   "exec --audience AUDIENCE [flags] -- COMMAND [ARG…]",
		Short: "run a command with a narrowed token in its environment",
		Long: `Run a command with MACAROON_TOKEN in its environment: a token for one audience,
made from the stored root (or --token-file) as macaroon attenuate does it; the
stored one is renewed when that is due (macaroon renew). The command takes this
process's place, so signals reach it and its exit code is this one's. Standard
input is the command's.

The token does not outlive --for; the command may.`,
		Example: `  macaroon exec --audience photos --for 10m --read-only -- ./sync-photos
  macaroon exec --audience photos -- sh -c 'printf "Authorization: Bearer %s" "$MACAROON_TOKEN" | curl -H @- …'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no command to run: put it after --")
			}
			return nil
		},
	}
	t.register(cmd)
	n.register(cmd, time.Hour)
	cmd.Flags().SetInterspersed(false) // the command's flags are its own
	cmd.MarkFlagRequired("audience")
	cmd.RunE = a.does(func(cmd *cobra.Command, args []string) error {
		from, err := t.given(cmd.Context(), a)
		if err == nil && from == nil {
			from, err = a.renewedRoot(cmd.Context())
		}
		if err != nil {
			return err
		}
		now := time.Now()
		narrowed, err := n.narrow(from, now)
		if err != nil {
			return err
		}
		a.warnExpired(narrowed, now)
		return a.become(args, narrowed)
	})
	return cmd
}

// renewedRoot is the stored root, renewed in time: a job that only ever runs
// exec is a device that is used, and stays logged in.
func (a *app) renewedRoot(ctx context.Context) (*token.Token, error) {
	c, err := a.storedLogin()
	if err != nil {
		return nil, err
	}
	a.inTime(ctx, &c)
	return c.root()
}

// become replaces the process, which does more for signals, exit codes and job
// control than any parent that passes them on. It returns only on failure.
func (a *app) become(args []string, t *token.Token) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return exitStatus{exitExecCannot, fmt.Errorf("%s cannot be run: permission denied", args[0])}
		}
		return exitStatus{exitExecMissing, fmt.Errorf("%s: no such command", args[0])}
	}
	env := slices.DeleteFunc(slices.Clone(a.env), func(kv string) bool { return strings.HasPrefix(kv, tokenVariable+"=") })
	err = syscall.Exec(path, args, append(env, tokenVariable+"="+t.Text()))
	return exitStatus{exitExecCannot, fmt.Errorf("%s cannot be run: %w", args[0], err)}
}
