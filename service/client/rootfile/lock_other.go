//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package rootfile

import (
	"context"
	"time"
)

// Lock does nothing where there is no flock: of two changes at the same moment
// one may be forgotten here. No session ends by that: whoever is left with a
// predecessor renews it again.
func Lock(context.Context, string) (unlock func(), err error) { return func() {}, nil }

// abandoned is how old a temporary file is when its writer is taken for dead.
const abandoned = time.Hour

// syncDir does nothing: not every system can sync a directory.
func syncDir(string) error { return nil }
