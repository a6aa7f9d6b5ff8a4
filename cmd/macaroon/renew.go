package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

func (a *app) renew() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "replace the stored root token by its successor, which lives longer",
		Long: `Replace the stored root token by its successor: same device, later expiry. The
commands that talk to the server do this by themselves once half of the token's
life is over. Tokens made from the former one live on to their own end. When the
answer is lost, renewing again gives the same successor.`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.does(func(cmd *cobra.Command, _ []string) error {
		c, err := a.chosen()
		if err != nil {
			return err
		}
		if _, err := c.root(); err != nil {
			return err
		}
		if err := a.waiting(c.client.URL(), func() error { return a.succeed(cmd.Context(), &c, func(login) bool { return true }) }); err != nil {
			return err
		}
		if a.json {
			return a.printJSON(map[string]any{"server": c.client.URL(), "device": c.login.Device, "expires_at": c.login.ExpiresAt})
		}
		a.note("renewed at %s; this device is logged in until %s", c.client.URL(), c.login.ExpiresAt.Format(time.RFC3339))
		return nil
	})
	return cmd
}

// inTime renews a stored root that is past half of its life. That it cannot be
// is no matter while it is good itself: the command goes on with it.
func (a *app) inTime(ctx context.Context, c *chosen) {
	due := func(l login) bool { return time.Now().After(l.RenewAt.Time) }
	if c.login == nil || !due(*c.login) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = a.succeed(ctx, c, due)
}

// succeed asks for the successor and keeps it, while no other run does. What
// another one has kept meanwhile, and is not due, is taken.
func (a *app) succeed(ctx context.Context, c *chosen, due func(login) bool) error {
	s, err := a.store()
	if err != nil {
		return err
	}
	url := c.client.URL()
	return s.change(ctx, func(in *contents) error {
		l, there := in.Servers[url]
		if !there {
			return fmt.Errorf("%w at %s", errNoLogin, url)
		}
		if due(l) {
			grant, err := c.client.Renew(ctx, client.Bearer(l.Token))
			if err != nil {
				return err
			}
			if _, err := token.Parse(grant.Token); err != nil {
				return errors.New("the server's answer has no token that can be read")
			}
			l.Token, l.ExpiresAt, l.RenewAt = grant.Token, grant.ExpiresAt, halfway(grant)
			in.Servers[url] = l
		}
		c.login = &l
		return nil
	})
}

// halfway is when a token that was just granted is to be renewed.
func halfway(g *api.Grant) api.Time {
	return api.At(time.Now().Add(time.Duration(g.ExpiresIn) * time.Second / 2))
}
