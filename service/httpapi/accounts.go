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

	get(g, "/v1/recovery-codes", do(s, http.StatusOK, s.recoveryCodesLeft))
	g.POST("/v1/recovery-codes", do(s, http.StatusCreated, s.recoveryCodes))
	g.POST("/v1/password", do(s, http.StatusNoContent, s.changePassword))
	g.DELETE("/v1/user", do(s, http.StatusNoContent, s.deleteSelf))

	get(g, "/v1/links", do(s, http.StatusOK, whole(s.links)))
	g.POST("/v1/links", do(s, http.StatusCreated, s.openLink))
	g.POST("/v1/links/:id/approve", do(s, http.StatusNoContent, s.approveLink))
	g.DELETE("/v1/links/:id", do(s, http.StatusNoContent, s.closeLink))
	g.POST("/v1/link", do(s, http.StatusAccepted, s.claimLink))
	g.POST("/v1/link/claim", do(s, http.StatusOK, s.tradeClaim))

	g.PATCH("/v1/admin/users/:id", do(s, http.StatusOK, s.setRole))
	g.DELETE("/v1/admin/users/:id", do(s, http.StatusNoContent, s.deleteUser))
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

func (s *server) recoveryCodesLeft(x *call, _ none) (api.RecoveryCodesLeft, error) {
	c, err := x.owner("recovery-codes")
	if err != nil {
		return api.RecoveryCodesLeft{}, err
	}
	return s.svc.RecoveryCodesLeft(x.ctx(), c)
}

func (s *server) recoveryCodes(x *call, in api.Proof) (either, error) {
	c, err := x.owner("recovery-codes")
	if err != nil {
		return either{}, err
	}
	codes, later, err := s.svc.ReplaceRecoveryCodes(x.ctx(), c, in, x.source())
	return settled(later, http.StatusCreated, codes, err)
}

func (s *server) changePassword(x *call, in api.ChangePasswordIn) (either, error) {
	c, err := x.owner("password")
	if err != nil {
		return either{}, err
	}
	later, err := s.svc.ChangePassword(x.ctx(), c, in, x.source())
	return settled(later, http.StatusNoContent, nil, err)
}

func (s *server) deleteSelf(x *call, in api.Proof) (none, error) {
	c, err := x.owner("delete")
	if err != nil {
		return none{}, err
	}
	if err := s.svc.DeleteSelf(x.ctx(), c, in, x.source()); err != nil {
		return none{}, err
	}
	if x.cookie {
		takeCookie(x.gin)
	}
	return none{}, nil
}

func (s *server) links(x *call, _ none) (api.Links, error) {
	c, err := x.owner("link")
	if err != nil {
		return api.Links{}, err
	}
	return s.svc.Links(x.ctx(), c)
}

func (s *server) openLink(x *call, in api.Proof) (either, error) {
	c, err := x.owner("link")
	if err != nil {
		return either{}, err
	}
	code, later, err := s.svc.OpenLink(x.ctx(), c, in, x.source())
	return settled(later, http.StatusCreated, code, err)
}

func (s *server) approveLink(x *call, _ none) (none, error) {
	c, err := x.owner("link")
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.ApproveLink(x.ctx(), c, x.gin.Param("id"), x.source())
}

func (s *server) closeLink(x *call, _ none) (none, error) {
	c, err := x.owner("link")
	if err != nil {
		return none{}, err
	}
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

func (s *server) setRole(x *call, in api.RoleIn) (api.User, error) {
	c, err := x.administrator()
	if err != nil {
		return api.User{}, err
	}
	if in.Role == nil {
		return api.User{}, &service.Error{Code: api.CodeBadRequest, Field: "/role", Detail: "role is \"admin\" or \"\""}
	}
	return s.svc.SetRole(x.ctx(), x.gin.Param("id"), *in.Role, c.User, false, x.source())
}

func (s *server) deleteUser(x *call, _ none) (none, error) {
	c, err := x.administrator()
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.DeleteUser(x.ctx(), x.gin.Param("id"), c.User, x.source())
}
