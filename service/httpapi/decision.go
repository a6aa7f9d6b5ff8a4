package httpapi

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"macaroond/service/api"
)

// A decision is the answer to a request of somebody else's, so its JSON is
// written by hand: it takes a fifth of the time that reflection does.
// TestDecisionJSON holds it against the library.

func appendDecision(b []byte, d *api.Decision) []byte {
	b = append(b, `{"allowed":`...)
	b = strconv.AppendBool(b, d.Allowed)
	b = appendMember(b, "code", d.Code)
	b = appendMember(b, "reason", d.Reason)
	if p := d.Principal; p != nil {
		b = append(b, `,"principal":{"user":`...)
		b = appendString(b, p.User)
		b = appendMember(b, "username", p.Username)
		b = appendMember(b, "device", p.Device)
		b = appendMember(b, "root_key_id", p.RootKeyID)
		b = append(b, '}')
	}
	if d.ExpiresAt != nil {
		b = append(b, `,"expires_at":"`...)
		b = d.ExpiresAt.UTC().AppendFormat(b, "2006-01-02T15:04:05Z")
		b = append(b, '"')
	}
	if len(d.Caveats) > 0 {
		b = append(b, `,"caveats":[`...)
		for i := range d.Caveats {
			c := &d.Caveats[i]
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"index":`...)
			b = strconv.AppendInt(b, int64(c.Index), 10)
			b = appendMember(b, "text", c.Text)
			b = appendMember(b, "source", c.Source)
			b = append(b, `,"held":`...)
			b = strconv.AppendBool(b, c.Held)
			if c.Reason != "" {
				b = appendMember(b, "reason", c.Reason)
			}
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendMember(b []byte, name, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendString(b, value)
}

// appendString quotes; what is not UTF-8 becomes the replacement character.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			b, _ = jsontext.AppendQuote(b, s) // its error is only that of invalid UTF-8, which it has replaced
			return b
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
