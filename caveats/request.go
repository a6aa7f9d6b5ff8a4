package caveats

import (
	"net/netip"
	"strconv"
	"time"
)

// Request is the facts of one request, as values. The zero value of a fact
// means that it is not known, and a caveat that needs it refuses.
//
// Checks only read a Request; one may be used by several goroutines at once.
type Request struct {
	// Time is the verifier's clock.
	Time time.Time
	// User and Device are the token's own identity, as the authority wrote it
	// in the mint caveats; never what a later caveat says.
	User, Device string
	// Audience is the verifier's own name, not what the token says.
	Audience string
	// Method is the request's method, case-sensitive (RFC 9110, section 9.1).
	Method string
	// Target is the request target in origin form as it came (RFC 9112, section
	// 3.2.1): path and perhaps a query, still percent-encoded.
	Target string
	// Actions are what the request is about to do, in the resource server's
	// words: each 1 to 128 printable ASCII characters without space or '*'.
	Actions []string
	// ClientIP is the address of the client. IPv4 mapped into IPv6 counts as
	// IPv4; an address with a zone is in no network.
	ClientIP netip.Addr
	// Origins are all values of the Origin header, in order (RFC 6454, section 7).
	Origins []string
	// BodySHA256 is the SHA-256 of the request's body: 64 lower-case
	// hexadecimal digits.
	BodySHA256 string
	// ProofKey is the RFC 7638 thumbprint of the key of a DPoP proof (RFC 9449)
	// that was valid for this request and this token.
	ProofKey string
	// Via is how the token came: [Cookie], which browsers send along by
	// themselves; empty from a header, or when that is not known.
	Via string
	// Extra are facts for a resource server's own caveats; see [Extension].
	Extra map[string]string
}

// factLimit bounds, in bytes, how much of one fact an explanation repeats.
const factLimit = 100

// fact makes a fact fit for a sentence. Facts are the client's words: whatever
// is not printable ASCII is quoted and escaped, so that none of them can break
// a log line or a terminal.
func fact(s string) string {
	if len(s) > factLimit {
		return strconv.QuoteToASCII(s[:factLimit]) + " (cut)"
	}
	if s == "" || !printable(s) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// missing is the sentence about a fact that the verifier did not state.
func missing(what string) string {
	return "the request's " + what + " is not known"
}
