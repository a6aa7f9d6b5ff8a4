package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"macaroond/service/api"
)

func (s *server) sealRoutes(g *gin.Engine) {
	g.POST("/v1/seal", do(s, http.StatusOK, s.seal))
}

func (s *server) seal(_ *call, in api.SealIn) (api.SealOut, error) { return s.svc.Seal(in) }
