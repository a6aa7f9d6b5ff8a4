package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
)

func (s *server) policyRoutes(g *gin.Engine) {
	get(g, "/v1/admin/policies", do(s, http.StatusOK, whole(admin(s.policies))))
	g.POST("/v1/admin/policies", do(s, http.StatusCreated, admin(s.addPolicy)))
	g.DELETE("/v1/admin/policies/:id", do(s, http.StatusNoContent, admin(s.removePolicy)))
}

func (s *server) policies(x *call, _ *service.Caller, _ none) (api.Policies, error) {
	return s.svc.Policies(x.ctx())
}

func (s *server) addPolicy(x *call, c *service.Caller, in api.PolicyIn) (api.Policy, error) {
	return s.svc.AddPolicy(x.ctx(), in, c.User, x.source())
}

func (s *server) removePolicy(x *call, c *service.Caller, _ none) (none, error) {
	return none{}, s.svc.RemovePolicy(x.ctx(), x.gin.Param("id"), c.User, x.source())
}
