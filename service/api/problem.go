package api

import (
	"net/http"
	"strconv"
	"time"
)

// Problem is RFC 9457's application/problem+json. Code is stable; Detail is
// for people. Field names the body's offending field, as a JSON pointer.
type Problem struct {
	Type      string `json:"type"` // always "about:blank"
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Detail    string `json:"detail,omitempty"`
	Field     string `json:"field,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Generation is the one in force, with the code other_generation.
	Generation string `json:"generation,omitempty"`
}

// Error makes a problem usable as an error on the client's side.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Code + ": " + p.Title
	}
	return p.Code + ": " + p.Detail
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
