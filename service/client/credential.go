package client

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unique"

	"macaroond/service/api"
	"macaroond/service/token"
)

// Credential is what a request proves itself with: a token, a service
// credential, or (the zero value) nothing. It does not print: in somebody's
// unexported field fmt calls no method, and finds an address here. Equal ones
// are equal.
type Credential struct{ header unique.Handle[string] }

// Bearer is a token as the credential.
func Bearer(token string) Credential { return credential("Bearer " + token) }

// Basic is a service credential. An id has no colon (RFC 7617, section 2), and
// neither part needs the form encoding of RFC 6749, section 2.3.1: both are
// base64url.
func Basic(id, secret string) Credential {
	return credential("Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
}

// ParseCredential reads a service credential from its file: what macaroond service
// add --json printed, or ID:SECRET on one line. The error repeats nothing of it.
func ParseCredential(text string) (Credential, error) {
	text = strings.TrimSpace(text)
	id, secret, _ := strings.Cut(text, ":")
	if strings.HasPrefix(text, "{") {
		var s api.Service
		if json.Unmarshal([]byte(text), &s) != nil { // its error may quote the secret
			s = api.Service{}
		}
		id, secret = s.ID, s.Secret
	}
	unseen := func(r rune) bool { return r <= ' ' || r > '~' }
	if !token.IsID(id, token.ServicePrefix) || secret == "" || strings.ContainsFunc(secret, unseen) {
		return Credential{}, errors.New("not a service credential: want ID:SECRET on one line, or what macaroond service add --json prints")
	}
	return Basic(id, secret), nil
}

func credential(header string) Credential { return Credential{unique.Make(header)} }

// text is the header's value; "" for none.
func (c Credential) text() string {
	if c == (Credential{}) {
		return ""
	}
	return c.header.Value()
}

func (Credential) String() string             { return "[redacted]" }
func (Credential) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }
func (Credential) LogValue() slog.Value       { return slog.StringValue("[redacted]") }
