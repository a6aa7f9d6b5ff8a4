package httpapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"macaroond/service/api"
)

// endpoint is one that takes a JSON body: its route, an id for it, the first
// member and the rest of a good body, and the field that an empty body lacks,
// unless there is nothing that it must have.
type endpoint struct {
	route, id     string
	member, value string
	rest          string
	lacks         string
	auth          string // an administrator's, unless it says otherwise
}

func (e endpoint) good() string { return fmt.Sprintf("{%q:%q%s}", e.member, e.value, e.rest) }

func (e endpoint) ask(body string) ask {
	method, path, _ := strings.Cut(e.route, " ")
	return ask{method: method, path: strings.Replace(path, ":id", e.id, 1), auth: e.auth, body: body}
}

// endpoints are all of them: see TestNoBodyMeansNone.
func (a *authority) endpoints() []endpoint {
	a.t.Helper()
	chief := a.admin()
	_, shop := a.minter("minter")
	list := []endpoint{
		{"POST /v1/signup", "", "username", "newcomer", `,"device":{"name":"d"}`, "/username", ""},
		{"POST /v1/login", "", "username", "chief", `,"password":"wrong one","device":{"name":"d"}`, "/username", ""},
		{"POST /v1/recover", "", "username", "chief", `,"code":"0000-0000-0000-0000","device":{"name":"d"}`, "/username", ""},
		{"PATCH /v1/devices/:id", chief.Device.ID, "name", "new name", ``, "/name", ""},
		{"DELETE /v1/devices/:id", chief.Device.ID, "password", "not this one", ``, "", ""},
		{"DELETE /v1/devices", "", "password", "not this one", ``, "", ""},
		{"POST /v1/recovery-codes", "", "password", "not this one", ``, "", ""},
		{"POST /v1/password", "", "password", "several loud magpies", `,"current":"not this one"`, "/password", ""},
		{"DELETE /v1/user", "", "password", "not this one", ``, "", ""},
		{"POST /v1/links", "", "password", "not this one", ``, "", ""},
		{"POST /v1/link", "", "username", "chief", `,"code":"0000-0000","device":{"name":"d"}`, "/username", ""},
		{"POST /v1/link/claim", "", "claim", "lnk_0123456789abcdef.x", ``, "/claim", ""},
		{"POST /v1/ticket", "", "audience", "macaroond", ``, "/audience", ""},
		{"POST /v1/verify", "", "token", chief.Token, `,"request":{}`, "/token", ""},
		{"POST /v1/revoke", "", "token", narrow(chief.Token, "audience x"), ``, "/token", ""},
		{"POST /v1/seal", "", "token", chief.Token, `,"caveats":["method GET"]`, "/token", ""},
		{"POST /v1/mint", "", "subject", "42", `,"device":{"name":"d"}`, "/subject", shop},
		{"POST /v1/admin/users", "", "username", "other", `,"password":"long enough"`, "/username", ""},
		{"PATCH /v1/admin/users/:id", chief.User.ID, "role", "admin", ``, "/role", ""},
		{"POST /v1/admin/users/:id/password", chief.User.ID, "password", "long enough", ``, "/password", ""},
		{"POST /v1/admin/services", "", "name", "photos", ``, "/name", ""},
		{"POST /v1/admin/policies", "", "reason", "INC-42", `,"target":{"everyone":true},"caveats":["method GET"]`, "/target", ""},
	}
	for i := range list {
		if list[i].auth == "" {
			list[i].auth = bearer(chief.Token)
		}
	}
	return list
}

