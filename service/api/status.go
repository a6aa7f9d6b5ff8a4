package api

import "net/http"

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
	CodeTooMany:          http.StatusConflict,
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

// ChallengeOf is the WWW-Authenticate value (RFC 6750 section 3); empty for none.
// When no token was sent it has no error, and a realm, because a challenge must
// have some attribute. When the token is good but not for this request, the error
// is insufficient_scope. ofToken: the code is a verdict on a token.
func ChallengeOf(status int, code string, ofToken bool) string {
	switch {
	case status == http.StatusUnauthorized && ofToken:
		return `Bearer error="invalid_token"`
	case status == http.StatusUnauthorized:
		return `Bearer realm="macaroond"`
	case status == http.StatusForbidden && (ofToken || code == CodeBareRootRequired):
		return `Bearer error="insufficient_scope"`
	}
	return ""
}
