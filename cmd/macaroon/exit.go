package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

// Exit codes. The text of exitCodesTopic is their documentation.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitServer      = 3
	exitNoLogin     = 4
	exitExecFailed  = 125 // as env, nohup and timeout have it
	exitExecCannot  = 126
	exitExecMissing = 127
	exitInterrupted = 130
)

const exitCodesTopic = `Exit codes of macaroon:

    0  done; for verify: the token is allowed
    1  refused or failed; for verify: the token is refused
    2  usage: a wrong flag, argument or caveat; nothing was done
    3  the server cannot be reached, or cannot answer now: try again later
    4  not logged in: nothing is stored for the server, or it does not take
       the stored token any more
  130  interrupted

exec has the exit code of its command, and for itself those of env(1):

  125  macaroon failed, for any of the reasons above
  126  the command was found and cannot be run
  127  the command was not found`

// usageError is a mistake in what was typed.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errNoLogin: there is no token to work with.
var errNoLogin = errors.New("not logged in")

// exitStatus ends the run with a code; what there is to say has been printed,
// or is the error within.
type exitStatus struct {
	code int
	error
}

func (e exitStatus) Unwrap() error { return e.error }

// finish prints an error, with what to do next, and chooses the exit code.
func (a *app) finish(ctx context.Context, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	if !a.began {
		err = usageError{err}
	}
	code := codeOf(err)
	var status exitStatus
	switch {
	case errors.As(err, &status):
		code = status.code
		if status.error == nil {
			return code
		}
	case ctx.Err() != nil:
		code = exitInterrupted
		if errors.Is(err, context.Cause(ctx)) {
			err = errors.New("interrupted")
		}
	case cmd.Name() == "exec":
		code = exitExecFailed
	}
	a.complain(cmd, err, code)
	return code
}

// codeOf is the one table from error to exit code.
func codeOf(err error) int {
	var usage usageError
	var problem *api.Problem
	var foreign *client.StatusError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errNoLogin):
		return exitNoLogin
	case errors.Is(err, client.ErrUnreachable), errors.As(err, &foreign):
		return exitServer
	case errors.As(err, &problem):
		switch {
		case problem.Status == 429, problem.Status >= 500:
			return exitServer
		case problem.Status == 401 && problem.Code != api.CodeBadCredentials:
			return exitNoLogin
		}
	}
	return exitFailed
}

// problemCode is the server's code in an error, or "".
func problemCode(err error) string {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p.Code
	}
	return ""
}

// complain prints the error on stderr: for people with advice, for programs
// (--json) as one object with the stable code, if the server gave one.
func (a *app) complain(cmd *cobra.Command, err error, code int) {
	next := advice(cmd, err)
	if a.json {
		out := struct {
			Error  string `json:"error"`
			Code   string `json:"code,omitempty"`
			Advice string `json:"advice,omitempty"`
			Exit   int    `json:"exit_code"`
		}{Error: err.Error(), Code: problemCode(err), Advice: next, Exit: code}
		b, _ := json.Marshal(out) // strings and a number: cannot fail
		fmt.Fprintln(a.err, escapeJSON(b))
		return
	}
	// An error may repeat the server's words, so each line of it is defused.
	prefix := "macaroon: "
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Fprintln(a.err, prefix+shown(line))
			prefix = "          "
		}
	}
	if next != "" {
		fmt.Fprintln(a.err, "          "+next)
	}
}

// advice is what to do next, or "". An exitStatus says it itself.
func advice(cmd *cobra.Command, err error) string {
	var status exitStatus
	if errors.As(err, &status) {
		return ""
	}
	if after, ok := client.RetryAfter(err); ok {
		return "Try again in " + span(after) + "."
	}
	var usage usageError
	if errors.As(err, &usage) {
		return "See '" + cmd.CommandPath() + " --help'."
	}
	var later *client.DelayedError
	var p *api.Problem
	switch {
	case errors.As(err, &later):
		return "To have it at once, give your password (--password-file) or a recovery code (--code-file)."
	case errors.Is(err, errNoLogin):
		return "Log in first: macaroon login --server URL NAME"
	case errors.Is(err, client.ErrUnreachable):
		return "Is the server running, and its URL right? (--server, MACAROON_SERVER)"
	case errors.Is(err, token.ErrMalformed):
		return "A token is one line of base64url; from a grant in JSON it is the member \"token\"."
	case errors.Is(err, token.ErrTooLarge):
		return "Start again from a token with fewer caveats."
	case errors.As(err, &p):
		return adviceOn(cmd, p)
	}
	return ""
}

func adviceOn(cmd *cobra.Command, p *api.Problem) string {
	switch p.Code {
	case api.CodeBadCredentials:
		if cmd.Flags().Changed("link") {
			return "Check the name and the code; macaroon link on the other device shows another."
		}
		if cmd.Name() == "recover" {
			return "Check the name and the code; each works once."
		}
		return "Check the name and the password. A forgotten password: macaroon recover NAME"
	case api.CodeSuspended:
		return "Ask the operator of the server."
	case api.CodeSignupOff:
		return "Ask the operator of the server for an account."
	case api.CodeNameTaken:
		return "Choose another name, or log in: macaroon login NAME"
	case api.CodeProofRequired, api.CodeProofRefused:
		return "Give your password (--password-file) or a recovery code (--code-file)."
	case api.CodeTooMany:
		return "Give your password or a recovery code, or cancel one of what waits."
	case api.CodeBareRootRequired:
		return "This needs the root token of the device itself, not one narrowed from it."
	case api.CodeNotFound:
		switch {
		case cmd.HasParent() && cmd.Parent().Name() == "devices":
			return "macaroon devices lists the ids of your devices."
		case cmd.HasParent() && cmd.Parent().Name() == "delayed":
			return "macaroon delayed lists what waits."
		}
		return "Is the path in the server's URL right? (--server, MACAROON_SERVER)"
	case api.CodeBranchLimit:
		return "The owner of the token can still revoke it: macaroon revoke --caveat …"
	case api.CodeInternal, api.CodeUnavailable, api.CodeBusy, api.CodeRateLimited:
		return "Try again later."
	}
	if p.Status == 401 {
		return "The server does not take this token (any more). Log in again: macaroon login NAME"
	}
	return ""
}
