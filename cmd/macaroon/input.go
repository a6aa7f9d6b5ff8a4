package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"macaroond/cmd/internal/terminal"
	"macaroond/service/token"
)

// notEmpty refuses a flag that was given and says nothing, such as
// --audience "$UNSET" or --for 0. It must not mean what leaving it out does: no
// restriction, the stored root, the default server.
func notEmpty(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		says := f.Value.String()
		empty := says == "" || says == "[]" || says == "0s" // text, lists and maps, durations
		if list, ok := f.Value.(pflag.SliceValue); ok {
			empty = empty || slices.Contains(list.GetSlice(), "")
		}
		switch {
		case empty && says == "0s":
			err = usagef("--%s is zero", f.Name)
		case empty:
			err = usagef("--%s is empty", f.Name)
		case says == "false" && slices.Contains(narrowing, f.Name):
			err = usagef("--%s=false restricts nothing", f.Name)
		}
	})
	return err
}

// tokenFlags are the ways to name a token other than standard input and the
// store.
type tokenFlags struct{ file, argv string }

func (t *tokenFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.file, "token-file", "", "read the token from `FILE` (- is standard input)")
	f.StringVar(&t.argv, "token-visible-in-ps", "", "the `TOKEN` itself; everybody on this machine can read it there")
	cmd.MarkFlagsMutuallyExclusive("token-file", "token-visible-in-ps")
}

// any reports whether a flag names a token.
func (t *tokenFlags) any() bool { return t.file != "" || t.argv != "" }

// given reads the token that a flag names; nil when none does.
func (t *tokenFlags) given(ctx context.Context, a *app) (*token.Token, error) {
	switch {
	case t.argv != "":
		a.note("warning: a token on the command line is visible to everybody on this machine")
		return token.Parse(t.argv)
	case t.file != "":
		text, err := a.terminal().ReadFile(ctx, t.file)
		if err != nil {
			return nil, err
		}
		return parseToken(text)
	}
	return nil, nil
}

// presented is the token that a filter works on: the one that a flag names,
// or else what is piped in. It is nil when there is neither. An empty pipe is
// an error: what should have come was narrower than what is stored.
func (a *app) presented(ctx context.Context, t *tokenFlags) (*token.Token, error) {
	if tok, err := t.given(ctx, a); tok != nil || err != nil {
		return tok, err
	}
	if !terminal.Piped(a.in) {
		return nil, nil
	}
	text, err := a.terminal().ReadFile(ctx, "-")
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	if strings.TrimSpace(text) == "" {
		return nil, usagef("stdin is empty: the command before it printed no token")
	}
	return parseToken(text)
}

// presentedOrStored is presented, and the stored root when there is nothing.
func (a *app) presentedOrStored(ctx context.Context, t *tokenFlags) (*token.Token, error) {
	if tok, err := a.presented(ctx, t); tok != nil || err != nil {
		return tok, err
	}
	c, err := a.storedLogin()
	if err != nil {
		return nil, err
	}
	return c.root()
}

// parseToken allows what editors and echo leave around a token.
func parseToken(text string) (*token.Token, error) {
	return token.Parse(strings.TrimSpace(strings.TrimPrefix(text, terminal.ByteOrderMark)))
}

// secret is a password or a code: from the file, or else asked for without echo.
func (a *app) secret(ctx context.Context, file, flag, prompt string) (string, error) {
	if a.terminal().Asks(file) {
		return a.ask(ctx, prompt, flag, false)
	}
	text, err := a.terminal().ReadFile(ctx, file)
	if err != nil {
		return "", err
	}
	if text, err = terminal.OneLine(text, file); err != nil {
		return "", usageError{err}
	}
	if text == "" {
		return "", usagef("%s is empty", file)
	}
	return text, nil
}

func (a *app) terminal() terminal.Asker { return terminal.Asker{In: a.in, Err: a.err} }

// ask asks at the terminal. flag is what to give where there is none.
func (a *app) ask(ctx context.Context, prompt, flag string, echo bool) (text string, err error) {
	if echo {
		text, err = a.terminal().Line(ctx, prompt)
	} else {
		text, err = a.terminal().Secret(ctx, prompt)
	}
	switch {
	case errors.Is(err, terminal.ErrNone):
		return "", usagef("%w: give %s", err, flag)
	case err != nil:
		return "", err
	case text == "":
		return "", usagef("nothing was entered")
	}
	return text, nil
}
