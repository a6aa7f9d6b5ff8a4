package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

// delayed lists what was asked for without a password or code, and cancels it.
func (a *app) delayed() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delayed",
		Short: "list what waits a day because nobody gave a password or code",
		Long: `List what some device of yours asked for without your password or a recovery code:
removing other devices, letting one in, new recovery codes, a first password. It
can be done from the time that is shown on, by asking again from that device. If
it was not you: macaroon delayed cancel ID, and revoke that device.`,
		Args: cobra.NoArgs,
	}
	var t tokenFlags
	t.register(cmd)
	cmd.RunE = a.onDevices(&t, func(ctx context.Context, c chosen, cred client.Credential, _ []string) error {
		var list []api.Delayed
		err := a.waiting(c.client.URL(), func() (err error) { list, err = c.client.Delayed(ctx, cred); return err })
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(api.DelayedActs{Delayed: list})
		}
		rows := [][]string{{"", "ID", "ACT", "OF", "ASKED BY", "FROM", "UNTIL"}}
		for _, d := range list {
			here := ""
			if d.Current {
				here = "*"
			}
			rows = append(rows, []string{here, shown(d.ID), shown(d.Act), shown(d.Target), shown(d.Device), d.DueAt.Format(time.RFC3339), d.ExpiresAt.Format(time.RFC3339)})
		}
		a.table(rows)
		return nil
	})
	cancel := &cobra.Command{
		Use: "cancel ID…", Short: "forget what waits, whichever device asked for it",
		Args: func(_ *cobra.Command, ids []string) error {
			for _, id := range ids {
				if !token.IsID(id, "act_") {
					return usagef("%s is not an id of what waits, act_ and 16 characters; macaroon delayed lists them", quoted(id))
				}
			}
			return cobra.MinimumNArgs(1)(nil, ids)
		},
	}
	var ct tokenFlags
	ct.register(cancel)
	cancel.RunE = a.onDevices(&ct, func(ctx context.Context, c chosen, cred client.Credential, ids []string) error {
		for _, id := range ids {
			if err := a.waiting(c.client.URL(), func() error { return c.client.CancelDelayed(ctx, cred, id) }); err != nil {
				return err
			}
			a.note("cancelled %s", id)
		}
		if a.json {
			return a.printJSON(map[string]any{"cancelled": ids})
		}
		return nil
	})
	cmd.AddCommand(cancel)
	return cmd
}
