package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

func (a *app) devices() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "list, rename and revoke your devices",
		Long: `List your devices; * is this one. Revoking a device kills its root token and every
token ever derived from it.`,
		Args: cobra.NoArgs,
	}
	var t tokenFlags
	t.register(cmd)
	cmd.RunE = a.onDevices(&t, func(ctx context.Context, c chosen, cred client.Credential, _ []string) error {
		var list []api.Device
		err := a.waiting(c.client.URL(), func() (err error) { list, err = c.client.Devices(ctx, cred); return err })
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(api.Devices{Devices: append([]api.Device{}, list...)})
		}
		a.listDevices(list, time.Now())
		return nil
	})
	cmd.AddCommand(a.renameDevice(), a.revokeDevices())
	return cmd
}

func (a *app) listDevices(list []api.Device, now time.Time) {
	rows := [][]string{{"", "DEVICE", "NAME", "LAST SEEN", "STATE"}}
	for _, d := range list {
		row := []string{" ", shown(d.ID), quoted(d.Name), "never", until(d.ExpiresAt.Time, now)}
		if d.Current {
			row[0] = "*"
		}
		if seen := d.LastSeenAt; !seen.IsZero() {
			row[3] = span(max(0, now.Sub(seen.Time))) + " ago"
		}
		if d.RemovalDueAt != nil {
			row[4] += "; removal due " + d.RemovalDueAt.Format(time.RFC3339) + " (macaroon delayed)"
		}
		if d.RevokedAt != nil {
			row[4] = "revoked " + span(max(0, now.Sub(d.RevokedAt.Time))) + " ago (" + shown(d.RevokedReason) + ")"
		}
		rows = append(rows, row)
	}
	a.table(rows)
}

func (a *app) renameDevice() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rename DEVICE NAME",
		Short:   "give a device another name",
		Example: "  macaroon devices rename dev_0123456789abcdef 'the old phone'",
		Args:    cobra.ExactArgs(2),
	}
	var t tokenFlags
	t.register(cmd)
	cmd.RunE = a.onDevices(&t, func(ctx context.Context, c chosen, cred client.Credential, args []string) error {
		if err := deviceIDs(args[:1]); err != nil {
			return err
		}
		var d *api.Device
		err := a.waiting(c.client.URL(), func() (err error) {
			d, err = c.client.RenameDevice(ctx, cred, args[0], args[1])
			return err
		})
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(d)
		}
		a.note("%s is now %s", shown(d.ID), quoted(d.Name))
		return nil
	})
	return cmd
}

func (a *app) revokeDevices() *cobra.Command {
	var others, all bool
	cmd := &cobra.Command{
		Use:   "revoke {DEVICE… | --others | --all}",
		Short: "revoke devices, this one too if you say so",
	}
	var t tokenFlags
	t.register(cmd)
	var p proofFlags
	p.register(cmd)
	cmd.Flags().BoolVar(&others, "others", false, "all devices but this one")
	cmd.Flags().BoolVar(&all, "all", false, "all devices, this one too: you are logged out everywhere")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		ways := 0
		for _, way := range []bool{len(args) > 0, others, all} {
			if way {
				ways++
			}
		}
		if ways != 1 {
			return usagef("which ones? give device ids, or --others, or --all")
		}
		return deviceIDs(args)
	}
	cmd.RunE = a.onDevices(&t, func(ctx context.Context, c chosen, cred client.Credential, args []string) error {
		// A stored login that is among the revoked is of no more use.
		lost := false
		done := []string{}
		// The one that asks comes last: it can end no other afterwards.
		if i := slices.Index(args, c.device); i >= 0 {
			args = append(slices.Delete(args, i, i+1), c.device)
		}
		err := a.proving(ctx, p, c, func(proof api.Proof) error {
			switch {
			case all:
				err := c.client.RevokeAllDevices(ctx, cred, proof)
				lost = err == nil && !t.any()
				return err
			case others:
				return c.client.RevokeOtherDevices(ctx, cred, proof)
			}
			for _, id := range args[len(done):] {
				if err := c.client.RevokeDevice(ctx, cred, id, proof); err != nil {
					return err
				}
				done = append(done, id)
				lost = lost || c.login != nil && c.login.Device.ID == id
			}
			return nil
		})
		for _, id := range done {
			a.note("revoked %s", id)
		}
		if lost {
			if e := a.forget(ctx, c); err == nil {
				err = e
			}
		}
		if err != nil {
			return err
		}
		switch {
		case a.json:
			return a.printJSON(map[string]any{"revoked": done, "others": others, "all": all})
		case all:
			a.note("revoked all devices; you are logged out everywhere")
		case others:
			a.note("revoked all devices but this one")
		}
		return nil
	})
	return cmd
}

// onDevices runs f with the credential for the devices' endpoints. What is
// piped in is left alone: a loop over ids would lose them.
func (a *app) onDevices(t *tokenFlags, f func(context.Context, chosen, client.Credential, []string) error) func(*cobra.Command, []string) error {
	return a.does(func(cmd *cobra.Command, args []string) error {
		given, err := t.given(cmd.Context(), a)
		if err != nil {
			return err
		}
		c, cred, err := a.session(cmd.Context(), given)
		if err != nil {
			return err
		}
		return f(cmd.Context(), c, cred, args)
	})
}

func deviceIDs(ids []string) error {
	for _, id := range ids {
		if !token.IsID(id, token.DevicePrefix) {
			return usagef("%s is not the id of a device, dev_ and 16 characters; macaroon devices lists them", quoted(id))
		}
	}
	return nil
}
