package httpapi

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
)

func (s *server) keyRoutes(g *gin.Engine) {
	get(g, "/v1/admin/keys", do(s, http.StatusOK, whole(s.keys)))
	g.POST("/v1/admin/keys/rotate", do(s, http.StatusCreated, s.rotateKeys))
	g.POST("/v1/admin/keys/:number/retire", do(s, http.StatusNoContent, s.retireKeys))
}

func (s *server) keys(x *call, _ none) (api.Epochs, error) {
	if _, err := x.administrator(); err != nil {
		return api.Epochs{}, err
	}
	return s.svc.EpochList(x.ctx())
}

func (s *server) rotateKeys(x *call, _ none) (api.Epoch, error) {
	c, err := x.administrator()
	if err != nil {
		return api.Epoch{}, err
	}
	e, err := s.svc.RotateKeys(x.ctx(), c.User, x.source())
	return service.EpochOut(e), err
}

func (s *server) retireKeys(x *call, _ none) (none, error) {
	c, err := x.administrator()
	if err != nil {
		return none{}, err
	}
	n, err := strconv.ParseUint(x.gin.Param("number"), 10, 32)
	if err != nil {
		return none{}, &service.Error{Code: api.CodeNotFound, Detail: "there is no such epoch"}
	}
	return none{}, s.svc.RetireKeys(x.ctx(), uint32(n), c.User, x.source())
}
