package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"macaroond/cmd/internal/terminal"
	"macaroond/service/api"
	"macaroond/service/client"
)

// proofFlags are for what a stored root alone is not enough for.
type proofFlags struct{ password, code string }

func (p *proofFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.password, "password-file", "", "read your password from `FILE` (- is standard input); without it you are asked if need be")
	f.StringVar(&p.code, "code-file", "", "read a recovery code from `FILE` (- is standard input) instead; it is spent")
	cmd.MarkFlagsMutuallyExclusive("password-file", "code-file")
}

// proving does something that may need a proof: the one that a flag names, or,
// when the server asks for one and somebody is there to be asked, one typed in.
func (a *app) proving(ctx context.Context, p proofFlags, c chosen, do func(api.Proof) error) error {
	var proof api.Proof
	var err error
	switch {
	case p.password != "":
		proof.Password, err = a.secret(ctx, p.password, "--password-file", "")
	case p.code != "":
		proof.Code, err = a.secret(ctx, p.code, "--code-file", "")
		proof.Code = strings.TrimSpace(proof.Code)
	}
	if err != nil {
		return err
	}
	try := func() error { return a.waiting(c.client.URL(), func() error { return do(proof) }) }
	err = try()
	if !needsProof(err) || proof != (api.Proof{}) {
		return err
	}
	if _, there := terminal.Of(a.in); !there {
		return err
	}
	text, asked := a.secret(ctx, "", "--password-file or --code-file", "your password, or a recovery code (nothing to wait): ")
	if asked != nil {
		return err // as it was: it waits
	}
	if proof.Password = text; looksLikeCode(text) {
		proof = api.Proof{Code: text}
	}
	return try()
}

// needsProof: the server has written it down, or refused it for want of one.
func needsProof(err error) bool {
	var later *client.DelayedError
	return errors.As(err, &later) || problemCode(err) == api.CodeProofRequired
}

// looksLikeCode knows a recovery code by its groups.
func looksLikeCode(s string) bool {
	s = strings.TrimSpace(s)
	return len(s) == 19 && s[4] == '-' && s[9] == '-' && s[14] == '-'
}

func (a *app) recoveryCodes() *cobra.Command {
	var p proofFlags
	cmd := &cobra.Command{
		Use:   "recovery-codes",
		Short: "have new recovery codes; those before are void",
		Long: `Have ten new recovery codes, printed one a line, this once; each works once, for
macaroon recover. Those that you had are void. Your password or one of the old
codes is needed, or a login from here a moment ago; without, it waits a day.`,
		Args: cobra.NoArgs,
	}
	p.register(cmd)
	cmd.RunE = a.does(func(cmd *cobra.Command, _ []string) error {
		c, cred, err := a.session(cmd.Context(), nil)
		if err != nil {
			return err
		}
		var codes []string
		err = a.proving(cmd.Context(), p, c, func(proof api.Proof) (err error) {
			codes, err = c.client.RecoveryCodes(cmd.Context(), cred, proof)
			return err
		})
		if err != nil {
			return err
		}
		a.printCodes(codes)
		return nil
	})
	return cmd
}

func (a *app) passwd() *cobra.Command {
	var p proofFlags
	var file string
	var keep bool
	cmd := &cobra.Command{
		Use:   "passwd",
		Short: "set or change your password; logs your other devices out",
		Long: `Set or change your password. The present one or a recovery code is needed; to set
a first one also a login from here a moment ago will do, or a day's wait. All
your other devices are logged out unless you keep them.`,
		Args: cobra.NoArgs,
	}
	p.register(cmd)
	cmd.Flags().StringVar(&file, "new-password-file", "", "read the new password from `FILE` (- is standard input)")
	cmd.Flags().BoolVar(&keep, "keep-devices", false, "leave the other devices logged in")
	cmd.RunE = a.does(func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		c, cred, err := a.session(cmd.Context(), nil)
		if err != nil {
			return err
		}
		in := api.ChangePasswordIn{KeepDevices: keep}
		if in.Password, err = a.newPassword(ctx, file, c.login.User.Username, c.client.URL()); err != nil {
			return err
		}
		err = a.proving(ctx, p, c, func(proof api.Proof) error {
			in.Current, in.Code = proof.Password, proof.Code
			return c.client.ChangePassword(ctx, cred, in)
		})
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(map[string]any{"changed": true, "kept_devices": keep})
		}
		a.note("the password is set")
		return nil
	})
	return cmd
}

const (
	linkPoll = time.Second     // how often both sides ask
	linkLife = 5 * time.Minute // how long the server keeps a link
)

