package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// A login answers a bare root whose mint caveats are what the grant says.
func TestLogin(t *testing.T) {
	a := start(t)
	a.user("alice")
	g := into[api.Grant](a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "laptop"}}), 200)
	tok := must(token.Parse(g.Token))
	want := []string{"time-before " + g.ExpiresAt.Format(time.RFC3339), "user " + g.User.ID, "device " + g.Device.ID}
	if got := tok.UnverifiedCaveats(); !slices.Equal(got, want) {
		t.Errorf("caveats %q, want %q", got, want)
	}
	if got := tok.UnverifiedIdentifier().RootKeyID.String(); got != g.RootKeyID {
		t.Errorf("root key ID %s, want %s", got, g.RootKeyID)
	}
	if tok.UnverifiedLocation() != "https://auth.example" || g.TokenType != "Bearer" || g.User.Username != "alice" || g.Device.Name != "laptop" || g.Access != nil || g.RecoveryCodes != nil {
		t.Errorf("%+v", g)
	}
	if g.ExpiresIn != 30*24*3600 || !g.ExpiresAt.Equal(a.clock.Now().Add(30*24*time.Hour)) {
		t.Errorf("expires in %d s, at %s", g.ExpiresIn, g.ExpiresAt)
	}
}

func TestLoginCredentials(t *testing.T) {
	a := start(t)
	a.user("alice")
	a.post("/v1/signup", "", api.SignupIn{Username: "no password", Device: api.DeviceIn{Name: "d"}}).want(201, "")
	right := password("alice")
	const device = `"device":{"name":"d"}`
	for _, row := range []struct {
		name, auth, body string
		status           int
		code             string
	}{
		{"JSON", "", fmt.Sprintf(`{"username":"alice","password":%q,%s}`, right, device), 200, ""},
		{"Basic", basic("alice", right), "{" + device + "}", 200, ""},
		{"Basic in lower case", strings.Replace(basic("alice", right), "Basic", "basic", 1), "{" + device + "}", 200, ""},
		{"both", basic("alice", right), fmt.Sprintf(`{"username":"alice","password":%q,%s}`, right, device), 400, "bad_request"},
		{"both, the body's name only", basic("alice", right), `{"username":"alice",` + device + "}", 400, "bad_request"},
		{"both, the body's password only", basic("alice", right), fmt.Sprintf(`{"password":%q,%s}`, right, device), 400, "bad_request"},
		{"both, Basic's password only", basic("", right), `{"username":"alice",` + device + "}", 400, "bad_request"},
		{"neither", "", "{" + device + "}", 400, "bad_request"},
		{"Basic that is not base64", "Basic !!!", "{" + device + "}", 400, "bad_request"},
		{"Basic without a colon", "Basic YWxpY2U=", "{" + device + "}", 400, "bad_request"},
		{"a name only", "", `{"username":"alice",` + device + "}", 401, "bad_credentials"},
		{"a wrong password", "", `{"username":"alice","password":"wrong one",` + device + "}", 401, "bad_credentials"},
		{"a wrong password by Basic", basic("alice", "wrong one"), "{" + device + "}", 401, "bad_credentials"},
		{"in capitals", "", fmt.Sprintf(`{"username":"alice","password":%q,%s}`, strings.ToUpper(right), device), 401, "bad_credentials"},
		{"with a space more", "", fmt.Sprintf(`{"username":"alice","password":%q,%s}`, right+" ", device), 401, "bad_credentials"},
		{"an endless password", "", fmt.Sprintf(`{"username":"alice","password":%q,%s}`, strings.Repeat("p", 50_000), device), 401, "bad_credentials"},
		{"an unknown user", "", fmt.Sprintf(`{"username":"mallory","password":%q,%s}`, right, device), 401, "bad_credentials"},
		{"a name that cannot be", "", fmt.Sprintf(`{"username":"a\u0000b","password":%q,%s}`, right, device), 401, "bad_credentials"},
		{"a name too long to be anybody's", "", fmt.Sprintf(`{"username":%q,"password":%q,%s}`, strings.Repeat("x", 50_000), right, device), 400, "bad_request"},
		{"a user without a password", "", `{"username":"no password","password":"",` + device + "}", 401, "bad_credentials"},
	} {
		p := a.do(ask{method: "POST", path: "/v1/login", auth: row.auth, body: row.body}).want(row.status, row.code)
		if row.status == 400 && p.Field != "/username" {
			t.Errorf("%s: field %q", row.name, p.Field)
		}
		if t.Failed() {
			t.Fatalf("in the row %q", row.name)
		}
	}
}

// Passwords are compared in NFC: two keyboards type the same one.
func TestPasswordsAreNormalised(t *testing.T) {
	a := start(t)
	a.post("/v1/signup", "", api.SignupIn{Username: "renée", Password: "caf\u00e9 au lait", Device: api.DeviceIn{Name: "d"}}).want(201, "")
	a.post("/v1/login", "", api.LoginIn{Username: "renée", Password: "cafe\u0301 au lait", Device: api.DeviceIn{Name: "d"}}).want(200, "")
}

