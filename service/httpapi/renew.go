package httpapi

import "macaroond/service/api"

// renew takes the root from the header or the cookie. The one verdict on it is
// the service's, which is told how it came.
func (s *server) renew(x *call, _ none) (api.Grant, error) {
	cred, err := x.token()
	if err != nil {
		return api.Grant{}, err
	}
	if cred.bound {
		return api.Grant{}, &api.Refusal{Code: api.CodeRefused, Reason: "a bare root is bound to no key, so it is not one for the scheme DPoP: send it as Bearer"}
	}
	return x.granted(s.svc.Renew(x.ctx(), cred.token, x.facts("renew"), x.source()))
}
