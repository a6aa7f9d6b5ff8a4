package httpapi

import (
	"errors"
	"net/http"

	"macaroond/service"
	"macaroond/service/api"
)

func (s *server) signup(x *call, in api.SignupIn) (api.Grant, error) {
	if err := x.mayLogin(in.Mode); err != nil {
		return api.Grant{}, err
	}
	return x.granted(s.svc.Signup(x.ctx(), in, x.source()))
}

// login takes the name and password from HTTP Basic or from the body, not both.
func (s *server) login(x *call, in api.LoginIn) (api.Grant, error) {
	cred, err := credentialOf(x.gin.Request)
	if err != nil {
		return api.Grant{}, err
	}
	if cred.name != "" || cred.secret != "" {
		if in.Username != "" || in.Password != "" {
			return api.Grant{}, badField("/username", "the credentials are there twice: in HTTP Basic and in the body")
		}
		in.Username, in.Password = cred.name, cred.secret
	}
	if err := x.mayLogin(in.Mode); err != nil {
		return api.Grant{}, err
	}
	return x.granted(s.svc.Login(x.ctx(), in, x.source()))
}

func (s *server) recover(x *call, in api.RecoverIn) (api.Grant, error) {
	if err := x.mayLogin(in.Mode); err != nil {
		return api.Grant{}, err
	}
	return x.granted(s.svc.Recover(x.ctx(), in, x.source()))
}

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

func (s *server) logout(x *call, c *service.Caller, _ none) (none, error) {
	if err := s.svc.Logout(x.ctx(), c, x.source()); err != nil {
		return none{}, err
	}
	if x.cookie {
		takeCookie(x.gin)
	}
	return none{}, nil
}

func (s *server) devices(x *call, _ none) (api.Devices, error) {
	c, err := x.user("devices:list")
	if err != nil {
		return api.Devices{}, err
	}
	return s.svc.Devices(x.ctx(), c)
}

func (s *server) renameDevice(x *call, in api.RenameIn) (api.Device, error) {
	c, err := x.user("devices:rename", s.svc.MayRename(x.ctx(), x.gin.Param("id"), in.Name))
	if err != nil {
		return api.Device{}, err
	}
	return s.svc.RenameDevice(x.ctx(), c, x.gin.Param("id"), in.Name, x.source())
}

func (s *server) revokeDevice(x *call, in api.Proof) (either, error) {
	id := x.gin.Param("id")
	c, err := x.user("devices:revoke", service.NoProof(in), s.svc.OwnDevice(x.ctx(), id), s.svc.MayRemove(x.ctx(), id, false, in))
	if err != nil {
		return either{}, err
	}
	later, err := s.svc.RevokeDevice(x.ctx(), c, id, in, x.source())
	return settled(later, http.StatusNoContent, nil, err)
}

func (s *server) revokeDevices(x *call, in api.Proof) (either, error) {
	q, err := x.query("except")
	if err != nil {
		return either{}, err
	}
	if e, there := q["except"]; there && e != "current" {
		return either{}, badRequest("except is \"current\" or left out")
	}
	butThis := q["except"] == "current"
	c, err := x.user("devices:revoke", service.NoProof(in), s.svc.MayRemove(x.ctx(), "", butThis, in))
	if err != nil {
		return either{}, err
	}
	later, err := s.svc.RevokeAllDevices(x.ctx(), c, butThis, in, x.source())
	return settled(later, http.StatusNoContent, nil, err)
}

// verify is asked by a service, or by a user with a bare root about
// a token of the same user.
func (s *server) verify(x *call, in api.VerifyIn) (api.Decision, error) {
	cred, err := credentialOf(x.gin.Request)
	if err != nil {
		return api.Decision{}, err
	}
	if cred.name != "" || service.ClaimsService(cred.token) {
		svc, err := x.service("verify", s.svc.MayVerify(in))
		if err != nil {
			return api.Decision{}, err
		}
		return s.svc.Verify(x.ctx(), in, svc, nil)
	}
	c, err := x.owner("verify")
	if err != nil {
		return api.Decision{}, err
	}
	return s.svc.Verify(x.ctx(), in, nil, c)
}

// revoke takes a token (whoever has one may end it) or, from the owner's bare
// root, the holder caveats of a branch.
func (s *server) revoke(x *call, in api.RevokeIn) (api.RevokeOut, error) {
	if (in.Token == "") == (in.Caveats == nil) {
		return api.RevokeOut{}, badField("/token", "send either token or caveats")
	}
	if in.Caveats != nil {
		c, err := x.owner("revoke")
		if err != nil {
			return api.RevokeOut{}, err
		}
		return s.svc.RevokeByCaveats(x.ctx(), c, *in.Caveats, x.source())
	}
	// A credential beside the token is the owner's claim to no limit; one that
	// does not hold is an error rather than nothing. The same token again claims
	// nothing.
	cred, err := credentialOf(x.gin.Request)
	if err != nil {
		return api.RevokeOut{}, err
	}
	var owner *service.Caller
	if cred != (credential{}) && cred.token != in.Token || hasCookie(x.gin.Request) {
		if owner, err = x.owner("revoke"); err != nil {
			return api.RevokeOut{}, err
		}
	}
	out, err := s.svc.Revoke(x.ctx(), in.Token, owner, x.source())
	if refused, ok := errors.AsType[*api.Refusal](err); ok && owner != nil {
		// The credential is good: a 401 would send its holder to log in again.
		return out, badField("/token", refused.Reason)
	}
	return out, err
}

func (s *server) seal(_ *call, in api.SealIn) (api.SealOut, error) { return s.svc.Seal(in) }

func (s *server) version(*call, none) (api.Version, error) { return s.Version, nil }
