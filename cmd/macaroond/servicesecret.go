package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/api"
)

// newServiceSecret is how a secret is exchanged without downtime: add one, give
// it to the service, remove the former.
func newServiceSecret(e *env) *cobra.Command {
	c := &cobra.Command{Use: "secret", Short: "Exchange the secrets of a service credential"}

	add := &cobra.Command{
		Use: "add NAME|ID", Short: "Give a service another secret, which is printed once", Args: cobra.ExactArgs(1),
		Example: "  (umask 077; macaroond service secret add photos --json > new.json)",
		RunE: e.onCredential(func(c *cobra.Command, s *service.Service, svc api.Service, _ []string) error {
			made, err := s.AddServiceSecret(c.Context(), svc.ID, service.ActorOperator, service.Source{})
			if err != nil {
				return err
			}
			// The same members as service add prints, so that the output is a
			// credential file as it is.
			out := struct {
				ID        string   `json:"id"`
				Secret    string   `json:"secret"`
				SecretID  string   `json:"secret_id"`
				CreatedAt api.Time `json:"created_at"`
			}{svc.ID, made.Secret, made.ID, made.CreatedAt}
			return e.print(c, out, func(w io.Writer) {
				fmt.Fprintf(w, "added secret %s of service %q\n  id      %s\n  secret  %s\n", made.ID, svc.Name, svc.ID, made.Secret)
				fmt.Fprintln(w, "The secret is not stored and cannot be printed again. The others are good until they are removed.")
			})
		}),
	}

	list := &cobra.Command{
		Use: "list NAME|ID", Short: "List the secrets of a service by their ids", Args: cobra.ExactArgs(1),
		RunE: e.onCredential(func(c *cobra.Command, s *service.Service, svc api.Service, _ []string) error {
			out := struct {
				Secrets []api.ServiceSecret `json:"secrets"`
			}{svc.Secrets}
			return e.print(c, out, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ID\tDEVICE\tCREATED")
				for _, v := range svc.Secrets {
					fmt.Fprintf(t, "%s\t%s\t%s\n", v.ID, v.Device, v.CreatedAt.Format(time.RFC3339))
				}
				t.Flush()
			})
		}),
	}

	remove := &cobra.Command{
		Use: "remove NAME|ID SECRET_ID", Short: "End a secret, and every token that was minted with it", Args: cobra.ExactArgs(2),
		RunE: e.onCredential(func(c *cobra.Command, s *service.Service, svc api.Service, args []string) error {
			err := s.RemoveServiceSecret(c.Context(), svc.ID, args[1], service.ActorOperator, service.Source{})
			if err != nil && service.AsError(err).Code == api.CodeNotFound {
				return fmt.Errorf("service %q has no secret %q (see macaroond service secret list %s)", svc.Name, args[1], args[0])
			}
			if err != nil {
				return err
			}
			return e.print(c, map[string]string{"id": svc.ID, "secret_id": args[1]}, func(w io.Writer) { fmt.Fprintf(w, "removed %s\n", args[1]) })
		}),
	}
	c.AddCommand(add, list, remove)
	return c
}
