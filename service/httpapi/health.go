package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"macaroond/service/api"
)

// livez says that the process answers.
func (s *server) livez(c *gin.Context) {
	s.answer(c, http.StatusOK, "application/json", api.Health{Status: "ok"})
}

// readyz says whether verdicts and logins can be answered now.
func (s *server) readyz(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	trouble := s.judge.Ready(c.Request.Context())
	if len(trouble) > 0 {
		s.answer(c, http.StatusServiceUnavailable, "application/json", api.Health{Status: "unavailable", Checks: trouble})
		return
	}
	s.answer(c, http.StatusOK, "application/json", api.Health{Status: "ok"})
}
