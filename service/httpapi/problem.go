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
		p.Code, p.Detail, p.Field, p.Generation = e.Code, e.Detail, e.Field, e.Generation
		if e.RetryAfter > 0 {
			header["Retry-After"] = strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10)
		}
		if e.Err != nil && (e.Code == api.CodeInternal || e.Code == api.CodeUnavailable) {
			s.Log.Error(e.Detail, "error", e.Err, "request_id", p.RequestID, "route", c.FullPath())
		}
	}
	p.Status = api.StatusOf(p.Code)
	p.Title = http.StatusText(p.Status)
	if ch := api.ChallengeOf(p.Status, p.Code, ofToken); ch != "" {
		header["WWW-Authenticate"] = ch
	}
	c.Set(codeKey, p.Code)
	return p, header
}
