package storage

import (
	"context"
	"errors"
	"time"
)

// Errors of what needs a proof. Which kinds of acts there are, and which may
// wait, is the caller's.
var (
	ErrProofRequired = errors.New("the act needs a password or a code")
	ErrTooManyActs   = errors.New("too many acts of this user wait")
)

// Act is what somebody who holds a root may not do on the strength of the root
// alone: whoever has the phone for a minute has that much. It rests on the
// first of these that is there:
//
//   - PasswordHash, which must be the user's now, or RecoveryCode, which is
//     consumed;
//   - a login with one of them from the asking device at FreshSince or later;
//   - the same act, asked for by the same device before and due now.
//
// Otherwise, with a Delay, it is written down and nothing else happens; without
// one it is ErrProofRequired, and so it is when the asking device is not live, or
// not under RootKeyID any more: what a login proved is nothing to the root that
// it replaced. The proof is judged and consumed in the transaction of the act: a
// refused act consumes nothing.
//
// Before any of them it is ErrRevoked when RootKeyID is on the list, or Epoch is
// retired: a root that ended while its request was on its way does nothing more,
// whatever else the request has.
type Act struct {
	UserID, DeviceID string   // who asks
	RootKeyID        [16]byte // of the root that was shown
	Epoch            uint32   // likewise
	Kind             string   // stable word, e.g. "link"
	Target           string   // what it is done to; empty when the kind says it all
	PasswordHash     *string
	RecoveryCode     *[32]byte
	FreshSince       time.Time     // zero: no login is fresh enough
	ID               string        // of the delayed act, should it become one
	Delay            time.Duration // until it is due; 0: it cannot wait
	Keep             time.Duration // how long it may be done from then on
	Max              int           // acts of this user that may wait
	Local            bool          // not for users of other services: ErrOwned
	Begun            Event         // written when the act is written down
}

// Delayed is an act that waits. It goes with its asking device, and when it is
// done, cancelled or not done in time.
type Delayed struct {
	ID                          string // act_ and 16 characters
	UserID, DeviceID            string // who asked
	Kind, Target                string
	CreatedAt, DueAt, ExpiresAt time.Time
}

// Acts are what waits. Methods that take an [Act] return a Delayed that is not
// nil when the act was only written down (or had been before and is not due).
// They return ErrRevoked, ErrNotFound for an unknown user, ErrSuspended, ErrPasswordChanged,
// ErrCodeUnknown, ErrProofRequired, ErrTooManyActs and ErrOwned for a proof
// that is not good enough; then nothing has changed.
type Acts interface {
	// RemoveDevices is RevokeDevices by the user: devices other than act.DeviceID
	// need the act's proof, act.DeviceID itself does not. ErrNotFound also when
	// there is no device of an unknown user to remove.
	RemoveDevices(ctx context.Context, in RevokeDevices, act Act, ev Event) ([]Revocation, *Delayed, error)
	// Delayed lists the user's acts that wait at now, oldest first.
	Delayed(ctx context.Context, userID string, now time.Time) ([]Delayed, error)
	// CancelDelayed forgets one. ErrNotFound, also for somebody else's.
	CancelDelayed(ctx context.Context, userID, id string, ev Event) error
}