// What is not one strict JSON object of the documented members is a 400 that
// names the member, at every endpoint, and changes nothing.
func TestBadBodies(t *testing.T) {
	a := start(t)
	for _, e := range a.endpoints() {
		a.in(strings.ReplaceAll(e.route, "/", "_"), func(a *authority) {
			refused := func(name, body, field string) {
				a.t.Helper()
				p := a.do(e.ask(body)).want(400, "bad_request")
				if p.Field != field || p.Detail == "" {
					a.t.Errorf("%s: field %q, want %q (%s)", name, p.Field, field, p.Detail)
				}
			}
			for _, row := range []struct{ name, body, field string }{
				{"not JSON", "nope", ""},
				{"nothing but a brace", "{", ""},
				{"an array", "[" + e.good() + "]", ""},
				{"a string", `"x"`, ""},
				{"a number", "1", ""},
				{"true", "true", ""},
				{"trailing bytes", e.good() + "x", ""},
				{"a second object", e.good() + e.good(), ""},
				{"a trailing comma", strings.TrimSuffix(e.good(), "}") + ",}", ""},
				{"a comment", "/**/" + e.good(), ""},
				{"single quotes", strings.ReplaceAll(e.good(), `"`, "'"), ""},
				{"a byte order mark", "\ufeff" + e.good(), ""},
				{"UTF-16", "\xff\xfe{\x00}\x00", ""},
				{"unknown member", strings.Replace(e.good(), "{", `{"extra":1,`, 1), "/extra"},
				{"member in another case", strings.Replace(e.good(), e.member, strings.ToUpper(e.member), 1), "/" + strings.ToUpper(e.member)},
				{"member with a space", strings.Replace(e.good(), e.member, e.member+" ", 1), "/" + e.member + " "},
				{"the same member twice", strings.Replace(e.good(), "{", fmt.Sprintf("{%q:%q,", e.member, e.value), 1), "/" + e.member},
				{"a number for a string", fmt.Sprintf("{%q:7%s}", e.member, e.rest), "/" + e.member},
				{"an object for a string", fmt.Sprintf("{%q:{}%s}", e.member, e.rest), "/" + e.member},
				{"a list for a string", fmt.Sprintf("{%q:[%q]%s}", e.member, e.value, e.rest), "/" + e.member},
				{"false for a string", fmt.Sprintf("{%q:false%s}", e.member, e.rest), "/" + e.member},
				{"invalid UTF-8", fmt.Sprintf("{%q:\"a\xff\"%s}", e.member, e.rest), "/" + e.member},
				{"overlong UTF-8", fmt.Sprintf("{%q:\"a\xc0\xaf\"%s}", e.member, e.rest), "/" + e.member},
				{"half a surrogate pair", fmt.Sprintf(`{%q:"\ud800"%s}`, e.member, e.rest), "/" + e.member},
				{"a raw control character", fmt.Sprintf("{%q:\"a\nb\"%s}", e.member, e.rest), "/" + e.member},
				{"an unknown escape", fmt.Sprintf(`{%q:"\x41"%s}`, e.member, e.rest), "/" + e.member},
			} {
				refused(row.name, row.body, row.field)
			}
			if e.lacks != "" {
				refused("an empty object", "{}", e.lacks)
				refused("no body", "", e.lacks)
				refused("blanks", " \r\n\t", e.lacks)
			}
			a.do(e.ask(`{"`+e.member+`":`+strings.Repeat("[", 60_000))).want(400, "bad_request")
			for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json5", "application/json, text/plain", "nonsense/", "application/problem+json"} {
				q := e.ask(e.good())
				q.header = []string{"Content-Type", ct}
				a.do(q).want(415, "unsupported_media")
			}
			for _, ct := range []string{"", "application/json; charset=utf-8", "Application/JSON"} {
				q := e.ask("{")
				q.header = []string{"Content-Type", ct}
				a.do(q).want(400, "bad_request") // of these it is the body that is wrong
			}
		})
	}
	// All of that was nothing. (The right body at each is other tests' business.)
	chief := a.login("chief", api.DeviceIn{Name: "phone"})
	if devices := a.devices(chief); len(devices) != 2 || devices[1].RevokedAt != nil {
		t.Errorf("bad bodies dropped devices: %+v", devices)
	}
	if users := into[api.Users](a.get("/v1/admin/users", chief), 200); len(users.Users) != 1 {
		t.Errorf("bad bodies made users: %+v", users)
	}
}

