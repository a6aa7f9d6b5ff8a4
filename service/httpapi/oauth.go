package httpapi

import (
	"errors"
	"mime"
	"net/http"
	"net/url"

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
		p, header := s.problem(c, err)
		for k, v := range header {
			c.Header(k, v)
		}
		fail = &oauthFail{p.Status, "invalid_request", p.Detail}
		switch {
		case p.Status == http.StatusServiceUnavailable:
			fail.code = "temporarily_unavailable"
		case p.Status >= http.StatusInternalServerError:
			fail.code = "server_error"
		}
	}
	if fail.status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", `Basic realm="macaroond"`)
	}
	c.Set(codeKey, fail.code)
	s.answer(c, fail.status, "application/json", api.OAuthError{Error: fail.code, ErrorDescription: fail.detail})
}

// form reads the body's parameters; one that is there twice is an error (RFC
// 6749 section 3.2).
func (x *call) form() (url.Values, error) {
	mt, _, err := mime.ParseMediaType(x.gin.GetHeader("Content-Type"))
	if err != nil || mt != "application/x-www-form-urlencoded" {
		return nil, &oauthFail{http.StatusBadRequest, "invalid_request", "send Content-Type: application/x-www-form-urlencoded"}
	}
	form, err := url.ParseQuery(string(x.body))
	if err != nil {
		return nil, &oauthFail{http.StatusBadRequest, "invalid_request", "the body is not a form"}
	}
	for _, v := range form {
		if len(v) > 1 {
			return nil, &oauthFail{http.StatusBadRequest, "invalid_request", "a parameter is there twice"}
		}
	}
	if form.Get("token") == "" {
		return nil, &oauthFail{http.StatusBadRequest, "invalid_request", "no token"}
	}
	return form, nil
}

// client authenticates the OAuth client by Basic or by body parameters. nil
// when it sends neither.
func (x *call) client(form url.Values) (*storage.Service, error) {
	invalid := &oauthFail{http.StatusUnauthorized, "invalid_client", "the client's id or secret is wrong"}
	cred, err := credentialOf(x.gin.Request)
	if err != nil {
		return nil, &oauthFail{http.StatusBadRequest, "invalid_request", "more than one Authorization header"}
	}
	byBasic := cred.name != "" || cred.secret != ""
	if !byBasic && form.Get("client_id") == "" {
		return nil, nil
	}
	if byBasic {
		if form.Get("client_secret") != "" {
			return nil, &oauthFail{http.StatusBadRequest, "invalid_request", "the client authenticates twice"}
		}
		// RFC 6749 section 2.3.1: both halves are form-encoded inside Basic.
		id, err1 := url.QueryUnescape(cred.name)
		secret, err2 := url.QueryUnescape(cred.secret)
		if err1 != nil || err2 != nil || form.Get("client_id") != "" && form.Get("client_id") != id {
			return nil, invalid
		}
		cred.name, cred.secret = id, secret
	} else {
		cred.name, cred.secret = form.Get("client_id"), form.Get("client_secret")
	}
	svc, err := x.basic(cred)
	if err != nil {
		return nil, invalid
	}
	return svc, nil
}

func (s *server) introspect(x *call, form url.Values) (any, error) {
	svc, err := x.client(form)
	if err != nil {
		return nil, err
	}
	if svc == nil {
		return nil, &oauthFail{http.StatusUnauthorized, "invalid_client", "introspection needs a service credential"}
	}
	enforce := form.Get("caveats")
	if enforce != "" && enforce != "enforce" {
		return nil, &oauthFail{http.StatusBadRequest, "invalid_request", "caveats is \"enforce\" or left out"}
	}
	enforces := service.EnforcesNothing
	if enforce != "" {
		enforces = service.EnforcesCaveats
	}
	switch p := form.Get("policies"); {
	case p == "":
	case p != "enforce", enforce == "":
		return nil, &oauthFail{http.StatusBadRequest, "invalid_request", "policies is \"enforce\" beside caveats=enforce, or left out"}
	default:
		enforces = service.EnforcesPolicies
	}
	return s.svc.Introspect(x.ctx(), form.Get("token"), enforces, *svc)
}

// oauthRevoke is RFC 7009. Having the token is what allows ending it, so a
// client need not authenticate; one that tries must be right. A token that is
// none is answered like one that is revoked now.
func (s *server) oauthRevoke(x *call, form url.Values) (any, error) {
	if _, err := x.client(form); err != nil {
		return nil, err
	}
	_, err := s.svc.Revoke(x.ctx(), form.Get("token"), nil, x.source())
	if _, refused := err.(*api.Refusal); refused {
		return nil, nil
	}
	return nil, err
}
