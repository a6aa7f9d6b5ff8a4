package storage

import (
	"context"
	"time"
)

// Link is a second device on its way in: a device of the user shows a code, the
// new one gives it and is told a claim, the first one approves, the new one
// trades the claim for a grant. No secret of it is stored: the code is a MAC
// under a key that is not in the database, the claim a hash of 256 random bits.
type Link struct {
	ID        string // lnk_ and 16 characters
	UserID    string
	DeviceID  string // that opened it, and approves
	Code      [32]byte
	Tries     int // wrong codes that it still bears
	CreatedAt time.Time
	ExpiresAt time.Time
	LinkClaim
	ApprovedAt time.Time
}

// LinkClaim is the new device, as it said and was seen.
type LinkClaim struct {
	Claim     [32]byte // zero until somebody gave the right code
	Name      string
	InstallID string
	ClientIP  string
}

// Claimed reports whether somebody gave the right code.
func (l Link) Claimed() bool { return l.Claim != [32]byte{} }

// ClaimLink asks for a link by its code.
type ClaimLink struct {
	UserID string // of the user, or nobody's
	LinkID string // the link that what was given names, so that strangers' guesses use up no tries; empty for none
	Code   [32]byte
	LinkClaim
	Now time.Time
}

// Links are devices on their way in. A link past its ExpiresAt is not there;
// those of a device or user that is revoked, suspended or deleted go with it, and
// all of the user's with all devices or all others. So do those of a device whose
// latest root macaroon ended with its epoch.
type Links interface {
	// OpenLink stores a link in place of the user's former one, if the act has its
	// proof. Errors as for [Acts].
	OpenLink(ctx context.Context, l Link, act Act, ev Event) (*Delayed, error)
	// Link is the user's one at now. ErrNotFound.
	Link(ctx context.Context, userID string, now time.Time) (Link, error)
	// LinkByID is one at now. ErrNotFound.
	LinkByID(ctx context.Context, id string, now time.Time) (Link, error)
	// ClaimLink gives a link to whoever gives its code first. It is one transaction
	// whatever comes: the right code stores the claim, with ok; a wrong one takes a
	// try from the link that it names, and the link away with the last, with failed;
	// what names no link, or one that is claimed already, takes nothing, with failed.
	ClaimLink(ctx context.Context, in ClaimLink, ok, failed Event) (l Link, claimed bool, err error)
	// ApproveLink lets the claim be traded (see IssueDevice.LinkID). Again changes nothing. ErrNotFound, also
	// when nobody has claimed it, or deviceID did not open it.
	ApproveLink(ctx context.Context, userID, deviceID, id string, ev Event) error
	// CloseLink ends one. ErrNotFound, also for somebody else's.
	CloseLink(ctx context.Context, userID, id string, ev Event) error
}