// Members inside members are named by their whole path.
func TestBadMembersInside(t *testing.T) {
	a := start(t)
	chief := a.admin()
	for _, row := range []struct{ path, body, field string }{
		{"/v1/login", `{"username":"x","device":7}`, "/device"},
		{"/v1/login", `{"username":"x","device":{"name":7}}`, "/device/name"},
		{"/v1/login", `{"username":"x","device":{"Name":"d"}}`, "/device/Name"},
		{"/v1/login", `{"username":"x","device":{"name":"d","name":"e"}}`, "/device/name"},
		{"/v1/login", `{"username":"x","device":{"name":"d","a/b~c":1}}`, "/device/a~1b~0c"},
		{"/v1/login", `{"username":"x","device":{"name":"` + strings.Repeat("d", 65) + `"}}`, "/device/name"},
		{"/v1/login", `{"username":"x","device":{"name":"a\u0007b"}}`, "/device/name"},
		{"/v1/login", `{"username":"x","device":{"name":"d","install_id":"a b"}}`, "/device/install_id"},
		{"/v1/login", `{"username":"x","device":{"name":"d","install_id":"` + strings.Repeat("d", 129) + `"}}`, "/device/install_id"},
		{"/v1/login", `{"username":"x","device":{"name":"d"},"ttl":"60"}`, "/ttl"},
		{"/v1/login", `{"username":"x","device":{"name":"d"},"ttl":1.5}`, "/ttl"},
		{"/v1/login", `{"username":"x","device":{"name":"d"},"ttl":1e30}`, "/ttl"},
		{"/v1/login", `{"username":"x","device":{"name":"d"},"audience":"two words"}`, "/audience"},
		{"/v1/login", `{"username":"x","device":{"name":"d"},"audience":"naïve"}`, "/audience"},
		{"/v1/login", `{"username":"x","device":{"name":"d"},"mode":"cookies"}`, "/mode"},
		{"/v1/signup", `{"username":"x","password":"short","device":{"name":"d"}}`, "/password"},
		{"/v1/signup", `{"username":"x","password":"` + strings.Repeat("p", 1025) + `","device":{"name":"d"}}`, "/password"},
		{"/v1/verify", `{"token":"x","request":{"actions":["a",7]}}`, "/request/actions/1"},
		{"/v1/verify", `{"token":"x","request":{"actions":"a"}}`, "/request/actions"},
		{"/v1/verify", `{"token":"x","request":{"actions":[` + strings.Repeat(`"a",`, 64) + `"a"]}}`, "/request/actions"},
		{"/v1/verify", `{"token":"x","request":{"extra":{"k":7}}}`, "/request/extra/k"},
		{"/v1/verify", `{"token":"x","request":{"client_ip":"localhost"}}`, "/request/client_ip"},
		{"/v1/verify", `{"token":"x","request":{"client_ip":"fe80::1%eth0"}}`, "/request/client_ip"},
		{"/v1/verify", `{"token":"x","request":{"body_sha256":"abc"}}`, "/request/body_sha256"},
		{"/v1/verify", `{"token":"x","request":{"url":"/only/a/path"}}`, "/request/url"},
		{"/v1/verify", `{"token":"x","request":{"url":"https://user:pass@host/"}}`, "/request/url"},
		{"/v1/verify", `{"token":"x","request":{"methods":"GET"}}`, "/request/methods"},
		{"/v1/revoke", `{"token":"x","caveats":["audience a"]}`, "/token"},
		{"/v1/revoke", `{"caveats":"audience a"}`, "/caveats"},
		{"/v1/revoke", `{"caveats":[]}`, "/caveats"},
		{"/v1/revoke", `{"caveats":[""]}`, "/caveats"},
		{"/v1/revoke", `{"caveats":["` + strings.Repeat("n", 513) + `"]}`, "/caveats"},
		{"/v1/revoke", `{"caveats":["a"` + strings.Repeat(`,"a"`, 61) + `]}`, "/caveats"},
		{"/v1/admin/users", `{"username":"x","password":"long enough","role":"king"}`, "/role"},
		{"/v1/admin/users", `{"username":"x","password":"short"}`, "/password"},
		{"/v1/admin/services", `{"name":"x","serves":["two words"]}`, "/serves"},
		{"/v1/admin/services", `{"name":"x","serves":["macaroond"]}`, "/serves"},
		{"/v1/admin/services", `{"name":"x","calls":[""]}`, "/calls"},
		{"/v1/admin/services", `{"name":"x","actions":["a:*:b"]}`, "/actions"},
		{"/v1/admin/services", `{"name":"x","rights":["reign"]}`, "/rights"},
	} {
		p := a.do(ask{method: "POST", path: row.path, auth: bearer(chief.Token), body: row.body}).want(400, "bad_request")
		if p.Field != row.field {
			t.Errorf("%s %.80s: field %q, want %q (%s)", row.path, row.body, p.Field, row.field, p.Detail)
		}
	}
}

// A bad member never comes back in the answer: it may be a secret in the wrong
// place.
func TestBadValuesAreNotRepeated(t *testing.T) {
	a := start(t)
	const canary = "Canary-0123456789"
	for _, e := range a.endpoints() {
		for _, body := range []string{
			strings.Replace(e.good(), e.value, canary+`\ud800`, 1),
			fmt.Sprintf("{%q:[%q]%s}", e.member, canary, e.rest),
			fmt.Sprintf("{%q:%q", e.member, canary),
			canary,
		} {
			if got := a.do(e.ask(body)); strings.Contains(string(got.body), canary) {
				t.Errorf("%s: %s", e.route, got.body)
			}
		}
	}
	chief := a.login("chief", api.DeviceIn{Name: "phone"})
	for _, list := range []string{"serves", "calls", "actions", "rights"} {
		body := string(must(json.Marshal(map[string]any{"name": "x", list: []string{canary + " !"}})))
		if got := a.do(ask{method: "POST", path: "/v1/admin/services", auth: bearer(chief.Token), body: body}); strings.Contains(string(got.body), canary) {
			t.Errorf("%s: %s", list, got.body)
		}
	}
	if strings.Contains(a.log.String(), canary) {
		t.Error("the log has it")
	}
}

