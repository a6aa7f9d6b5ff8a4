package httpapi

import (
	"strings"

	"macaroond/service/api"
)

// A question about a token is a request of somebody else's, so its usual JSON
// is read by hand: objects of strings in plain ASCII, without escapes, each
// member once. Whatever is written otherwise, right or wrong, is the library's
// to read; FuzzVerifyIn holds the two against each other.

// readVerifyIn reads the usual form. When it is another one it returns false and
// leaves in empty.
func readVerifyIn(body []byte, in *api.VerifyIn) bool {
	r := plainReader{rest: string(body)} // the strings are pieces of this one
	*in = api.VerifyIn{}
	asked := false
	ok := r.object(func(name string) bool {
		switch name {
		case "token":
			return r.str(&in.Token)
		case "request":
			twice := asked
			asked = true
			return !twice && r.object(func(name string) bool { return r.str(requestMember(&in.Request, name)) })
		}
		return false
	})
	if r.space(); !ok || r.rest != "" {
		*in = api.VerifyIn{}
		return false
	}
	return true
}

// requestMember is where a member of the request goes; nil for what is unknown
// or no string.
func requestMember(q *api.Request, name string) *string {
	switch name {
	case "method":
		return &q.Method
	case "path":
		return &q.Path
	case "url":
		return &q.URL
	case "audience":
		return &q.Audience
	case "client_ip":
		return &q.ClientIP
	case "origin":
		return &q.Origin
	case "body_sha256":
		return &q.BodySHA256
	case "dpop":
		return &q.DPoP
	case "via":
		return &q.Via
	}
	return nil
}

type plainReader struct{ rest string }

func (r *plainReader) space() {
	for r.rest != "" && (r.rest[0] == ' ' || r.rest[0] == '\n' || r.rest[0] == '\t' || r.rest[0] == '\r') {
		r.rest = r.rest[1:]
	}
}

// take takes a character, with the space before it.
func (r *plainReader) take(c byte) bool {
	r.space()
	if r.rest == "" || r.rest[0] != c {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// object reads members until the end, each value by the callback.
func (r *plainReader) object(member func(name string) bool) bool {
	if !r.take('{') {
		return false
	}
	if r.take('}') {
		return true
	}
	for {
		name, ok := r.text()
		if !ok || !r.take(':') || !member(name) {
			return false
		}
		if r.take(',') {
			continue
		}
		return r.take('}')
	}
}

// str reads a string to where none has been read. The empty one would look
// like one that is not there when it comes a second time: it is not usual.
func (r *plainReader) str(to *string) bool {
	if to == nil || *to != "" {
		return false
	}
	text, ok := r.text()
	*to = text
	return ok && text != ""
}

func (r *plainReader) text() (string, bool) {
	if !r.take('"') {
		return "", false
	}
	end := strings.IndexByte(r.rest, '"')
	if end < 0 {
		return "", false
	}
	text := r.rest[:end]
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '\\' {
			return "", false
		}
	}
	r.rest = r.rest[end+1:]
	return text, true
}
