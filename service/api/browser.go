package api

import "strings"

// Cookie is the name of browser mode's cookie. With the prefix __Host- a browser
// takes it over TLS only, for this one host and all its paths, and no other
// host of the site can set it (RFC 6265bis section 4.1.3.2).
const Cookie = "__Host-macaroon"

// Modes of a login: where its token goes. None is ModeToken.
const (
	ModeToken  = "token"  // into the answer
	ModeCookie = "cookie" // into the cookie
)

// CSRFHeader is where a page puts the synchronizer token.
const CSRFHeader = "X-CSRF-Token"

// CookieValues are the values of all cookies of that name in all Cookie headers:
// two are more than a browser sends, and two readers could each take another one.
func CookieValues(headers []string) (values []string) {
	for _, header := range headers {
		for pair := range strings.SplitSeq(header, ";") {
			name, value, ok := strings.Cut(pair, "=")
			if ok && strings.Trim(name, " \t") == Cookie {
				values = append(values, value)
			}
		}
	}
	return values
}

// Session is the answer of GET /v1/session. CSRFToken is there when the request
// came with the cookie.
type Session struct {
	User      UserRef   `json:"user"`
	Device    DeviceRef `json:"device"`
	ExpiresAt Time      `json:"expires_at"` // the root macaroon's
	CSRFToken string    `json:"csrf_token,omitempty"`
}

// TicketIn is the body of POST /v1/ticket. Path, when given, is one pattern.
type TicketIn struct {
	Audience string `json:"audience"`
	Path     string `json:"path,omitempty"`
}

// Ticket is a token good once, for thirty seconds, for one audience.
type Ticket struct {
	Ticket    string `json:"ticket"`
	ExpiresAt Time   `json:"expires_at"`
}
