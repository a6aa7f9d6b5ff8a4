package e2e

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

// identityHeaders are what the authority tells the backend about an allowed
// request, and nobody else may.
var identityHeaders = []string{
	"X-Auth-User", "X-Auth-Username", "X-Auth-Device", "X-Auth-Audience", "X-Auth-Expires", "X-Auth-Roles", "Remote-User",
}

// holder is a user's device with its root.
type holder struct {
	account
	api.Grant
}

// atGateways runs a test at each gateway, before the shared authority and before
// a sidecar of it, as a user with a device that is the test's own.
func atGateways(t *testing.T, test func(*testing.T, *gateway, *authority, holder)) {
	beforeAuthority(t, test)
	beforeSidecar(t, test)
}

func beforeAuthority(t *testing.T, test func(*testing.T, *gateway, *authority, holder)) {
	for _, p := range products {
		t.Run(p.name, func(t *testing.T) {
			program(t, p.name)
			a := sharedAuthority(t)
			u := a.user(t)
			h := holder{u, a.login(t, u)}
			test(t, startGateway(t, p, a.addr()), a, h)
		})
	}
}

// photos is the token that a client makes for the backend: window, audience,
// then the rest.
func (h holder) photos(t *testing.T, rest ...string) string {
	t.Helper()
	return narrow(t, h.Token, append([]string{in(time.Hour), "audience " + audience}, rest...)...)
}

// checkPassed: the request was allowed, and the backend got it once, with the
// authority's word on who sent it and nothing else of that kind.
func checkPassed(t *testing.T, h holder, res reply, got []received) bool {
	t.Helper()
	if res.status != http.StatusOK || len(got) != 1 {
		t.Errorf("%d requests reached the backend, answer %s; want one and 200", len(got), res)
		return false
	}
	want := map[string]string{
		"X-Auth-User": h.ID, "X-Auth-Username": h.Username, "X-Auth-Device": h.Device.ID,
		"X-Auth-Audience": audience, "X-Auth-Roles": "-", "Remote-User": h.ID,
	}
	for _, name := range identityHeaders {
		values := spelledAnyhow(got[0], name)
		if len(values) != 1 || values[0] == "" || want[name] != "" && values[0] != want[name] {
			t.Errorf("the backend got %s %q, want %q once", name, values, want[name])
		}
	}
	if host := got[0].all("Host"); !slices.Equal(host, []string{"photos.example.com"}) {
		t.Errorf("the backend got Host %q", host)
	}
	return !t.Failed()
}

// spelledAnyhow are the values of every header that CGI, WSGI, PHP or the like
// would take for this one: case, and anything but letters and digits, is lost.
func spelledAnyhow(r received, name string) (values []string) {
	plain := func(s string) string {
		return strings.Map(func(c rune) rune {
			if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
				return c
			}
			return '-'
		}, strings.ToLower(s))
	}
	for _, h := range r.header {
		if plain(h.name) == plain(name) {
			values = append(values, h.value)
		}
	}
	return values
}

// checkRefused: this status, and the backend knows nothing of it.
func checkRefused(t *testing.T, res reply, got []received, status ...int) {
	t.Helper()
	if !slices.Contains(status, res.status) || len(got) != 0 {
		t.Errorf("%d requests reached the backend, answer %s; want none and %d", len(got), res, status)
	}
}

