package client

import (
	"encoding/base64"
	"log/slog"
)

// Credential is what a request proves itself with: a token, a service
// credential, or (the zero value) nothing. It does not print.
type Credential struct{ header string }

// Bearer is a token as the credential.
func Bearer(token string) Credential { return Credential{"Bearer " + token} }

// Basic is a service credential. An id has no colon (RFC 7617, section 2), and
// neither part needs the form encoding of RFC 6749, section 2.3.1: both are
// base64url.
func Basic(id, secret string) Credential {
	return Credential{"Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))}
}

func (Credential) String() string       { return "[redacted]" }
func (Credential) GoString() string     { return "[redacted]" }
func (Credential) LogValue() slog.Value { return slog.StringValue("[redacted]") }
