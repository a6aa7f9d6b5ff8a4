package httpapi

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
)

// oauthFail is an answer in the form of RFC 6749 section 5.2.
type oauthFail struct {
	status int
	code   string
	detail string
	bearer bool // it is about the token in the Authorization header (RFC 6750)
}

func (e *oauthFail) Error() string { return e.code }

// oauth is the adapter of the OAuth endpoints: form bodies in, RFC 6749 errors
// out. A nil answer is 200 without a body.
func (s *server) oauth(f func(*call, url.Values) (any, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Header("Cache-Control", "no-store")
		var form url.Values
		x, err := s.read(c)
		if err == nil {
			form, err = x.form()
		}
		var out any
		if err == nil {
			out, err = f(x, form)
		}
		switch {
		case err != nil:
			s.oauthFailed(c, err)
		case out == nil:
			c.Status(http.StatusOK)
		default:
			s.answer(c, http.StatusOK, "application/json", out)
		}
	}
}

// oauthFailed answers an error in OAuth's form. What is not OAuth's own comes
// from the one table, with its status.
func (s *server) oauthFailed(c *gin.Context, err error) {
	fail, ok := errors.AsType[*oauthFail](err)
	if !ok {
		p := s.problem(c, err)
		fail = &oauthFail{status: p.Status, code: "invalid_request", detail: p.Detail}
		switch {
		case p.Status == http.StatusServiceUnavailable, p.Status == http.StatusTooManyRequests:
			fail.code = "temporarily_unavailable"
		case p.Status >= http.StatusInternalServerError:
			fail.code = "server_error"
		}
	}
	switch {
	case fail.bearer:
		c.Header("WWW-Authenticate", api.ChallengeOf(fail.status, "", true))
	case fail.status == http.StatusUnauthorized:
		c.Header("WWW-Authenticate", `Basic realm="macaroond"`)
	}
	c.Set(codeKey, fail.code)
	s.answer(c, fail.status, "application/json", api.OAuthError{Error: fail.code, ErrorDescription: errorDescription(fail.detail)})
}

// errorDescription has the characters that RFC 6749 section 5.2 lets one have.
func errorDescription(detail string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < ' ' || r > '~' || r == '\\':
			return '?'
		}
		return r
	}, detail)
}

// form reads the body's parameters; one that is there twice is an error (RFC
// 6749 section 3.2).
func (x *call) form() (url.Values, error) {
	mt, _, err := mime.ParseMediaType(x.gin.GetHeader("Content-Type"))
	if err != nil || mt != "application/x-www-form-urlencoded" {
		return nil, invalidRequest("send Content-Type: application/x-www-form-urlencoded")
	}
	form, err := url.ParseQuery(string(x.body))
	if err != nil {
		return nil, invalidRequest("the body is not a form")
	}
	for _, v := range form {
		if len(v) > 1 {
			return nil, invalidRequest("a parameter is there twice")
		}
	}
	return form, nil
}

func tokenOf(form url.Values) (string, error) {
	if form.Get("token") == "" {
		return "", invalidRequest("no token")
	}
	return form.Get("token"), nil
}

func invalidRequest(detail string) error {
	return &oauthFail{status: http.StatusBadRequest, code: "invalid_request", detail: detail}
}

func invalidClient(detail string) error {
	return &oauthFail{status: http.StatusUnauthorized, code: "invalid_client", detail: detail}
}