// A password whose hash has former costs is hashed anew when it is next shown,
// once, which is not audited as if its user had set one.
func TestRehash(t *testing.T) {
	a := start(t)
	a.user("alice")
	a.made.service.Hashing.Time++
	a.store.Close()
	a.open()
	alice := a.login("alice", api.DeviceIn{Name: "phone"})
	a.login("alice", api.DeviceIn{Name: "phone"})
	if phc := must(a.store.User(t.Context(), alice.User.ID)).PasswordHash; !strings.Contains(phc, "t=2,") {
		t.Errorf("the hash has its former costs: %s", phc)
	}
	var rehashed []storage.AuditEntry
	for _, e := range must(a.store.Audit(t.Context(), 0, 100)) {
		switch e.Type {
		case service.EventPasswordSet:
			t.Errorf("audited as set by %s", e.Actor)
		case service.EventRehashed:
			rehashed = append(rehashed, e)
		}
	}
	if len(rehashed) != 1 || rehashed[0].Actor != "" || rehashed[0].UserID != alice.User.ID {
		t.Errorf("audited: %+v", rehashed)
	}
}

// Nobody learns from the answer whether a name is taken: byte for byte the same
// but for the request's id.
func TestUnknownUserAndWrongPasswordAreAlike(t *testing.T) {
	a := start(t)
	a.user("alice")
	a.post("/v1/signup", "", api.SignupIn{Username: "device only", Device: api.DeviceIn{Name: "d"}}).want(201, "")
	answer := func(path, name, secret string) string {
		in := map[string]any{"username": name, "device": map[string]string{"name": "d"}, "password": secret}
		if path == "/v1/recover" {
			delete(in, "password")
			in["code"] = secret
		}
		r := a.do(ask{method: "POST", path: path, body: string(must(json.Marshal(in)))})
		r.want(401, "bad_credentials")
		id := r.Header.Get("X-Request-Id")
		r.Header.Del("X-Request-Id")
		r.Header.Del("Date")
		return fmt.Sprint(r.StatusCode, headerText(r.Header), strings.Replace(string(r.body), id, "ID", 1))
	}
	for _, path := range []string{"/v1/login", "/v1/recover"} {
		want := answer(path, "alice", "not hers at all")
		for _, name := range []string{"nobody in particular", "device only", "usr_0123456789abcdef", strings.Repeat("long", 16)} {
			if got := answer(path, name, "not hers at all"); got != want {
				t.Errorf("%s: %.20s is told from alice:\n%s\n%s", path, name, got, want)
			}
		}
	}
}

// A suspended account is told only to whoever knows the secret.
func TestSuspendedIsToldToTheOwnerOnly(t *testing.T) {
	a := start(t)
	g := into[api.Grant](a.post("/v1/signup", "", api.SignupIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "d"}}), 201)
	chief := a.admin()
	a.do(ask{method: "POST", path: "/v1/admin/users/" + g.User.ID + "/suspend", auth: bearer(chief.Token)}).want(204, "")
	login := func(pw string) *reply {
		return a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: pw, Device: api.DeviceIn{Name: "d"}})
	}
	login("not the right one").want(401, "bad_credentials")
	login(password("alice")).want(403, "suspended")
	recovery := func(code string) *reply {
		return a.post("/v1/recover", "", api.RecoverIn{Username: "alice", Code: code, Device: api.DeviceIn{Name: "d"}})
	}
	recovery("0000-0000-0000-0000").want(401, "bad_credentials")
	recovery(g.RecoveryCodes[0]).want(403, "suspended")
}

func TestLoginTTL(t *testing.T) {
	a := start(t)
	a.user("alice")
	const month = 30 * 24 * 3600
	for ttl, want := range map[string]int64{`,"ttl":1`: 1, `,"ttl":3600`: 3600, fmt.Sprintf(`,"ttl":%d`, month): month, ``: month} {
		g := into[api.Grant](a.do(ask{method: "POST", path: "/v1/login", auth: basic("alice", password("alice")), body: `{"device":{"name":"d"}` + ttl + `}`}), 200)
		if g.ExpiresIn != want || !g.ExpiresAt.Equal(a.clock.Now().Add(time.Duration(want)*time.Second)) {
			t.Errorf("%s: expires in %d at %s", ttl, g.ExpiresIn, g.ExpiresAt)
		}
	}
	for _, ttl := range []int64{-1, month + 1, 1 << 62} {
		p := a.post("/v1/login", "", map[string]any{"username": "alice", "password": password("alice"), "device": api.DeviceIn{Name: "d"}, "ttl": ttl}).want(400, "bad_request")
		if p.Field != "/ttl" {
			t.Errorf("field %q", p.Field)
		}
	}
	// Its time over, the token is.
	g := into[api.Grant](a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "d"}, TTL: 60}), 200)
	a.pass(59 * time.Second)
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}).want(200, "")
	a.pass(time.Second)
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}).want(401, "expired")
}

