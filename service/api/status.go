package api

import (
	"net/http"
	"strconv"
	"time"
)

// statusOf is the one table from code to status.
var statusOf = map[string]int{
	CodeMalformed:     http.StatusUnauthorized,
	CodeTooLarge:      http.StatusUnauthorized,
	CodeInvalid:       http.StatusUnauthorized,
	CodeStale:         http.StatusServiceUnavailable,
	CodeRevoked:       http.StatusUnauthorized,
	CodeUnknownCaveat: http.StatusForbidden,
	CodeExpired:       http.StatusUnauthorized,
	CodeNotYetValid:   http.StatusUnauthorized,
	CodeWrongAudience: http.StatusUnauthorized,
	CodeRefused:       http.StatusForbidden,
	CodeReplayed:      http.StatusForbidden,

	CodeBadRequest:       http.StatusBadRequest,
	CodeBadCredentials:   http.StatusUnauthorized,
	CodeNoToken:          http.StatusUnauthorized,
	CodeForbidden:        http.StatusForbidden,
	CodeSuspended:        http.StatusForbidden,
	CodeSignupOff:        http.StatusForbidden,
	CodeBareRootRequired: http.StatusForbidden,
	CodeCSRF:             http.StatusForbidden,
	CodeProofRequired:    http.StatusForbidden,
	CodeProofRefused:     http.StatusForbidden,
	CodeSessionOver:      http.StatusForbidden,
	CodeNotFound:         http.StatusNotFound,
	CodeMethodNotAllowed: http.StatusMethodNotAllowed,
	CodeNameTaken:        http.StatusConflict,
	CodeBranchLimit:      http.StatusConflict,
	CodePolicyLimit:      http.StatusConflict,
	CodeTooMany:          http.StatusConflict,
	CodeTooManyDelayed:   http.StatusConflict,
	CodeLastAdmin:        http.StatusConflict,
	CodeOtherGeneration:  http.StatusGone,
	CodeBodyTooLarge:     http.StatusRequestEntityTooLarge,
	CodeUnsupportedMedia: http.StatusUnsupportedMediaType,
	CodeRateLimited:      http.StatusTooManyRequests,
	CodeInternal:         http.StatusInternalServerError,
	CodeBusy:             http.StatusServiceUnavailable,
	CodeUnavailable:      http.StatusServiceUnavailable,
}

// StatusOf is the HTTP status that a code is answered with: 500 for a code
// without a row, so that a forgotten one refuses.
func StatusOf(code string) int {
	if status := statusOf[code]; status != 0 {
		return status
	}
	return http.StatusInternalServerError
}

// ChallengeOf is the WWW-Authenticate value (RFC 6750 section 3): no error when
// no token was sent, insufficient_scope when the token is good and the request
// is not what it is for. ofToken: the code is a verdict on a token. Empty for
// none.
func ChallengeOf(status int, code string, ofToken bool) string {
	switch {
	case status == http.StatusUnauthorized && ofToken:
		return `Bearer error="invalid_token"`
	case status == http.StatusUnauthorized:
		return "Bearer"
	case status == http.StatusForbidden && (ofToken || code == CodeBareRootRequired):
		return `Bearer error="insufficient_scope"`
	}
	return ""
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

// NewProblem is the problem that a code is.
func NewProblem(code, detail string) *Problem {
	status := StatusOf(code)
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// Header are the headers that go with p: the challenge, and when to try again
// in whole seconds, rounded up; 0 does not say.
func (p *Problem) Header(ofToken bool, again time.Duration) map[string]string {
	h := map[string]string{}
	if c := ChallengeOf(p.Status, p.Code, ofToken); c != "" {
		h["WWW-Authenticate"] = c
	}
	if again > 0 {
		h["Retry-After"] = strconv.FormatInt(int64((again+time.Second-1)/time.Second), 10)
	}
	return h
}

// Pass is what is known of an accepted request's sender: what a gateway tells
// its backend. Username and Role are shown and decide nothing about the token.
type Pass struct {
	User, Username, Device, Audience, Role string
	Expires                                time.Time // the token's earliest time-before
}
