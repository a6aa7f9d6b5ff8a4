package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
)

const metadataPath = "/.well-known/oauth-authorization-server"

// oauthRoutes are those of OAuth clients that know nothing of macaroons.
func (s *server) oauthRoutes(g *gin.Engine) {
	g.POST("/oauth2/token", s.oauth(s.token))
	get(g, "/.well-known/oauth-authorization-server", do(s, http.StatusOK, s.metadata))
	get(g, "/.well-known/oauth-authorization-server/*path", do(s, http.StatusOK, s.metadata))
}

// token is RFC 6749's token endpoint. There is no password grant: a client that
// shows it a password has been given one that it should not have.
func (s *server) token(x *call, form url.Values) (any, error) {
	x.gin.Header("Pragma", "no-cache") // section 5.1, for caches of HTTP/1.0
	in := service.TokenIn{Scope: form.Get("scope")}
	var err error
	if in.Audience, err = audienceOf(form); err != nil {
		return nil, err
	}
	switch form.Get("grant_type") {
	case "":
		return nil, invalidRequest("no grant_type")
	case "client_credentials":
		return s.clientCredentials(x, form, in)
	case "refresh_token":
		return s.refresh(x, form, in)
	}
	return nil, &oauthFail{status: http.StatusBadRequest, code: "unsupported_grant_type", detail: "grant_type is client_credentials or refresh_token"}
}

// audienceOf takes the token's audience as audience or, by RFC 8707, as
// resource.
func audienceOf(form url.Values) (string, error) {
	a, b := form.Get("audience"), form.Get("resource")
	if a != "" && b != "" && a != b {
		return "", &oauthFail{status: http.StatusBadRequest, code: "invalid_target", detail: "audience and resource are not the same: a token is for one"}
	}
	if a == "" {
		a = b
	}
	return a, nil
}

func (s *server) clientCredentials(x *call, form url.Values, in service.TokenIn) (any, error) {
	cred, err := x.clientCredential(form)
	if err != nil {
		return nil, err
	}
	if cred.name == "" || cred.secret == "" {
		return nil, invalidClient("a service's id and secret are needed")
	}
	out, err := s.svc.ClientCredentials(x.ctx(), cred.name, cred.secret, in, x.source())
	return out, asOAuth(err)
}

// refresh takes the root as the whole credential.
func (s *server) refresh(x *call, form url.Values, in service.TokenIn) (any, error) {
	if _, err := x.publicClient(form); err != nil {
		return nil, err
	}
	out, err := s.svc.Refresh(x.ctx(), form.Get("refresh_token"), in, x.source())
	return out, asOAuth(err)
}

// asOAuth turns what a grant is refused for into OAuth's words.
func asOAuth(err error) error {
	if grant, ok := errors.AsType[*service.GrantError](err); ok {
		return &oauthFail{status: http.StatusBadRequest, code: grant.Code, detail: grant.Detail}
	}
	if own, ok := errors.AsType[*service.Error](err); ok && own.Code == api.CodeBadCredentials {
		return invalidClient("the client's id or secret is wrong")
	}
	return err
}

// metadata is RFC 8414's document. An issuer with a path has it where section
// 3.1 says, with that path behind the well-known one; a gateway that takes the
// path off sends the bare one.
func (s *server) metadata(x *call, _ none) (api.OAuthMetadata, error) {
	issuer := s.svc.Settings().Issuer
	base := strings.TrimSuffix(issuer, "/")
	if path := x.gin.Param("path"); path != "" {
		u, err := url.Parse(base)
		if err != nil || u.Path == "" || path != u.Path && path != u.Path+"/" {
			return api.OAuthMetadata{}, &service.Error{Code: api.CodeNotFound, Detail: "the issuer has another path"}
		}
	}
	basicOrBody := []string{"client_secret_basic", "client_secret_post"}
	return api.OAuthMetadata{
		Issuer:        issuer,
		TokenEndpoint: base + "/oauth2/token", TokenAuthMethods: append(basicOrBody[:2:2], "none"),
		GrantTypes: []string{"client_credentials", "refresh_token"}, ResponseTypes: []string{},
		IntrospectionEndpoint: base + "/oauth2/introspect", IntrospectionAuthMethods: append(basicOrBody[:2:2], "Bearer"),
		RevocationEndpoint: base + "/oauth2/revoke", RevocationAuthMethods: append(basicOrBody[:2:2], "none"),
	}, nil
}
