package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/storage"
)

func newKeys(e *env) *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "Key-encryption keys and epochs"}
	fresh := &cobra.Command{
		Use: "new", Short: "Print a new key-encryption key, for a key file of mode 0600", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			key := keyring.NewKeyText()
			return e.print(c, map[string]string{"key": key}, func(w io.Writer) { fmt.Fprintln(w, key) })
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List epochs", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, done, err := e.opened(c)
			if err != nil {
				return err
			}
			defer done()
			epochs, err := st.Epochs(c.Context())
			if err != nil {
				return err
			}
			out := []api.Epoch{}
			for _, ep := range epochs {
				out = append(out, service.EpochOut(ep))
			}
			return e.print(c, out, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "EPOCH\tSTATE\tCREATED\tLAST TOKEN EXPIRES")
				for _, r := range out {
					fmt.Fprintf(t, "%d\t%s\t%s\t%s\n", r.Number, r.State, since(&r.CreatedAt), since(r.ExpiresAt))
				}
				t.Flush()
			})
		},
	}
	rotate := &cobra.Command{
		Use: "rotate", Short: "Begin another epoch, which signs from now on; nobody is logged out", Args: cobra.NoArgs,
		RunE: e.onService(needs{keys: true}, func(c *cobra.Command, s *service.Service, _ []string) error {
			next, err := s.RotateKeys(c.Context(), service.ActorOperator, service.Source{})
			if err != nil {
				return err
			}
			return e.print(c, service.EpochOut(next), func(w io.Writer) {
				fmt.Fprintf(w, "epoch %d signs. Tokens of earlier epochs live on until they expire; running servers know within %s.\n", next.Number, knownWithin)
			})
		}),
	}
	retire := &cobra.Command{
		Use: "retire EPOCH", Short: "End an epoch at once, and every token that was minted in it", Args: cobra.ExactArgs(1),
		Long: `End an epoch at once: its secret is erased, and every token that was minted in it
is dead. Everybody whose device logged in meanwhile must log in again. When it is
the epoch that signs, another begins in the same moment. For all epochs see
revoke --all.`,
		RunE: func(c *cobra.Command, args []string) error {
			number, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil || number == 0 {
				return usagef("an epoch is a number from 1: see macaroond keys list")
			}
			s, done, err := e.service(c, needs{keys: true})
			if err != nil {
				return err
			}
			defer done()
			err = s.RetireKeys(c.Context(), uint32(number), service.ActorOperator, service.Source{})
			if errors.Is(err, storage.ErrNotFound) {
				return fmt.Errorf("there is no epoch %d: see macaroond keys list", number)
			}
			if err != nil {
				return err
			}
			return e.print(c, map[string]uint64{"retired": number}, func(w io.Writer) {
				fmt.Fprintf(w, "epoch %d is retired. Every token that was minted in it is refused now; running servers know within %s.\n", number, knownWithin)
			})
		},
	}
	reseal := &cobra.Command{
		Use: "reseal", Short: "Seal every epoch's secret under the first key of the key file", Args: cobra.NoArgs,
		Long: `Seal every epoch's secret under the first key of the key file. To replace a
key-encryption key: put the new one first in the file, restart the servers, run
this, and take the old one out of the file. Tokens stay as they are.`,
		RunE: e.onService(needs{keys: true}, func(c *cobra.Command, s *service.Service, _ []string) error {
			n, err := s.ResealKeys(c.Context(), service.ActorOperator, service.Source{})
			if err != nil {
				return err
			}
			return e.print(c, map[string]int{"resealed": n}, func(w io.Writer) {
				fmt.Fprintf(w, "%d epochs are sealed under the first key. Earlier keys can be taken out of the key file; backups made before this still need them.\n", n)
			})
		}),
	}
	c.AddCommand(fresh, list, rotate, retire, reseal)
	return c
}
