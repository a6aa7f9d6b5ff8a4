package httpapi

import (
	"bytes"
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
)

// routed are the server's own routes, as "METHOD /path" in gin's spelling: all
// but HEAD, which is GET without its body, and the gateways', which judge a
// request of somebody else's last of all.
func routed() (out []string) {
	g := gin.New()
	(&server{}).routes(g)
	for _, r := range g.Routes() {
		if r.Method != http.MethodHead && !strings.HasPrefix(r.Path, "/authz/") {
			out = append(out, r.Method+" "+r.Path)
		}
	}
	slices.Sort(out)
	return out
}

// open are the routes that read no Authorization header.
var open = []string{
	"POST /v1/signup", "POST /v1/recover", "POST /v1/link", "POST /v1/link/claim", "POST /v1/seal",
	"GET /livez", "GET /readyz", "GET /version", "GET /openapi.json",
	"GET /.well-known/oauth-authorization-server", "GET /.well-known/oauth-authorization-server/*path",
}

// filled puts something into each parameter of a path, as it is documented.
var filled = strings.NewReplacer(
	"users/:id", "users/usr_0123456789abcdef", "devices/:id", "devices/dev_0123456789abcdef", "services/:id", "services/svc_0123456789abcdef",
	"delayed/:id", "delayed/act_0123456789abcdef", "links/:id", "links/lnk_0123456789abcdef", "policies/:id", "policies/pol_0123456789abcdef",
	":secret", "sec_0123456789abcdef", ":subject", "42", ":number", "1", "*path", "x",
)

// at is a request to a route, with something for each of its parameters.
func at(route string) ask {
	method, path, _ := strings.Cut(route, " ")
	q := ask{method: method, path: filled.Replace(path)}
	if strings.HasPrefix(path, "/oauth2/") {
		q.header = form
	}
	return q
}

// trial is a route that takes a narrowed token: a token that may ask there, what
// is carried out, and what is refused for other reasons.
type trial struct {
	route, text string
	good        attempt
	bad         []attempt
}

// attempt is a request, and the status that answers it.
type attempt struct {
	path, body string
	status     int
}

func (q attempt) at(route string) ask {
	out := at(route)
	out.path, out.body = q.path, q.body
	return out
}

