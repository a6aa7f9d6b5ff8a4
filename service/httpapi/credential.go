package httpapi

import (
	"net/http"
	"strings"

	"macaroond/service/api"
	"macaroond/service/dpop"
)

// credential is what an Authorization header carries: a token, or a name and
// a secret, or nothing.
type credential struct {
	token, name, secret string
	bound               bool // it came under the scheme DPoP (RFC 9449 section 7.1)
}

// credentialOf reads the one Authorization header. A second one is refused, and
// so is the cookie beside it: two readers could each take another one.
func credentialOf(r *http.Request) (credential, error) {
	values := r.Header["Authorization"]
	switch len(values) {
	case 0:
		return credential{}, nil
	case 1:
	default:
		return credential{}, badRequest("more than one Authorization header")
	}
	if hasCookie(r) {
		return credential{}, badRequest("an Authorization header and the cookie " + api.Cookie + ": send one of them")
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	if bound := strings.EqualFold(scheme, "DPoP"); bound || strings.EqualFold(scheme, "Bearer") {
		return credential{token: strings.TrimLeft(rest, " "), bound: bound}, nil
	}
	if name, secret, ok := r.BasicAuth(); ok {
		return credential{name: name, secret: secret}, nil
	}
	return credential{}, nil
}

// presented is what a request shows besides its token, for a request to a URL;
// nil when that is nothing.
func (c credential) presented(r *http.Request, origin, target string) *dpop.Presented {
	proofs := r.Header["Dpop"]
	if len(proofs) == 0 && !c.bound {
		return nil
	}
	shown := &dpop.Presented{Proofs: proofs, Scheme: c.bound}
	if origin != "" && strings.HasPrefix(target, "/") { // another would go on with the origin's host
		shown.URL = strings.TrimSuffix(origin, "/") + target
	}
	return shown
}
