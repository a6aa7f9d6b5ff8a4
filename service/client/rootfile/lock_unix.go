//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package rootfile

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// Lock waits until nobody else holds the lock, or ctx ends. It goes with the
// process, whatever happens to it, so there is no stale one.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// A flock that waits hears of no context, so it is asked for again and again.
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-again.C:
		}
	}
}
