package httpapi

import (
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
)

// refreshed is what a refresh answers.
func (a *authority) refreshed(root string, kv ...string) api.OAuthToken {
	a.t.Helper()
	return into[api.OAuthToken](a.grantOf("", append([]string{"grant_type", "refresh_token", "refresh_token", root}, kv...)...), 200)
}

// A refresh is a renewal: the refresh token is the root's successor, the same
// for everybody who asks, and the access token is narrowed from it.
func TestRefresh(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	_, photos := a.service("photos", "photos")
	a.pass(time.Minute)
	got := a.refreshed(alice.Token, "client_id", "my-app")
	now := a.clock.Now()
	next := must(token.Parse(got.RefreshToken)).UnverifiedCaveats()
	if got.TokenType != "Bearer" || got.ExpiresIn != 600 || got.Scope != "" || got.RefreshToken == alice.Token || len(next) != 3 {
		t.Errorf("%+v", got)
	}
	texts := must(token.Parse(got.AccessToken)).UnverifiedCaveats()
	if want := append(next, "audience macaroond", caveats.TimeBefore(now.Add(10*time.Minute)).String()); !slices.Equal(texts[:len(texts)-1], want) || !strings.HasPrefix(texts[len(texts)-1], "note access ") {
		t.Errorf("%q, want %q and a note", texts, want)
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(got.AccessToken)}).want(200, "")
	// A lost answer is asked for again.
	again := a.refreshed(alice.Token)
	if again.RefreshToken != got.RefreshToken || again.AccessToken == got.AccessToken {
		t.Error("asked again: another successor, or the same access token")
	}
	for _, name := range []string{"audience", "resource"} {
		narrowed := a.refreshed(got.RefreshToken, name, "photos", "scope", "photos:read photos:list")
		if narrowed.Scope != "photos:list photos:read" {
			t.Errorf("scope %q", narrowed.Scope)
		}
		for action, code := range map[string]string{"photos:read": "ok", "photos:write": "refused"} {
			if d := a.decides(photos, narrowed.AccessToken, api.Request{Audience: "photos", Actions: []string{action}}); d.Code != code || d.Principal.User != alice.User.ID {
				t.Errorf("%s: %+v", action, d)
			}
		}
	}
	// A service's user is no other.
	_, shop := a.minter("shop")
	own := a.mintFor(shop, minting("1"))
	a.pass(time.Minute)
	a.refreshed(own.Token)
}

