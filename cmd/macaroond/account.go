package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"macaroond/service"
	"macaroond/service/api"
)

func (e *env) userRole() *cobra.Command {
	return &cobra.Command{
		Use: "role NAME admin|none", Short: "Give a user a role, or take it; the last administrator's, too", Args: cobra.ExactArgs(2),
		RunE: e.onUser(func(c *cobra.Command, s *service.Service, u api.User, args []string) error {
			role := args[1]
			if role == "none" {
				role = ""
			} else if role != service.RoleAdmin {
				return usagef("the role is admin or none")
			}
			u, err := s.SetRole(c.Context(), u.ID, role, service.ActorOperator, true, service.Source{})
			if err != nil {
				return err
			}
			return e.print(c, u, func(w io.Writer) { fmt.Fprintf(w, "%s %q: role %s\n", u.ID, u.Username, args[1]) })
		}),
	}
}

func (e *env) userDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a user and everything of theirs; the audit keeps opaque ids", Args: cobra.ExactArgs(1),
		Long: `Delete a user: every token is dead at once, and nothing is left that says who it
was but for backups. The name is free again.`,
		RunE: e.onUser(func(c *cobra.Command, s *service.Service, u api.User, _ []string) error {
			if err := s.DeleteUser(c.Context(), u.ID, service.ActorOperator, service.Source{}); err != nil {
				return err
			}
			return e.print(c, u, func(w io.Writer) { fmt.Fprintf(w, "%s %q: deleted\n", u.ID, u.Username) })
		}),
	}
}

func (e *env) userRecoveryCodes() *cobra.Command {
	return &cobra.Command{
		Use: "recovery-codes NAME", Short: "Make a user new recovery codes, printed once; those before are void", Args: cobra.ExactArgs(1),
		RunE: e.onUser(func(c *cobra.Command, s *service.Service, u api.User, _ []string) error {
			out, err := s.RecoveryCodesFor(c.Context(), u.ID, service.ActorOperator, service.Source{})
			if err != nil {
				return err
			}
			return e.print(c, out, func(w io.Writer) {
				for _, code := range out.RecoveryCodes {
					fmt.Fprintln(w, code)
				}
			})
		}),
	}
}
