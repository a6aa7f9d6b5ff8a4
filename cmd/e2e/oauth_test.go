package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"macaroond/service/api"
)

// addService makes a service with the command, and waits until the running
// server knows it.
func (a *authority) addService(t *testing.T, name string, flags ...string) api.Service {
	t.Helper()
	var s api.Service
	a.command(t, &s, append([]string{"service", "add", name}, flags...)...)
	return s
}

func clientCredentials(a *authority, s api.Service, style oauth2.AuthStyle, audience string) *clientcredentials.Config {
	return &clientcredentials.Config{
		ClientID: s.ID, ClientSecret: s.Secret, TokenURL: a.url + "/oauth2/token", AuthStyle: style,
		EndpointParams: url.Values{"audience": {audience}},
	}
}

// golang.org/x/oauth2, unchanged, gets and uses a service's tokens.
func TestGoOAuth2ClientCredentials(t *testing.T) {
	a := sharedAuthority(t)
	s := a.addService(t, "go-client", "--calls", audience, "--allow", "photos:read")
	for name, style := range map[string]oauth2.AuthStyle{"detected": oauth2.AuthStyleAutoDetect, "Basic": oauth2.AuthStyleInHeader, "body": oauth2.AuthStyleInParams} {
		t.Run(name, func(t *testing.T) {
			c := clientCredentials(a, s, style, audience)
			c.Scopes = []string{"photos:read"}
			tok, err := c.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(tok.Expiry); tok.TokenType != "Bearer" || !tok.Valid() || left < 9*time.Minute || left > 11*time.Minute {
				t.Errorf("type %q, %v left, valid %v", tok.TokenType, left, tok.Valid())
			}
			d := a.verify(t, tok.AccessToken, api.Request{Audience: audience, Actions: []string{"photos:read"}})
			if !d.Allowed || d.Principal.User != s.ID {
				t.Errorf("%+v", d)
			}
			// Its client sends it, and keeps it: the same for two requests.
			var seen []string
			resource := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				seen = append(seen, r.Header.Get("Authorization"))
			}))
			defer resource.Close()
			for range 2 {
				res, err := c.Client(t.Context()).Get(resource.URL)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
			}
			if len(seen) != 2 || len(seen[0]) < 100 {
				t.Errorf("sent %d", len(seen))
			}
			c.EndpointParams.Set("audience", "bank")
			_, err = c.Token(t.Context())
			if refused, ok := errors.AsType[*oauth2.RetrieveError](err); !ok || refused.ErrorCode != "invalid_target" {
				t.Errorf("another audience: %v", err)
			}
			c.ClientSecret = "mds_wrong"
			_, err = c.Token(t.Context())
			if refused, ok := errors.AsType[*oauth2.RetrieveError](err); !ok || refused.ErrorCode != "invalid_client" {
				t.Errorf("a wrong secret: %v", err)
			}
		})
	}
}

