// Package storage is the contract between the authority and its database: the
// records, the [Store] that keeps them, and what a backend MUST promise.
//
// Why it can be trusted with revocations: every method that changes something
// is one serializable transaction that either happened durably (a full sync)
// before the method returned nil, or did not happen. A backend that cannot tell
// returns [UnavailableError]; it never answers a success that did not happen.
// No secret is stored in a form that can be presented: root keys are derived
// and never stored, epoch secrets come in sealed, passwords, recovery codes and
// service secrets come in hashed.
//
// What it leaves to others: the meaning of names, roles, audiences and reasons;
// the clock (every time comes in as a value); the meaning of sealed bytes.
//
// Each backend runs the suite in package storagetest; a storage bug becomes a
// clause of that suite.
package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// ClockSkew is how long a revocation outlives the last token it concerns:
// verifiers whose clock is behind by less than this still refuse that token.
const ClockSkew = 10 * time.Minute

// Errors that callers branch on. A method's comment names those it returns;
// anything else is an [UnavailableError] or a bug.
var (
	ErrNotFound        = errors.New("not found")
	ErrNameTaken       = errors.New("name is taken")
	ErrSuspended       = errors.New("user is suspended")
	ErrEpochNotSigning = errors.New("epoch is not the signing one")
	ErrEpochExists     = errors.New("an epoch exists already")
	ErrBranchLimit     = errors.New("too many live branches revoked under this root key")
	ErrCodeUnknown     = errors.New("recovery code is unknown or used")
	ErrPasswordChanged = errors.New("the password was changed meanwhile")
	ErrTooMany         = errors.New("there are as many as there may be")
	ErrServiceGone     = errors.New("the service or its secret was removed")
	ErrPrivileged      = errors.New("the user has a role or a password")
	ErrOwned           = errors.New("the user is a service's")
)

// UnavailableError says that the database could not do what was asked: the
// caller takes nothing for done. Nothing was changed by the call, but for one
// case that no database can exclude: when the final sync itself fails, the
// change may be there after a crash. Reason is one line for an operator; it
// holds no path and no data.
type UnavailableError struct {
	Reason string // e.g. "database is read-only: check the owner and mode of the data directory"
	Err    error  // the driver's error, for the log only
}

func (e *UnavailableError) Error() string { return e.Reason }
func (e *UnavailableError) Unwrap() error { return e.Err }

// NewerSchemaError says that the database was written by a newer release.
type NewerSchemaError struct{ Have, Know int64 }

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("the database has schema version %d and this release knows %d: run the newer release, or restore a backup of the older one", e.Have, e.Know)
}

// State is what a follower polls. It is read in one statement.
type State struct {
	Generation string // names one uninterrupted history: changes when a backup is restored
	Sequence   int64  // of the latest revocation ever given out in this generation; 0 is none
	Audit      int64  // of the latest audit entry; 0 is none
	Revision   int64  // grows with every change of epochs, services, policies, users' roles (a user created with one, too) or names, and when a user is deleted
}

// User is an account. Times are stored in whole milliseconds, UTC; a zero time
// is "never".
type User struct {
	ID           string // usr_ and 16 characters
	Name         string // as shown, NFC
	NameKey      string // folded: unique
	PasswordHash string // PHC string; empty when the user has no password
	Role         string // empty or "admin"
	CreatedAt    time.Time
	SuspendedAt  time.Time
	SuspendedBy  string // the Owner when it did; empty for an operator or administrator
	Owner        string // the service whose user this is (see Subjects); empty for a local one
	Subject      string // that service's own id of the user
}

