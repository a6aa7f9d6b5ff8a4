package storage

import (
	"context"
	"errors"
	"time"
)

// MaxRenewals is how many successors a device may get within the grace, and
// within any minute if the grace is longer.
const MaxRenewals = 64

// Errors of [Renewals.RenewDevice].
var (
	ErrRevoked      = errors.New("the root key is revoked")
	ErrSessionOver  = errors.New("the session has lasted as long as it may")
	ErrRenewalLimit = errors.New("too many renewals of one device in a short time")
)

// RenewDevice asks for the successor of a root macaroon. The root macaroons of
// one root key are told apart by their expiry: each one's is later than its
// predecessor's.
type RenewDevice struct {
	UserID    string
	DeviceID  string
	RootKeyID [16]byte
	Epoch     uint32    // of the root macaroon presented
	ExpiresAt time.Time // its own

	Signing    uint32        // epoch of a new successor
	RootTTL    time.Duration // a device's own wish is at most this
	SessionMax time.Duration // since the login; 0 is no limit
	Grace      time.Duration // how long after its successor was first seen a predecessor may still be presented

	Seen []Sighting // what is known of this root key and not in the table yet
}

// Renewed is what came of it. Either Theft is true and Revoked says what died,
// or the successor is Epoch and ExpiresAt.
type Renewed struct {
	UserName   string
	DeviceName string
	Epoch      uint32
	ExpiresAt  time.Time
	New        bool // the successor was not given out before
	Theft      bool
	Revoked    []Revocation
}

// Sighting is the use of a token under a root key: of a root macaroon or of
// anything narrowed from it.
type Sighting struct {
	DeviceID    string
	RootKeyID   [16]byte
	ExpiresAt   time.Time // of the root macaroon it came from
	First, Last time.Time
}

// KnownRoots is how many of a device's latest root macaroons are never forgotten.
const KnownRoots = 8

// MaxRootTTL is the longest life of a root macaroon that can be asked for.
const MaxRootTTL = 366 * 24 * time.Hour

// Root is a root macaroon of a device.
type Root struct {
	Epoch     uint32
	ExpiresAt time.Time
}

// Renewals is a part of [Store].
type Renewals interface {
	// Roots gives the root macaroons under a root key that expire after now, the
	// latest KnownRoots and the one before them, each once for each epoch that it
	// can be of: for the oldest that may be every one that is not retired. all is
	// false when there may be more of them: of a device that had more than
	// KnownRoots at once, of any after a restore that kept its tokens, of a root key
	// that is not known. Retired epochs' do not count.
	Roots(ctx context.Context, rootKeyID [16]byte, now time.Time) (roots []Root, all bool, err error)
	// RenewDevice gives the successor of a root macaroon in one transaction
	// that re-reads the user, the device and both epochs: what ended with its
	// epoch a moment ago is not renewed into the one after it.
	//
	// The device's latest root macaroon, or a later one than the table knows (a
	// backup was restored with its tokens kept), gets a new successor, which is
	// the latest from then on. Its expiry is the device's TTL from ev.Time
	// (whole seconds, rounded up), at least a second after the presented one's,
	// and never beyond SessionMax. Presenting a root macaroon is using it; a later
	// one than the table knows says that those before it were used, too.
	// A predecessor gets the successor that it got before, changing nothing, until
	// that has been seen in use and the grace has passed since: then it is
	// theft, and the device is revoked (reason "theft"). A predecessor that the
	// table has forgotten is one of those. A successor whose epoch was retired
	// has died; the next living one takes its place, or a new one.
	//
	// ev is written for a new successor; for a theft with the type that theft
	// is. DeviceID and RootKeyID are filled in.
	// Errors: ErrRevoked (the root key, by whomever, or the epoch of the root
	// macaroon that is presented), ErrNotFound (the table
	// does not know the user, or the device under this root key), ErrSuspended,
	// ErrEpochNotSigning (only when there is a new successor to make),
	// ErrSessionOver, ErrRenewalLimit.
	RenewDevice(ctx context.Context, in RenewDevice, theft string, ev Event) (Renewed, error)
	// TouchDevices moves LastSeenAt forward (never back) for live devices, and
	// notes the first use of a successor; what is not there is ignored. No audit.
	TouchDevices(ctx context.Context, seen []Sighting) error
}
