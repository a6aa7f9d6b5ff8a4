// Command macaroond is the authority: a capability token service in one
// binary. main is signals and exit codes; run is what tests start.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"macaroond/service"
	"macaroond/service/api"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it was tried and did not work
	exitUsage  = 2 // the command or the configuration is wrong; nothing was tried
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, process{Args: os.Args[1:], Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	stop()
	os.Exit(code)
}

// process is what a command has of the world.
type process struct {
	Args           []string
	Env            []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

func run(ctx context.Context, p process) int {
	root := newRoot(p)
	root.SetArgs(p.Args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := codeOf(err)
	complain(p.Stderr, err, code, flagBool(root.PersistentFlags(), "json"))
	return code
}

// codeOf is the exit code of an error.
func codeOf(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if e, ok := errors.AsType[*service.Error](err); ok && e.Code == api.CodeBadRequest {
		return exitUsage
	}
	return exitFailed
}

// complain prints an error: for people, or for programs (--json) as one object
// with the stable code, if the service gave one. The holder's command has the
// same members.
func complain(w io.Writer, err error, code int, asJSON bool) {
	if !asJSON {
		fmt.Fprintln(w, "macaroond:", said(err))
		return
	}
	out := struct {
		Error string `json:"error"`
		Code  string `json:"code,omitempty"`
		Exit  int    `json:"exit_code"`
	}{Error: said(err), Exit: code}
	if known := service.AsError(err); known.Code != api.CodeInternal {
		out.Code = known.Code
	}
	_ = writeJSON(w, out) // nobody is left to tell
}

// said is an error as it is printed: a service's detail without its code, with
// the flag that it is about, and with the cause, for whoever runs commands on
// the server may read it.
func said(err error) string {
	e := service.AsError(err)
	switch {
	case e.Code == api.CodeInternal:
		return err.Error()
	case e.Code == api.CodeUnavailable && e.Err != nil:
		return fmt.Sprintf("%s (%v)", e.Detail, e.Err)
	case flagOf[e.Field] != "":
		return flagOf[e.Field] + ": " + e.Detail
	}
	return e.Detail
}

// flagOf is the flag that a member of a request's body comes from.
var flagOf = map[string]string{
	"/role":   "--role",
	"/serves": "--serves", "/calls": "--calls", "/actions": "--allow", "/rights": "--right",
	"/target/user": "--user", "/target/device": "--device", "/caveats": "--caveat", "/reason": "--reason", "/ttl": "--for",
}
