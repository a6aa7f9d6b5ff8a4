package httpapi

import (
	"context"
	"errors"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
)

// statusGone is counted and logged for a client that went away before it was
// answered, as others do: nobody is told, and it is no trouble of ours.
const statusGone = 499

// fail answers with a problem (RFC 9457).
func (s *server) fail(c *gin.Context, err error) {
	if errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil {
		c.Set(codeKey, "gone")
		c.AbortWithStatus(statusGone)
		return
	}
	c.Header("Cache-Control", "no-store") // a cache may keep a 404 or 405 that does not say so (RFC 9110 section 15.1)
	p := s.problem(c, err)
	s.answer(c, p.Status, "application/problem+json", p)
	c.Abort()
}

// problem turns an error into what is said of it, in the body and in headers, and
// logs what is not.
func (s *server) problem(c *gin.Context, err error) *api.Problem {
	var p *api.Problem
	var header map[string]string
	if refused, ok := errors.AsType[*api.Refusal](err); ok {
		p, header = refused.Problem()
	} else {
		e := service.AsError(err)
		p = api.NewProblem(e.Code, e.Detail)
		p.Field, p.Generation = e.Field, e.Generation
		header = p.Header(false, e.RetryAfter)
		if e.Err != nil && (e.Code == api.CodeInternal || e.Code == api.CodeUnavailable) {
			s.Log.Error(e.Detail, "error", e.Err, "request_id", c.Writer.Header().Get(requestIDHeader), "route", c.FullPath())
		}
	}
	p.RequestID = c.Writer.Header().Get(requestIDHeader)
	c.Set(codeKey, p.Code)
	for k, v := range header {
		c.Header(k, v)
	}
	return p
}

func badRequest(detail string) error { return badField("", detail) }

// badField is a bad request whose fault is in one field: a JSON pointer into the
// body.
func badField(field, detail string) error {
	return &service.Error{Code: api.CodeBadRequest, Field: field, Detail: detail}
}
