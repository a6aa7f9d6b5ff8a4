package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
)

func (s *server) accountRoutes(g *gin.Engine) {
	get(g, "/v1/delayed", do(s, http.StatusOK, whole(s.delayed)))
	g.DELETE("/v1/delayed/:id", do(s, http.StatusNoContent, s.cancelDelayed))

	get(g, "/v1/recovery-codes", do(s, http.StatusOK, owner("recovery-codes", s.recoveryCodesLeft)))
	g.POST("/v1/recovery-codes", do(s, http.StatusCreated, owner("recovery-codes", s.recoveryCodes)))
	g.POST("/v1/password", do(s, http.StatusNoContent, owner("password", s.changePassword)))
	g.DELETE("/v1/user", do(s, http.StatusNoContent, owner("delete", s.deleteSelf)))

	get(g, "/v1/links", do(s, http.StatusOK, whole(owner("link", s.links))))
	g.POST("/v1/links", do(s, http.StatusCreated, owner("link", s.openLink)))
	g.POST("/v1/links/:id/approve", do(s, http.StatusNoContent, owner("link", s.approveLink)))
	g.DELETE("/v1/links/:id", do(s, http.StatusNoContent, owner("link", s.closeLink)))
	g.POST("/v1/link", do(s, http.StatusAccepted, s.claimLink))
	g.POST("/v1/link/claim", do(s, http.StatusOK, s.tradeClaim))

	g.PATCH("/v1/admin/users/:id", do(s, http.StatusOK, admin(s.setRole)))
	g.DELETE("/v1/admin/users/:id", do(s, http.StatusNoContent, admin(s.deleteUser)))
}

// either is an answer whose status is not the endpoint's only one.
type either struct {
	status int
	body   any
}

// settled is the endpoint's own answer, or 202 with the act that waits.
func settled(d *api.Delayed, status int, body any, err error) (either, error) {
	if d != nil {
		return either{http.StatusAccepted, api.DelayedOut{Delayed: *d}}, err
	}
	return either{status, body}, err
}

func (s *server) delayed(x *call, _ none) (api.DelayedActs, error) {
	c, err := x.user("delayed:list")
	if err != nil {
		return api.DelayedActs{}, err
	}
	return s.svc.DelayedActs(x.ctx(), c)
}

func (s *server) cancelDelayed(x *call, _ none) (none, error) {
	c, err := x.user("delayed:cancel", s.svc.OwnAct(x.ctx(), x.gin.Param("id")))
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.CancelDelayed(x.ctx(), c, x.gin.Param("id"), x.source())
}

func (s *server) recoveryCodesLeft(x *call, c *service.Caller, _ none) (api.RecoveryCodesLeft, error) {
	return s.svc.RecoveryCodesLeft(x.ctx(), c)
}

func (s *server) recoveryCodes(x *call, c *service.Caller, in api.Proof) (either, error) {
	codes, later, err := s.svc.ReplaceRecoveryCodes(x.ctx(), c, in, x.source())
	return settled(later, http.StatusCreated, codes, err)
}

func (s *server) changePassword(x *call, c *service.Caller, in api.ChangePasswordIn) (either, error) {
	later, err := s.svc.ChangePassword(x.ctx(), c, in, x.source())
	return settled(later, http.StatusNoContent, nil, err)
}

func (s *server) deleteSelf(x *call, c *service.Caller, in api.Proof) (none, error) {
	if err := s.svc.DeleteSelf(x.ctx(), c, in, x.source()); err != nil {
		return none{}, err
	}
	if x.cookie {
		takeCookie(x.gin)
	}
	return none{}, nil
}

func (s *server) links(x *call, c *service.Caller, _ none) (api.Links, error) {
	return s.svc.Links(x.ctx(), c)
}

func (s *server) openLink(x *call, c *service.Caller, in api.Proof) (either, error) {
	code, later, err := s.svc.OpenLink(x.ctx(), c, in, x.source())
	return settled(later, http.StatusCreated, code, err)
}

func (s *server) approveLink(x *call, c *service.Caller, _ none) (none, error) {
	return none{}, s.svc.ApproveLink(x.ctx(), c, x.gin.Param("id"), x.source())
}

func (s *server) closeLink(x *call, c *service.Caller, _ none) (none, error) {
	return none{}, s.svc.CloseLink(x.ctx(), c, x.gin.Param("id"), x.source())
}

func (s *server) claimLink(x *call, in api.LinkIn) (api.LinkPending, error) {
	return s.svc.ClaimLink(x.ctx(), in, x.source())
}

// tradeClaim is polled: 202 until the first device has approved.
func (s *server) tradeClaim(x *call, in api.ClaimIn) (either, error) {
	if err := x.mayLogin(in.Mode); err != nil {
		return either{}, err
	}
	grant, pending, err := s.svc.TradeClaim(x.ctx(), in, x.source())
	if grant == nil {
		return either{http.StatusAccepted, pending}, err
	}
	out, err := x.granted(*grant, nil)
	return either{http.StatusOK, out}, err
}

func (s *server) setRole(x *call, c *service.Caller, in api.RoleIn) (api.User, error) {
	if in.Role == nil {
		return api.User{}, badField("/role", "role is \"admin\" or \"\"")
	}
	return s.svc.SetRole(x.ctx(), x.gin.Param("id"), *in.Role, c.User, false, x.source())
}

func (s *server) deleteUser(x *call, c *service.Caller, _ none) (none, error) {
	return none{}, s.svc.DeleteUser(x.ctx(), x.gin.Param("id"), c.User, x.source())
}