// Every route that is not among the endpoints takes no body but an empty object:
// no member that any of them has.
func TestNoBodyMeansNone(t *testing.T) {
	a := start(t)
	read := map[string]bool{ // forms, and what looks at no body
		"POST /oauth2/token": true, "POST /oauth2/introspect": true, "POST /oauth2/revoke": true,
		"GET /livez": true, "GET /readyz": true, "GET /openapi.json": true,
	}
	list := a.endpoints()
	for _, e := range list {
		if !slices.Contains(routed(), e.route) || read[e.route] {
			t.Errorf("%s is no route, or there twice", e.route)
		}
		read[e.route] = true
	}
	auth := list[0].auth
	for _, route := range routed() {
		if read[route] {
			continue
		}
		for _, member := range membersRead(t) {
			q := at(route)
			q.auth, q.body = auth, fmt.Sprintf(`{%q:"x"}`, member)
			if p := a.do(q).want(400, "bad_request"); p.Field != "/"+member || p.Detail != "the member is unknown" {
				t.Errorf("%s reads %q: is it among the endpoints? %+v", route, member, p)
			}
		}
		q := at(route)
		q.auth, q.body = auth, "x"
		a.do(q).want(400, "bad_request")
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: auth, body: "{}"}).want(200, "")
}

// membersRead are those of all bodies that are read, by the types' names.
func membersRead(t *testing.T) (out []string) {
	for name, fields := range wireTypes(t) {
		if name == "Proof" || strings.HasSuffix(name, "In") {
			for _, f := range fields {
				member, _, _ := strings.Cut(f, ",")
				out = append(out, member)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// A query that is misspelt, repeated or malformed is refused, not ignored:
// ?exept=current would revoke everything.
func TestBadQueries(t *testing.T) {
	a := start(t)
	chief := a.admin()
	for _, target := range []string{
		"DELETE /v1/devices?exept=current", "DELETE /v1/devices?except=", "DELETE /v1/devices?except=others", "DELETE /v1/devices?Except=current",
		"DELETE /v1/devices?except=current&except=current", "DELETE /v1/devices?except=current&x=1",
		"DELETE /v1/devices?except=current;x=1", "DELETE /v1/devices?except=%zz", "DELETE /v1/devices?except=current%", "DELETE /v1/devices?;",
		"GET /v1/admin/users?limit=0", "GET /v1/admin/users?limit=1001", "GET /v1/admin/users?limit=x", "GET /v1/admin/users?limit=1&limit=1", "GET /v1/admin/users?offset=1",
		"GET /v1/admin/users?after=%zz", "GET /v1/admin/audit?after=-1", "GET /v1/admin/audit?after=x", "GET /v1/admin/audit?after=99999999999999999999", "GET /v1/admin/audit?limit=-1",
		"GET /v1/devices?limit=1", "GET /v1/delayed?limit=1", "GET /v1/links?limit=1", "GET /v1/admin/services?limit=1", "GET /v1/admin/policies?after=x", "GET /v1/admin/keys?nonsense=1",
	} {
		method, path, _ := strings.Cut(target, " ")
		got := a.raw(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", method, path, chief.Token))
		if got.StatusCode != 400 {
			t.Errorf("%s: %d", target, got.StatusCode)
		}
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(chief.Token)}).want(200, "")
}

// Two Authorization headers are nobody's word, wherever one is read.
func TestTwoAuthorizations(t *testing.T) {
	a := start(t)
	good := map[string]ask{}
	list := a.endpoints()
	for _, e := range list {
		good[e.route] = e.ask(e.good())
	}
	for _, route := range routed() {
		if slices.Contains(open, route) {
			continue
		}
		q, known := good[route]
		if !known {
			q = at(route)
			q.auth = list[0].auth
		}
		q.header = append(slices.Clone(q.header), "Authorization", q.auth)
		if strings.HasPrefix(q.path, "/oauth2/") {
			q.body = "grant_type=client_credentials&token=x"
			a.do(q).wantError(400, "invalid_request")
		} else if p := a.do(q).want(400, "bad_request"); p.Detail != "more than one Authorization header" {
			t.Errorf("%s: %s", route, p.Detail)
		}
	}
}
