package httpapi

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
)

// statusOf is the one table from code to status.
var statusOf = map[string]int{
	api.CodeMalformed:     http.StatusUnauthorized,
	api.CodeTooLarge:      http.StatusUnauthorized,
	api.CodeInvalid:       http.StatusUnauthorized,
	api.CodeStale:         http.StatusServiceUnavailable,
	api.CodeRevoked:       http.StatusUnauthorized,
	api.CodeUnknownCaveat: http.StatusForbidden,
	api.CodeExpired:       http.StatusUnauthorized,
	api.CodeNotYetValid:   http.StatusUnauthorized,
	api.CodeWrongAudience: http.StatusUnauthorized,
	api.CodeRefused:       http.StatusForbidden,
	api.CodeReplayed:      http.StatusForbidden,

	api.CodeBadRequest:       http.StatusBadRequest,
	api.CodeBadCredentials:   http.StatusUnauthorized,
	api.CodeNoToken:          http.StatusUnauthorized,
	api.CodeForbidden:        http.StatusForbidden,
	api.CodeSuspended:        http.StatusForbidden,
	api.CodeSignupOff:        http.StatusForbidden,
	api.CodeBareRootRequired: http.StatusForbidden,
	api.CodeNotFound:         http.StatusNotFound,
	api.CodeMethodNotAllowed: http.StatusMethodNotAllowed,
	api.CodeNameTaken:        http.StatusConflict,
	api.CodeBranchLimit:      http.StatusConflict,
	api.CodeBodyTooLarge:     http.StatusRequestEntityTooLarge,
	api.CodeUnsupportedMedia: http.StatusUnsupportedMediaType,
	api.CodeRateLimited:      http.StatusTooManyRequests,
	api.CodeInternal:         http.StatusInternalServerError,
	api.CodeBusy:             http.StatusServiceUnavailable,
	api.CodeUnavailable:      http.StatusServiceUnavailable,
}

// challengeOf is the WWW-Authenticate value (RFC 6750 section 3): no error when
// no token was sent, insufficient_scope when the token is good and the request
// is not what it is for.
func challengeOf(status int, code string, ofToken bool) string {
	switch {
	case status == http.StatusUnauthorized && ofToken:
		return `Bearer error="invalid_token"`
	case status == http.StatusUnauthorized:
		return "Bearer"
	case status == http.StatusForbidden && (ofToken || code == api.CodeBareRootRequired):
		return `Bearer error="insufficient_scope"`
	}
	return ""
}

// fail answers with a problem (RFC 9457).
func (s *server) fail(c *gin.Context, err error) {
	p, header := s.problem(c, err)
	for k, v := range header {
		c.Header(k, v)
	}
	s.answer(c, p.Status, "application/problem+json", p)
	c.Abort()
}

// problem turns an error into what is said of it, and logs what is not.
func (s *server) problem(c *gin.Context, err error) (*api.Problem, map[string]string) {
	p := &api.Problem{Type: "about:blank", RequestID: c.Writer.Header().Get(requestIDHeader)}
	header := map[string]string{}
	refused, ofToken := errors.AsType[*service.Refused](err)
	if ofToken {
		p.Code, p.Detail = refused.Code, refused.Reason
		if p.Code == api.CodeStale {
			header["Retry-After"] = "1"
		}
	} else {
		e := service.AsError(err)
		p.Code, p.Detail, p.Field = e.Code, e.Detail, e.Field
		if e.RetryAfter > 0 {
			header["Retry-After"] = strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10)
		}
		if e.Err != nil && (e.Code == api.CodeInternal || e.Code == api.CodeUnavailable) {
			s.Log.Error(e.Detail, "error", e.Err, "request_id", p.RequestID, "route", c.FullPath())
		}
	}
	p.Status = statusOf[p.Code]
	if p.Status == 0 { // a code without a row: refuse
		p.Status = http.StatusInternalServerError
	}
	p.Title = http.StatusText(p.Status)
	if ch := challengeOf(p.Status, p.Code, ofToken); ch != "" {
		header["WWW-Authenticate"] = ch
	}
	c.Set(codeKey, p.Code)
	return p, header
}
