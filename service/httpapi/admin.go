package httpapi

import (
	"strconv"

	"macaroond/service"
	"macaroond/service/api"
)

// admin is a handler for whoever shows the bare root of a user who has the role
// now.
func admin[In, Out any](f func(*call, *service.Caller, In) (Out, error)) func(*call, In) (Out, error) {
	return owner("admin", func(x *call, c *service.Caller, in In) (out Out, err error) {
		if err := x.s.svc.Administrator(x.ctx(), c, x.source()); err != nil {
			return out, err
		}
		return f(x, c, in)
	})
}

func (s *server) users(x *call, _ *service.Caller, _ none) (api.Users, error) {
	after, limit, err := x.page()
	if err != nil {
		return api.Users{}, err
	}
	return s.svc.Users(x.ctx(), after, limit)
}

func (s *server) addUser(x *call, c *service.Caller, in api.UserIn) (api.User, error) {
	return s.svc.AddUser(x.ctx(), in, c.User, x.source())
}

func (s *server) suspendUser(x *call, c *service.Caller, _ none) (none, error) {
	return none{}, s.svc.SuspendUser(x.ctx(), x.gin.Param("id"), c.User, x.source())
}

func (s *server) resumeUser(x *call, c *service.Caller, _ none) (none, error) {
	return none{}, s.svc.ResumeUser(x.ctx(), x.gin.Param("id"), c.User, x.source())
}

func (s *server) setPassword(x *call, c *service.Caller, in api.PasswordIn) (none, error) {
	return none{}, s.svc.SetPassword(x.ctx(), x.gin.Param("id"), in.Password, c.User, x.source())
}

func (s *server) services(x *call, _ *service.Caller, _ none) (api.Services, error) {
	return s.svc.Services(x.ctx())
}

func (s *server) addService(x *call, c *service.Caller, in api.ServiceIn) (api.Service, error) {
	return s.svc.AddService(x.ctx(), in, c.User, x.source())
}

func (s *server) removeService(x *call, c *service.Caller, _ none) (none, error) {
	return none{}, s.svc.RemoveService(x.ctx(), x.gin.Param("id"), c.User, x.source())
}

func (s *server) audit(x *call, _ *service.Caller, _ none) (api.Audit, error) {
	after, limit, err := x.page()
	if err != nil {
		return api.Audit{}, err
	}
	var seq int64
	if after != "" {
		if seq, err = strconv.ParseInt(after, 10, 64); err != nil || seq < 0 {
			return api.Audit{}, badRequest("after is an entry's number")
		}
	}
	return s.svc.Audit(x.ctx(), seq, limit)
}
