package storage

import "context"

// Subjects are users that a service mints for: another backend's own. A user
// with an Owner has no password and no role, and a NameKey that no name folds to.
type Subjects interface {
	// IssueSubject is IssueDevice for the user u of the service u.Owner, made in
	// the same transaction when there is none (u.ID, NameKey, Subject, Name and
	// CreatedAt are used). A u.Name that is not empty replaces the former one.
	// Nobody is found by anything but ID, Owner and Subject together.
	// Errors: those of IssueDevice; ErrServiceGone (u.Owner is not there);
	// ErrNameTaken (the subject is another ID's: read it again); ErrPrivileged
	// (the user has a role or a password).
	IssueSubject(ctx context.Context, u User, in IssueDevice, ev Event) (Device, []Revocation, error)
	// Subject is a service's user. ErrNotFound, also for another service's.
	Subject(ctx context.Context, owner, subject string) (User, error)
	// Subjects are a service's users after a subject, ordered by Subject.
	Subjects(ctx context.Context, owner, after string, limit int) ([]User, error)
	// SuspendSubject is SuspendUser by the owner.
	// ErrNotFound.
	SuspendSubject(ctx context.Context, owner, subject string, ev Event) ([]Revocation, error)
	// ResumeSubject is ResumeUser by the owner, who undoes only what the owner did.
	// Errors: ErrNotFound; ErrSuspended when somebody else suspended the user.
	ResumeSubject(ctx context.Context, owner, subject string, ev Event) error
}
