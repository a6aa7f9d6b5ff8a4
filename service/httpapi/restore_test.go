package httpapi

import (
	"fmt"
	"strings"
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
		a.do(ask{method: "DELETE", path: "/v1/devices/" + phone.Device.ID, auth: bearer(other.Token), body: alicesProof}).want(204, "")
	},
	"removing all others": func(a *authority, _, other api.Grant) {
		a.do(ask{method: "DELETE", path: "/v1/devices?except=current", auth: bearer(other.Token), body: alicesProof}).want(204, "")
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

// alicesProof is her password, for what a root alone is not enough for.
var alicesProof = fmt.Sprintf(`{"password":%q}`, password("alice"))

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

// A login after the backup is good, and the restored database does not know it,
// nor its user if that is younger, too. It can be ended; for what needs the
// account it has to be made again.
func TestUnknownAfterRestore(t *testing.T) {
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/v1/session", "", 200, ""},
		{"GET", "/v1/devices", "", 200, ""},
		{"GET", "/v1/delayed", "", 200, ""},
		{"GET", "/v1/links", "", 200, ""},
		{"GET", "/v1/recovery-codes", "", 200, ""},
		{"POST", "/v1/renew", "", 403, "session_over"},
		{"POST", "/v1/recovery-codes", "", 403, "session_over"},
		{"POST", "/v1/recovery-codes", alicesProof, 403, "session_over"},
		{"POST", "/v1/links", "", 403, "session_over"},
		{"POST", "/v1/links", alicesProof, 403, "session_over"},
		{"POST", "/v1/password", `{"password":"several loud magpies"}`, 403, "session_over"},
		{"DELETE", "/v1/user", alicesProof, 403, "session_over"},
		{"DELETE", "/v1/user", `{"code":"x"}`, 403, "session_over"},
		{"DELETE", "/v1/devices?except=current", "", 403, "session_over"},
		{"DELETE", "/v1/devices?except=current", alicesProof, 403, "session_over"},
		{"GET", "/v1/admin/users", "", 403, "session_over"},
		{"POST", "/v1/admin/keys/rotate", "", 403, "session_over"},
	} {
		a := start(t)
		backup := a.backup()
		alice := a.user("alice")
		a.restore(backup)
		a.do(ask{method: c.method, path: c.path, auth: bearer(alice.Token), body: c.body}).want(c.status, c.code)
		a.session(alice).want(200, "")
	}
}

// Whatever says that the asking device goes ends its root, though the database
// does not know the device, or the user; and what may wait ends nothing.
func TestEndingAnUnknownDevice(t *testing.T) {
	for _, c := range []struct {
		user   bool // is in the backup, with a device
		path   string
		body   string
		status int
		ended  bool
	}{
		{true, "/v1/devices", alicesProof, 204, true},
		{true, "/v1/devices", "", 403, false}, // a device that the database does not know cannot wait
		{true, "/v1/devices?except=current", alicesProof, 204, false},
		{true, "/v1/devices/{own}", "", 204, true},
		{false, "/v1/devices", "", 204, true},
		{false, "/v1/devices", alicesProof, 204, true},
		{false, "/v1/devices/{own}", "", 204, true},
		{false, "/v1/devices/{own}", alicesProof, 204, true},
		{false, "/v1/devices/dev_AAAAAAAAAAAAAAAA", "", 404, false},
	} {
		a := start(t)
		var backup string
		var phone api.Grant
		if c.user {
			a.user("alice")
			backup = a.backup()
			phone = a.login("alice", api.DeviceIn{Name: "phone"})
		} else {
			backup = a.backup()
			phone = a.user("alice")
		}
		a.restore(backup)
		path := strings.Replace(c.path, "{own}", phone.Device.ID, 1)
		if r := a.do(ask{method: "DELETE", path: path, auth: bearer(phone.Token), body: c.body}); r.StatusCode != c.status {
			t.Errorf("%+v: %d %s", c, r.StatusCode, r.body)
		}
		if dead := a.session(phone).StatusCode == 401; dead != c.ended {
			t.Errorf("%+v: dead: %v", c, dead)
		}
	}
}
