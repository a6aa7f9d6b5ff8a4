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
commands that talk to the server, and exec, do this by themselves once half of the
token's life is over. Tokens made from the former one live on to their own end. When the
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

// renewalDue: the token is past half of its life; or the half seems to come after
// the end, which the server told by its own clock: this machine's was fast then.
func (l login) renewalDue() bool {
	return time.Now().After(l.RenewAt.Time) || !l.RenewAt.Before(l.ExpiresAt.Time)
}

// inTime renews a stored root when that is due. That it cannot be is no matter
// while it is good itself: the command goes on with it, and warns, for some day
// it is not.
func (a *app) inTime(ctx context.Context, c *chosen) {
	if c.login == nil || !c.login.renewalDue() {
		return
	}
	brief, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := a.succeed(brief, c, login.renewalDue); err != nil && ctx.Err() == nil {
		a.note("warning: this login, good until %s, could not be renewed: %s", c.login.ExpiresAt.Format(time.RFC3339), shown(err.Error()))
	}
}

// succeed asks for the successor and keeps it, while no other run does. What
// another one has kept meanwhile, and is not due, is taken.
func (a *app) succeed(ctx context.Context, c *chosen, due func(login) bool) error {
	s, err := a.store()
	if err != nil {
		return err
	}
	url := c.client.URL()
	var l login
	err = s.change(ctx, func(in *contents) (err error) {
		var there bool
		l, there = in.Servers[url]
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
			a.compareClocks(grant, time.Now())
		}
		return nil
	})
	if err == nil { // a successor that is not kept is not to be used
		c.login = &l
	}
	return err
}

// compareClocks warns when the server's clock, which a grant shows, is not this
// machine's: tokens made here then end too early or too late. The difference is
// not stored and corrected for: a clock that is set right later would make every
// token wrong by it.
func (a *app) compareClocks(g *api.Grant, now time.Time) {
	there := g.ExpiresAt.Add(-time.Duration(g.ExpiresIn) * time.Second)
	switch ahead := now.Sub(there); {
	case ahead > time.Minute:
		a.note("warning: this machine's clock is %s ahead of the server's: tokens made here live that much longer than --for says; set it", span(ahead))
	case ahead < -time.Minute:
		a.note("warning: this machine's clock is %s behind the server's: tokens made here expire that much too early; set it", span(-ahead))
	}
}

// halfway is when a token that was just granted is to be renewed.
func halfway(g *api.Grant) api.Time {
	return api.At(time.Now().Add(time.Duration(g.ExpiresIn) * time.Second / 2))
}
