package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/token"
)

func newPolicy(e *env) *cobra.Command {
	c := &cobra.Command{
		Use: "policy", Short: "Caveats for tokens that are out already",
		Long: `A policy is caveats that are ANDed to those of tokens which are out already:
everybody's, a user's, or a device's. It can only refuse, and removing it gives
back what it took. It holds here and at every edge. These commands work whatever
the policies say.`,
	}

	var user, device, reason string
	var in api.PolicyIn
	var lasts time.Duration
	add := &cobra.Command{
		Use:   "add (--user U | --device D | --everyone) --caveat C… --reason R [--for 24h]",
		Short: "Put caveats on tokens that are out", Args: cobra.NoArgs,
		Example: `  macaroond policy add --everyone --caveat 'audience photos' --reason 'INC-42' --for 24h
  macaroond policy add --user alice --caveat 'client-ip 192.0.2.0/24' --reason 'stolen phone'`,
		RunE: e.onService(needs{}, func(c *cobra.Command, s *service.Service, _ []string) error {
			in.Target.User, in.Target.Device, in.Reason = user, device, reason
			if user != "" && !token.IsID(user, token.ServicePrefix) {
				u, err := findUser(c, s, user)
				if err != nil {
					return err
				}
				in.Target.User = u.ID
			}
			if lasts < 0 || lasts%time.Second != 0 || lasts == 0 && c.Flags().Changed("for") {
				return usagef("--for is whole seconds, such as 90s or 24h")
			}
			in.TTL = int64(lasts / time.Second)
			p, err := s.AddPolicy(c.Context(), in, service.ActorOperator, service.Source{})
			if err != nil && service.AsError(err).Code == api.CodeNotFound {
				return fmt.Errorf("there is no %s", targetOf(in.Target))
			}
			if err != nil {
				return err
			}
			return e.print(c, p, func(w io.Writer) {
				fmt.Fprintf(w, "added %s for %s: %s\nIt is ANDed to every token of the target; running servers know within %s, edges as soon as of a revocation.\nTo take it back: macaroond policy remove %s\n",
					p.ID, targetOf(p.Target), strings.Join(p.Caveats, ", "), knownWithin, p.ID)
			})
		}),
	}
	f := add.Flags()
	f.StringVar(&user, "user", "", "`user`, by name or id; or a service's id, for its own tokens")
	f.StringVar(&device, "device", "", "`id` of a device")
	f.BoolVar(&in.Target.Everyone, "everyone", false, "everybody's tokens, services' too")
	f.StringArrayVar(&in.Caveats, "caveat", nil, "`caveat`, such as 'audience photos'; repeatable")
	f.StringVar(&reason, "reason", "", "why, on one line: shown in lists")
	f.DurationVar(&lasts, "for", 0, "how long; until it is removed unless given")

	list := &cobra.Command{
		Use: "list", Short: "List the policies in force", Args: cobra.NoArgs,
		RunE: e.onService(needs{}, func(c *cobra.Command, s *service.Service, _ []string) error {
			all, err := s.Policies(c.Context())
			if err != nil {
				return err
			}
			return e.print(c, all, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ID\tFOR\tCAVEATS\tSINCE\tUNTIL\tREASON")
				for _, p := range all.Policies {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, targetOf(p.Target), strings.Join(p.Caveats, ", "), since(&p.CreatedAt), since(p.ExpiresAt), p.Reason)
				}
				t.Flush()
			})
		}),
	}
	remove := &cobra.Command{
		Use: "remove ID", Short: "Give back what a policy took", Args: cobra.ExactArgs(1),
		RunE: e.onService(needs{}, func(c *cobra.Command, s *service.Service, args []string) error {
			err := s.RemovePolicy(c.Context(), args[0], service.ActorOperator, service.Source{})
			if err != nil && service.AsError(err).Code == api.CodeNotFound {
				return fmt.Errorf("there is no policy %q (see macaroond policy list)", args[0])
			}
			if err != nil {
				return err
			}
			return e.print(c, map[string]string{"removed": args[0]}, func(w io.Writer) {
				fmt.Fprintf(w, "removed %s; running servers know within %s\n", args[0], knownWithin)
			})
		}),
	}
	c.AddCommand(add, list, remove)
	return c
}

func targetOf(t api.PolicyTarget) string {
	switch {
	case t.Device != "":
		return "device " + t.Device
	case t.User != "":
		return "user " + t.User
	}
	return "everyone"
}
