package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
)

// serviceRoutes are what a service with users of its own asks for, and the
// secrets of services.
func (s *server) serviceRoutes(g *gin.Engine) {
	g.POST("/v1/mint", do(s, http.StatusOK, s.mint))
	get(g, "/v1/subjects", do(s, http.StatusOK, s.subjects))
	get(g, "/v1/subjects/:subject/devices", do(s, http.StatusOK, whole(s.subjectDevices)))
	g.DELETE("/v1/subjects/:subject/devices", do(s, http.StatusNoContent, s.revokeSubjectDevices))
	g.DELETE("/v1/subjects/:subject/devices/:id", do(s, http.StatusNoContent, s.revokeSubjectDevices))
	g.POST("/v1/subjects/:subject/suspend", do(s, http.StatusNoContent, s.suspendSubject))
	g.POST("/v1/subjects/:subject/resume", do(s, http.StatusNoContent, s.resumeSubject))

	g.POST("/v1/admin/services/:id/secrets", do(s, http.StatusCreated, admin(s.addServiceSecret)))
	g.DELETE("/v1/admin/services/:id/secrets/:secret", do(s, http.StatusNoContent, admin(s.removeServiceSecret)))
}

// service asks for a service credential: its id and secret by Basic, or a token
// of its that holds here for the action.
func (x *call) service(action string, ready ...func(storage.Service) error) (*storage.Service, error) {
	cred, err := credentialOf(x.gin.Request)
	switch {
	case err != nil:
		return nil, err
	case cred.name != "" || cred.secret != "":
		return x.basic(cred)
	case cred.token == "":
		return nil, &service.Error{Code: api.CodeNoToken, Detail: "send a service credential: HTTP Basic, or a token of the service"}
	}
	return x.serviceToken(cred, action, ready...)
}

// serviceToken checks a service's token. A user's is told at once that it is
// not for users: it has done nothing wrong and should not log in again.
func (x *call) serviceToken(cred credential, action string, ready ...func(storage.Service) error) (*storage.Service, error) {
	if !service.ClaimsService(cred.token) {
		return nil, &service.Error{Code: api.CodeForbidden, Detail: "this is for service credentials, not for users' tokens"}
	}
	svc, epoch, err := x.s.svc.AuthorizeService(x.ctx(), x.shown(cred, x.facts(action), false), ready...)
	x.epoch = epoch
	return &svc, err
}

// minter asks for a service that may mint.
// ready is what else could refuse the request: see [service.Service.AuthorizeService].
func (x *call) minter(action string, ready ...func(storage.Service) error) (storage.Service, error) {
	svc, err := x.service(action, append([]func(storage.Service) error{mayMint}, ready...)...)
	if err != nil {
		return storage.Service{}, err
	}
	return *svc, mayMint(*svc)
}

func mayMint(svc storage.Service) error {
	if !service.HasRight(svc, service.RightMint) {
		return &service.Error{Code: api.CodeForbidden, Detail: "the credential has no right to mint"}
	}
	return nil
}

func (s *server) mint(x *call, in api.MintIn) (api.Grant, error) {
	svc, err := x.minter("mint", s.svc.MayMintFor(x.ctx(), in))
	if err != nil {
		return api.Grant{}, err
	}
	return s.svc.MintFor(x.ctx(), svc, x.epoch, in, x.source())
}

func (s *server) subjects(x *call, _ none) (api.Subjects, error) {
	after, limit, err := x.page()
	if err != nil {
		return api.Subjects{}, err
	}
	svc, err := x.minter("subjects:list")
	if err != nil {
		return api.Subjects{}, err
	}
	return s.svc.Subjects(x.ctx(), svc, after, limit)
}

func (s *server) subjectDevices(x *call, _ none) (api.Devices, error) {
	subject := x.gin.Param("subject")
	svc, err := x.minter("subjects:list", s.svc.OwnSubject(x.ctx(), subject, ""))
	if err != nil {
		return api.Devices{}, err
	}
	return s.svc.SubjectDevices(x.ctx(), svc, subject)
}

// revokeSubjectDevices drops one device, or all. It takes no query: a ?except=
// that is meant for /v1/devices must not drop everything.
func (s *server) revokeSubjectDevices(x *call, _ none) (none, error) {
	if _, err := x.query(); err != nil {
		return none{}, err
	}
	subject, id := x.gin.Param("subject"), x.gin.Param("id")
	svc, err := x.minter("subjects:revoke", s.svc.OwnSubject(x.ctx(), subject, id))
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.RevokeSubjectDevices(x.ctx(), svc, subject, id, x.source())
}

func (s *server) suspendSubject(x *call, _ none) (none, error) {
	subject := x.gin.Param("subject")
	svc, err := x.minter("subjects:suspend", s.svc.OwnSubject(x.ctx(), subject, ""))
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.SuspendSubject(x.ctx(), svc, subject, x.source())
}

func (s *server) resumeSubject(x *call, _ none) (none, error) {
	subject := x.gin.Param("subject")
	svc, err := x.minter("subjects:resume", s.svc.MayResume(x.ctx(), subject))
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.ResumeSubject(x.ctx(), svc, subject, x.source())
}

func (s *server) addServiceSecret(x *call, c *service.Caller, _ none) (api.ServiceSecret, error) {
	return s.svc.AddServiceSecret(x.ctx(), x.gin.Param("id"), c.User, x.source())
}

func (s *server) removeServiceSecret(x *call, c *service.Caller, _ none) (none, error) {
	return none{}, s.svc.RemoveServiceSecret(x.ctx(), x.gin.Param("id"), x.gin.Param("secret"), c.User, x.source())
}
