package httpapi

import (
	"fmt"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
)

// endings are the ways in which alice's phone ends, by the phone, another device
// of hers, or an operator.
var endings = map[string]func(a *authority, phone, other api.Grant){
	"logging out": func(a *authority, phone, _ api.Grant) {
		a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(phone.Token)}).want(204, "")
	},
	"presenting it": func(a *authority, phone, _ api.Grant) {
		a.post("/v1/revoke", "", api.RevokeIn{Token: phone.Token}).want(200, "")
	},
	"removing it": func(a *authority, phone, other api.Grant) {
		a.do(ask{method: "DELETE", path: "/v1/devices/" + phone.Device.ID, auth: bearer(other.Token), body: proof}).want(204, "")
	},
	"removing all others": func(a *authority, _, other api.Grant) {
		a.do(ask{method: "DELETE", path: "/v1/devices?except=current", auth: bearer(other.Token), body: proof}).want(204, "")
	},
	"another password": func(a *authority, _, other api.Grant) {
		body := fmt.Sprintf(`{"password":"several loud magpies","current":%q}`, password("alice"))
		a.do(ask{method: "POST", path: "/v1/password", auth: bearer(other.Token), body: body}).want(204, "")
	},
	"a login of the same install": func(a *authority, _, _ api.Grant) {
		a.login("alice", api.DeviceIn{Name: "phone", InstallID: "3f9c"})
	},
	"a suspension": func(a *authority, phone, _ api.Grant) {
		if err := a.svc.SuspendUser(a.t.Context(), phone.User.ID, service.ActorOperator, service.Source{}); err != nil {
			a.t.Fatal(err)
		}
	},
}

// proof is alice's password, for what a root alone is not enough for.
var proof = fmt.Sprintf(`{"password":%q}`, password("alice"))

func (a *authority) session(g api.Grant) *reply {
	a.t.Helper()
	return a.do(ask{method: "GET", path: "/v1/session", auth: bearer(g.Token)})
}

// After a backup was restored with its tokens kept, a root that was renewed since
// the backup outlives all that the database knows of its device. Once ended it
// stays so, also when it is ended after that time.
func TestEndedAfterRestore(t *testing.T) {
	for how, end := range endings {
		for _, after := range []time.Duration{0, 20*24*time.Hour + time.Minute} {
			t.Run(fmt.Sprint(how, " after ", after), func(t *testing.T) {
				a := start(t)
				a.user("alice")
				phone := a.login("alice", api.DeviceIn{Name: "phone", InstallID: "3f9c"})
				backup := a.backup()
				a.pass(10 * 24 * time.Hour)
				phone = a.renewed(phone.Token)
				a.restore(backup)
				a.pass(after)
				other := a.login("alice", api.DeviceIn{Name: "laptop"})
				a.session(phone).want(200, "")
				end(a, phone, other)
				a.session(phone).want(401, "revoked")
				a.pass(20*24*time.Hour + 11*time.Minute - after)
				a.svc.Sweep(t.Context(), a.clock.Now())
				a.kill()
				a.session(phone).want(401, "revoked")
			})
		}
	}
}

// And while such a root may live, what holds for its device does.
func TestBoundAfterRestore(t *testing.T) {
	a := start(t)
	phone := a.user("alice")
	backup := a.backup()
	a.pass(25 * 24 * time.Hour)
	phone = a.renewed(phone.Token)
	a.restore(backup)
	in := api.PolicyIn{Target: api.PolicyTarget{Device: phone.Device.ID}, Caveats: []string{"method POST"}, Reason: "INC-1"}
	if _, err := a.svc.AddPolicy(t.Context(), in, service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	a.pass(5*24*time.Hour + 11*time.Minute)
	a.svc.Sweep(t.Context(), a.clock.Now())
	a.pass(time.Second)
	a.session(phone).want(403, "forbidden")
}