// Device is one login of a user. Revoked devices stay listed until their root
// key's row goes (see [Store.Expire]).
type Device struct {
	ID            string // dev_ and 16 characters
	UserID        string
	Name          string
	InstallID     string // empty when the client gave none; scoped to the user
	RootKeyID     [16]byte
	CreatedAt     time.Time
	LastSeenAt    time.Time
	ExpiresAt     time.Time // of its latest root macaroon that is known (see [Store.Restored])
	RevokedAt     time.Time
	RevokedReason string
	TTL           time.Duration // how long each of its root macaroons lives, whole milliseconds; 0 is the configured time
	StartedAt     time.Time     // the login from which the absolute limit counts
	ProvedAt      time.Time     // when a password or a recovery code was last shown from it
}

// RootKey is what is stored of a root key: never the key. The row stays until
// no token under it can live (plus [ClockSkew]) whatever else is deleted, so that
// revoking a user or device always finds all of them. That is the expiry of its
// latest root macaroon, and after a restore that kept the tokens at least
// [MaxRootTTL] from then: nothing tells how long those live that were minted in
// the history that is lost.
type RootKey struct {
	ID        [16]byte
	Epoch     uint32
	ExpiresAt time.Time
}

// SetPassword replaces a user's password.
type SetPassword struct {
	UserID string
	Hash   string
	Was    *string // replace only this hash: ErrPasswordChanged when it is another; nil replaces any
	Revoke bool    // all the user's devices
}

// IssueDevice asks for a device under a fresh root key.
type IssueDevice struct {
	UserID       string
	Device       Device // ID, Name, InstallID, CreatedAt and TTL are used
	RootKey      RootKey
	MaxDevices   int       // live devices a user may have, the new one included; at least 1
	PasswordHash *string   // the hash that a password was checked against: it must still be the user's; nil for none
	RecoveryCode *[32]byte // hash of a recovery code to consume; nil for none
	LinkID       string    // an approved link to consume (ErrNotFound without one); empty for none
	AskedIn      uint32    // epoch of the token that asks (ErrRevoked when it is retired); 0 when none does
}

// Grain is what a revocation kills. A user's is all of the user's devices.
type Grain uint8

const (
	GrainDevice Grain = 1 + iota // RootKeyID
	GrainBranch                  // RootKeyID and Fingerprint
	GrainEpoch                   // Epoch
	GrainPolicy                  // nothing: the policies or the role of Subject are others now (see [Policies])
)

// Revocation is one entry of the list.
type Revocation struct {
	Seq         int64
	Grain       Grain
	RootKeyID   [16]byte  // zero for an epoch and a policy
	Fingerprint [16]byte  // zero but for a branch; of a policy random, so that each change is an entry of its own
	Epoch       uint32    // zero but for an epoch
	ExpiresAt   time.Time // when the entry may go: ClockSkew is in it
	Subject     string    // of a policy: a user's, service's or device's id, empty for everybody
}

// RevokeDevices selects live devices of one user.
type RevokeDevices struct {
	UserID   string
	DeviceID string // this one only, or
	Except   string // all but this one; both empty is all
	// RootKeyID, when not nil, selects nothing but a device that is under this root key now.
	RootKeyID *[16]byte
	ExpiresAt time.Time // of a root macaroon of theirs that was presented; the table may be of a time before it
	Reason    string    // stable word, e.g. "logout", "owner", "suspended"
}

// RevokeBranch kills a delegated token and its descendants.
type RevokeBranch struct {
	RootKeyID   [16]byte
	Fingerprint [16]byte
	Ancestors   [][16]byte // fingerprints of every prefix of the chain, the branch's own excluded
	ExpiresAt   time.Time  // the branch's effective expiry; ClockSkew is added by the store
	MaxLive     int        // live branches allowed under the root key before this one; 0 is no limit (the owner)
}

// EpochState is where an epoch stands.
type EpochState uint8

const (
	EpochSigning   EpochState = 1 + iota // mints and verifies; exactly one
	EpochVerifying                       // verifies only
	EpochRetired                         // dead: a GrainEpoch revocation exists or has expired
)

