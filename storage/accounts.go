package storage

import (
	"context"
	"errors"
	"time"
)

// ErrLastAdmin says that nobody could administer afterwards.
var ErrLastAdmin = errors.New("the user is the last administrator")

// ChangePassword is a user's own change of the password. Changing one needs a
// password or a code whatever the act allows; a first one, what the act says.
type ChangePassword struct {
	Hash        string // the new one
	KeepDevices bool   // otherwise every root key of the user but the asking device's is revoked (reason "password changed")
}

// SetRole gives a user a role, or none.
type SetRole struct {
	UserID, Role string
	MayBeLast    bool // the last administrator may lose the role: for whoever owns the server
}

// DeleteUser removes a user. With an act it is the user's own wish.
type DeleteUser struct {
	UserID string
	Act    *Act
	// RootKeyID, when not nil, is whose root asks. It goes on the list until at least
	// ExpiresAt whether the table has it or not.
	RootKeyID *[16]byte
	ExpiresAt time.Time
}

// Accounts are what users and administrators do to an account once it is there.
type Accounts interface {
	Acts
	Links

	// ChangePassword as the user asks. Errors as for [Acts].
	ChangePassword(ctx context.Context, in ChangePassword, act Act, ev Event) ([]Revocation, *Delayed, error)
	// ReplaceRecoveryCodes puts new hashes in place of all that are left. Without
	// an act it is an operator's; errors as for [Acts].
	ReplaceRecoveryCodes(ctx context.Context, userID string, codes [][32]byte, act *Act, ev Event) (*Delayed, error)
	// RecoveryCodes is how many are left.
	RecoveryCodes(ctx context.Context, userID string) (int, error)
	// OwnInstall reports whether a device of the user with this name, live or
	// listed, has the install ID. An empty one is nobody's.
	OwnInstall(ctx context.Context, nameKey, installID string) (bool, error)
	// SetRole gives or takes a role. Followers are told of it as of a change of the
	// user's policies: see [Policies]. Errors: ErrNotFound, ErrLastAdmin, ErrOwned.
	SetRole(ctx context.Context, in SetRole, ev Event) error
	// DeleteUser revokes every root key of the user and removes the user, the
	// devices, recovery codes, links, delayed acts and policies, and the address
	// from audit entries that the user, or nobody known, caused about the user. What
	// stays is the audit's opaque ids, and root key IDs until they expire. The
	// revision moves, so that no name is remembered. Errors: ErrNotFound,
	// ErrLastAdmin; those of [Acts] for the act.
	DeleteUser(ctx context.Context, in DeleteUser, ev Event) ([]Revocation, error)
}
