package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/storage"
)

// Error is a refusal that the asker may read: a stable code (package api) and
// one sentence with nothing secret in it.
type Error struct {
	Code       string
	Detail     string
	Field      string        // JSON pointer into the body, for api.CodeBadRequest
	RetryAfter time.Duration // for what may be tried again
	Generation string        // the one in force, for api.CodeOtherGeneration
	Err        error         // for the log only
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s (%v)", e.Code, e.Detail, e.Err)
	}
	return e.Code + ": " + e.Detail
}

func (e *Error) Unwrap() error { return e.Err }

func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func badField(field, format string, args ...any) *Error {
	return &Error{Code: api.CodeBadRequest, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// AsError is the one table from what can go wrong below to what is said of it.
// What it does not know is api.CodeInternal: logged, never shown.
func AsError(err error) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	if down, ok := errors.AsType[*storage.UnavailableError](err); ok {
		return &Error{Code: api.CodeUnavailable, Detail: down.Reason, RetryAfter: time.Second, Err: down.Err}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &Error{Code: api.CodeUnavailable, Detail: "the request ended before it was answered", RetryAfter: time.Second}
	}
	if errors.Is(err, storage.ErrRenewalLimit) {
		return &Error{Code: api.CodeRateLimited, Detail: "this device was renewed too often just now", RetryAfter: 10 * time.Second}
	}
	if errors.Is(err, storage.ErrEpochNotSigning) {
		return &Error{Code: api.CodeBusy, Detail: "the keys were rotated at this moment: ask again", RetryAfter: time.Second}
	}
	if errors.Is(err, keyring.ErrCannotOpen) {
		return &Error{Code: api.CodeUnavailable, Detail: err.Error(), RetryAfter: time.Second}
	}
	for _, row := range storageErrors {
		if errors.Is(err, row.err) {
			return &Error{Code: row.code, Detail: row.detail, Err: err}
		}
	}
	return &Error{Code: api.CodeInternal, Detail: "something went wrong here", Err: err}
}

var storageErrors = []struct {
	err          error
	code, detail string
}{
	{storage.ErrNotFound, api.CodeNotFound, "there is no such thing"},
	{storage.ErrNameTaken, api.CodeNameTaken, "the name is taken"},
	{storage.ErrSuspended, api.CodeSuspended, "the account is suspended"},
	{storage.ErrProofRequired, api.CodeProofRequired, "this needs the password or a recovery code: send password or code in the body"},
	{storage.ErrTooManyActs, api.CodeTooMany, "too many acts wait already: cancel one, or send the password or a recovery code"},
	{storage.ErrLastAdmin, api.CodeLastAdmin, "the user is the last administrator: make somebody else an administrator first, or take the role with macaroond user role NAME none"},
	{storage.ErrBranchLimit, api.CodeBranchLimit, "too many branches of this device are revoked already; its owner can revoke this one, or the device"},
	{storage.ErrPolicyLimit, api.CodeTooMany, "too many policies: remove some, or put their caveats into one"},
	{storage.ErrTooMany, api.CodeTooMany, "there are as many as there may be: remove one first"},
	{storage.ErrPrivileged, api.CodeForbidden, "the user has a role or a password, so nobody mints for it"},
	{storage.ErrOwned, api.CodeForbidden, "the user is a service's: that service decides about it, and it has no password or role here"},
	{storage.ErrRevoked, api.CodeRevoked, "the device is logged out"},
	{storage.ErrSessionOver, api.CodeSessionOver, "the session has lasted as long as it may: the token is good until it expires; log in again"},
	{storage.ErrCodeUnknown, api.CodeBadCredentials, "the name or the code is wrong"},
}
