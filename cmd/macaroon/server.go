package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"macaroond/service/client"
	"macaroond/service/token"
)

// chosen is the server that a run is about, by flag, environment or store, and
// what is stored for it. The location in a token is never used: it is not
// signed, and whoever wrote it would be sent the next token.
type chosen struct {
	client *client.Client
	login  *login // nil when there is none
	device string // whose token the session's is, as it says
}

func (a *app) chosen() (chosen, error) {
	s, err := a.store()
	if err != nil {
		return chosen{}, err
	}
	stored, err := s.read()
	if err != nil {
		return chosen{}, err
	}
	url := a.server
	if url == "" {
		url = a.getenv("MACAROON_SERVER")
	}
	if url == "" {
		url = stored.Default
	}
	switch {
	case url != "":
	case len(stored.Servers) > 0:
		return chosen{}, usagef("which server? give --server or set MACAROON_SERVER; logged in at: %s", serverList(stored))
	default:
		return chosen{}, usagef("which server? give --server URL or set MACAROON_SERVER; macaroon login remembers it")
	}
	// The key is the URL in its one spelling, and what is stored under it says
	// whether plain HTTP was permitted.
	spelling, err := client.New(url, client.Options{PlainHTTP: true})
	if err != nil {
		return chosen{}, usageError{err}
	}
	var out chosen
	l, ok := stored.Servers[spelling.URL()]
	if ok {
		out.login = &l
	}
	out.client, err = client.New(url, client.Options{PlainHTTP: a.plainHTTP || l.PlainHTTP, UserAgent: "macaroon"})
	if err != nil {
		return chosen{}, usagef("%w (or permit it: --plain-http)", err)
	}
	return out, nil
}

func serverList(c contents) string {
	return strings.Join(slices.Sorted(maps.Keys(c.Servers)), ", ")
}

// root is the stored root token, checked to be one.
func (c chosen) root() (*token.Token, error) {
	if c.login == nil {
		return nil, fmt.Errorf("%w at %s", errNoLogin, c.client.URL())
	}
	t, err := token.Parse(c.login.Token)
	if err != nil {
		return nil, fmt.Errorf("the stored token for %s: %w", c.client.URL(), err)
	}
	return t, nil
}

// storedLogin is the chosen server, for a command that would go on without one
// if it had a token.
func (a *app) storedLogin() (chosen, error) {
	s, err := a.store()
	if err != nil {
		return chosen{}, err
	}
	stored, err := s.read()
	if err != nil {
		return chosen{}, err
	}
	if len(stored.Servers) == 0 {
		return chosen{}, fmt.Errorf("no token on standard input or in a file, and %w", errNoLogin)
	}
	return a.chosen()
}

// session is the chosen server and the root token to prove oneself with: the
// one that a flag names, or the stored one, renewed in time.
func (a *app) session(ctx context.Context, given *token.Token) (chosen, client.Credential, error) {
	c, err := a.chosen()
	if err != nil {
		return c, client.Credential{}, err
	}
	if given == nil {
		a.inTime(ctx, &c)
		if given, err = c.root(); err != nil {
			return c, client.Credential{}, err
		}
	}
	_, c.device, _ = claims(given.UnverifiedCaveats())
	return c, client.Bearer(given.Text()), nil
}

// errNewerLogin: what was to be forgotten is not what is stored.
var errNewerLogin = errors.New("somebody has logged in again from here meanwhile, and that login stays; macaroon logout ends it")

// forget drops the login at the chosen server that this run began with. One that
// was stored since has another root key, which lives: without it nobody here
// could end it.
func (a *app) forget(ctx context.Context, c chosen) error {
	newer := false
	err := a.update(ctx, func(in *contents) {
		l, there := in.Servers[c.client.URL()]
		if newer = there && l.RootKeyID != c.login.RootKeyID; !newer {
			in.forget(c.client.URL())
		}
	})
	if err == nil && newer {
		err = errNewerLogin
	}
	return err
}