// With an audience there is a narrowed token beside the root, for clients that
// do not narrow: the audience, access_ttl, and a note that makes it a branch.
func TestLoginAccess(t *testing.T) {
	a := start(t)
	a.user("alice")
	_, photos := a.service("photos", "photos")
	login := func(ttl int64) api.Grant {
		return into[api.Grant](a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), Device: api.DeviceIn{Name: "d"}, Audience: "photos", TTL: ttl}), 200)
	}
	g, again := login(0), login(0)
	if g.Access == nil || g.Access.Audience != "photos" || !g.Access.ExpiresAt.Equal(a.clock.Now().Add(10*time.Minute)) {
		t.Fatalf("%+v", g.Access)
	}
	root, access := must(token.Parse(g.Token)).UnverifiedCaveats(), must(token.Parse(g.Access.Token)).UnverifiedCaveats()
	if len(access) != 6 || !slices.Equal(access[:3], root) || access[3] != "audience photos" || access[4] != caveats.TimeBefore(g.Access.ExpiresAt.Time).String() || !strings.HasPrefix(access[5], "note access ") {
		t.Errorf("access has %q", access)
	}
	if other := must(token.Parse(again.Access.Token)).UnverifiedCaveats(); other[5] == access[5] {
		t.Errorf("two have the same note %q", access[5])
	}
	d := into[api.Decision](a.post("/v1/verify", photos, api.VerifyIn{Token: g.Access.Token, Request: api.Request{Audience: "photos"}}), 200)
	if !d.Allowed || !d.ExpiresAt.Equal(g.Access.ExpiresAt.Time) {
		t.Errorf("%+v", d)
	}
	if g := login(60); !g.Access.ExpiresAt.Equal(g.ExpiresAt.Time) {
		t.Errorf("access lives to %s, its root to %s", g.Access.ExpiresAt, g.ExpiresAt)
	}
}

// A login of the same install replaces the device's root key: the id stays, the
// old token is dead when the answer is there, and somebody else's install of
// the same id is none of it.
func TestInstallID(t *testing.T) {
	a := start(t)
	chief, bob := a.admin(), a.user("bob")
	first := a.login("chief", api.DeviceIn{Name: "phone", InstallID: "install-1"})
	theirs := a.login("bob", api.DeviceIn{Name: "phone", InstallID: "install-1"})
	second := a.login("chief", api.DeviceIn{Name: "my phone", InstallID: "install-1"})
	if second.Device.ID != first.Device.ID || second.Device.Name != "my phone" || second.RootKeyID == first.RootKeyID || theirs.Device.ID == first.Device.ID {
		t.Errorf("%+v then %+v", first.Device, second.Device)
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(first.Token)}).want(401, "revoked")
	for _, g := range []api.Grant{chief, second, bob, theirs} {
		a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}).want(200, "")
	}
	if third := a.login("chief", api.DeviceIn{Name: "tablet", InstallID: "install-2"}); third.Device.ID == first.Device.ID {
		t.Error("another install is the same device")
	}
	if list := into[api.Devices](a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(second.Token)}), 200); len(list.Devices) != 3 {
		t.Errorf("%d devices", len(list.Devices))
	}
}

// A user has at most 100 live devices: the next pushes out one without an
// install id, the longest idle first.
func TestTheHundredAndFirstDevice(t *testing.T) {
	a := start(t)
	kept := a.userOf("alice", "")
	a.post("/v1/logout", bearer(kept.Token), nil)
	var grants []api.Grant
	for i := range 101 {
		a.clock.drift(time.Second)
		in := api.DeviceIn{Name: fmt.Sprint(i)}
		if i == 0 {
			in.InstallID = "kept"
		}
		grants = append(grants, a.login("alice", in))
	}
	if err := a.svc.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]int{0: 200, 1: 401, 2: 200, 100: 200} {
		if got := a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(grants[i].Token)}).StatusCode; got != want {
			t.Errorf("device %d: %d, want %d", i, got, want)
		}
	}
	live := 0
	for _, d := range into[api.Devices](a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(grants[100].Token)}), 200).Devices {
		if d.RevokedAt == nil {
			live++
		} else if d.RevokedReason != "evicted" && d.RevokedReason != "logout" {
			t.Errorf("revoked for %q", d.RevokedReason)
		}
	}
	if live != 100 {
		t.Errorf("%d live devices", live)
	}
}

// An answer with a token is the same bytes of JSON to everybody: no HTML
// escapes, one object, one line.
func TestAnswersAreOneLine(t *testing.T) {
	a := start(t)
	a.user("<alice & co>")
	r := a.post("/v1/login", "", api.LoginIn{Username: "<alice & co>", Password: password("<alice & co>"), Device: api.DeviceIn{Name: "d"}})
	if r.want(200, ""); bytes.Count(r.body, []byte("\n")) != 1 || !bytes.Contains(r.body, []byte("<alice & co>")) || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: %s", r.Header, r.body)
	}
}
