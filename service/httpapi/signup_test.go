package httpapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"macaroond/service/api"
)

// Sign-up is off unless configured, and takes a name alone only where that is
// enabled.
func TestSignupModes(t *testing.T) {
	a := start(t)
	for i, row := range []struct {
		mode, password string
		status         int
		code, field    string
	}{
		{"off", "long enough", 403, "signup_off", ""},
		{"off", "", 403, "signup_off", ""},
		{"", "long enough", 403, "signup_off", ""},
		{"anything else", "long enough", 403, "signup_off", ""},
		{"password", "long enough", 201, "", ""},
		{"password", "", 400, "bad_request", "/password"},
		{"password", "7 chars", 400, "bad_request", "/password"},
		{"password", strings.Repeat("é", 7), 400, "bad_request", "/password"},
		{"password", "élèvé éé", 201, "", ""},
		{"device", "long enough", 201, "", ""},
		{"device", "", 201, "", ""},
		{"device", "7 chars", 400, "bad_request", "/password"},
	} {
		set := *a.svc.Settings()
		set.Signup = row.mode
		a.svc.SetSettings(set)
		if p := a.post("/v1/signup", "", api.SignupIn{Username: fmt.Sprint("user ", i), Password: row.password, Device: api.DeviceIn{Name: "d"}}).want(row.status, row.code); p.Field != row.field {
			t.Errorf("%s, %q: field %q", row.mode, row.password, p.Field)
		}
	}
}

// A sign-up gives a root that works and ten recovery codes of 80 bits, which
// no later answer has.
func TestSignup(t *testing.T) {
	a := start(t)
	g := into[api.Grant](a.post("/v1/signup", "", api.SignupIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "phone", InstallID: "i"}}), 201)
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}).want(200, "")
	slices.Sort(g.RecoveryCodes)
	if codes := slices.Compact(g.RecoveryCodes); len(codes) != 10 || len(codes[0]) != 19 {
		t.Errorf("recovery codes: %v", codes)
	}
	if again := a.login("alice", api.DeviceIn{Name: "phone", InstallID: "i"}); again.RecoveryCodes != nil || again.Device.ID != g.Device.ID {
		t.Errorf("a login gives %v on %s", again.RecoveryCodes, again.Device.ID)
	}
	// Without a password the token is all there is: no login.
	only := into[api.Grant](a.post("/v1/signup", "", api.SignupIn{Username: "bob", Device: api.DeviceIn{Name: "phone"}}), 201)
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(only.Token)}).want(200, "")
	a.post("/v1/login", "", api.LoginIn{Username: "bob", Device: api.DeviceIn{Name: "d"}}).want(401, "bad_credentials")
}

// A recovery code is good once, in any case and with or without dashes; using
// it ends every other device, at once.
func TestRecovery(t *testing.T) {
	a := start(t)
	lost := into[api.Grant](a.post("/v1/signup", "", api.SignupIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "lost"}}), 201)
	codes := lost.RecoveryCodes
	bob := into[api.Grant](a.post("/v1/signup", "", api.SignupIn{Username: "bob", Device: api.DeviceIn{Name: "d"}}), 201)
	recovery := func(name, code string) *reply {
		return a.post("/v1/recover", "", api.RecoverIn{Username: name, Code: code, Device: api.DeviceIn{Name: "new"}})
	}
	old := []api.Grant{lost, a.login("alice", api.DeviceIn{Name: "laptop"}), a.login("alice", api.DeviceIn{Name: "tablet", InstallID: "t"})}
	dead := func(grants ...api.Grant) {
		t.Helper()
		for _, g := range grants {
			a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}).want(401, "revoked")
		}
	}
	first := into[api.Grant](recovery("ALICE", codes[0]), 200)
	if first.User.ID != lost.User.ID || first.RecoveryCodes != nil || first.Device.Name != "new" {
		t.Errorf("%+v", first)
	}
	dead(old...)
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(first.Token)}).want(200, "")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(bob.Token)}).want(200, "")

	recovery("alice", codes[0]).want(401, "bad_credentials")                               // used
	recovery("bob", codes[1]).want(401, "bad_credentials")                                 // another's
	recovery("alice", codes[1][:18]).want(401, "bad_credentials")                          // cut
	recovery("alice", codes[1]+codes[2]).want(401, "bad_credentials")                      // two
	recovery("alice", "").want(401, "bad_credentials")                                     // none
	recovery("alice", password("alice")).want(401, "bad_credentials")                      // a password is no code
	recovery("", codes[1]).want(400, "bad_request")                                        // nobody
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(first.Token)}).want(200, "") // and failures end nothing

	second := into[api.Grant](recovery("alice", strings.ToUpper(strings.ReplaceAll(codes[1], "-", ""))), 200)
	dead(first)
	third := into[api.Grant](recovery("alice", " "+strings.ReplaceAll(codes[2], "-", " ")), 200)
	dead(second)
	written := strings.NewReplacer("0", "O", "1", "l").Replace(codes[3]) // as people read it
	fourth := into[api.Grant](recovery("alice", written), 200)
	dead(third)
	for _, d := range into[api.Devices](a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(fourth.Token)}), 200).Devices {
		if d.RevokedAt != nil && d.RevokedReason != "recovery" {
			t.Errorf("revoked for %q", d.RevokedReason)
		}
	}
	a.login("alice", api.DeviceIn{Name: "the password still works"})
}
