package storage

import (
	"context"
	"errors"
	"time"
)

// ErrReplayed: a point was accepted before. It comes as a [*ReplayedError].
var ErrReplayed = errors.New("accepted before")

// ReplayedError says which of the points were accepted before, by their index
// in the call.
type ReplayedError struct{ Points []int }

func (*ReplayedError) Error() string        { return ErrReplayed.Error() }
func (*ReplayedError) Is(target error) bool { return target == ErrReplayed }

// AcceptedPoint is a point of a chain that may be accepted a single time.
type AcceptedPoint struct {
	Point     [32]byte  // a digest: a signature itself is a bearer secret and is never stored
	ExpiresAt time.Time // when everything that has the point in it has expired; ClockSkew is added by the store
}

// Accepted is the ledger of points of chains that may be accepted a single
// time.
type Accepted interface {
	// Accept stores the points, all or none: when any of them is there already
	// it is a [*ReplayedError], and nothing is stored. Of several calls that have
	// a point in common, at once or one after another, in this process or
	// another one, exactly one MUST succeed until the point's expiry (see
	// [Store.Expire]). No audit: an acceptance is one request among many.
	Accept(ctx context.Context, points []AcceptedPoint) error
}
