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
	fmt.Fprintln(p.Stderr, "macaroond:", said(err))
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if e, ok := errors.AsType[*service.Error](err); ok && e.Code == api.CodeBadRequest {
		return exitUsage
	}
	return exitFailed
}

// said is an error as it is printed: a service's detail without its code, and
// with the cause, for whoever runs commands on the server may read it.
func said(err error) string {
	e := service.AsError(err)
	switch {
	case e.Code == api.CodeInternal:
		return err.Error()
	case e.Code == api.CodeUnavailable && e.Err != nil:
		return fmt.Sprintf("%s (%v)", e.Detail, e.Err)
	}
	return e.Detail
}
