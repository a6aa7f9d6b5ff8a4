package main

import (
	"errors"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

// narrowFlags are what attenuate and exec take to say what is left of a token.
type narrowFlags struct {
	client.Narrowing
	readOnly  bool
	clientIPs []string
}

func (n *narrowFlags) register(cmd *cobra.Command, lifetime time.Duration) {
	f := cmd.Flags()
	f.DurationVar(&n.For, "for", lifetime, "valid for so long, such as 90s, 5m or 168h")
	f.StringVar(&n.Audience, "audience", "", "good at this one `AUDIENCE`")
	f.StringSliceVar(&n.Methods, "method", nil, "good for this HTTP `METHOD`; repeat for more")
	f.BoolVar(&n.readOnly, "read-only", false, "good for GET and HEAD")
	f.StringArrayVar(&n.Paths, "path", nil, "good for paths that match this `PATTERN`, such as '/photos/**'; repeat for more")
	f.StringArrayVar(&n.Actions, "allow", nil, "good for this `ACTION`, such as photos:read or 'photos:*'; repeat for more")
	f.StringSliceVar(&n.clientIPs, "client-ip", nil, "good from this `ADDRESS` or network; repeat for more")
	f.StringSliceVar(&n.Origins, "origin", nil, "good for pages of this `ORIGIN`, such as https://app.example; repeat for more")
	f.StringArrayVar(&n.Extra, "caveat", nil, "add this `CAVEAT` as it is, such as 'x-tenant 7'; repeat for more")
	f.StringVar(&n.Note, "note", "", "a `TEXT` that everybody who has the token can read")
	f.BoolVar(&n.ForSelf, "for-self", false, "add no random note: the token stays here, and need not be revocable on its own")
	cmd.MarkFlagsMutuallyExclusive("method", "read-only")
}

// narrow appends to t what the flags say.
func (n *narrowFlags) narrow(t *token.Token, now time.Time) (*token.Token, error) {
	asked := n.Narrowing
	if n.readOnly {
		asked.Methods = []string{"GET", "HEAD"}
	}
	for _, s := range n.clientIPs {
		p, err := network(s)
		if err != nil {
			return nil, err
		}
		asked.ClientIPs = append(asked.ClientIPs, p)
	}
	narrowed, err := client.Narrow(t, asked, now)
	if err != nil && !errors.Is(err, token.ErrTooLarge) {
		return nil, usageError{err} // an argument that makes no caveat
	}
	return narrowed, err
}

// network reads a network, or an address as the network of itself.
func network(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil && !p.Addr().Is4In6() {
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, usagef("--client-ip wants an address or a network, such as 192.0.2.7 or 2001:db8::/32")
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// narrowing are the flags that make attenuate worth calling; any one will do.
var narrowing = []string{"for", "audience", "method", "read-only", "path", "allow", "client-ip", "origin", "caveat", "note"}

func (a *app) attenuate() *cobra.Command {
	var n narrowFlags
	var t tokenFlags
	cmd := &cobra.Command{
		Use:   "attenuate",
		Short: "make a narrower token, offline",
		Long: `Print a narrower token, made from the one on standard input, in --token-file, or
in the store. No server is asked, so nothing is renewed. Each restriction is added
to those that the token has: nothing can be taken back.

Unless you say --for-self, a random note is added, so that this token and what is
derived from it can be revoked without any other (macaroon revoke).`,
		Example: `  macaroon attenuate --for 5m --audience photos --read-only --path '/photos/**'
  macaroon attenuate --for 168h --note 'link for grandma' < album.token
  macaroon attenuate --caveat 'x-tenant 7' --token-file root.token`,
		Args: cobra.NoArgs,
	}
	t.register(cmd)
	n.register(cmd, 0)
	cmd.MarkFlagsOneRequired(narrowing...)
	cmd.RunE = a.does(func(cmd *cobra.Command, _ []string) error {
		from, err := a.presented(cmd.Context(), &t)
		if err == nil && from == nil {
			from, err = a.rootAsItIs()
		}
		if err != nil {
			return err
		}
		now := time.Now()
		narrowed, err := n.narrow(from, now)
		if err != nil {
			return err
		}
		a.warnExpired(narrowed, now)
		if !a.json {
			a.printf("%s\n", narrowed.Text())
			return nil
		}
		out := struct {
			Token     string    `json:"token"`
			ExpiresAt *api.Time `json:"expires_at,omitempty"`
			Caveats   []string  `json:"caveats"`
			Added     []string  `json:"added"` // by this command
		}{Token: narrowed.Text(), Caveats: narrowed.UnverifiedCaveats()}
		out.Added = out.Caveats[len(from.UnverifiedCaveats()):]
		if expiry, ok := client.UnverifiedExpiry(narrowed); ok {
			at := api.At(expiry)
			out.ExpiresAt = &at
		}
		return a.printJSON(out)
	})
	return cmd
}

// rootAsItIs is the stored root. Nothing else may ever renew it.
func (a *app) rootAsItIs() (*token.Token, error) {
	c, err := a.storedLogin()
	if err != nil {
		return nil, err
	}
	if c.login != nil && c.login.renewalDue() {
		a.note("warning: this login is past half of its life, and this command renews nothing: macaroon renew")
	}
	return c.root()
}

// warnExpired says that a token was made which nobody will take. That is no
// failure: the clock that counts is the verifier's.
func (a *app) warnExpired(t *token.Token, now time.Time) {
	if expiry, ok := client.UnverifiedExpiry(t); ok && !now.Before(expiry) {
		a.note("warning: this token %s", until(expiry, now))
	}
}
