package httpapi

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/token"
)

// credential makes a service with all lists.
func (a *authority) credential(in api.ServiceIn) (api.Service, string) {
	a.t.Helper()
	s := must(a.svc.AddService(a.t.Context(), in, service.ActorOperator, service.Source{}))
	return s, basic(s.ID, s.Secret)
}

// secretsOf are a service's, as listed.
func (a *authority) secretsOf(id string) []api.ServiceSecret {
	a.t.Helper()
	for _, s := range must(a.svc.Services(a.t.Context())).Services {
		if s.ID == id {
			return s.Secrets
		}
	}
	a.t.Fatalf("no service %s", id)
	return nil
}

// grantOf asks the token endpoint.
func (a *authority) grantOf(auth string, kv ...string) *reply {
	a.t.Helper()
	return a.oauth("/oauth2/token", auth, kv...)
}

// ownToken is a service's token for an audience.
func (a *authority) ownToken(auth, audience string) string {
	a.t.Helper()
	return into[api.OAuthToken](a.grantOf(auth, "grant_type", "client_credentials", "audience", audience), 200).AccessToken
}

// decides is what a service that serves the audience is told of a token.
func (a *authority) decides(auth, text string, r api.Request) api.Decision {
	a.t.Helper()
	return into[api.Decision](a.post("/v1/verify", auth, api.VerifyIn{Token: text, Request: r}), 200)
}

// What a token of a service has in it, and how it is judged.
func TestClientCredentials(t *testing.T) {
	a := start(t)
	orders, auth := a.credential(api.ServiceIn{Name: "orders", Calls: []string{"mail"}, Actions: []string{"mail:send", "mail:drafts:*"}})
	_, mail := a.service("mail", "mail")
	now := a.clock.Now()
	answer := a.grantOf(auth, "grant_type", "client_credentials")
	if answer.Header.Get("Cache-Control") != "no-store" || answer.Header.Get("Pragma") != "no-cache" {
		t.Errorf("a cache may keep it: %v", answer.Header)
	}
	got := into[api.OAuthToken](answer, 200)
	if got.TokenType != "Bearer" || got.ExpiresIn != 600 || got.RefreshToken != "" || got.Scope != "mail:drafts:* mail:send" {
		t.Errorf("%+v", got)
	}
	texts := must(token.Parse(got.AccessToken)).UnverifiedCaveats()
	device := a.secretsOf(orders.ID)[0].Device
	want := []string{caveats.TimeBefore(now.Add(10 * time.Minute)).String(), "user " + orders.ID, "device " + device, "audience mail", "allow mail:drafts:* mail:send"}
	if !slices.Equal(texts[:len(texts)-1], want) || !strings.HasPrefix(texts[len(texts)-1], "note access ") {
		t.Errorf("caveats %q, want %q and a note", texts, want)
	}
	for action, code := range map[string]string{"mail:send": "ok", "mail:drafts:x": "ok", "mail:read": "refused", "": "refused"} {
		r := api.Request{Audience: "mail"}
		if action != "" {
			r.Actions = []string{action}
		}
		d := a.decides(mail, got.AccessToken, r)
		if d.Code != code || d.Principal.User != orders.ID || d.Principal.Username != "orders" || d.Principal.Device != device {
			t.Errorf("%s: %+v", action, d)
		}
	}
	// Two of the same second are two branches.
	again := into[api.OAuthToken](a.grantOf(auth, "grant_type", "client_credentials"), 200)
	a.oauth("/oauth2/revoke", auth, "token", got.AccessToken).want(200, "")
	for text, code := range map[string]string{got.AccessToken: "revoked", again.AccessToken: "ok"} {
		if d := a.decides(mail, text, api.Request{Audience: "mail", Actions: []string{"mail:send"}}); d.Code != code {
			t.Errorf("%s, want %s", d.Code, code)
		}
	}
	a.pass(10 * time.Minute)
	if d := a.decides(mail, again.AccessToken, api.Request{Audience: "mail", Actions: []string{"mail:send"}}); d.Code != "expired" {
		t.Errorf("after its time: %s", d.Code)
	}
}

