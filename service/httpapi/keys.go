package httpapi

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
)

func (s *server) keyRoutes(g *gin.Engine) {
	get(g, "/v1/admin/keys", do(s, http.StatusOK, whole(admin(s.keys))))
	g.POST("/v1/admin/keys/rotate", do(s, http.StatusCreated, admin(s.rotateKeys)))
	g.POST("/v1/admin/keys/:number/retire", do(s, http.StatusNoContent, admin(s.retireKeys)))
}

func (s *server) keys(x *call, _ *service.Caller, _ none) (api.Epochs, error) {
	return s.svc.EpochList(x.ctx())
}

func (s *server) rotateKeys(x *call, c *service.Caller, _ none) (api.Epoch, error) {
	e, err := s.svc.RotateKeys(x.ctx(), c.User, x.source())
	return service.EpochOut(e), err
}

func (s *server) retireKeys(x *call, c *service.Caller, _ none) (none, error) {
	n, err := strconv.ParseUint(x.gin.Param("number"), 10, 32)
	if err != nil {
		return none{}, &service.Error{Code: api.CodeNotFound, Detail: "there is no such epoch"}
	}
	return none{}, s.svc.RetireKeys(x.ctx(), uint32(n), c.User, x.source())
}