// A refreshing TokenSource of golang.org/x/oauth2, unchanged, lives on a root: it
// follows the successors, from many goroutines, and so does another that began
// with the same root. Tokens of ten seconds are over for x/oauth2 at once, so it
// refreshes at each call.
func TestGoOAuth2Refreshes(t *testing.T) {
	a := ownAuthority(t, t.TempDir(), "MACAROOND_ACCESS_TTL=10s")
	grant := a.login(t, a.user(t))
	for name, style := range map[string]oauth2.AuthStyle{"detected": oauth2.AuthStyleAutoDetect, "Basic": oauth2.AuthStyleInHeader, "body": oauth2.AuthStyleInParams} {
		t.Run(name, func(t *testing.T) {
			config := &oauth2.Config{ClientID: "an-app", Endpoint: oauth2.Endpoint{TokenURL: a.url + "/oauth2/token", AuthStyle: style}}
			var calling sync.WaitGroup
			for range 2 { // two installations of one root, as two processes are
				source := config.TokenSource(t.Context(), &oauth2.Token{RefreshToken: grant.Token})
				for range 4 {
					calling.Go(func() {
						for range 3 {
							tok, err := source.Token()
							if err != nil {
								t.Errorf("refreshing: %v", err)
								return
							}
							if res := a.send(t, "GET", "/v1/devices", bearer(tok.AccessToken), ""); res.status != http.StatusOK {
								t.Errorf("the refreshed token: %s", res)
							}
						}
					})
				}
			}
			calling.Wait()
		})
	}
	// Logged out is invalid_grant, which tells the client to log in again.
	config := &oauth2.Config{ClientID: "an-app", Endpoint: oauth2.Endpoint{TokenURL: a.url + "/oauth2/token"}}
	tok, err := config.TokenSource(t.Context(), &oauth2.Token{RefreshToken: grant.Token}).Token()
	if err != nil {
		t.Fatal(err)
	}
	if res := a.send(t, "POST", "/v1/logout", bearer(tok.RefreshToken), ""); res.status != http.StatusNoContent {
		t.Fatal(res)
	}
	_, err = config.TokenSource(context.Background(), &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); !ok || refused.ErrorCode != "invalid_grant" || refused.Response.StatusCode != http.StatusBadRequest {
		t.Errorf("after logout: %v", err)
	}
	// There is no password grant, whatever the library offers.
	_, err = config.PasswordCredentialsToken(t.Context(), "ana", password)
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); !ok || refused.ErrorCode != "unsupported_grant_type" {
		t.Errorf("a password: %v", err)
	}
}

// openid-client of npm finds the endpoints by the metadata and uses all of them.
func TestOpenIDClient(t *testing.T) {
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(root, "testdata/interop/node_modules/openid-client/package.json"))
	}
	if err != nil {
		notProved(t, "that an OAuth client of npm and macaroond understand each other", "node with npm's package openid-client", "run npm ci in testdata/interop")
	}
	a := sharedAuthority(t)
	s := a.addService(t, "npm-client", "--serves", audience, "--calls", audience, "--allow", "photos:read")
	user := a.user(t)
	grant := a.login(t, user)
	narrowed := narrow(t, grant.Token, in(time.Hour), "audience "+audience)
	stdin := encode(t, map[string]any{
		"issuer": a.url, "id": s.ID, "secret": s.Secret, "audience": audience,
		"root": map[string]string{"token": grant.Token, "narrowed": narrowed},
	})
	data, err := tool(t, stdin, nil, node, absolute(t, "testdata/interop/peer_openid_client.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Methods map[string]struct {
			Token, Type, Scope, OtherAudience, OtherScope string
			Expires                                       int
			Introspected                                  api.Introspection
		}
		Refreshed                       struct{ Access, Refresh, Type string }
		WrongSecret, Garbage, LoggedOut string
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	if len(got.Methods) != 2 {
		t.Errorf("authenticated by %v", got.Methods)
	}
	request := api.Request{Audience: audience, Actions: []string{"photos:read"}}
	for method, m := range got.Methods {
		if m.Type != "bearer" || m.Expires < 500 || m.Scope != "photos:read" || m.OtherAudience != "400 invalid_target" || m.OtherScope != "400 invalid_scope" {
			t.Errorf("%s: %+v", method, m)
		}
		if i := m.Introspected; !i.Active || i.Sub != user.ID || i.Aud != audience || i.Iss != a.url {
			t.Errorf("%s introspected %+v", method, i)
		}
		if d := a.verify(t, m.Token, request); d.Code != api.CodeRevoked || d.Principal.User != s.ID {
			t.Errorf("%s: a revoked token is %+v", method, d)
		}
	}
	if got.WrongSecret != "401 basic" || got.Garbage != "400 invalid_grant" || got.LoggedOut != "400 invalid_grant" {
		t.Errorf("refused as %q, %q, %q", got.WrongSecret, got.Garbage, got.LoggedOut)
	}
	if d := a.verify(t, got.Refreshed.Access, request); d.Code != api.CodeRevoked || d.Principal.User != user.ID || got.Refreshed.Refresh == "" {
		t.Errorf("of a device that the client logged out: %+v", d)
	}
}