// Audience and scope: what may be had, and one clear error for what may not.
func TestClientCredentialsAreLimited(t *testing.T) {
	a := start(t)
	_, one := a.credential(api.ServiceIn{Name: "one", Calls: []string{"mail"}, Actions: []string{"mail:*", "plain"}})
	_, two := a.credential(api.ServiceIn{Name: "two", Calls: []string{"mail", "https://photos.example/"}})
	_, no := a.credential(api.ServiceIn{Name: "no", Serves: []string{"mail"}})
	for _, row := range []struct {
		name, auth string
		form       []string
		want       string // an error, or the audience and the allow caveat
	}{
		{"the only one", one, nil, "mail mail:* plain"},
		{"by name", one, []string{"audience", "mail"}, "mail mail:* plain"},
		{"by RFC 8707", one, []string{"resource", "mail"}, "mail mail:* plain"},
		{"by both", one, []string{"resource", "mail", "audience", "mail"}, "mail mail:* plain"},
		{"the authority's own", one, []string{"audience", "macaroond"}, "macaroond mail:* plain"},
		{"the authority's own, calling nobody", no, []string{"audience", "macaroond"}, "macaroond"},
		{"one of two", two, []string{"resource", "https://photos.example/"}, "https://photos.example/"},
		{"two that differ", two, []string{"resource", "mail", "audience", "https://photos.example/"}, "invalid_target"},
		{"twice", two, []string{"resource", "mail", "resource", "mail"}, "invalid_request"},
		{"none of two", two, nil, "invalid_request"},
		{"none of none", no, nil, "invalid_request"},
		{"another", one, []string{"audience", "photos"}, "invalid_target"},
		{"one that it serves", no, []string{"audience", "mail"}, "invalid_target"},
		{"in another case", one, []string{"audience", "Mail"}, "invalid_target"},
		{"one with a space", one, []string{"audience", "mail bank"}, "invalid_target"},
		{"one with a line end", one, []string{"audience", "mail\n"}, "invalid_target"},

		{"an action", one, []string{"scope", "mail:send"}, "mail mail:send"},
		{"actions in order", one, []string{"scope", "plain mail:send"}, "mail mail:send plain"},
		{"a namespace within", one, []string{"scope", "mail:drafts:*"}, "mail mail:drafts:*"},
		{"the namespace", one, []string{"scope", "mail:*"}, "mail mail:*"},
		{"beyond", one, []string{"scope", "mail:send photos:read"}, "invalid_scope"},
		{"the namespace's name", one, []string{"scope", "mail"}, "invalid_scope"},
		{"a longer namespace", one, []string{"scope", "mailbox:*"}, "invalid_scope"},
		{"beyond, as a namespace", one, []string{"scope", "plain:*"}, "invalid_scope"},
		{"everything", one, []string{"scope", "*"}, "invalid_scope"},
		{"two spaces", one, []string{"scope", "plain  mail:send"}, "invalid_scope"},
		{"a control character", one, []string{"scope", "plain\x00"}, "invalid_scope"},
		{"too long", one, []string{"scope", strings.Repeat("mail:x ", 100) + "plain"}, "invalid_scope"},
		{"of one without limits", two, []string{"audience", "mail", "scope", "mail:send"}, "mail mail:send"},
	} {
		a.in(row.name, func(a *authority) {
			r := a.grantOf(row.auth, append([]string{"grant_type", "client_credentials"}, row.form...)...)
			if strings.HasPrefix(row.want, "invalid_") {
				r.wantError(400, row.want)
				return
			}
			audience, allow, _ := strings.Cut(row.want, " ")
			got := into[api.OAuthToken](r, 200)
			texts := must(token.Parse(got.AccessToken)).UnverifiedCaveats()[3:]
			want := []string{"audience " + audience}
			if allow != "" {
				want = append(want, "allow "+allow)
			}
			if !slices.Equal(texts[:len(texts)-1], want) || got.Scope != allow {
				a.t.Errorf("%q and scope %q, want %q", texts, got.Scope, want)
			}
		})
	}
}

