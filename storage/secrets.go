package storage

import (
	"context"
	"time"
)

// AddServiceSecret gives a service another secret.
type AddServiceSecret struct {
	ServiceID string
	Secret    ServiceSecret
	Max       int // secrets that a service may have, the new one included; at least 1
}

// MintService asks for a token under a secret's root key.
type MintService struct {
	ServiceID, SecretID string
	Epoch               uint32
	ExpiresAt           time.Time
}

// ServiceSecrets are the credentials of services, each with a root key of its
// own. until is a time that no token minted before the call outlives, as far as
// the caller knows: a root key is listed for as long, and for longer if it may
// have one that does (see [RootKey]).
type ServiceSecrets interface {
	// AddServiceSecret: the service has one more secret at once.
	// Errors: ErrNotFound, ErrTooMany.
	AddServiceSecret(ctx context.Context, in AddServiceSecret, ev Event) error
	// RemoveServiceSecret ends a secret and, by its root key, what was minted
	// with it. The last one may be removed. ErrNotFound, also for another
	// service's.
	RemoveServiceSecret(ctx context.Context, serviceID, secretID string, until time.Time, ev Event) ([]Revocation, error)
	// RemoveService ends a service: all its secrets as RemoveServiceSecret does,
	// and the devices of its users (reason "service removed"), who have nobody
	// left to answer for them. Very many users do not go in one transaction: when
	// that is interrupted, the service is there without secrets, and what is
	// revoked by then is returned with the error. ErrNotFound.
	RemoveService(ctx context.Context, id string, until time.Time, ev Event) ([]Revocation, error)
	// MintService is the transaction without which no token of a service leaves.
	// It re-reads the secret and the epoch, and stores the root key with its
	// greatest expiry. ev.DeviceID and ev.RootKeyID are filled in.
	// Errors: ErrServiceGone, ErrEpochNotSigning.
	MintService(ctx context.Context, in MintService, ev Event) error
}