// Who may not refresh, and with what: one clear error each, and nothing is
// renewed by a request that is refused.
func TestRefreshRefuses(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	svc, auth := a.credential(api.ServiceIn{Name: "one", Calls: []string{"mail"}})
	own := a.ownToken(auth, "macaroond")
	gone := a.login("alice", api.DeviceIn{Name: "gone"})
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(gone.Token)}).want(204, "")
	a.pass(time.Minute)
	for _, row := range []struct {
		name, auth string
		form       []string
		status     int
		want       string
	}{
		{"none", "", []string{"refresh_token", ""}, 400, "invalid_request"},
		{"one in the header", bearer(alice.Token), nil, 400, "invalid_request"},
		{"garbage", "", []string{"refresh_token", "garbage"}, 400, "invalid_grant"},
		{"forged", "", []string{"refresh_token", forge(alice.Token)}, 400, "invalid_grant"},
		{"narrowed", "", []string{"refresh_token", narrow(alice.Token, "audience macaroond")}, 400, "invalid_grant"},
		{"with a note", "", []string{"refresh_token", narrow(alice.Token, "note x")}, 400, "invalid_grant"},
		{"a cookie's", "", []string{"refresh_token", narrow(alice.Token, "via cookie")}, 400, "invalid_grant"},
		{"logged out", "", []string{"refresh_token", gone.Token}, 400, "invalid_grant"},
		{"a service's", "", []string{"refresh_token", own}, 400, "invalid_grant"},
		{"a service's, by the service", auth, []string{"refresh_token", own}, 400, "invalid_grant"},
		{"no audience", "", []string{"refresh_token", alice.Token, "audience", "two words"}, 400, "invalid_target"},
		{"two audiences", "", []string{"refresh_token", alice.Token, "audience", "a", "resource", "b"}, 400, "invalid_target"},
		{"no scope", "", []string{"refresh_token", alice.Token, "scope", "a  b"}, 400, "invalid_scope"},
		{"twice", "", []string{"refresh_token", alice.Token, "refresh_token", alice.Token}, 400, "invalid_request"},
		{"a wrong secret", basic(svc.ID, "mds_x"), []string{"refresh_token", alice.Token}, 401, "invalid_client"},
		{"a wrong secret in the body", "", []string{"refresh_token", alice.Token, "client_id", "my-app", "client_secret", "x"}, 401, "invalid_client"},
		{"a service without its secret", "", []string{"refresh_token", alice.Token, "client_id", svc.ID}, 401, "invalid_client"},
		{"a service without its secret, by Basic", basic(svc.ID, ""), []string{"refresh_token", alice.Token}, 401, "invalid_client"},
		{"a user", basic("alice", password("alice")), []string{"refresh_token", alice.Token}, 401, "invalid_client"},
	} {
		a.in(row.name, func(a *authority) {
			a.grantOf(row.auth, append(row.form, "grant_type", "refresh_token")...).wantError(row.status, row.want)
		})
	}
	// Nothing was renewed: the first to be is of this very minute, not of the one before.
	a.pass(time.Minute)
	expires := must(token.Parse(a.refreshed(alice.Token).RefreshToken)).UnverifiedCaveats()[0]
	if want := a.until(30 * 24 * time.Hour); expires != want {
		t.Errorf("the successor has %s, want %s", expires, want)
	}
	for _, row := range []struct {
		name, auth string
		form       []string
	}{
		{"nobody", "", nil},
		{"a public client", "", []string{"client_id", "my-app"}},
		{"a public client by Basic", basic("my-app", ""), []string{"client_id", "my-app"}},
		{"a service by Basic", auth, []string{"client_id", svc.ID}},
		{"a service in the body", "", []string{"client_id", svc.ID, "client_secret", svc.Secret}},
	} {
		a.in(row.name, func(a *authority) {
			into[api.OAuthToken](a.grantOf(row.auth, append(row.form, "grant_type", "refresh_token", "refresh_token", alice.Token)...), 200)
		})
	}
}

// Theft ends the device, an expired root is over, and a list that is too old to
// know is no reason to log anybody out.
func TestRefreshOfWhatIsOver(t *testing.T) {
	a := start(t)
	alice := a.user("alice")
	thief := a.user("mallory")
	a.pass(time.Minute)
	next := a.refreshed(thief.Token)
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(next.RefreshToken)}).want(200, "") // seen in use
	a.pass(10 * time.Minute)
	ask := []string{"grant_type", "refresh_token", "refresh_token", thief.Token}
	a.grantOf("", ask...).wantError(400, "invalid_grant")
	a.grantOf("", "grant_type", "refresh_token", "refresh_token", next.RefreshToken).wantError(400, "invalid_grant")
	a.clock.drift(time.Minute)
	r := a.grantOf("", "grant_type", "refresh_token", "refresh_token", alice.Token)
	r.wantError(503, "temporarily_unavailable")
	if r.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
	a.pass(0)
	a.refreshed(alice.Token)
	a.pass(31 * 24 * time.Hour)
	a.grantOf("", "grant_type", "refresh_token", "refresh_token", alice.Token).wantError(400, "invalid_grant")
}

// A root that gets no successor is good until it expires, and so are the access
// tokens that it is refreshed to: at the end of its session, and of a login that a
// restored database does not know.
func TestRefreshWithoutSuccessor(t *testing.T) {
	a := start(t, func(s *setup) { s.service.Settings.SessionMax = time.Hour })
	alice := a.user("alice")
	a.pass(time.Minute)
	a.renewing(alice.Token).want(403, "session_over")
	refreshed := func(lives int64) {
		t.Helper()
		got := a.refreshed(alice.Token, "audience", "photos")
		if got.RefreshToken != "" || got.ExpiresIn != lives {
			t.Errorf("%+v, want %d s and no other root", got, lives)
		}
		a.alive(alice, got.AccessToken, "photos", true)
	}
	refreshed(600)
	a.pass(54 * time.Minute)
	refreshed(300)
	db := must(sql.Open("sqlite", a.path))
	for _, statement := range []string{`DELETE FROM devices`, `DELETE FROM root_keys`} {
		must(db.Exec(statement))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	refreshed(300)
	a.pass(5 * time.Minute)
	ask := []string{"grant_type", "refresh_token", "refresh_token", alice.Token}
	a.grantOf("", ask...).wantError(400, "invalid_grant")
}
