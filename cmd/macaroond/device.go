package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"macaroond/cmd/internal/terminal"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
)

// knownWithin is how soon the running servers act on a change that a command
// made: the bound that docs/operations.md states.
const knownWithin = 250 * time.Millisecond

func newDevice(e *env) *cobra.Command {
	c := &cobra.Command{Use: "device", Short: "Manage users' devices"}
	list := &cobra.Command{
		Use: "list USER", Short: "List a user's devices", Args: cobra.ExactArgs(1),
		RunE: e.onUser(func(c *cobra.Command, s *service.Service, u api.User, _ []string) error {
			all, err := s.UserDevices(c.Context(), u.ID, "")
			if err != nil {
				return err
			}
			return e.print(c, all, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ID\tNAME\tLAST SEEN\tEXPIRES\tREVOKED")
				for _, d := range all.Devices {
					revoked := since(d.RevokedAt)
					if d.RevokedAt != nil {
						revoked += " (" + d.RevokedReason + ")"
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", d.ID, d.Name, since(&d.LastSeenAt), since(&d.ExpiresAt), revoked)
				}
				t.Flush()
			})
		}),
	}
	revoke := &cobra.Command{
		Use: "revoke USER DEVICE|all", Short: "Drop the root key of one device, or of all", Args: cobra.ExactArgs(2),
		RunE: e.onUser(e.revokeDevices),
	}
	c.AddCommand(list, revoke)
	return c
}

func (e *env) revokeDevices(c *cobra.Command, s *service.Service, u api.User, args []string) error {
	who, device := args[0], args[1]
	in := storage.RevokeDevices{UserID: u.ID, DeviceID: device, Reason: service.ReasonOperator}
	if device == "all" {
		in.DeviceID = ""
	}
	err := s.RevokeDevices(c.Context(), in, service.ActorOperator, service.Source{})
	if err != nil && service.AsError(err).Code == api.CodeNotFound {
		return fmt.Errorf("user %q has no device %q (see macaroond device list)", who, device)
	}
	if err != nil {
		return err
	}
	return e.print(c, api.RevokeOut{Grain: "device"}, func(w io.Writer) {
		fmt.Fprintf(w, "revoked: %s of %q. Everything derived from it is refused now; running servers know within %s.\n", device, who, knownWithin)
	})
}

func newRevoke(e *env) *cobra.Command {
	var file string
	var all bool
	c := &cobra.Command{
		Use: "revoke [--token-file F | --all]", Short: "Revoke a token: a root drops its device, anything else its branch",
		Long: `Revoke a token that was found somewhere, such as in a log or a chat. A root
macaroon drops its whole device; a narrowed token ends itself and what was
derived from it. To drop a device without having a token, see device revoke.
The token comes from a pipe or from --token-file.

With --all every token of everybody is dead: all epochs are retired but a new one.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if all && file != "" {
				return usagef("--all is every token: give no --token-file with it")
			}
			if all {
				return e.revokeAll(c)
			}
			if file == "" {
				if !terminal.Piped(e.Stdin) {
					return usagef("which token? pipe it in, or give --token-file F (a file, or - for stdin)")
				}
				file = "-"
			}
			text, err := e.secret(c.Context(), file)
			if err != nil {
				return err
			}
			if text == "" && file == "-" {
				return usagef("stdin is empty: the command before it printed no token")
			}
			s, done, err := e.service(c, needs{keys: true, load: true})
			if err != nil {
				return err
			}
			defer done()
			out, err := s.RevokeAsOperator(c.Context(), text)
			if err != nil {
				return err
			}
			return e.print(c, out, func(w io.Writer) { fmt.Fprintf(w, "revoked: %s\n", out.Grain) })
		},
	}
	c.Flags().StringVar(&file, "token-file", "", "`file` with the token; - is stdin")
	c.Flags().BoolVar(&all, "all", false, "end every token of everybody")
	return c
}

func (e *env) revokeAll(c *cobra.Command) error {
	s, done, err := e.service(c, needs{keys: true})
	if err != nil {
		return err
	}
	defer done()
	n, err := s.RetireAllKeys(c.Context(), service.ActorOperator, service.Source{})
	if err != nil {
		return err
	}
	return e.print(c, map[string]int{"retired_epochs": n}, func(w io.Writer) {
		fmt.Fprintf(w, "every token is revoked (%d epochs retired). Everybody must log in again; running servers know within %s.\n", n, knownWithin)
	})
}
