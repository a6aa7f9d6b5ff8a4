package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"macaroond/service/api"
)

func (s *server) policyRoutes(g *gin.Engine) {
	get(g, "/v1/admin/policies", do(s, http.StatusOK, whole(s.policies)))
	g.POST("/v1/admin/policies", do(s, http.StatusCreated, s.addPolicy))
	g.DELETE("/v1/admin/policies/:id", do(s, http.StatusNoContent, s.removePolicy))
}

func (s *server) policies(x *call, _ none) (api.Policies, error) {
	if _, err := x.administrator(); err != nil {
		return api.Policies{}, err
	}
	return s.svc.Policies(x.ctx())
}

func (s *server) addPolicy(x *call, in api.PolicyIn) (api.Policy, error) {
	c, err := x.administrator()
	if err != nil {
		return api.Policy{}, err
	}
	return s.svc.AddPolicy(x.ctx(), in, c.User, x.source())
}

func (s *server) removePolicy(x *call, _ none) (none, error) {
	c, err := x.administrator()
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.RemovePolicy(x.ctx(), x.gin.Param("id"), c.User, x.source())
}