func TestGatewayVerdict(t *testing.T) {
	const (
		none         = ""
		noToken      = "Bearer"
		invalidToken = `error="invalid_token"`
		scope        = `error="insufficient_scope"`
	)
	atGateways(t, func(t *testing.T, g *gateway, a *authority, h holder) {
		other := narrow(t, h.Token, in(time.Hour), "audience albums")
		forged := []byte(h.photos(t))
		forged[len(forged)-10] ^= 'a' ^ 'b'
		one := func(text string) []string { return []string{text} }
		cases := []struct {
			name      string
			ask       ask
			status    int
			challenge string // in WWW-Authenticate
		}{
			{"allowed", ask{target: "/photos/1", tokens: one(h.photos(t))}, 200, none},
			{"allowed with all kinds of caveats", ask{target: "/photos/1?size=small", tokens: one(h.photos(t, "method GET", "path /photos/**", "client-ip 127.0.0.0/8", "user "+h.ID, "note é"))}, 200, none},
			{"allowed from the right origin", ask{target: "/photos/1", tokens: one(h.photos(t, "origin https://app.example.com")), header: []header{{"Origin", "https://app.example.com"}}}, 200, none},
			{"no token", ask{target: "/photos/1"}, 401, noToken},
			{"a bare root", ask{target: "/photos/1", tokens: one(h.Token)}, 401, invalidToken},
			{"another audience", ask{target: "/photos/1", tokens: one(other)}, 401, invalidToken},
			{"another audience, asked for in the query", ask{target: "/photos/1?audience=albums", tokens: one(other)}, 401, invalidToken},
			{"two audiences", ask{target: "/photos/1", tokens: one(h.photos(t, "audience albums"))}, 401, invalidToken},
			{"expired", ask{target: "/photos/1", tokens: one(h.photos(t, in(-time.Second)))}, 401, invalidToken},
			{"a forged signature", ask{target: "/photos/1", tokens: one(string(forged))}, 401, invalidToken},
			{"not a token", ask{target: "/photos/1", tokens: one("AAAA")}, 401, invalidToken},
			{"another method", ask{target: "/photos/1", tokens: one(h.photos(t, "method POST"))}, 403, scope},
			{"another path", ask{target: "/albums/1", tokens: one(h.photos(t, "path /photos/**"))}, 403, scope},
			{"another user", ask{target: "/photos/1", tokens: one(h.photos(t, "user usr_AAAAAAAAAAAAAAAA"))}, 403, scope},
			{"another address", ask{target: "/photos/1", tokens: one(h.photos(t, "client-ip 192.0.2.0/24"))}, 403, scope},
			{"another origin", ask{target: "/photos/1", tokens: one(h.photos(t, "origin https://app.example.com")), header: []header{{"Origin", "https://evil.example.com"}}}, 403, scope},
			{"two origins", ask{target: "/photos/1", tokens: one(h.photos(t, "origin https://app.example.com")), header: []header{{"Origin", "https://app.example.com"}, {"Origin", "https://evil.example.com"}}}, 403, scope},
			{"an action that the configuration does not ask for", ask{target: "/photos/1", tokens: one(h.photos(t, "allow photos:read"))}, 403, scope},
			{"the same, asked for in the query", ask{target: "/photos/1?action=photos:read", tokens: one(h.photos(t, "allow photos:read"))}, 403, scope},
			{"an unknown caveat", ask{target: "/photos/1", tokens: one(h.photos(t, "x-tenant 7"))}, 403, scope},
		}
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				res, got := g.ask(t, c.ask)
				if c.status == http.StatusOK {
					if checkPassed(t, h, res, got) && got[0].target != c.ask.target {
						t.Errorf("the backend was asked for %q, want %q", got[0].target, c.ask.target)
					}
					return
				}
				checkRefused(t, res, got, c.status)
				if challenge := res.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Bearer") || !strings.Contains(challenge, c.challenge) {
					t.Errorf("WWW-Authenticate %q, want %s in it", challenge, c.challenge)
				} else if c.challenge == noToken && strings.Contains(challenge, "error") {
					t.Errorf("WWW-Authenticate %q, want no error when no token was sent", challenge)
				}
			})
		}
	})
}

// TestGatewayKeepsTheVerdict: what the authority says about the holder is for
// the backend. A client gets none of it, not even by asking for the location
// that nginx keeps for the subrequest.
func TestGatewayKeepsTheVerdict(t *testing.T) {
	atGateways(t, func(t *testing.T, g *gateway, _ *authority, h holder) {
		for _, target := range []string{"/photos/1", "/_authz", "/%5fauthz", "/x/../_authz"} {
			res, _ := g.ask(t, ask{target: target, tokens: []string{h.photos(t)}})
			for _, name := range identityHeaders {
				if got := res.header.Get(name); got != "" {
					t.Errorf("%s answers %d with %s: %s", target, res.status, name, got)
				}
			}
		}
	})
}

// TestGatewayHidesTheToken: what the backend does not have, it cannot leak.
func TestGatewayHidesTheToken(t *testing.T) {
	atGateways(t, func(t *testing.T, g *gateway, _ *authority, h holder) {
		res, got := g.ask(t, ask{target: "/photos/1", tokens: []string{h.photos(t)}})
		if checkPassed(t, h, res, got) && len(spelledAnyhow(got[0], "Authorization")) != 0 {
			t.Errorf("the backend got %v", got[0].header)
		}
	})
}