// Epoch is one generation of the authority's secret, sealed.
type Epoch struct {
	Number    uint32 // never used twice; not even after a restore
	Sealed    []byte // empty once retired
	State     EpochState
	CreatedAt time.Time
	ExpiresAt time.Time // no token minted in it outlives this; zero when there is none
}

// RetireEpochs asks for the end of epochs.
type RetireEpochs struct {
	Number uint32                              // this one, or
	All    bool                                // every one that is not retired: another begins in any case
	Seal   func(number uint32) ([]byte, error) // the secret of one that begins, as for CreateEpoch
	Begun  Event                               // written when one begins
}

// Service is a service credential: what it serves, may call, may allow, and
// its rights are separate lists.
type Service struct {
	ID        string // svc_ and 16 characters
	Name      string // unique among live services
	Serves    []string
	Calls     []string
	Actions   []string
	Rights    []string
	CreatedAt time.Time
	Secrets   []ServiceSecret // those that are good now, oldest first
}

// ServiceSecret is one credential of a service: it has a root key of its own,
// so that what was minted with it dies with it.
type ServiceSecret struct {
	ID        string   // sec_ and 16 characters
	Hash      [32]byte // SHA-256 of the secret
	DeviceID  string   // dev_ and 16 characters: the device of its tokens
	RootKeyID [16]byte // of its tokens
	CreatedAt time.Time
}

// Event is one line of the audit. It holds opaque ids, never a name, a token
// or a secret.
type Event struct {
	Time      time.Time
	Type      string // stable, e.g. "login", "login_failed", "device_revoked"
	Actor     string // usr_…, svc_…, "operator" (a command on the server), or empty
	UserID    string
	DeviceID  string
	RootKeyID *[16]byte
	ClientIP  string
	Detail    string // one short line
}

// AuditEntry is an event as kept: numbered, and chained to its predecessor by
// Hash (see [ChainHash]).
type AuditEntry struct {
	Seq int64
	Event
	Address    AddressSeal
	Prev, Hash [32]byte
}

// Expire says what has had its time.
type Expire struct {
	Now         time.Time // revocations, policies, root keys (see [RootKey]) and their revoked or expired devices whose expiry (plus ClockSkew) is before this go
	AuditBefore time.Time // audit entries older than this go, the oldest first and none behind one that stays; zero keeps all
	Limit       int       // rows a table and call, at least 1; the caller repeats while any count equals it
}

// Expired counts what went.
type Expired struct{ Revocations, RootKeys, Devices, Epochs, Accepted, Policies, Audit int }

