package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"macaroond/service/api"
)

// A service's secret is no token: wherever the document has a token alone, it
// is refused, by HTTP Basic and as a bearer, and nothing happens.
func TestServiceSecretActsAsNobody(t *testing.T) {
	a := start(t, func(s *setup) { s.trust(proxy) })
	alice, chief := a.user("alice"), a.admin()
	svc, auth := a.service("photos", "photos")
	ids := strings.NewReplacer("/v1/devices/{id}", "/v1/devices/"+alice.Device.ID, "/v1/admin/users/{id}", "/v1/admin/users/"+alice.User.ID,
		"/v1/admin/services/{id}", "/v1/admin/services/"+svc.ID, "{path}", "x")
	asked := 0
	for path, item := range document().doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.Security == nil || len(*op.Security) == 0 || slices.ContainsFunc(*op.Security, notOfTokens) {
				continue
			}
			asked++
			q := ask{method: method, path: ids.Replace(path)}
			switch path {
			case "/authz/original":
				q.header = []string{"X-Original-Method", "GET", "X-Original-URI", "/x"}
			case "/authz/forwarded":
				q.header = []string{"X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/x"}
			}
			for _, cred := range []string{auth, basic(alice.User.ID, svc.Secret), basic("alice", svc.Secret), basic("", svc.Secret), bearer(svc.Secret), bearer(svc.ID + ":" + svc.Secret)} {
				q.auth = cred
				if r := a.do(q); r.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s %s with a service's secret: %d %s", method, path, r.StatusCode, r.body)
				}
			}
		}
	}
	if asked < 15 {
		t.Errorf("the document has a token alone for %d operations", asked)
	}
	// Where a credential of a service or none is taken, it is nobody's token.
	a.do(ask{method: "POST", path: "/v1/revoke", auth: auth, body: `{"caveats":["audience photos"]}`}).want(401, "no_token")
	a.post("/v1/login", auth, api.LoginIn{Device: api.DeviceIn{Name: "d"}}).want(401, "bad_credentials")
	a.post("/v1/login", basic("alice", svc.Secret), api.LoginIn{Device: api.DeviceIn{Name: "d"}}).want(401, "bad_credentials")
	a.alive(alice, narrow(alice.Token, "audience photos"), "photos", true)
	if d := into[api.Devices](a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token)}), 200); len(d.Devices) != 1 || d.Devices[0].Name != "phone" {
		t.Errorf("alice's devices: %+v", d)
	}
	if users := a.users(chief); len(users) != 2 {
		t.Errorf("users: %+v", users)
	}
	a.verify(auth, alice.Token, api.Request{Audience: "photos"}).want(200, "") // what it is for
}

// A secret is 256 random bits, and nothing but the whole of it is taken: not
// what looks like it, nor what is stored of it.
func TestServiceSecretsAreNotGuessed(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	svc, auth := a.service("photos", "photos")
	other, _ := a.service("mail", "photos")
	seen := map[string]bool{}
	for _, s := range []api.Service{svc, other} {
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(s.Secret, "mds_"))
		if err != nil || len(b) != 32 || seen[string(b)] || !strings.HasPrefix(s.Secret, "mds_") {
			t.Errorf("a secret is of %d bytes, not 32 new ones: %v", len(b), err)
		}
		seen[string(b)] = true
	}
	sum := sha256.Sum256([]byte(svc.Secret))
	guesses := []string{
		"", "mds_", other.Secret, strings.TrimPrefix(svc.Secret, "mds_"), svc.Secret + "A", svc.Secret + "\x00", svc.Secret[:len(svc.Secret)-1],
		svc.Secret[:1], " " + svc.Secret, strings.ToUpper(svc.Secret), svc.ID, string(sum[:]), hex.EncodeToString(sum[:]), base64.RawURLEncoding.EncodeToString(sum[:]),
	}
	for i := range svc.Secret { // every character of it counts
		b := []byte(svc.Secret)
		b[i] ^= 1
		guesses = append(guesses, string(b))
	}
	for _, guess := range guesses {
		a.verify(basic(svc.ID, guess), alice.Token, api.Request{Audience: "photos"}).want(401, "bad_credentials")
		a.oauth("/oauth2/introspect", "", "token", "x", "client_id", svc.ID, "client_secret", guess).wantError(401, "invalid_client")
	}
	a.verify(auth, alice.Token, api.Request{Audience: "photos"}).want(200, "")
}

func notOfTokens(r openapi3.SecurityRequirement) bool {
	_, bearer := r["bearer"]
	_, cookie := r["cookie"]
	return !bearer && !cookie
}