// TestGatewayRevocation: revoking is true at once, and takes no more than it
// says. For a sidecar see TestEdgeRevocation.
func TestGatewayRevocation(t *testing.T) {
	beforeAuthority(t, func(t *testing.T, g *gateway, a *authority, h holder) {
		parent := h.photos(t)
		branch := narrow(t, parent, "note for Ben")
		leaf := narrow(t, branch, "method GET")
		sibling := narrow(t, parent, "note for Cleo")
		phone := holder{h.account, a.login(t, h.account)}
		answers := func(when string, want map[string]int) {
			t.Helper()
			for what, text := range map[string]string{"parent": parent, "branch": branch, "leaf": leaf, "sibling": sibling, "phone": phone.photos(t)} {
				res, got := g.ask(t, ask{target: "/photos/1", tokens: []string{text}})
				if res.status != want[what] || (len(got) == 1) != (want[what] == http.StatusOK) {
					t.Errorf("%s: %s: %s, want %d", when, what, res, want[what])
				}
			}
		}
		answers("before", map[string]int{"parent": 200, "branch": 200, "leaf": 200, "sibling": 200, "phone": 200})

		if res := a.send(t, "POST", "/v1/revoke", "", encode(t, api.RevokeIn{Token: branch})); res.status != http.StatusOK || !strings.Contains(string(res.body), `"branch"`) {
			t.Fatalf("revoking the branch: %s", res)
		}
		answers("branch revoked", map[string]int{"parent": 200, "branch": 401, "leaf": 401, "sibling": 200, "phone": 200})

		if res := a.send(t, "DELETE", "/v1/devices/"+h.Device.ID, bearer(phone.Token), ""); res.status != http.StatusNoContent {
			t.Fatalf("revoking the device: %s", res)
		}
		answers("device revoked", map[string]int{"parent": 401, "branch": 401, "leaf": 401, "sibling": 401, "phone": 200})
	})
}

// TestGatewayMustBeTrusted: outside --dev, macaroond answers nobody's subrequest
// until trusted_proxies names the gateway.
func TestGatewayMustBeTrusted(t *testing.T) {
	for _, p := range products {
		t.Run(p.name, func(t *testing.T) {
			program(t, p.name)
			key, err := tool(t, "", nil, macaroond, "keys", "new")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "key")
			if err := os.WriteFile(file, key, 0o600); err != nil {
				t.Fatal(err)
			}
			env := []string{"MACAROOND_KEY_FILE=" + file, "MACAROOND_ISSUER=https://auth.example.com"}
			for _, c := range []struct {
				env    []string
				status int
			}{
				{env, http.StatusForbidden},
				{append(env, "MACAROOND_TRUSTED_PROXIES=192.0.2.1/32"), http.StatusForbidden},
				{append(env, "MACAROOND_TRUSTED_PROXIES=127.0.0.1/32"), http.StatusOK},
			} {
				a, err := startAuthority(t.TempDir(), c.env)
				if err != nil {
					t.Fatal(err)
				}
				u := a.user(t)
				h := holder{u, a.login(t, u)}
				res, got := startGateway(t, p, a.addr()).ask(t, ask{target: "/photos/1", tokens: []string{h.photos(t)}})
				if c.status == http.StatusOK {
					checkPassed(t, h, res, got)
				} else {
					checkRefused(t, res, got, c.status)
				}
				if err := a.stop(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestGatewayWithoutVerdict: an authority that is away, or says 503 because it
// cannot know what is revoked, must not log anybody out or let anybody in.
func TestGatewayWithoutVerdict(t *testing.T) {
	for _, p := range products {
		t.Run(p.name, func(t *testing.T) {
			program(t, p.name)
			t.Run("stale", func(t *testing.T) {
				dir := t.TempDir()
				a, err := startAuthority(dir, []string{"MACAROOND_MAX_STALENESS=1s"}, "--dev")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := a.stop(); err != nil {
						t.Error(err)
					}
				})
				u := a.user(t)
				h := holder{u, a.login(t, u)}
				g := startGateway(t, p, a.addr())
				question := ask{target: "/photos/1", tokens: []string{h.photos(t)}}
				res, got := g.ask(t, question)
				checkPassed(t, h, res, got)

				ruin(t, dir)
				eventually(t, "an authority that cannot read its revocations is stale", func() bool {
					res, got = g.ask(t, question)
					return res.status != http.StatusOK
				})
				checkRefused(t, res, got, http.StatusServiceUnavailable)
				if res.header.Get("WWW-Authenticate") != "" {
					t.Error("a challenge: clients would log out")
				}
			})
			t.Run("away", func(t *testing.T) {
				res, got := startGateway(t, p, freeAddr(t)).ask(t, ask{target: "/photos/1", tokens: []string{"AAAA"}})
				checkRefused(t, res, got, p.away)
			})
		})
	}
}

// ruin overwrites a server's database while it runs.
func ruin(t *testing.T, dataDir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dataDir, "*.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no database in the data directory: %v", err)
	}
	for _, name := range files {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(bytes.Repeat([]byte("ruin"), 2048), 0)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
