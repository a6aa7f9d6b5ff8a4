package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service/api"
	"macaroond/service/client"
)

func itoa(n int) string { return strconv.Itoa(n) }

func (a *app) verify() *cobra.Command {
	var t tokenFlags
	var req api.Request
	var why bool
	var credentialFile string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "ask the authority whether a token is good for a request, and why",
		Long: `Ask the authority to judge a token (standard input, --token-file, or the stored
root) against a request that the flags describe. What is left out is not known,
and a caveat about it refuses. Exit code 0: allowed; 1: refused.

Who asks is the stored root token, which may ask about tokens of its own user; or
a service, with the credential that macaroond service add printed.`,
		Example: `  macaroon verify --why --audience photos --method GET --path /photos/1 < t.token
  macaroon verify --credential-file photos.json --audience photos --json < t.token`,
		Args: cobra.NoArgs,
	}
	t.register(cmd)
	f := cmd.Flags()
	f.BoolVar(&why, "why", false, "print every caveat, and why it refused")
	f.StringVar(&credentialFile, "credential-file", "", "ask as a service: `FILE` holds ID:SECRET, or what macaroond service add --json printed (- is standard input)")
	f.StringVar(&req.Audience, "audience", "", "who is asked to take the token; only the authority itself does without")
	f.StringVar(&req.Method, "method", "", "the request's method")
	f.StringVar(&req.Path, "path", "", "the request's path, as it goes over the wire")
	f.StringVar(&req.URL, "url", "", "the request's URL; gives the path when --path does not")
	f.StringVar(&req.ClientIP, "client-ip", "", "the client's address")
	f.StringVar(&req.Origin, "origin", "", "the request's Origin")
	f.StringArrayVar(&req.Actions, "action", nil, "an `ACTION` that the request is about; repeat for more")
	f.StringVar(&req.BodySHA256, "body-sha256", "", "the SHA-256 of the request's body, in `HEX`")
	f.StringToStringVar(&req.Extra, "extra", nil, "a fact for a resource server's own caveats, as `NAME=VALUE`")
	f.Lookup("extra").DefValue = "" // or the help shows "[]"
	cmd.RunE = a.does(func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		if credentialFile == "-" && !t.any() {
			return usagef("standard input is the credential's: give the token by --token-file")
		}
		tok, err := a.presentedOrStored(ctx, &t)
		if err != nil {
			return err
		}
		c, cred, err := a.asker(ctx, credentialFile)
		if err != nil {
			return err
		}
		var d *api.Decision
		err = a.waiting(c.client.URL(), func() (err error) {
			d, err = c.client.Verify(ctx, cred, api.VerifyIn{Token: tok.Text(), Request: req})
			return err
		})
		if err != nil {
			return err
		}
		if a.json {
			err = a.printJSON(d)
		} else {
			a.printDecision(d, why, time.Now())
		}
		if err == nil && !d.Allowed {
			err = exitStatus{code: exitFailed}
		}
		return err
	})
	return cmd
}

// asker is who proves to the server that it may ask.
func (a *app) asker(ctx context.Context, file string) (chosen, client.Credential, error) {
	if file == "" {
		return a.session(ctx, nil)
	}
	c, err := a.chosen()
	if err != nil {
		return c, client.Credential{}, err
	}
	text, err := a.terminal().ReadFile(ctx, file)
	if err != nil {
		return c, client.Credential{}, err
	}
	cred, err := client.ParseCredential(text)
	if err != nil {
		err = usagef("%s: %w", file, err)
	}
	return c, cred, err
}

func (a *app) printDecision(d *api.Decision, why bool, now time.Time) {
	if d.Allowed {
		a.printf("allowed\n")
	} else {
		a.printf("refused  %s: %s\n", shown(d.Code), shown(d.Reason))
	}
	if !why {
		return
	}
	if d.Principal == nil {
		a.printf("\nNo caveat was looked at: nothing that such a token says can be believed.\n")
		return
	}
	rows := [][]string{
		{"user", shown(d.Principal.User) + " " + quoted(d.Principal.Username)},
		{"device", shown(d.Principal.Device)},
		{"root key", shown(d.Principal.RootKeyID)},
	}
	if d.ExpiresAt != nil {
		rows = append(rows, []string{"expires", d.ExpiresAt.Format(time.RFC3339) + ", " + until(d.ExpiresAt.Time, now)})
	}
	a.table(rows)
	a.printf("caveats\n")
	for _, c := range d.Caveats {
		held := "held"
		if !c.Held {
			held = "REFUSED"
		}
		a.printf("  %2d  %-7s  %-6s  %s\n", c.Index, held, shown(c.Source), shown(c.Text))
		if c.Reason != "" {
			a.printf("                       %s\n", shown(c.Reason))
		}
	}
}