func (a *app) link() *cobra.Command {
	var p proofFlags
	var yes bool
	cmd := &cobra.Command{
		Use:   "link",
		Short: "let another device in: show it a code, and approve it here",
		Long: `Show a code, which the other device gives within five minutes:

    macaroon login --link NAME

Then its name and address are shown here, and you are asked. Your password or a
recovery code is needed to begin, or a login from here a moment ago; without, it
waits a day.`,
		Args: cobra.NoArgs,
	}
	p.register(cmd)
	cmd.Flags().BoolVar(&yes, "approve-first", false, "approve the first device that gives the code, without asking: for scripts")
	cmd.RunE = a.does(func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		c, cred, err := a.session(cmd.Context(), nil)
		if err != nil {
			return err
		}
		if _, there := terminal.Of(a.in); !there && !yes {
			return usagef("there is no terminal to ask at: give --approve-first to approve whoever gives the code first")
		}
		var open *api.LinkCode
		err = a.proving(ctx, p, c, func(proof api.Proof) (err error) {
			open, err = c.client.OpenLink(ctx, cred, proof)
			return err
		})
		if err != nil {
			return err
		}
		a.note("on the other device: macaroon login --link --server %s %s", c.client.URL(), quoted(c.login.User.Username))
		a.note("and there, until %s, the code:", open.ExpiresAt.Local().Format(time.TimeOnly))
		a.printf("%s\n", shown(open.Code))
		who, err := a.waitForClaim(ctx, c, cred, open.ID)
		if err == nil && !yes {
			err = a.askApproval(ctx, who)
		}
		if err == nil {
			err = c.client.ApproveLink(ctx, cred, open.ID)
		}
		if err != nil {
			// Nobody is to come in by a code that is not watched any more.
			if e := c.client.CloseLink(context.WithoutCancel(ctx), cred, open.ID); e != nil && codeOf(e) == exitServer {
				err = fmt.Errorf("%w\nand the code could not be voided; it ends at %s", err, open.ExpiresAt.Local().Format(time.TimeOnly))
			}
			return err
		}
		if a.json {
			return a.printJSON(map[string]any{"approved": who.Name, "client_ip": who.ClientIP})
		}
		a.note("%s is in", quoted(who.Name))
		return nil
	})
	return cmd
}

// waitForClaim polls until somebody gave the code.
func (a *app) waitForClaim(ctx context.Context, c chosen, cred client.Credential, id string) (who api.Link, err error) {
	err = a.poll(ctx, func() (done bool, err error) {
		list, err := c.client.Links(ctx, cred)
		if err != nil {
			return false, err
		}
		if len(list) == 0 || list[0].ID != id {
			return false, errors.New("nobody gave the code in time, or it was given wrong too often; macaroon link makes another")
		}
		who = list[0]
		return who.Waiting, nil
	})
	return who, err
}

func (a *app) askApproval(ctx context.Context, who api.Link) error {
	answer, err := a.ask(ctx, fmt.Sprintf("%s, from %s, gave the code. Is that your other device? [y/N] ", quoted(who.Name), shown(who.ClientIP)), "--approve-first", true)
	if err == nil && !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
		err = errors.New("refused: the code is void")
	}
	return err
}

// linked is the new device's side.
func (a *app) linked(ctx context.Context, file string, c *client.Client, name string, device api.DeviceIn) (granting, error) {
	code, err := a.secret(ctx, file, "--code-file", "the code that macaroon link shows: ")
	if err != nil {
		return nil, err
	}
	return func() (*api.Grant, error) { return a.claimed(ctx, code, c, name, device) }, nil
}

// claimed gives the code, and waits.
func (a *app) claimed(ctx context.Context, code string, c *client.Client, name string, device api.DeviceIn) (*api.Grant, error) {
	pending, err := c.ClaimLink(ctx, api.LinkIn{Username: name, Code: strings.TrimSpace(code), Device: device})
	if err != nil {
		return nil, err
	}
	a.note("waiting for the other device to approve")
	var grant *api.Grant
	err = a.poll(ctx, func() (done bool, err error) {
		grant, err = c.TradeClaim(ctx, pending.Claim)
		return grant != nil, err
	})
	return grant, err
}

// poll asks until it is done, or refused. A question that is lost, or that the
// server cannot answer now, is asked again: a link that was given up here would
// be approved over there, and let nobody in. The server ends the link, and what
// it says of one that has ended is a refusal; linkLife is for one that is silent.
func (a *app) poll(ctx context.Context, ask func() (done bool, err error)) error {
	end := time.Now().Add(linkLife)
	lost := false
	for {
		done, err := ask()
		if done || err != nil && (ctx.Err() != nil || codeOf(err) != exitServer || time.Now().After(end)) {
			return err
		}
		wait := linkPoll
		if after, ok := client.RetryAfter(err); ok {
			wait = max(wait, min(after, time.Until(end)))
		}
		if err != nil && !lost {
			a.note("still trying: %s", shown(err.Error()))
		}
		lost = err != nil
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// pause waits, or ends with ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
