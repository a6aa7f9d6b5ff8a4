package httpapi

import (
	"net/http"
	"strings"

	"macaroond/service"
	"macaroond/service/api"
)

// credential is what an Authorization header carries: a token, or a name and
// a secret, or nothing.
type credential struct{ token, name, secret string }

// credentialOf reads the one Authorization header. A second one is refused, and
// so is the cookie beside it: two readers could each take another one.
func credentialOf(r *http.Request) (credential, error) {
	values := r.Header["Authorization"]
	switch len(values) {
	case 0:
		return credential{}, nil
	case 1:
	default:
		return credential{}, &service.Error{Code: api.CodeBadRequest, Detail: "more than one Authorization header"}
	}
	if len(r.Header["Cookie"]) > 0 && len(api.CookieValues(r.Header["Cookie"])) > 0 {
		return credential{}, &service.Error{Code: api.CodeBadRequest, Detail: "an Authorization header and the cookie " + api.Cookie + ": send one of them"}
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	if strings.EqualFold(scheme, "Bearer") {
		return credential{token: strings.TrimLeft(rest, " ")}, nil
	}
	if name, secret, ok := r.BasicAuth(); ok {
		return credential{name: name, secret: secret}, nil
	}
	return credential{}, nil
}