// What the token endpoint is sent that is not a request of a client's.
func TestTokenEndpointRefuses(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	svc, auth := a.credential(api.ServiceIn{Name: "one", Calls: []string{"mail"}})
	own := a.ownToken(auth, "mail")
	other, _ := a.service("other", "x")
	for _, row := range []struct {
		name, auth string
		form       []string
		status     int
		want       string
	}{
		{"no grant", auth, nil, 400, "invalid_request"},
		{"an empty grant", auth, []string{"grant_type", ""}, 400, "invalid_request"},
		{"a password", "", []string{"grant_type", "password", "username", "alice", "password", password("alice")}, 400, "unsupported_grant_type"},
		{"a password, by a client", auth, []string{"grant_type", "password", "username", "alice", "password", password("alice")}, 400, "unsupported_grant_type"},
		{"a code", auth, []string{"grant_type", "authorization_code", "code", "x"}, 400, "unsupported_grant_type"},
		{"another case", auth, []string{"grant_type", "Client_Credentials"}, 400, "unsupported_grant_type"},
		{"nobody", "", []string{"grant_type", "client_credentials"}, 401, "invalid_client"},
		{"a name only", "", []string{"grant_type", "client_credentials", "client_id", svc.ID}, 401, "invalid_client"},
		{"a wrong secret", basic(svc.ID, "mds_x"), []string{"grant_type", "client_credentials"}, 401, "invalid_client"},
		{"another's secret", basic(svc.ID, other.Secret), []string{"grant_type", "client_credentials"}, 401, "invalid_client"},
		{"nobody's name", basic("svc_0123456789abcdef", svc.Secret), []string{"grant_type", "client_credentials"}, 401, "invalid_client"},
		{"a user", basic("alice", password("alice")), []string{"grant_type", "client_credentials"}, 401, "invalid_client"},
		{"a root for a client", bearer(alice.Token), []string{"grant_type", "client_credentials"}, 401, "invalid_client"},
		{"a token of its own", bearer(own), []string{"grant_type", "client_credentials"}, 401, "invalid_client"},
		{"twice", auth, []string{"grant_type", "client_credentials", "client_id", svc.ID, "client_secret", svc.Secret}, 400, "invalid_request"},
		{"a parameter twice", auth, []string{"grant_type", "client_credentials", "scope", "a", "scope", "a"}, 400, "invalid_request"},
	} {
		a.in(row.name, func(a *authority) { a.grantOf(row.auth, row.form...).wantError(row.status, row.want) })
	}
	for name, form := range map[string][]string{
		"body": {"client_id", svc.ID, "client_secret", svc.Secret}, "Basic and the same client_id": {"client_id", svc.ID},
	} {
		credential := auth
		if name == "body" {
			credential = ""
		}
		into[api.OAuthToken](a.grantOf(credential, append(form, "grant_type", "client_credentials")...), 200)
	}
	into[api.OAuthToken](a.grantOf(basic(url.QueryEscape(svc.ID), url.QueryEscape(svc.Secret)), "grant_type", "client_credentials"), 200)
	a.do(ask{method: "GET", path: "/oauth2/token?grant_type=client_credentials", auth: auth}).want(405, "method_not_allowed")
}

