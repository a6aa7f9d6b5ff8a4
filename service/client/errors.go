package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"time"

	"macaroond/service/api"
)

// ErrUnreachable means that no whole answer came: no connection, no trust in
// its certificate, or no end within the timeout. Whether the request had an
// effect is not known.
var ErrUnreachable = errors.New("cannot reach the server")

// ErrID means that what was given as an id is not written as one. Nothing was
// sent.
var ErrID = errors.New("not an id")

// ErrText means that a text of what was given is not UTF-8, which JSON cannot
// say. Nothing was sent.
var ErrText = errors.New("a text of the request is not UTF-8")

// StatusError is an answer that is not macaroond's: a proxy's, another
// program's, or a redirect, which is never followed.
type StatusError struct {
	Status   int
	Location string // of a redirect; the server's words, unchecked
}

func (e *StatusError) Error() string {
	if e.Location != "" {
		return fmt.Sprintf("the server redirects (%d) to %s; redirects are not followed, give the final URL", e.Status, strconv.QuoteToASCII(e.Location))
	}
	return fmt.Sprintf("the server answered %d %s, and not as macaroond does; check the URL and what stands in between",
		e.Status, http.StatusText(e.Status))
}

// OAuthError is a refusal by one of the OAuth endpoints (RFC 6749, section 5.2).
type OAuthError struct {
	Status      int
	Code        string
	Description string
}

func (e *OAuthError) Error() string {
	if e.Description == "" {
		return e.Code
	}
	return e.Code + ": " + e.Description
}

// RetryAfter is how long the server asked to wait before the request that met
// err is tried again; false when it did not say.
func RetryAfter(err error) (time.Duration, bool) {
	d, ok := errors.AsType[*deferred](err)
	if !ok {
		return 0, false
	}
	return d.after, true
}

// deferred is a refusal with a Retry-After.
type deferred struct {
	error
	after time.Duration
}

func (d *deferred) Unwrap() error { return d.error }

// refusal reads an answer that is no success.
func refusal(status int, header http.Header, body []byte, oauth bool) error {
	err := refusalBody(status, header, body, oauth)
	// Seconds only: a date would need a clock, and macaroond sends none.
	if s, e := strconv.ParseUint(header.Get("Retry-After"), 10, 31); e == nil {
		return &deferred{err, time.Duration(s) * time.Second}
	}
	return err
}

func refusalBody(status int, header http.Header, body []byte, oauth bool) error {
	media, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	switch {
	case status/100 == 3:
		return &StatusError{status, header.Get("Location")}
	case media == "application/problem+json":
		var p api.Problem
		if json.Unmarshal(body, &p) == nil && p.Code != "" {
			p.Status = status // of the two, the one that was acted on by everybody in between
			return &p
		}
	case media == "application/json" && oauth:
		var o api.OAuthError
		if json.Unmarshal(body, &o) == nil && o.Error != "" {
			return &OAuthError{status, o.Error, o.ErrorDescription}
		}
	}
	return &StatusError{Status: status}
}
