package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/rs/cors"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/dpop"
)

// Config is what the handler is made of. It is fixed: a reload makes a new
// handler.
type Config struct {
	Service        *service.Service
	TrustedProxies []netip.Prefix // gateways: may ask /authz, and say who their client is
	CORSOrigins    []string       // browsers' origins that may call /v1 and /oauth2
	AuthzOrigin    string         // scheme://host of what gateways guard, for DPoP proofs; empty: nobody knows
	RemoteUser     string         // what Remote-User is: "id" (default) or "username"
	Version        api.Version
	Log            *slog.Logger
	Requests       *Requests // counts requests; shared by successive handlers
}

// Judge is who judges for gateways: the authority, or a guard at the edge.
type Judge interface {
	// Gateway judges a request that a gateway asks about; its errors are those
	// of the one table (see problem).
	// shown is nil for a request that shows nothing but its token.
	Gateway(ctx context.Context, token string, facts caveats.Request, shown *dpop.Presented) (*api.Pass, error)
	// Ready says what keeps it from judging, by name; empty is ready.
	Ready(ctx context.Context) map[string]string
}

type server struct {
	Config
	svc   *service.Service
	judge Judge
	told  told
}

// New makes the handler.
func New(c Config) http.Handler {
	s := &server{Config: c, svc: c.Service, judge: c.Service}
	g := s.engine()
	s.routes(g)
	return s.withCORS(g)
}

// NewEdge makes the handler of a sidecar, which answers gateways and nobody
// else. Service and CORSOrigins are not used.
func NewEdge(c Config, judge Judge) http.Handler {
	s := &server{Config: c, judge: judge}
	g := s.engine()
	s.gatewayRoutes(g)
	return g
}

// engine is gin without the defaults that bite.
func (s *server) engine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	g.RedirectTrailingSlash, g.RedirectFixedPath = false, false
	g.HandleMethodNotAllowed = true
	g.ForwardedByClientIP = false // client addresses are worked out in address.go
	_ = g.SetTrustedProxies(nil)  // cannot fail for none
	g.Use(s.observe)
	return g
}

func (s *server) routes(g *gin.Engine) {
	g.POST("/v1/signup", do(s, http.StatusCreated, s.signup))
	g.POST("/v1/login", do(s, http.StatusOK, s.login))
	g.POST("/v1/recover", do(s, http.StatusOK, s.recover))
	g.POST("/v1/renew", do(s, http.StatusOK, s.renew))
	g.POST("/v1/logout", do(s, http.StatusNoContent, owner("logout", s.logout)))

	get(g, "/v1/devices", do(s, http.StatusOK, whole(s.devices)))
	g.PATCH("/v1/devices/:id", do(s, http.StatusOK, s.renameDevice))
	g.DELETE("/v1/devices/:id", do(s, http.StatusNoContent, s.revokeDevice))
	g.DELETE("/v1/devices", do(s, http.StatusNoContent, s.revokeDevices))

	s.accountRoutes(g)

	g.POST("/v1/verify", do(s, http.StatusOK, s.verify))
	g.POST("/v1/revoke", do(s, http.StatusOK, s.revoke))
	get(g, "/v1/revocations", s.revocations)
	g.POST("/v1/seal", do(s, http.StatusOK, s.seal))

	g.POST("/oauth2/introspect", s.oauth(s.introspect))
	g.POST("/oauth2/revoke", s.oauth(s.oauthRevoke))

	get(g, "/v1/admin/users", do(s, http.StatusOK, admin(s.users)))
	g.POST("/v1/admin/users", do(s, http.StatusCreated, admin(s.addUser)))
	g.POST("/v1/admin/users/:id/suspend", do(s, http.StatusNoContent, admin(s.suspendUser)))
	g.POST("/v1/admin/users/:id/resume", do(s, http.StatusNoContent, admin(s.resumeUser)))
	g.POST("/v1/admin/users/:id/password", do(s, http.StatusNoContent, admin(s.setPassword)))
	get(g, "/v1/admin/services", do(s, http.StatusOK, whole(admin(s.services))))
	g.POST("/v1/admin/services", do(s, http.StatusCreated, admin(s.addService)))
	g.DELETE("/v1/admin/services/:id", do(s, http.StatusNoContent, admin(s.removeService)))
	get(g, "/v1/admin/audit", do(s, http.StatusOK, admin(s.audit)))
	s.policyRoutes(g)
	s.keyRoutes(g)

	s.browserRoutes(g)

	s.oauthRoutes(g)
	s.serviceRoutes(g)

	get(g, "/openapi.json", openAPI)
	s.gatewayRoutes(g)
}

// gatewayRoutes are those that a sidecar has as well.
func (s *server) gatewayRoutes(g *gin.Engine) {
	g.Any("/authz/original", s.authz(original))
	g.Any("/authz/forwarded", s.authz(forwarded))
	g.Any("/authz/request/*path", s.authz(prefixed))

	get(g, "/livez", s.livez)
	get(g, "/readyz", s.readyz)
	get(g, "/version", do(s, http.StatusOK, s.version))

	g.NoRoute(func(c *gin.Context) {
		s.fail(c, &service.Error{Code: api.CodeNotFound, Detail: "there is no such path"})
	})
	g.NoMethod(s.noMethod)
}

// get also answers HEAD (RFC 9110 section 9.1); net/http leaves its body out.
func get(g *gin.Engine, path string, h gin.HandlerFunc) {
	g.GET(path, h)
	g.HEAD(path, h)
}

// noMethod also serves /authz for methods that gin does not know: a gateway
// asks about whatever its client sent.
func (s *server) noMethod(c *gin.Context) {
	switch path := c.Request.URL.Path; {
	case path == "/authz/original":
		s.authz(original)(c)
	case path == "/authz/forwarded":
		s.authz(forwarded)(c)
	case strings.HasPrefix(path, "/authz/request/"):
		s.authz(prefixed)(c)
	default:
		s.fail(c, &service.Error{Code: api.CodeMethodNotAllowed, Detail: "the path does not take this method"})
	}
}

// withCORS answers browsers of the configured origins, for what browsers call.
// Gateways' subrequests never come here: a preflight about a backend is judged
// like any other request.
func (s *server) withCORS(next http.Handler) http.Handler {
	if len(s.CORSOrigins) == 0 {
		return next
	}
	browser := cors.New(cors.Options{
		AllowedOrigins: s.CORSOrigins,
		AllowedMethods: []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{"Authorization", "Content-Type", "DPoP"},
		ExposedHeaders: []string{"WWW-Authenticate", "Retry-After", "X-Request-Id"},
		MaxAge:         600,
	}).Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/oauth2/") || strings.HasPrefix(r.URL.Path, metadataPath) {
			browser.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
