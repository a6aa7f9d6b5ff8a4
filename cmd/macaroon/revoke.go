package main

import (
	"context"

	"github.com/spf13/cobra"

	"macaroond/service/client"
	"macaroond/service/token"
)

func (a *app) revoke() *cobra.Command {
	var t tokenFlags
	var branch []string
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "kill a token and everything derived from it",
		Long: `Kill a token and everything derived from it, at once and for good. Its parent and
its siblings live on. Whoever has a token may do so, logged in or not.

The token comes from standard input or --token-file; the store is left alone. The
token of a device itself kills the device. Without the token, name its branch:
the holder caveats that macaroon inspect shows, in order, each as a --caveat;
the stored root proves that it is yours. That ends it under every root that this
device has had, renewed or not, and under none of another device's; an error
says so when some of them may not be known any more.`,
		Example: `  macaroon revoke < link.token
  macaroon revoke --caveat 'audience photos' --caveat 'note link for grandma kZ0v…'`,
		Args: cobra.NoArgs,
	}
	t.register(cmd)
	cmd.Flags().StringArrayVar(&branch, "caveat", nil, "a holder `CAVEAT` of the branch, in order; repeat for more")
	cmd.MarkFlagsMutuallyExclusive("caveat", "token-file")
	cmd.MarkFlagsMutuallyExclusive("caveat", "token-visible-in-ps")
	cmd.RunE = a.does(func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		if len(branch) > 0 {
			c, cred, err := a.session(ctx, nil)
			if err != nil {
				return err
			}
			const done = "revoked whatever begins with exactly these caveats: one that is mistyped revokes nothing"
			return a.revokeBy(c, done, func() (string, error) { return c.client.RevokeBranch(ctx, cred, branch) })
		}
		tok, err := a.presented(ctx, &t)
		if err != nil {
			return err
		}
		if tok == nil {
			return usagef("which token? pipe it in, or give --token-file or --caveat; macaroon logout revokes the stored one")
		}
		c, err := a.chosen()
		if err != nil {
			return err
		}
		return a.revokeToken(ctx, c, tok)
	})
	return cmd
}

// revokeToken revokes as whoever has the token, and as its owner if that is who
// is logged in: the owner is never refused for having revoked too many.
func (a *app) revokeToken(ctx context.Context, c chosen, t *token.Token) error {
	var owner client.Credential
	stored := c.login != nil && c.login.Token == t.Text()
	if user, _, ok := claims(t.UnverifiedCaveats()); ok && !stored && c.login != nil && c.login.User.ID == user {
		owner = client.Bearer(c.login.Token)
	}
	err := a.revokeBy(c, "revoked the branch: this token and everything derived from it", func() (string, error) {
		grain, err := c.client.Revoke(ctx, owner, t.Text())
		if owner != (client.Credential{}) && codeOf(err) == exitNoLogin { // no owner any more, and no need to be
			grain, err = c.client.Revoke(ctx, client.Credential{}, t.Text())
		}
		return grain, err
	})
	if codeOf(err) == exitNoLogin { // it is the token that is not taken, and not a login
		return exitStatus{exitFailed, err}
	}
	if err == nil && stored {
		return a.forget(ctx, c)
	}
	return err
}

// revokeBy revokes, and says what is done, in the words given if it is a branch.
func (a *app) revokeBy(c chosen, branch string, revoke func() (grain string, err error)) error {
	var grain string
	err := a.waiting(c.client.URL(), func() (err error) { grain, err = revoke(); return err })
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"grain": grain})
	}
	switch grain {
	case "device":
		a.note("revoked the device, and every token derived from its root")
	default:
		a.note("%s", branch)
	}
	return nil
}