// Store is the contract. All methods are safe for concurrent use. Every method
// that changes something takes the audit event written in the same
// transaction; it fills in nothing but what the method's comment says.
// Concurrent changes SHOULD share one sync (group commit); a failed one MUST NOT
// touch the others of its group. An event without a Time is refused, and the
// change with it.
//
// A method whose context has ended before its change began returns the
// context's error and changes nothing; a change that has begun is finished and
// reported as it is. After Close every method returns an [UnavailableError].
type Store interface {
	Accepted
	Accounts
	Renewals

	// State MUST reflect every transaction that was answered before the call,
	// by this process or another one.
	State(ctx context.Context) (State, error)

	// Writable is nil while changes can be made. When one could not, it is that
	// one's UnavailableError until the store has found, by trying by itself, that
	// they can be again. It waits for nothing.
	Writable(ctx context.Context) error

	// CreateUser stores a new user with the hashes of recovery codes and, when
	// first is not nil, its first device as IssueDevice does, all or nothing.
	// The returned device is zero without first.
	// Errors: ErrNameTaken (same NameKey), ErrEpochNotSigning.
	CreateUser(ctx context.Context, u User, codes [][32]byte, first *IssueDevice, ev Event) (Device, error)
	User(ctx context.Context, id string) (User, error)                     // ErrNotFound
	UserByNameKey(ctx context.Context, key string) (User, error)           // ErrNotFound
	Users(ctx context.Context, afterKey string, limit int) ([]User, error) // ordered by NameKey
	// PasswordFrom gives the password hash of the first user from an id on, in the
	// order of ids, who has one; after the last comes the first.
	// Error: ErrNotFound when nobody has one.
	PasswordFrom(ctx context.Context, id string) (string, error)
	// SetPassword replaces the hash; with Revoke all the user's devices are
	// revoked (reason "password changed") in the same transaction.
	// Errors: ErrNotFound, ErrPasswordChanged, ErrOwned (a user with an Owner has none).
	SetPassword(ctx context.Context, in SetPassword, ev Event) ([]Revocation, error)
	// SuspendUser forbids login and revokes every live device and every unexpired
	// root key of the user (reason "suspended") in the same transaction. Suspending
	// a suspended user changes nothing, except that an Owner's suspension becomes
	// the caller's. Errors: ErrNotFound; ErrLastAdmin, when nobody else could
	// administer.
	SuspendUser(ctx context.Context, id string, ev Event) ([]Revocation, error)
	// ResumeUser allows login again. It brings no device back, and changes nothing
	// for a user who is not suspended. ErrNotFound.
	ResumeUser(ctx context.Context, id string, ev Event) error

	// IssueDevice is the transaction without which no token leaves. It re-reads
	// the user and the epoch (a login that races a suspension, a new password or
	// a rotation fails or is found by it), consumes the recovery code if one is
	// given (then every other live device is revoked, reason "recovery"), and
	// stores the root key.
	//
	// A live device of the same user with the same non-empty InstallID keeps its ID
	// and gets the new name and root key; its old root key is put on the list.
	// Otherwise a device is added, and live ones beyond MaxDevices are revoked
	// (reason "evicted"): those without InstallID first, idle longest first. Of the
	// user's revoked devices the latest MaxDevices stay listed. LastSeenAt starts
	// as CreatedAt. The session begins anew: StartedAt is CreatedAt, and so is
	// ProvedAt if a password or a code was given (else it is zero).
	//
	// ev.DeviceID and ev.RootKeyID are filled in.
	// It returns the device as stored and every revocation made.
	// Errors: ErrNotFound, ErrSuspended, ErrPasswordChanged, ErrEpochNotSigning,
	// ErrCodeUnknown, ErrRevoked.
	IssueDevice(ctx context.Context, in IssueDevice, ev Event) (Device, []Revocation, error)
	Devices(ctx context.Context, userID string) ([]Device, error)                              // live and revoked; newest first
	Device(ctx context.Context, userID, deviceID string) (Device, error)                       // ErrNotFound, also for somebody else's
	RenameDevice(ctx context.Context, userID, deviceID, name string, ev Event) (Device, error) // ErrNotFound, also when revoked

	// RevokeDevices puts the root key IDs of the selected live devices on the
	// list, as whatever lists a root key until no token under it can live (see
	// [RootKey]), plus ClockSkew. A device that is revoked already adds nothing and is no error.
	// One audit event per revoked device, with DeviceID and RootKeyID filled in.
	// ErrNotFound when DeviceID is nobody's or somebody else's.
	RevokeDevices(ctx context.Context, in RevokeDevices, ev Event) ([]Revocation, error)
	// RevokeRootKey lists a root key that no device has: one whose token was
	// minted in a history that a restored backup does not know, until expires (plus
	// ClockSkew) or for longer if there is a row of it that says so. One that is
	// listed already adds nothing, no event either. ev.RootKeyID is filled in.
	RevokeRootKey(ctx context.Context, id [16]byte, expires time.Time, ev Event) ([]Revocation, error)
	// RevokeBranch adds the branch unless it, one of its ancestors, or its root
	// key is on the list already; then it returns false and stores nothing, no
	// event either. ErrBranchLimit.
	RevokeBranch(ctx context.Context, in RevokeBranch, ev Event) (Revocation, bool, error)
	// Revocations yields entries with Seq > after in order of Seq. A sequence is
	// given out inside the revoking transaction: when entry n is visible every
	// entry before it is, or has expired. It MUST NOT hold more than a bounded
	// number of entries in memory. Breaking off is fine.
	Revocations(ctx context.Context, after int64) iter.Seq2[Revocation, error]

	Epochs(ctx context.Context) ([]Epoch, error) // ordered by Number
	// CreateEpoch gives out the next number, has the secret sealed for it, and
	// makes it the signing epoch; the former one verifies only. With onlyFirst
	// it is ErrEpochExists when any epoch (of any state) is there. An error of
	// seal is returned as it is, and a panic reaches the caller. seal runs inside
	// the transaction, perhaps twice: it MUST NOT call the store.
	//
	// After a restore numbers follow the clock (see Restored), and a number is not
	// given out before its second: the call waits until ev.Time, and what has passed
	// since, is there. That is a second at most for the first epoch, and for each
	// later one while more than one a second is asked for.
	CreateEpoch(ctx context.Context, onlyFirst bool, seal func(number uint32) ([]byte, error), ev Event) (Epoch, error)
	// RetireEpochs erases the sealed secret of an epoch and lists a GrainEpoch
	// revocation that lives until the epoch's ExpiresAt (ev.Time if that is later)
	// plus ClockSkew. When it is the one that signs, another begins as CreateEpoch
	// has it, in the same transaction: nothing is renewed from the one into the
	// other. Links are closed that were opened by a device whose latest root
	// macaroon ends with it. There is one event for each epoch; ev.Detail is filled
	// in. Retiring a retired epoch returns its entry and changes nothing.
	// ErrNotFound, also when that entry has expired.
	RetireEpochs(ctx context.Context, in RetireEpochs, ev Event) ([]Revocation, error)

	// ResealEpochs replaces the sealed secret of every epoch that is not retired
	// by what reseal makes of it, all or nothing, and counts them. An error of
	// reseal is returned as it is; it runs inside the transaction, as seal does.
	ResealEpochs(ctx context.Context, reseal func(number uint32, sealed []byte) ([]byte, error), ev Event) (int, error)

	AddService(ctx context.Context, s Service, ev Event) error // ErrNameTaken
	Services(ctx context.Context) ([]Service, error)           // live ones, ordered by Name
	ServiceSecrets
	Subjects

	Policies

	// AppendAudit writes events that belong to no change. One that a user caused,
	// or nobody known about a user, is written without its ClientIP when there is no
	// such user any more: DeleteUser has erased the others.
	AppendAudit(ctx context.Context, ev ...Event) error
	Audit(ctx context.Context, after int64, limit int) ([]AuditEntry, error) // ordered by Seq

	// Expire deletes what has had its time, Limit rows a table. Epochs go when
	// they are not signing and their ExpiresAt plus ClockSkew is past.
	Expire(ctx context.Context, in Expire) (Expired, error)
	// Check reads the whole database and says whether it is sound. It can take
	// minutes. An UnavailableError says what is not.
	Check(ctx context.Context) error
	// Backup writes a consistent copy to a new file at path (mode 0600; it is
	// an error when the file exists), while others read and write.
	Backup(ctx context.Context, path string) error
	// Restored begins a new history after a backup was put in place: a new
	// generation, and, unless keepTokens, every epoch retired, so that nothing
	// revoked after the backup was taken can come back. With keepTokens there may
	// be tokens that nothing here tells of, until MaxRootTTL and ClockSkew after
	// ev.Time: so every root key, a service's too, and the epoch that signs live at
	// least until then. Numbers of epochs created later are above any that the lost
	// history can have used: the next number is above ev.Time in Unix seconds.
	Restored(ctx context.Context, keepTokens bool, ev Event) (State, error)
	// Close waits for the changes that were accepted. Closing again is fine.
	Close() error
}
