package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/token"
)

func newService(e *env) *cobra.Command {
	c := &cobra.Command{Use: "service", Short: "Manage service credentials"}

	var in api.ServiceIn
	add := &cobra.Command{
		Use: "add NAME", Short: "Add a service credential; its secret is printed once", Args: cobra.ExactArgs(1),
		Example: "  (umask 077; macaroond service add photos --serves photos --json > photos.json)",
		RunE: e.onService(needs{create: true}, func(c *cobra.Command, s *service.Service, args []string) error {
			in.Name = args[0]
			svc, err := s.AddService(c.Context(), in, service.ActorOperator, service.Source{})
			if err != nil {
				return err
			}
			return e.print(c, svc, func(w io.Writer) {
				fmt.Fprintf(w, "added service %q\n  id      %s\n  secret  %s\n", svc.Name, svc.ID, svc.Secret)
				fmt.Fprintln(w, "The secret is not stored and cannot be printed again.")
			})
		}),
	}
	f := add.Flags()
	f.StringArrayVar(&in.Serves, "serves", nil, "`audience` that it may verify and introspect for; repeatable")
	f.StringArrayVar(&in.Calls, "calls", nil, "`audience` that its own tokens may name; repeatable")
	f.StringArrayVar(&in.Actions, "allow", nil, "`action` that its own tokens may allow; repeatable")
	f.StringArrayVar(&in.Rights, "right", nil, "`right`: mint")

	list := &cobra.Command{
		Use: "list", Short: "List service credentials", Args: cobra.NoArgs,
		RunE: e.onService(needs{}, func(c *cobra.Command, s *service.Service, _ []string) error {
			all, err := s.Services(c.Context())
			if err != nil {
				return err
			}
			return e.print(c, all, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ID\tNAME\tSERVES\tCALLS\tACTIONS\tRIGHTS")
				for _, v := range all.Services {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.Name, words(v.Serves), words(v.Calls), words(v.Actions), words(v.Rights))
				}
				t.Flush()
			})
		}),
	}

	remove := &cobra.Command{
		Use: "remove NAME|ID", Short: "End a service credential", Args: cobra.ExactArgs(1),
		RunE: e.onCredential(func(c *cobra.Command, s *service.Service, svc api.Service, _ []string) error {
			if err := s.RemoveService(c.Context(), svc.ID, service.ActorOperator, service.Source{}); err != nil {
				return err
			}
			return e.print(c, map[string]string{"id": svc.ID}, func(w io.Writer) { fmt.Fprintf(w, "removed %s\n", svc.ID) })
		}),
	}
	c.AddCommand(add, list, remove, newServiceSecret(e))
	return c
}

// findService takes an id or a name.
func findService(ctx context.Context, s *service.Service, who string) (api.Service, error) {
	all, err := s.Services(ctx)
	if err != nil {
		return api.Service{}, err
	}
	for _, v := range all.Services {
		if v.ID == who || v.Name == who && !token.IsID(who, token.ServicePrefix) {
			return v, nil
		}
	}
	return api.Service{}, fmt.Errorf("there is no service %q (see macaroond service list)", who)
}

func words(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ",")
}
