package api

import (
	"errors"
	"strings"
)

// MintIn is the body of POST /v1/mint: a service with the right "mint" asks for
// a root macaroon for one of its own users. Subject is the service's own id of
// the user, 1 to 128 printable ASCII characters that can be a segment of a path.
// Username is shown to people behind the service's name and a colon, and decides
// nothing. TTL is in seconds, at most root_ttl.
type MintIn struct {
	Subject  string   `json:"subject"`
	Username string   `json:"username,omitempty"`
	Device   DeviceIn `json:"device"`
	TTL      int64    `json:"ttl,omitzero"`
	Audience string   `json:"audience,omitempty"`
}

// CheckSubject takes for a subject what can be one segment of a path in its one
// spelling.
func CheckSubject(subject string) error {
	if subject == "" || len(subject) > 128 || subject == "." || subject == ".." ||
		strings.ContainsFunc(subject, func(r rune) bool { return r <= ' ' || r > '~' }) || strings.ContainsAny(subject, `/\%;?#`) {
		return errors.New(`a subject is neither . nor .., but 1 to 128 printable ASCII characters without space, / \ % ; ? #`)
	}
	return nil
}

// Subject is a user of a service's own.
type Subject struct {
	Subject     string `json:"subject"`
	ID          string `json:"id"` // usr_…
	Username    string `json:"username"`
	CreatedAt   Time   `json:"created_at"`
	SuspendedAt *Time  `json:"suspended_at,omitempty"`
}

// Subjects is one page; Next, when not empty, is the next page's ?after=.
type Subjects struct {
	Subjects []Subject `json:"subjects"`
	Next     string    `json:"next,omitempty"`
}

// ServiceSecret is one of a service's credentials; Secret is there once, when it
// was made.
type ServiceSecret struct {
	ID        string `json:"id"` // sec_…
	Secret    string `json:"secret,omitempty"`
	Device    string `json:"device"` // dev_…: the device of the tokens minted with it
	CreatedAt Time   `json:"created_at"`
}