// trials are tried in this order: the last ones take away what others need.
func trials(a *authority) []trial {
	alice, bob := a.user("alice"), a.user("bob")
	tablet := a.login("alice", api.DeviceIn{Name: "tablet"}).Device
	a.login("bob", api.DeviceIn{Name: "tablet"})
	_, shop := a.credential(api.ServiceIn{Name: "shop", Serves: []string{"photos"}, Calls: []string{"macaroond"}, Rights: []string{"mint"}})
	_, bank := a.minter("bank")
	phone := a.mintFor(shop, minting("42")).Device
	a.mintFor(bank, minting("7"))
	if err := a.svc.SuspendUser(a.t.Context(), a.mintFor(shop, minting("banned")).User.ID, service.ActorOperator, noSource); err != nil {
		a.t.Fatal(err)
	}
	db := must(sql.Open("sqlite", a.path))
	must(db.Exec(`UPDATE users SET role = 'admin' WHERE id = ?`, a.mintFor(shop, minting("chosen")).User.ID))
	db.Close()
	a.pass(time.Hour) // no login is fresh, so that dropping a device waits
	mine, bobs := later(a.drop("/v1/devices/"+tablet.ID, alice, api.Proof{})), later(a.drop("/v1/devices", bob, api.Proof{}))

	user, worker := narrow(alice.Token, a.until(time.Minute), "audience macaroond"), a.ownToken(shop, "macaroond")
	about := func(more string) string {
		return fmt.Sprintf(`{"token":%q,"request":{"audience":"photos"%s}}`, narrow(alice.Token, "audience photos"), more)
	}
	mint := func(subject, more string) string {
		return fmt.Sprintf(`{"subject":%q,"device":{"name":"d"%s}`, subject, more) // more ends the device
	}
	own, subject := "/v1/devices/"+alice.Device.ID, "/v1/subjects/42"
	return []trial{
		{"GET /v1/session", user, attempt{"/v1/session", "", 200}, []attempt{{"/v1/session", `{"x":1}`, 400}}},
		{"GET /v1/devices", user, attempt{"/v1/devices", "", 200}, []attempt{{"/v1/devices", `{"x":1}`, 400}}},
		{"PATCH /v1/devices/:id", user, attempt{own, `{"name":"d"}`, 200}, []attempt{
			{own, `{"name":""}`, 400},
			{own, `{"name":"` + strings.Repeat("d", MaxBody) + `"}`, 413},
			{"/v1/devices/dev_nobody", `{"name":"d"}`, 404},
			{"/v1/devices/" + bob.Device.ID, `{"name":"d"}`, 404},
		}},
		{"DELETE /v1/devices/:id", user, attempt{"/v1/devices/" + tablet.ID, "", 202}, []attempt{
			{"/v1/devices/" + tablet.ID, `{"password":"x","code":"x"}`, 400},
			{"/v1/devices/dev_nobody", "", 404},
			{"/v1/devices/" + bob.Device.ID, "", 404},
		}},
		{"DELETE /v1/devices", user, attempt{"/v1/devices", "", 202}, []attempt{
			{"/v1/devices?exept=current", "", 400},
			{"/v1/devices?except=others", "", 400},
			{"/v1/devices", `{"password":"x","code":"x"}`, 400},
		}},
		{"GET /v1/delayed", user, attempt{"/v1/delayed", "", 200}, []attempt{{"/v1/delayed", `{"x":1}`, 400}}},
		{"DELETE /v1/delayed/:id", user, attempt{"/v1/delayed/" + mine.ID, "", 204}, []attempt{
			{"/v1/delayed/act_nobody", "", 404},
			{"/v1/delayed/" + bobs.ID, "", 404},
		}},
		{"POST /v1/verify", worker, attempt{"/v1/verify", about(""), 200}, []attempt{
			{"/v1/verify", `{"request":{"audience":"photos"}}`, 400},
			{"/v1/verify", about(`,"url":"/only/a/path"`), 400},
			{"/v1/verify", `{"token":"x","request":{"audience":"mail"}}`, 403},
		}},
		{"GET /v1/revocations", worker, attempt{"/v1/revocations", "", 200}, []attempt{
			{"/v1/revocations?after=x", "", 400},
			{"/v1/revocations?generation=another&after=0", "", 410},
		}},
		{"POST /oauth2/introspect", worker, attempt{"/oauth2/introspect", "token=x", 200}, []attempt{
			{"/oauth2/introspect", "", 400},
			{"/oauth2/introspect", "token=x&caveats=some", 400},
			{"/oauth2/introspect", "token=x&client_secret=x", 400},
		}},
		{"POST /v1/mint", worker, attempt{"/v1/mint", mint("42", `}`), 200}, []attempt{
			{"/v1/mint", mint("a b", `}`), 400},
			{"/v1/mint", mint("42", `},"username":"a:b"`), 400},
			{"/v1/mint", mint("42", `,"install_id":"a b"}`), 400},
			{"/v1/mint", mint("42", `},"ttl":-1`), 400},
			{"/v1/mint", mint("42", `},"audience":"two words"`), 400},
			{"/v1/mint", mint("banned", `}`), 403},
			{"/v1/mint", mint("chosen", `}`), 403},
		}},
		{"GET /v1/subjects", worker, attempt{"/v1/subjects", "", 200}, []attempt{
			{"/v1/subjects?limit=0", "", 400},
			{"/v1/subjects?offset=1", "", 400},
		}},
		{"GET /v1/subjects/:subject/devices", worker, attempt{subject + "/devices", "", 200}, []attempt{
			{"/v1/subjects/nobody/devices", "", 404},
			{"/v1/subjects/7/devices", "", 404},
		}},
		{"DELETE /v1/subjects/:subject/devices/:id", worker, attempt{subject + "/devices/" + phone.ID, "", 204}, []attempt{
			{subject + "/devices/" + phone.ID + "?x=1", "", 400},
			{subject + "/devices/dev_nobody", "", 404},
			{subject + "/devices/" + alice.Device.ID, "", 404},
			{"/v1/subjects/7/devices/" + phone.ID, "", 404},
		}},
		{"DELETE /v1/subjects/:subject/devices", worker, attempt{subject + "/devices", "", 204}, []attempt{
			{subject + "/devices?except=current", "", 400},
			{"/v1/subjects/7/devices", "", 404},
		}},
		{"POST /v1/subjects/:subject/suspend", worker, attempt{subject + "/suspend", "", 204}, []attempt{
			{subject + "/suspend", `{"x":1}`, 400},
			{"/v1/subjects/7/suspend", "", 404},
		}},
		{"POST /v1/subjects/:subject/resume", worker, attempt{subject + "/resume", "", 204}, []attempt{
			{"/v1/subjects/7/resume", "", 404},
			{"/v1/subjects/banned/resume", "", 403},
		}},
	}
}

