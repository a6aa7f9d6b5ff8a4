package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"macaroond/service/guard"
)

// rights is what the authority says of the sidecar's credential, see
// [guard.Guard.Confirm].
type rights struct {
	log       *slog.Logger
	confirmed atomic.Bool            // the authority has said that it serves the audience; what it serves never changes
	trouble   atomic.Pointer[string] // what it said last, when that was no
}

const (
	askRights      = time.Second // until the authority has answered
	askRightsAgain = time.Minute
)

// follow asks until ctx ends.
func (r *rights) follow(ctx context.Context, g *guard.Guard) {
	for {
		again := askRightsAgain
		err := g.Confirm(ctx)
		if no, ok := errors.AsType[*guard.CredentialError](err); ok {
			r.log.Error(no.Error())
			r.trouble.Store(&no.Reason)
		} else if err == nil {
			r.confirmed.Store(true)
			r.trouble.Store(nil)
		} else if !r.confirmed.Load() {
			again = askRights // the guard logs why, from the feed
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}