// A service's token is its credential at the authority, where it names the
// authority and holds; and ends with what it is of.
func TestServiceTokensAtTheAuthority(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	svc, auth := a.credential(api.ServiceIn{Name: "photos", Serves: []string{"photos"}, Calls: []string{"mail"}, Rights: []string{"mint"}})
	plain, _ := a.credential(api.ServiceIn{Name: "plain", Serves: []string{"photos"}})
	limited, limitedAuth := a.credential(api.ServiceIn{Name: "limited", Serves: []string{"photos"}, Actions: []string{"introspect"}})
	root := narrow(alice.Token, "audience photos")
	question := string(must(json.Marshal(api.VerifyIn{Token: root, Request: api.Request{Audience: "photos"}})))
	own := a.ownToken(auth, "macaroond")
	acts := []struct {
		action, method, path, body string
		form                       bool
	}{
		{"verify", "POST", "/v1/verify", question, false},
		{"introspect", "POST", "/oauth2/introspect", url.Values{"token": {root}}.Encode(), true},
		{"revocations", "GET", "/v1/revocations", "", false},
		{"mint", "POST", "/v1/mint", `{"subject":"7","device":{"name":"d"}}`, false},
		{"subjects:list", "GET", "/v1/subjects", "", false},
	}
	send := func(a *authority, i int, text string) *reply {
		q := ask{method: acts[i].method, path: acts[i].path, auth: bearer(text), body: acts[i].body}
		if acts[i].form {
			q.header = form
		}
		return a.do(q)
	}
	for i, act := range acts {
		a.in(act.action, func(a *authority) {
			for _, row := range []struct {
				name, text, code string
			}{
				{"as it is", own, ""},
				{"narrowed to it", narrow(own, "allow "+act.action, "method "+act.method, "note x"), ""},
				{"narrowed to another", narrow(own, "allow other"), "refused"},
				{"of another path", narrow(own, "path /v1/devices"), "refused"},
				{"for somebody else", a.ownToken(auth, "mail"), "wrong_audience"},
				{"for somebody else, too", narrow(own, "audience mail"), "wrong_audience"},
				{"expired", narrow(own, a.until(0)), "expired"},
				{"unknown", narrow(own, "colour blue"), "unknown_caveat"},
				{"forged", forge(own), "invalid"},
				{"limited", a.ownToken(limitedAuth, "macaroond"), map[bool]string{false: "refused"}[act.action == "introspect"]},
				{"a user's", narrow(alice.Token, "audience macaroond"), "user"},
				{"a user's claim", narrow(alice.Token, "audience macaroond", "user "+svc.ID), "user"},
			} {
				status := api.StatusOf(row.code)
				r := send(a, i, row.text)
				switch {
				case row.code == "":
					r.want(200, "")
				case row.code == "user" && act.form:
					r.wantError(401, "invalid_client")
				case row.code == "user" && act.action == "verify": // a user with a bare root may ask, too
					r.want(403, map[bool]string{true: "bare_root_required", false: "refused"}[row.name == "a user's"])
				case row.code == "user":
					r.want(403, "forbidden")
				case act.form:
					code, challenge := "invalid_token", invalidToken
					if status == 403 {
						code, challenge = "insufficient_scope", otherScope
					}
					var e api.OAuthError
					_ = json.Unmarshal(r.body, &e)
					if r.StatusCode != status || e.Error != code || r.Header.Get("WWW-Authenticate") != challenge {
						a.t.Errorf("%s: %d %s %q", row.name, r.StatusCode, r.body, r.Header.Get("WWW-Authenticate"))
					}
				default:
					r.want(status, row.code)
				}
			}
		})
	}
	// Rights are the service's, whatever its token says.
	plainToken := a.ownToken(basic(plain.ID, plain.Secret), "macaroond")
	for _, i := range []int{3, 4} {
		send(a, i, plainToken).want(403, "forbidden")
		send(a, i, narrow(plainToken, "allow mint subjects:list")).want(403, "forbidden")
	}
	// It is no user's, at none of the users' endpoints.
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(own)}).want(403, "forbidden")
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(own)}).want(403, "bare_root_required")
	// The end of the secret, and of the service.
	if err := a.svc.RemoveServiceSecret(t.Context(), limited.ID, limited.SecretID, service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	if err := a.svc.RemoveService(t.Context(), svc.ID, service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	send(a, 2, own).want(401, "revoked")
	send(a, 2, plainToken).want(200, "")
}

// Secrets are exchanged with no request refused in between: both are good
// until the former is removed, and then nothing that was minted with it is.
func TestSecretsAreExchanged(t *testing.T) {
	a := start(t)
	chief := a.admin()
	svc, old := a.credential(api.ServiceIn{Name: "orders", Calls: []string{"mail"}})
	_, mail := a.service("mail", "mail")
	path := "/v1/admin/services/" + svc.ID + "/secrets"
	good := func(auth string, want bool) (text string) {
		t.Helper()
		r := a.grantOf(auth, "grant_type", "client_credentials")
		if !want {
			r.wantError(401, "invalid_client")
			return ""
		}
		return into[api.OAuthToken](r, 200).AccessToken
	}
	first := good(old, true)
	a.pass(time.Second)
	made := into[api.ServiceSecret](a.do(ask{method: "POST", path: path, auth: bearer(chief.Token)}), 201)
	next := basic(svc.ID, made.Secret)
	good(old, true)
	second := good(next, true)
	listed := into[api.Services](a.do(ask{method: "GET", path: "/v1/admin/services", auth: bearer(chief.Token)}), 200).Services
	i := slices.IndexFunc(listed, func(v api.Service) bool { return v.ID == svc.ID })
	if s := listed[i].Secrets; len(s) != 2 || s[0].ID != svc.SecretID || s[0].Secret != "" || s[1].ID != made.ID || s[1].Secret != "" || s[0].Device == s[1].Device {
		t.Errorf("listed %+v", s)
	}
	a.do(ask{method: "DELETE", path: path + "/" + svc.SecretID, auth: bearer(chief.Token)}).want(204, "")
	good(old, false)
	good(next, true)
	for text, code := range map[string]string{first: "revoked", narrow(first, "note child"): "revoked", second: "ok"} {
		if d := a.decides(mail, text, api.Request{Audience: "mail"}); d.Code != code {
			t.Errorf("%s, want %s", d.Code, code)
		}
	}
	a.do(ask{method: "DELETE", path: path + "/" + svc.SecretID, auth: bearer(chief.Token)}).want(404, "not_found")
	a.do(ask{method: "DELETE", path: path + "/" + made.ID, auth: bearer(chief.Token)}).want(204, "")
	good(next, false)
	// Without any the service is there, and gets another.
	for range service.MaxServiceSecrets {
		made = into[api.ServiceSecret](a.do(ask{method: "POST", path: path, auth: bearer(chief.Token)}), 201)
	}
	good(basic(svc.ID, made.Secret), true)
	a.do(ask{method: "POST", path: path, auth: bearer(chief.Token)}).want(409, "too_many")
	a.do(ask{method: "POST", path: "/v1/admin/services/svc_0123456789abcdef/secrets", auth: bearer(chief.Token)}).want(404, "not_found")
	a.do(ask{method: "POST", path: path, auth: bearer(a.user("alice").Token)}).want(403, "forbidden")
	a.do(ask{method: "DELETE", path: path + "/" + made.ID, auth: old}).want(401, "no_token")
}

// RFC 8414: the document says where things are, and section 3.1 where it is
// itself.
func TestMetadata(t *testing.T) {
	for issuer, at := range map[string]map[string]int{
		"https://auth.example":           {"": 200, "/": 404, "/x": 404},
		"https://auth.example/":          {"": 200, "/": 404},
		"https://auth.example/tenant/a":  {"": 200, "/tenant/a": 200, "/tenant/a/": 200, "/tenant": 404, "/tenant/b": 404, "/tenant/a/b": 404},
		"https://auth.example/tenant/a/": {"": 200, "/tenant/a": 200, "/tenant/a/": 200},
	} {
		a := start(t, func(s *setup) { s.service.Settings.Issuer = issuer })
		for path, status := range at {
			r := a.do(ask{method: "GET", path: metadataPath + path})
			if status != 200 {
				r.want(status, "not_found")
				continue
			}
			got := into[api.OAuthMetadata](r, 200)
			base := strings.TrimSuffix(issuer, "/")
			if got.Issuer != issuer || got.TokenEndpoint != base+"/oauth2/token" || got.IntrospectionEndpoint != base+"/oauth2/introspect" ||
				got.RevocationEndpoint != base+"/oauth2/revoke" || !slices.Equal(got.GrantTypes, []string{"client_credentials", "refresh_token"}) ||
				!slices.Equal(got.TokenAuthMethods, []string{"client_secret_basic", "client_secret_post", "none"}) ||
				!slices.Equal(got.IntrospectionAuthMethods, []string{"client_secret_basic", "client_secret_post", "Bearer"}) || got.ResponseTypes == nil {
				t.Errorf("%s%s: %+v", issuer, path, got)
			}
		}
	}
}

// A service is not told by its name where a backend goes by names: a user could
// have the same one.
func TestServicesAreNobodysNamesakes(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy); s.http.RemoteUser = "username" })
	svc, auth := a.credential(api.ServiceIn{Name: "alice", Calls: []string{"backend"}, Rights: []string{"mint"}})
	alice := a.user("alice")
	theirs := into[api.Grant](a.post("/v1/mint", auth, api.MintIn{Subject: "alice", Username: "alice", Device: api.DeviceIn{Name: "d"}}), 200)
	for name, row := range map[string]struct{ text, want string }{
		"the user":       {narrow(alice.Token, "audience backend"), "alice"},
		"the service":    {a.ownToken(auth, "backend"), svc.ID},
		"its user alice": {narrow(theirs.Token, "audience backend"), "alice:alice"},
	} {
		r := a.do(ask{method: "GET", path: "/authz/original", auth: bearer(row.text), header: []string{"X-Original-Method", "GET", "X-Original-Uri", "/"}})
		if got := r.Header.Get("Remote-User"); r.StatusCode != 200 || got != row.want {
			t.Errorf("%s: %d, Remote-User %q, want %q", name, r.StatusCode, got, row.want)
		}
	}
}