// A one-time token, or a proof of a key, is used up by a request that is carried
// out and by no other. At every route what is refused is refused the same again,
// and what was shown with it is good afterwards, a single time.
func TestNothingIsUsedUpInVain(t *testing.T) {
	for kind, single := range map[string]func(*authority, string) func(ask) ask{"once": oneTime, "proof": oneProof} {
		t.Run(kind, func(t *testing.T) {
			a := start(t)
			bodies := map[string]string{}
			for _, e := range a.endpoints() {
				bodies[e.route] = e.good()
			}
			left, rows := routed(), trials(a)
			for _, row := range rows {
				i, known := slices.BinarySearch(left, row.route)
				if !known {
					t.Fatalf("%s is no route, or is tried twice", row.route)
				}
				left = slices.Delete(left, i, i+1)
				show := single(a, row.text)
				for _, q := range row.bad {
					a.tryTwice(show(q.at(row.route)), q.status)
				}
				good := show(row.good.at(row.route))
				if got := a.do(good); got.StatusCode != row.good.status {
					t.Errorf("%s: %d, want %d: %s", row.route, got.StatusCode, row.good.status, got.body)
				}
				gone := row.route == "DELETE /v1/delayed/:id" // and that is known first
				if got := a.do(good); !replayed(got) && (!gone || got.StatusCode != 404) {
					t.Errorf("%s again: %d, want a replay: %s", row.route, got.StatusCode, got.body)
				}
			}
			// Whatever is left takes none but a bare root, or no token there at all.
			for _, route := range left {
				q := single(a, rows[0].text)(at(route))
				switch {
				case slices.Contains(open, route):
				case route == "POST /v1/login", strings.HasPrefix(route, "POST /oauth2/"):
					a.tryTwice(q, 400)
				case route == "POST /v1/renew" && kind == "proof": // it looks at none
					a.do(q).want(403, "refused")
				default:
					q.body = bodies[route]
					a.do(q).want(403, "bare_root_required")
					a.do(q).want(403, "bare_root_required")
				}
			}
		})
	}
}

// tryTwice is refused each time for what it is, and not for having been tried.
func (a *authority) tryTwice(q ask, status int) {
	a.t.Helper()
	for range 2 {
		if got := a.do(q); got.StatusCode != status || replayed(got) {
			a.t.Errorf("%s %s %.100s: %d, want %d: %s", q.method, q.path, q.body, got.StatusCode, status, got.body)
		}
	}
}

func replayed(r *reply) bool {
	return r.StatusCode == 403 && bytes.Contains(r.body, []byte("used before"))
}

// oneTime shows a token as one that is good once.
func oneTime(_ *authority, text string) func(ask) ask {
	text = narrow(text, "once "+nonce())
	return func(q ask) ask {
		q.auth = bearer(text)
		return q
	}
}

// oneProof shows it as one that is bound to a key, with one proof for each URL.
func oneProof(a *authority, text string) func(ask) ask {
	key, proofs := newKey(), map[string]string{}
	text = narrow(text, "cnf "+key.Thumbprint())
	return func(q ask) ask {
		path, _, _ := strings.Cut(q.path, "?")
		if proofs[path] == "" {
			proofs[path] = must(key.Prove(q.method, "https://auth.example"+path, text, a.clock.Now()))
		}
		q.auth, q.header = "DPoP "+text, append(slices.Clone(q.header), "DPoP", proofs[path])
		return q
	}
}
