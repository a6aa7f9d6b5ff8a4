package api

// Codes of a decision, in the order of precedence: with several refusals the
// first of them is the answer's.
const (
	CodeOK            = "ok"
	CodeMalformed     = "malformed"
	CodeTooLarge      = "too_large"
	CodeInvalid       = "invalid"
	CodeStale         = "stale"
	CodeRevoked       = "revoked"
	CodeUnknownCaveat = "unknown_caveat"
	CodeExpired       = "expired"
	CodeNotYetValid   = "not_yet_valid"
	CodeWrongAudience = "wrong_audience"
	CodeRefused       = "refused"
	CodeReplayed      = "replayed"
)

// DecisionCodes are all of them.
var DecisionCodes = [...]string{
	CodeOK, CodeMalformed, CodeTooLarge, CodeInvalid, CodeStale, CodeRevoked,
	CodeUnknownCaveat, CodeExpired, CodeNotYetValid, CodeWrongAudience, CodeRefused, CodeReplayed,
}

// Codes of problems that are not about a token.
const (
	CodeBadRequest       = "bad_request"        // 400, with field
	CodeBadCredentials   = "bad_credentials"    // 401: unknown user or wrong password or code, one answer for all
	CodeNoToken          = "no_token"           // 401: no credential was sent
	CodeForbidden        = "forbidden"          // 403
	CodeSuspended        = "suspended"          // 403, only after the right password
	CodeSignupOff        = "signup_off"         // 403
	CodeBareRootRequired = "bare_root_required" // 403
	CodeCSRF             = "csrf"               // 403: the cookie came with a request that may be a foreign page's
	CodeProofRequired    = "proof_required"     // 403: the root alone is not enough, and this cannot wait
	CodeProofRefused     = "proof_refused"      // 403: the token is good, the password or code beside it is wrong
	CodeSessionOver      = "session_over"       // 403: nothing later can be given, or the user is not known any more; log in again
	CodeNotFound         = "not_found"          // 404
	CodeMethodNotAllowed = "method_not_allowed" // 405
	CodeNameTaken        = "name_taken"         // 409
	CodeBranchLimit      = "branch_limit"       // 409
	CodeTooMany          = "too_many"           // 409: as many as there may be of what was asked for; the detail says what to do
	CodeLastAdmin        = "last_admin"         // 409
	CodeOtherGeneration  = "other_generation"   // 410: the feed is of another history, named in the problem
	CodeBodyTooLarge     = "body_too_large"     // 413
	CodeUnsupportedMedia = "unsupported_media"  // 415
	CodeRateLimited      = "rate_limited"       // 429, Retry-After
	CodeInternal         = "internal"           // 500
	CodeBusy             = "busy"               // 503, Retry-After: too many at once, or nobody can know whether a DPoP proof was used
	CodeUnavailable      = "unavailable"        // 503: the database
)
