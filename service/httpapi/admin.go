package httpapi

import (
	"strconv"

	"macaroond/service"
	"macaroond/service/api"
)

// administrator asks for the bare root of a user who has the role now.
func (x *call) administrator() (*service.Caller, error) {
	c, err := x.owner("admin")
	if err != nil {
		return nil, err
	}
	return c, x.s.svc.Administrator(x.ctx(), c, x.source())
}

func (s *server) users(x *call, _ none) (api.Users, error) {
	if _, err := x.administrator(); err != nil {
		return api.Users{}, err
	}
	after, limit, err := x.page()
	if err != nil {
		return api.Users{}, err
	}
	return s.svc.Users(x.ctx(), after, limit)
}

func (s *server) addUser(x *call, in api.UserIn) (api.User, error) {
	c, err := x.administrator()
	if err != nil {
		return api.User{}, err
	}
	return s.svc.AddUser(x.ctx(), in, c.User, x.source())
}

func (s *server) suspendUser(x *call, _ none) (none, error) {
	c, err := x.administrator()
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.SuspendUser(x.ctx(), x.gin.Param("id"), c.User, x.source())
}

func (s *server) resumeUser(x *call, _ none) (none, error) {
	c, err := x.administrator()
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.ResumeUser(x.ctx(), x.gin.Param("id"), c.User, x.source())
}

func (s *server) setPassword(x *call, in api.PasswordIn) (none, error) {
	c, err := x.administrator()
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.SetPassword(x.ctx(), x.gin.Param("id"), in.Password, c.User, x.source())
}

func (s *server) services(x *call, _ none) (api.Services, error) {
	if _, err := x.administrator(); err != nil {
		return api.Services{}, err
	}
	return s.svc.Services(x.ctx())
}

func (s *server) addService(x *call, in api.ServiceIn) (api.Service, error) {
	c, err := x.administrator()
	if err != nil {
		return api.Service{}, err
	}
	return s.svc.AddService(x.ctx(), in, c.User, x.source())
}

func (s *server) removeService(x *call, _ none) (none, error) {
	c, err := x.administrator()
	if err != nil {
		return none{}, err
	}
	return none{}, s.svc.RemoveService(x.ctx(), x.gin.Param("id"), c.User, x.source())
}

func (s *server) audit(x *call, _ none) (api.Audit, error) {
	if _, err := x.administrator(); err != nil {
		return api.Audit{}, err
	}
	after, limit, err := x.page()
	if err != nil {
		return api.Audit{}, err
	}
	var seq int64
	if after != "" {
		if seq, err = strconv.ParseInt(after, 10, 64); err != nil || seq < 0 {
			return api.Audit{}, &service.Error{Code: api.CodeBadRequest, Detail: "after is an entry's number"}
		}
	}
	return s.svc.Audit(x.ctx(), seq, limit)
}
