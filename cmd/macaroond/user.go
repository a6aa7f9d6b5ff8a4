package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"macaroond/cmd/internal/terminal"
	"macaroond/service"
	"macaroond/service/api"
)

func newUser(e *env) *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "Manage users"}

	var role, file string
	add := &cobra.Command{
		Use: "add NAME", Short: "Add a user", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			password, err := e.password(c.Context(), file)
			if err != nil {
				return err
			}
			s, done, err := e.service(c, needs{create: true})
			if err != nil {
				return err
			}
			defer done()
			u, err := s.AddUser(c.Context(), api.UserIn{Username: args[0], Password: password, Role: role}, service.ActorOperator, service.Source{})
			if err != nil {
				return err
			}
			return e.print(c, u, func(w io.Writer) { fmt.Fprintf(w, "added %s, user %q\n", u.ID, u.Username) })
		},
	}
	add.Flags().StringVar(&role, "role", "", "a `role`: admin")
	add.Flags().StringVar(&file, "password-file", "", "`file` with the password; - is stdin, and without it you are asked")

	list := &cobra.Command{
		Use: "list", Short: "List users", Args: cobra.NoArgs,
		RunE: e.onService(needs{}, func(c *cobra.Command, s *service.Service, _ []string) error {
			all := api.Users{Users: []api.User{}}
			for after := ""; ; {
				page, err := s.Users(c.Context(), after, 1000)
				if err != nil {
					return err
				}
				all.Users = append(all.Users, page.Users...)
				if after = page.Next; after == "" {
					break
				}
			}
			return e.print(c, all, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ID\tNAME\tROLE\tCREATED\tSUSPENDED")
				for _, u := range all.Users {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", u.ID, u.Username, cmp.Or(u.Role, "-"), since(&u.CreatedAt), since(u.SuspendedAt))
				}
				t.Flush()
			})
		}),
	}

	// act is a command on one existing user.
	act := func(use, short string, f func(c *cobra.Command, s *service.Service, u api.User) (string, error)) *cobra.Command {
		return &cobra.Command{
			Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1),
			RunE: e.onUser(func(c *cobra.Command, s *service.Service, u api.User, _ []string) error {
				said, err := f(c, s, u)
				if err != nil {
					return err
				}
				if u, err = s.FindUser(c.Context(), u.ID); err != nil {
					return err
				}
				return e.print(c, u, func(w io.Writer) { fmt.Fprintf(w, "%s %q: %s\n", u.ID, u.Username, said) })
			}),
		}
	}
	suspend := act("suspend", "Refuse logins and revoke every device, at once", func(c *cobra.Command, s *service.Service, u api.User) (string, error) {
		return "suspended, all devices revoked", s.SuspendUser(c.Context(), u.ID, service.ActorOperator, service.Source{})
	})
	resume := act("resume", "Allow logins again; no device comes back", func(c *cobra.Command, s *service.Service, u api.User) (string, error) {
		return "may log in again", s.ResumeUser(c.Context(), u.ID, service.ActorOperator, service.Source{})
	})
	var newFile string
	passwd := act("passwd", "Set a password and revoke every device", func(c *cobra.Command, s *service.Service, u api.User) (string, error) {
		password, err := e.password(c.Context(), newFile)
		if err != nil {
			return "", err
		}
		return "password set, all devices revoked", s.SetPassword(c.Context(), u.ID, password, service.ActorOperator, service.Source{})
	})
	passwd.Flags().StringVar(&newFile, "password-file", "", "`file` with the password; - is stdin, and without it you are asked")

	c.AddCommand(add, list, suspend, resume, passwd, e.userRole(), e.userDelete(), e.userRecoveryCodes())
	return c
}

// password is a new user's, or a user's new one: from the file, or else asked for,
// twice, for nobody sees a mistyped one.
func (e *env) password(ctx context.Context, file string) (string, error) {
	at := terminal.Asker{In: e.Stdin, Err: e.Stderr}
	if !at.Asks(file) {
		return e.secret(ctx, file)
	}
	password, err := at.Secret(ctx, "new password: ")
	if errors.Is(err, terminal.ErrNone) {
		return "", usagef("give --password-file F (a file, or - for stdin): a password on the command line could be read by every process here")
	}
	if err != nil {
		return "", err
	}
	again, err := at.Secret(ctx, "the same again: ")
	if err == nil && again != password {
		err = usagef("the two are not the same")
	}
	return password, err
}

func findUser(c *cobra.Command, s *service.Service, who string) (api.User, error) {
	u, err := s.FindUser(c.Context(), who)
	if err != nil && service.AsError(err).Code == api.CodeNotFound {
		if strings.Contains(who, ":") { // as the list shows a service's users; no name of another's has one
			return u, fmt.Errorf("a service's user is given by id, not as %q (see macaroond user list)", who)
		}
		return u, fmt.Errorf("there is no user %q (see macaroond user list)", who)
	}
	return u, err
}

// since is UTC, and says so, wherever the operator is.
func since(t *api.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format("2006-01-02 15:04Z")
}
