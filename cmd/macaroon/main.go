// Command macaroon is for whoever holds a token of macaroond's: it logs in,
// narrows tokens offline, looks at them, asks why one is refused, and revokes.
//
// main is signals and the exit code; everything else is [run], which tests
// start. One file is one noun.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ())
	stop()
	os.Exit(code)
}
