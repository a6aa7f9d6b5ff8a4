package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/client/rootfile"
	"macaroond/service/token"
)

// loginFlags are common to the three ways of being granted a root token.
type loginFlags struct {
	secretFile string // --password-file or --code-file
	codeFile   string // of login --link
	device     string
	saveTo     string
	makeDef    bool
	replace    bool
}

func (l *loginFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.device, "device-name", "", "what this device is called in listings (default the host's `NAME`)")
	f.StringVar(&l.saveTo, "save-to", "", "write the root token to `FILE` (- is standard output) instead of the store; it is a device of its own")
	f.BoolVar(&l.makeDef, "default", false, "make this server the default")
	f.BoolVar(&l.replace, "replace", false, "forget the login of another user that is stored for this server")
}

func (a *app) login() *cobra.Command {
	var l loginFlags
	var ttl time.Duration
	var link bool
	cmd := &cobra.Command{
		Use:   "login [NAME]",
		Short: "log in with a password and store this device's root token",
		Long: `Log in with a name and a password. The server's root token for this device goes
to the credential store ($XDG_CONFIG_HOME/macaroon, mode 0600). Logging in again
from here replaces the device's root key: the earlier token and all derived from
it die.`,
		Args: cobra.MaximumNArgs(1),
	}
	l.register(cmd)
	cmd.Flags().StringVar(&l.secretFile, "password-file", "", "read the password from `FILE` (- is standard input)")
	cmd.Flags().BoolVar(&link, "link", false, "instead of a password, give the code that macaroon link shows on another device, and wait for its approval")
	cmd.Flags().StringVar(&l.codeFile, "code-file", "", "with --link, read the code from `FILE` (- is standard input)")
	cmd.MarkFlagsMutuallyExclusive("link", "password-file")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long the root token is to live, such as 720h (default the server's choice)")
	cmd.MarkFlagsMutuallyExclusive("link", "ttl")
	cmd.RunE = a.does(func(cmd *cobra.Command, args []string) error {
		if ttl != 0 && ttl < time.Second {
			return usagef("--ttl is at least a second, such as 720h")
		}
		if l.codeFile != "" && !link {
			return usagef("--code-file goes with --link; for a recovery code there is macaroon recover")
		}
		return a.enter(cmd.Context(), l, args, func(ctx context.Context, c *client.Client, name string, device api.DeviceIn) (granting, error) {
			if link {
				return a.linked(ctx, l.codeFile, c, name, device)
			}
			password, err := a.secret(ctx, l.secretFile, "--password-file", fmt.Sprintf("password of %s at %s: ", quoted(name), c.URL()))
			if err != nil {
				return nil, err
			}
			in := api.LoginIn{Username: name, Password: password, Device: device, TTL: int64(ttl / time.Second)}
			return a.granting(c, func() (*api.Grant, error) { return c.Login(ctx, in) }), nil
		})
	})
	return cmd
}

func (a *app) signup() *cobra.Command {
	var l loginFlags
	var none bool
	cmd := &cobra.Command{
		Use:   "signup [NAME]",
		Short: "make an account, where the server lets you, and log in",
		Long: `Make an account and log this device in. The recovery codes are printed this once:
keep them where this device's loss does not lose them too.`,
		Args: cobra.MaximumNArgs(1),
	}
	l.register(cmd)
	cmd.Flags().StringVar(&l.secretFile, "password-file", "", "read the new password from `FILE` (- is standard input)")
	cmd.Flags().BoolVar(&none, "no-password", false, "have no password: this device's token and the recovery codes are the only ways in")
	cmd.MarkFlagsMutuallyExclusive("password-file", "no-password")
	cmd.RunE = a.does(func(cmd *cobra.Command, args []string) error {
		return a.enter(cmd.Context(), l, args, func(ctx context.Context, c *client.Client, name string, device api.DeviceIn) (granting, error) {
			in := api.SignupIn{Username: name, Device: device}
			if !none {
				var err error
				if in.Password, err = a.newPassword(ctx, l.secretFile, name, c.URL()); err != nil {
					return nil, err
				}
			}
			return a.granting(c, func() (*api.Grant, error) { return c.Signup(ctx, in) }), nil
		})
	})
	return cmd
}

// newPassword asks twice: nobody sees a mistyped one.
func (a *app) newPassword(ctx context.Context, file, name, url string) (string, error) {
	password, err := a.secret(ctx, file, "--password-file or --no-password", fmt.Sprintf("new password of %s at %s: ", quoted(name), url))
	if err != nil || !a.terminal().Asks(file) {
		return password, err
	}
	again, err := a.secret(ctx, "", "--password-file", "the same again: ")
	if err == nil && again != password {
		err = usagef("the two are not the same")
	}
	return password, err
}

func (a *app) recover() *cobra.Command {
	var l loginFlags
	cmd := &cobra.Command{
		Use:   "recover [NAME]",
		Short: "log in with a one-time recovery code; revokes all other devices",
		Long: `Log in with one of the recovery codes from sign-up instead of a password. The code
is spent, and every other device of yours is revoked.`,
		Args: cobra.MaximumNArgs(1),
	}
	l.register(cmd)
	cmd.Flags().StringVar(&l.secretFile, "code-file", "", "read the recovery code from `FILE` (- is standard input)")
	cmd.RunE = a.does(func(cmd *cobra.Command, args []string) error {
		return a.enter(cmd.Context(), l, args, func(ctx context.Context, c *client.Client, name string, device api.DeviceIn) (granting, error) {
			code, err := a.secret(ctx, l.secretFile, "--code-file", fmt.Sprintf("recovery code of %s at %s: ", quoted(name), c.URL()))
			if err != nil {
				return nil, err
			}
			in := api.RecoverIn{Username: name, Code: strings.TrimSpace(code), Device: device}
			return a.granting(c, func() (*api.Grant, error) { return c.Recover(ctx, in) }), nil
		})
	})
	return cmd
}

// granting asks the server for a login; the user was asked before.
type granting func() (*api.Grant, error)

// enter is what the three have in common: find out who and where, ask what is to
// be known, be granted a token, keep it.
func (a *app) enter(ctx context.Context, l loginFlags, args []string,
	ask func(context.Context, *client.Client, string, api.DeviceIn) (granting, error),
) error {
	c, err := a.chosen()
	if err != nil {
		return err
	}
	name := strings.Join(args, "")
	if name == "" {
		if name, err = a.ask(ctx, "name at "+c.client.URL()+": ", "the NAME as an argument", true); err != nil {
			return err
		}
	}
	device := api.DeviceIn{Name: l.device}
	if device.Name == "" {
		device.Name, _ = os.Hostname() // without one, the server names it
	}
	if l.saveTo == "" {
		if c.login != nil && !strings.EqualFold(c.login.User.Username, name) && !l.replace {
			return usagef("logged in at %s as %s; macaroon logout first, or --replace that login (its device stays valid)",
				c.client.URL(), quoted(c.login.User.Username))
		}
	}
	// Before anything is granted, be sure that it can be kept: a sign-up takes the
	// name, and a recovery spends the code and every other device.
	switch l.saveTo {
	case "":
		device.InstallID, err = a.installID(ctx)
	case "-":
	default:
		err = replaceable(l.saveTo)
	}
	if err != nil {
		return err
	}
	login, err := ask(ctx, c.client, name, device)
	if err != nil {
		return err
	}
	if l.saveTo == "" {
		unlock, err := a.alone(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	grant, err := login()
	if err != nil {
		return err
	}
	if _, err := token.Parse(grant.Token); err != nil {
		return fmt.Errorf("the server's grant has no token that can be read: %w", err)
	}
	a.compareClocks(grant, time.Now())
	err = a.keep(ctx, l, c, grant)
	kept := err == nil && l.saveTo != "-"
	if err == nil {
		a.granted(l, c, grant)
		err = a.out.failed()
	}
	if err == nil {
		return nil
	}
	a.printCodes(grant.RecoveryCodes) // with them the account is not lost
	if kept {
		return err
	}
	// Nobody will have this token: it had better not live.
	if e := c.client.Logout(context.WithoutCancel(ctx), client.Bearer(grant.Token)); e != nil {
		err = fmt.Errorf("%w\nand the new device %s could not be revoked; do it from another one", err, grant.Device.ID)
	}
	return err
}

// replaceable is an error when a token could not be written to path, which the
// error names.
func replaceable(path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("--save-to %s: that is no regular file (- is standard output)", path)
	}
	return saving(path, rootfile.Replaceable(path))
}

// saving says which file it was that could not be written, and not which
// temporary one.
func saving(path string, err error) error {
	if err == nil {
		return nil
	}
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("--save-to %s: %w", path, err)
}

// granting waits for the server's grant.
func (a *app) granting(c *client.Client, ask granting) granting {
	return func() (grant *api.Grant, err error) {
		err = a.waiting(c.URL(), func() (e error) { grant, e = ask(); return e })
		return grant, err
	}
}

func (a *app) installID(ctx context.Context) (id string, err error) {
	err = a.update(ctx, func(c *contents) { id = c.InstallID })
	return id, err
}

// alone waits until no other run is being granted a login for the store. It would
// be this same device's: the later grant ends the earlier, and the one stored last
// need not be the later.
func (a *app) alone(ctx context.Context) (unlock func(), err error) {
	s, err := a.store()
	if err != nil {
		return nil, err
	}
	err = a.waiting("another login from here to be done", func() (err error) {
		unlock, err = rootfile.Lock(ctx, filepath.Join(s.dir, "login.lock"))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("locking the credential store: %w", err)
	}
	return unlock, nil
}

// storePatience is how long a token that was granted waits to be stored, even
// when the user has enough: longer than a run that holds the store waits for a
// server.
const storePatience = 40 * time.Second

func (a *app) keep(ctx context.Context, l loginFlags, c chosen, g *api.Grant) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storePatience)
	defer cancel()
	switch l.saveTo {
	case "":
	case "-":
		return nil // granted prints it
	default:
		return saving(l.saveTo, rootfile.Open(l.saveTo).Keep(ctx, g.Token))
	}
	return a.update(ctx, func(in *contents) {
		url := c.client.URL()
		in.Servers[url] = login{
			Token: g.Token, User: g.User, Device: g.Device, RootKeyID: g.RootKeyID, ExpiresAt: g.ExpiresAt, RenewAt: halfway(g),
			PlainHTTP: a.plainHTTP || c.login != nil && c.login.PlainHTTP,
		}
		if in.Default == "" || l.makeDef {
			in.Default = url
		}
	})
}

// granted tells the user. Only --save-to - prints the token.
func (a *app) granted(l loginFlags, c chosen, g *api.Grant) {
	if a.json {
		out := struct {
			Server        string        `json:"server"`
			User          api.UserRef   `json:"user"`
			Device        api.DeviceRef `json:"device"`
			RootKeyID     string        `json:"root_key_id"`
			ExpiresAt     api.Time      `json:"expires_at"`
			RecoveryCodes []string      `json:"recovery_codes,omitempty"`
			Token         string        `json:"token,omitempty"`
		}{c.client.URL(), g.User, g.Device, g.RootKeyID, g.ExpiresAt, g.RecoveryCodes, ""}
		if l.saveTo == "-" {
			out.Token = g.Token
		}
		a.printJSON(out) // the sink remembers a failure
		return
	}
	codes := io.Writer(a.out)
	if l.saveTo == "-" { // standard output is the token's alone
		codes = a.err
		a.printf("%s\n", g.Token)
		if a.out.err != nil {
			return
		}
	}
	a.note("logged in at %s as %s; this device is %s, %s, until %s",
		c.client.URL(), quoted(g.User.Username), quoted(g.Device.Name), shown(g.Device.ID), g.ExpiresAt.Format(time.RFC3339))
	a.listCodes(codes, g.RecoveryCodes)
}

// printCodes prints recovery codes, without which an account may be lost: when
// standard output is, on standard error.
func (a *app) printCodes(codes []string) {
	if len(codes) == 0 {
		return
	}
	if a.out.err == nil {
		if a.json {
			a.printJSON(api.RecoveryCodes{RecoveryCodes: codes})
		} else {
			a.listCodes(a.out, codes)
		}
	}
	if a.out.err != nil {
		a.listCodes(a.err, codes)
	}
}

// listCodes prints recovery codes one a line.
func (a *app) listCodes(w io.Writer, codes []string) {
	if len(codes) == 0 {
		return
	}
	a.note("your recovery codes, shown this once; each works once. Keep them away from this device:")
	for _, code := range codes {
		fmt.Fprintln(w, shown(code))
	}
}

func (a *app) logout() *cobra.Command {
	var local bool
	cmd := &cobra.Command{
		Use:   "logout",
		Short: "drop this device's root key: its token and all derived from it die",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&local, "only-here", false, "only forget the token here; it and all derived from it stay valid")
	cmd.RunE = a.does(func(cmd *cobra.Command, _ []string) error {
		c, err := a.chosen()
		if err != nil {
			return err
		}
		root, err := c.root()
		if err != nil {
			return err
		}
		if !local {
			err = a.waiting(c.client.URL(), func() error { return c.client.Logout(cmd.Context(), client.Bearer(root.Text())) })
			if err != nil && problemCode(err) != api.CodeRevoked { // revoked before: what was wanted
				return notLoggedOut(err)
			}
		}
		if err := a.forget(cmd.Context(), c); err != nil {
			switch {
			case errors.Is(err, errNewerLogin):
				err = fmt.Errorf("the login that was stored for %s is over: %w", c.client.URL(), err)
			case !local:
				err = fmt.Errorf("logged out at %s, where every token from this device is dead; but it is still stored here: %w", c.client.URL(), err)
			}
			return err
		}
		if a.json {
			return a.printJSON(map[string]any{"server": c.client.URL(), "revoked": !local})
		}
		if local {
			a.note("forgotten here; the token stays valid until %s", c.login.ExpiresAt.Format(time.RFC3339))
			return nil
		}
		a.note("logged out at %s; every token from this device is dead", c.client.URL())
		return nil
	})
	return cmd
}

// notLoggedOut says what a refused logout leaves. That the token is not taken is
// no proof that the device is logged out: whoever copied it may have renewed it.
func notLoggedOut(err error) error {
	switch {
	case codeOf(err) == exitServer:
		return fmt.Errorf("%w\nthe token is still stored, and still valid unless only the answer was lost; log out again, or --only-here forgets it all the same", err)
	case problemCode(err) == api.CodeExpired:
		return fmt.Errorf("%w\nthis device's token expired before it was revoked: if somebody copied and renewed it, the copy lives on\n"+
			"macaroon login from here ends such a copy, and macaroon logout then ends the device; --only-here just forgets the token", err)
	case codeOf(err) == exitNoLogin:
		return fmt.Errorf("%w\nthe server does not say that the device is logged out; --only-here just forgets the token", err)
	}
	return err
}
