package storage

import (
	"context"
	"errors"
	"time"
)

// ErrPolicyLimit says that the target, or everybody together, has as many
// policies as there may be.
var ErrPolicyLimit = errors.New("too many policies")

// PolicyNews is how long the list of revocations tells that a policy changed,
// [ClockSkew] aside. A verifier that was away for longer cannot know what it
// missed, and MUST forget what it learned before.
const PolicyNews = 24 * time.Hour

// Policy is caveats for tokens that are out already: of a user, of a device, or
// everybody's. They are ANDed to each token's own.
type Policy struct {
	ID        string // pol_ and 16 characters
	Target    string // a user's, service's or device's id; empty is everybody
	Caveats   []string
	Reason    string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: until it is removed
}

// AddPolicy asks for a policy.
type AddPolicy struct {
	Policy      Policy
	MaxOfTarget int // policies that the target may have, the new one included
	MaxAll      int // and everybody together
}

// Policies keeps caveats for tokens that are out already. Each change puts a
// [GrainPolicy] entry on the list and moves the revision, in one transaction:
// who follows the list knows of it by its place there.
type Policies interface {
	// AddPolicy stores a policy. One whose time is over by ev.Time counts for no
	// limit. ErrNotFound when the target is the id of no user, service or device
	// (a service's own among them); ErrPolicyLimit.
	AddPolicy(ctx context.Context, in AddPolicy, ev Event) (Revocation, error)
	RemovePolicy(ctx context.Context, id string, ev Event) (Revocation, error) // ErrNotFound
	// Policies gives all of them in the order in which they were made; those
	// that [Store.Expire] has not come to yet, too.
	Policies(ctx context.Context) ([]Policy, error)
}
