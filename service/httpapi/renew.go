package httpapi

import "macaroond/service/api"

// renew takes the root from the header. The one verdict on it is the
// service's, which is told how it came.
func (s *server) renew(x *call, _ none) (api.Grant, error) {
	cred, err := credentialOf(x.gin.Request)
	if err != nil {
		return api.Grant{}, err
	}
	if cred.token == "" {
		return api.Grant{}, errNoToken()
	}
	return s.svc.Renew(x.ctx(), cred.token, false, x.source())
}