// A removed secret is on the list for as long as its tokens live, also where a
// restored database does not know of any.
func TestRemovedSecretOutlivesItsTokens(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.AccessTTL = time.Hour })
	svc, auth := a.credential(api.ServiceIn{Name: "orders", Calls: []string{"mail"}})
	_, mail := a.service("mail", "mail")
	own := a.ownToken(auth, "mail")
	db := must(sql.Open("sqlite", a.path))
	must(db.Exec(`DELETE FROM root_keys`))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.svc.RemoveServiceSecret(t.Context(), svc.ID, svc.SecretID, service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if d := a.decides(mail, own, api.Request{Audience: "mail"}); d.Code != "revoked" {
			t.Errorf("%s", d.Code)
		}
		a.pass(59 * time.Minute)
		a.svc.Sweep(t.Context(), a.clock.Now())
	}
}

// A service takes back as many of the tokens that it handed out as it likes;
// strangers fill the list with no more than they may.
func TestServicesRevokeTheirOwn(t *testing.T) {
	a := start(t)
	_, auth := a.credential(api.ServiceIn{Name: "orders", Calls: []string{"mail"}})
	_, other := a.service("other", "x")
	own := a.ownToken(auth, "mail")
	for i := range 256 {
		a.oauth("/oauth2/revoke", "", "token", narrow(own, fmt.Sprint("note worker ", i))).want(200, "")
	}
	last := narrow(own, "note the last")
	a.oauth("/oauth2/revoke", "", "token", last).wantError(409, "invalid_request")
	a.oauth("/oauth2/revoke", other, "token", last).wantError(409, "invalid_request")
	a.oauth("/oauth2/revoke", auth, "token", last).want(200, "")
	_, mail := a.service("mail", "mail")
	for text, code := range map[string]string{last: "revoked", own: "ok"} {
		if d := a.decides(mail, text, api.Request{Audience: "mail"}); d.Code != code {
			t.Errorf("%s, want %s", d.Code, code)
		}
	}
}
