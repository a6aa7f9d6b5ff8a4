package api

import "time"

// Pass is what is known of an accepted request's sender: what a gateway tells
// its backend. Username and Role are shown and decide nothing about the token.
type Pass struct {
	User, Username, Device, Audience, Role string
	Expires                                time.Time // the token's earliest time-before
}

// Refusal is why a token was not accepted: a decision's code, or, from a
// verifier that could not come to one, rate_limited, busy or forbidden.
type Refusal struct {
	Code, Reason string
	RetryAfter   time.Duration // for what may be tried again
	Policy       bool          // the code is a policy's doing, and no last word on the token
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Reason }

// OfToken reports whether the code is a verdict on a token.
func (r *Refusal) OfToken() bool {
	switch r.Code {
	case CodeRateLimited, CodeBusy, CodeForbidden, CodeCSRF, CodeNoToken, CodeBadRequest, CodeBodyTooLarge:
		return false
	}
	return true
}

// Problem is what is answered to a refusal, and the headers that go with it.
func (r *Refusal) Problem() (*Problem, map[string]string) {
	p := NewProblem(r.Code, r.Reason)
	again := r.RetryAfter
	if r.Code == CodeStale {
		again = max(again, time.Second)
	}
	return p, p.Header(r.OfToken(), again)
}

// Introspection is RFC 7662's answer. Everything but Active is left out when
// Active is false. Caveats to Prefix are there when the asker undertook to
// judge every caveat itself (caveats=enforce).
type Introspection struct {
	Active    bool   `json:"active"`
	TokenType string `json:"token_type,omitempty"`
	Exp       int64  `json:"exp,omitzero"`
	Sub       string `json:"sub,omitempty"`
	Username  string `json:"username,omitempty"`
	Aud       string `json:"aud,omitempty"`
	Iss       string `json:"iss,omitempty"`
	Device    string `json:"device,omitempty"`
	RootKeyID string `json:"root_key_id,omitempty"`
	Role      string `json:"role,omitempty"`

	Caveats      []string      `json:"caveats,omitempty"`      // all of them, in order
	Fingerprints []string      `json:"fingerprints,omitempty"` // of the signatures after the 4th caveat to the last, in order: 22 characters of base64url each
	Feed         *FeedPosition `json:"feed,omitempty"`         // where the authority's list of revocations stood
	Prefix       *Prefix       `json:"prefix,omitempty"`

	Policies      []string `json:"policies,omitempty"`       // caveats to be ANDed to the token's own, in that order
	PoliciesUntil *Time    `json:"policies_until,omitempty"` // when the first of them ends: then ask again
}

// Prefix is the chain's signature right after the audience caveat: a secret,
// with which everything that begins with the same identifier and Caveats
// caveats can be verified, and with which tokens for that audience could be made.
type Prefix struct {
	Caveats   int    `json:"caveats"`   // how many it covers, mint caveats included
	Signature string `json:"signature"` // 32 bytes in base64url
}

// FeedPosition is a point of the revocation feed.
type FeedPosition struct {
	Generation string `json:"generation"`
	Sequence   int64  `json:"sequence"`
	AsOf       Moment `json:"as_of"`
}

// Feed is the answer of GET /v1/revocations: the entries after the asked
// sequence. Next is what to ask after next.
type Feed struct {
	Generation string       `json:"generation"`
	AsOf       Moment       `json:"as_of"` // the node's own last complete reading of the table
	Entries    []Revocation `json:"entries"`
	Next       int64        `json:"next"`
}

// Revocation is an entry of the feed. RootKeyID is in base64url as in an
// identifier, and so is Fingerprint. A reader that meets a
// grain that it does not know must not go on as if it understood the list.
type Revocation struct {
	Seq         int64  `json:"seq"`
	Grain       string `json:"grain"` // "device", "branch", "epoch" or "policy"
	RootKeyID   string `json:"root_key_id,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Epoch       uint32 `json:"epoch,omitzero"`
	Subject     string `json:"subject,omitempty"` // of a policy: a user's, service's or device's id; left out for everybody
	ExpiresAt   Time   `json:"expires_at"`        // rounded up: the entry may go then
}

// Grains of the feed.
const (
	GrainDevice = "device" // RootKeyID: everything under that root key
	GrainBranch = "branch" // RootKeyID and Fingerprint: a token and what was derived from it
	GrainEpoch  = "epoch"  // Epoch: everything minted in it
	GrainPolicy = "policy" // Subject: nothing dies, and what was known of its policies and role counts no more
)

// MaxFeedWait is the longest that a reader of the feed may have its question wait.
const MaxFeedWait = 30 * time.Second

// Moment is a timestamp in whole milliseconds, UTC, for what is measured
// against a staleness bound.
type Moment struct{ time.Time }

// MarshalJSON writes RFC 3339 with milliseconds and Z. It never fails.
func (m Moment) MarshalJSON() ([]byte, error) {
	return m.UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`), nil
}