// clientCredential is what the OAuth client sends by Basic or by body
// parameters, form-encoding undone; empty when it sends neither.
func (x *call) clientCredential(form url.Values) (credential, error) {
	cred, err := credentialOf(x.gin.Request)
	if err != nil {
		return credential{}, err // two Authorization headers, or the cookie beside one
	}
	if cred.name == "" && cred.secret == "" {
		return credential{name: form.Get("client_id"), secret: form.Get("client_secret")}, nil
	}
	if form.Get("client_secret") != "" {
		return credential{}, invalidRequest("the client authenticates twice")
	}
	// RFC 6749 section 2.3.1: both halves are form-encoded inside Basic.
	id, err1 := url.QueryUnescape(cred.name)
	secret, err2 := url.QueryUnescape(cred.secret)
	if err1 != nil || err2 != nil || form.Get("client_id") != "" && form.Get("client_id") != id {
		return credential{}, invalidClient("the client's id or secret is wrong")
	}
	return credential{name: id, secret: secret}, nil
}

// client authenticates the OAuth client. nil when it sends neither id nor
// secret.
func (x *call) client(form url.Values) (*storage.Service, error) {
	cred, err := x.clientCredential(form)
	if err != nil || cred == (credential{}) {
		return nil, err
	}
	svc, err := x.basic(cred)
	return svc, asOAuth(err)
}

// publicClient lets a client be that has no secret: a name without one
// identifies an app that anybody can copy, and is not looked at. But a service
// has a secret, and one that is sent must be right. nil is a public client.
func (x *call) publicClient(form url.Values) (*storage.Service, error) {
	cred, err := x.clientCredential(form)
	if err != nil || cred.secret == "" && !service.IsService(cred.name) {
		return nil, err
	}
	svc, err := x.basic(cred)
	return svc, asOAuth(err)
}

// clientOrToken authenticates by a token of the service as well (RFC 7662
// section 2.1).
func (x *call) clientOrToken(form url.Values, action string) (*storage.Service, error) {
	cred, err := credentialOf(x.gin.Request)
	if err != nil || !service.ClaimsService(cred.token) {
		return x.client(form)
	}
	if form.Get("client_secret") != "" {
		return nil, invalidRequest("the client authenticates twice")
	}
	svc, err := x.serviceToken(cred, action)
	if refused, ok := errors.AsType[*api.Refusal](err); ok && refused.Code != api.CodeStale {
		fail := &oauthFail{status: api.StatusOf(refused.Code), code: "invalid_token", detail: refused.Reason, bearer: true}
		if fail.status == http.StatusForbidden {
			fail.code = "insufficient_scope"
		}
		return nil, fail
	}
	return svc, err
}

func (s *server) introspect(x *call, form url.Values) (any, error) {
	text, err := tokenOf(form)
	if err != nil {
		return nil, err
	}
	enforce := form.Get("caveats")
	if enforce != "" && enforce != "enforce" {
		return nil, invalidRequest("caveats is \"enforce\" or left out")
	}
	enforces := service.EnforcesNothing
	if enforce != "" {
		enforces = service.EnforcesCaveats
	}
	switch p := form.Get("policies"); {
	case p == "":
	case p != "enforce", enforce == "":
		return nil, invalidRequest("policies is \"enforce\" beside caveats=enforce, or left out")
	default:
		enforces = service.EnforcesPolicies
	}
	svc, err := x.clientOrToken(form, "introspect")
	if err != nil {
		return nil, err
	}
	if svc == nil {
		return nil, invalidClient("introspection needs a service credential")
	}
	return s.svc.Introspect(x.ctx(), text, enforces, *svc)
}

// oauthRevoke is RFC 7009. Having the token is what allows ending it, so a
// client need not authenticate; one that tries must be right. A token that is
// none is answered like one that is revoked now.
func (s *server) oauthRevoke(x *call, form url.Values) (any, error) {
	text, err := tokenOf(form)
	if err != nil {
		return nil, err
	}
	svc, err := x.publicClient(form)
	if err != nil {
		return nil, err
	}
	if svc != nil {
		_, err = s.svc.RevokeAsService(x.ctx(), text, *svc, x.source())
	} else {
		_, err = s.svc.Revoke(x.ctx(), text, nil, x.source())
	}
	if _, refused := errors.AsType[*api.Refusal](err); refused {
		return nil, nil
	}
	return nil, err
}
