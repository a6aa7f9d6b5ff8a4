package httpapi

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// renewed is the successor of a root.
func (a *authority) renewed(root string) api.Grant {
	a.t.Helper()
	return into[api.Grant](a.renewing(root), 200)
}

func (a *authority) renewing(root string) *reply {
	a.t.Helper()
	return a.do(ask{method: "POST", path: "/v1/renew", auth: bearer(root)})
}

// stolen presents a root that must end the device: the owner is told, the list
// and the audit say so.
func (a *authority) stolen(g api.Grant, root string) {
	a.t.Helper()
	a.renewing(root).want(401, "revoked")
	other := a.login("alice", api.DeviceIn{Name: "another"})
	for _, d := range a.devices(other) {
		if d.ID == g.Device.ID && (d.RevokedReason != "theft" || d.RevokedAt == nil || !d.RevokedAt.Equal(a.clock.Now())) {
			a.t.Errorf("on the devices list: %+v", d)
		}
	}
	entries := must(a.svc.Audit(a.t.Context(), 0, 1000)).Entries
	if !slices.ContainsFunc(entries, func(e api.AuditEntry) bool {
		return e.Type == "renewal_theft" && e.Device == g.Device.ID && e.User == g.User.ID && e.RootKeyID == g.RootKeyID && e.ClientIP == "127.0.0.1"
	}) {
		a.t.Error("the theft is not in the audit")
	}
}

func TestRenew(t *testing.T) {
	a := start(t)
	g := a.user("alice")
	a.pass(10 * 24 * time.Hour)
	next := a.renewed(g.Token)
	if next.Token == g.Token || next.Device != g.Device || next.User != g.User || next.RootKeyID != g.RootKeyID ||
		!next.ExpiresAt.Equal(a.clock.Now().Add(30*24*time.Hour)) || next.ExpiresIn != 30*24*3600 || next.TokenType != "Bearer" {
		t.Errorf("%+v after %+v", next, g)
	}
	if d := a.devices(next); len(d) != 1 || !d[0].ExpiresAt.Equal(next.ExpiresAt.Time) || !d[0].Current {
		t.Errorf("devices: %+v", d)
	}
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(g.Token)}).want(200, "") // lives on
}

// Whoever may not renew, and what a request may not have: each with its one answer.
func TestRenewRefuses(t *testing.T) {
	a := start(t)
	g := a.user("alice")
	_, svc := a.service("photos", "photos")
	suspended := a.user("bob")
	if err := a.svc.SuspendUser(t.Context(), suspended.User.ID, service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	out := a.login("alice", api.DeviceIn{Name: "out"})
	a.do(ask{method: "POST", path: "/v1/logout", auth: bearer(out.Token)}).want(204, "")
	replaced := a.login("alice", api.DeviceIn{InstallID: "one"})
	a.login("alice", api.DeviceIn{InstallID: "one"})
	short := into[api.Grant](a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), TTL: 60}), 200)
	a.pass(time.Minute)
	for _, row := range []struct {
		name, auth, body string
		status           int
		code             string
	}{
		{"nothing", "", "", 401, "no_token"},
		{"a service", svc, "", 401, "no_token"},
		{"no token", bearer("nonsense"), "", 401, "malformed"},
		{"another's signature", bearer(g.Token[:len(g.Token)-6] + "AAAAAA"), "", 401, "invalid"},
		{"expired", bearer(short.Token), "", 401, "expired"},
		{"logged out", bearer(out.Token), "", 401, "revoked"},
		{"replaced by a login of the same install", bearer(replaced.Token), "", 401, "revoked"},
		{"suspended", bearer(suspended.Token), "", 401, "revoked"},
		{"narrowed for the authority", bearer(narrow(g.Token, "audience macaroond")), "", 403, "bare_root_required"},
		{"narrowed by a note", bearer(narrow(g.Token, "audience macaroond", "note x")), "", 403, "bare_root_required"},
		{"narrowed for another audience", bearer(narrow(g.Token, "audience photos")), "", 401, "wrong_audience"},
		{"narrowed for something else", bearer(narrow(g.Token, "audience macaroond", "allow devices:list")), "", 403, "refused"},
		{"a body", bearer(g.Token), `{"ttl":1}`, 400, "bad_request"},
	} {
		a.in(row.name, func(a *authority) {
			a.do(ask{method: "POST", path: "/v1/renew", auth: row.auth, body: row.body}).want(row.status, row.code)
		})
	}
	if list := a.devices(g); len(list) == 0 {
		t.Error("the device that was asked about is gone")
	}
	for _, e := range must(a.svc.Audit(t.Context(), 0, 1000)).Entries {
		if strings.HasPrefix(e.Type, "renew") {
			t.Errorf("%s was written for a request that was refused", e.Type)
		}
	}
}

// Nobody is logged out by a race: fifty parallel renewals of one root give one
// successor, and so do fifty more of a client that lost all those answers.
func TestFiftyRenewOneRoot(t *testing.T) {
	a := start(t)
	g := a.user("alice")
	a.pass(time.Hour)
	fifty := func() map[string]int {
		var mu sync.Mutex
		var wg sync.WaitGroup
		got := map[string]int{}
		for range 50 {
			wg.Go(func() {
				next, err := a.svc.Renew(t.Context(), g.Token, caveats.Request{}, service.Source{})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got[next.Token]++
			})
		}
		wg.Wait()
		return got
	}
	first := fifty()
	a.pass(24 * time.Hour)
	again := fifty()
	if len(first) != 1 || len(again) != 1 {
		t.Fatalf("%d and %d successors", len(first), len(again))
	}
	for next := range first {
		if again[next] != 50 {
			t.Error("the retry got another successor")
		}
		a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(next)}).want(200, "")
	}
}

// What is theft and what is not, step by step. Each story begins with a login
// and one renewal an hour later.
func TestRenewalTheft(t *testing.T) {
	const day = 24 * time.Hour
	type story struct {
		*authority
		root, next api.Grant
	}
	for _, row := range []struct {
		name  string
		then  func(s *story)
		theft bool // presenting the first root again
	}{
		{"a lost answer, however late", func(s *story) { s.pass(20 * day) }, false},
		{"the predecessor was used meanwhile", func(s *story) {
			s.devices(s.root)
			s.pass(day)
			s.devices(s.root)
		}, false},
		{"the successor was used, and the grace has not passed", func(s *story) {
			s.devices(s.next)
			s.pass(time.Minute - time.Second)
			s.devices(s.next) // the first use counts: this one moves nothing
		}, false},
		{"the successor was used, and the grace has passed", func(s *story) {
			s.devices(s.next)
			s.pass(time.Minute)
		}, true},
		{"what was narrowed from the successor was used at a gateway", func(s *story) {
			s.gateway(narrow(s.next.Token, "audience backend"), 200)
			s.pass(time.Minute)
		}, true},
		{"what was narrowed from it was introspected", func(s *story) {
			_, svc := s.service("photos", "photos")
			r := s.form("/oauth2/introspect", svc, "token", narrow(s.next.Token, "audience photos"))
			if got := into[api.Introspection](r, 200); !got.Active {
				s.t.Fatal("not active")
			}
			s.pass(time.Minute)
		}, true},
		{"what was narrowed from it was verified for a service", func(s *story) {
			_, svc := s.service("photos", "photos")
			s.post("/v1/verify", svc, api.VerifyIn{Token: narrow(s.next.Token, "audience photos"), Request: api.Request{Audience: "photos"}}).want(200, "")
			s.pass(time.Minute)
		}, true},
		{"what was narrowed from it was refused", func(s *story) {
			s.gateway(narrow(s.next.Token, "audience elsewhere"), 401)
			s.pass(time.Minute)
		}, false},
		{"the successor was renewed, and the grace has passed", func(s *story) {
			s.renewed(s.next.Token)
			s.pass(time.Minute)
		}, true},
		{"the successor was renewed twice, long ago", func(s *story) {
			s.pass(day)
			s.renewed(s.renewed(s.next.Token).Token)
			s.pass(day)
		}, true},
		{"a restart between the use and the grace's end", func(s *story) {
			s.devices(s.next)
			s.restart()
			s.pass(time.Minute)
		}, true},
		{"killed while nobody has used it", func(s *story) {
			s.kill()
			s.pass(day)
		}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			a := start(t, func(s *setup) { s.trust(proxy) })
			s := &story{authority: a, root: a.user("alice")}
			a.pass(time.Hour)
			s.next = a.renewed(s.root.Token)
			link := narrow(s.root.Token, "audience backend", "note link")
			row.then(s)
			a.gateway(link, 200) // a link of the predecessor lives on, and is never theft
			if !row.theft {
				if again := a.renewed(s.root.Token); again.Token != s.next.Token {
					t.Error("another successor")
				}
				a.gateway(link, 200)
				a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(s.next.Token)}).want(200, "")
				return
			}
			a.stolen(s.root, s.root.Token)
			a.gateway(link, 401)
			a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(s.next.Token)}).want(401, "revoked")
		})
	}
}

// gateway asks as one would, for the audience backend.
func (a *authority) gateway(text string, status int) {
	a.t.Helper()
	r := a.do(ask{method: "GET", path: "/authz/original?audience=backend", auth: bearer(text), header: []string{"X-Original-Method", "GET", "X-Original-URI", "/"}})
	if r.StatusCode != status {
		a.t.Errorf("at the gateway: %d, want %d: %s", r.StatusCode, status, r.body)
	}
}

// A device that is not renewed for the time it asked for is logged out; one
// that is, is not, until the session is over.
func TestIdleAndAbsoluteLimit(t *testing.T) {
	const day = 24 * time.Hour
	a := start(t, func(s *setup) { s.service.Settings.SessionMax = 10 * day })
	g := a.user("alice")
	if want := a.clock.Now().Add(10 * day); !g.ExpiresAt.Equal(want) {
		t.Errorf("a login lives until %s, want %s: no longer than the session", g.ExpiresAt, want)
	}
	short := into[api.Grant](a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), TTL: int64(2 * day / time.Second)}), 200)
	idle := into[api.Grant](a.post("/v1/login", "", api.LoginIn{Username: "alice", Password: password("alice"), TTL: int64(2 * day / time.Second)}), 200)
	begin := a.clock.Now()
	for n := time.Duration(1); n <= 8; n++ {
		a.pass(day)
		short = a.renewed(short.Token)
		if want := begin.Add((n + 2) * day); !short.ExpiresAt.Equal(want) {
			t.Fatalf("after %d days it lives until %s, want %s", n, short.ExpiresAt, want)
		}
	}
	a.renewing(idle.Token).want(401, "expired")
	a.pass(day)
	a.renewing(short.Token).want(403, "session_over")
	a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(short.Token)}).want(200, "") // to its own expiry
	a.pass(day)
	a.renewing(short.Token).want(401, "expired")
	again := a.login("alice", api.DeviceIn{})
	if !again.ExpiresAt.Equal(a.clock.Now().Add(10 * day)) {
		t.Errorf("a new login lives until %s", again.ExpiresAt)
	}
}

// A rotation logs nobody out: the successor is of the new epoch, and the one
// that was given before stays what it was. With its epoch retired it has died,
// and the predecessor, if that lives, gets another.
func TestRenewAcrossEpochs(t *testing.T) {
	a := start(t)
	epochOf := func(g api.Grant) uint32 { return must(token.Parse(g.Token)).UnverifiedIdentifier().Epoch }
	rotate := func() {
		t.Helper()
		if _, err := a.svc.RotateKeys(t.Context(), service.ActorOperator, service.Source{}); err != nil {
			t.Fatal(err)
		}
	}
	g := a.user("alice")
	rotate()
	next := a.renewed(g.Token)
	rotate()
	if again := a.renewed(g.Token); again.Token != next.Token || epochOf(next) != epochOf(g)+1 {
		t.Errorf("epochs %d, %d, %d", epochOf(g), epochOf(next), epochOf(again))
	}
	if err := a.svc.RetireKeys(t.Context(), epochOf(next), service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	a.renewing(next.Token).want(401, "revoked")
	other := a.renewed(g.Token)
	if epochOf(other) != epochOf(g)+2 || !other.ExpiresAt.After(next.ExpiresAt.Time) {
		t.Errorf("epoch %d until %s, after one until %s", epochOf(other), other.ExpiresAt, next.ExpiresAt)
	}
	a.devices(other)
	a.pass(time.Minute)
	a.stolen(g, g.Token)
}

// After a backup was restored with its tokens kept, whoever has a root that is
// later than the database goes on with it; who logged in after the backup
// keeps what they have, and logs in again when that ends.
func TestRenewAfterRestore(t *testing.T) {
	a := start(t)
	g := a.user("alice")
	backup := a.backup()
	a.pass(time.Hour)
	lost := a.renewed(g.Token)
	unknown := a.login("alice", api.DeviceIn{Name: "after the backup"})
	a.restore(backup)
	a.pass(time.Hour)
	next := a.renewed(lost.Token)
	if !next.ExpiresAt.After(lost.ExpiresAt.Time) || next.Device != g.Device {
		t.Errorf("%+v after %+v", next, lost)
	}
	if again := a.renewed(g.Token); again.Token != lost.Token {
		t.Error("the predecessor got another successor than before the restore")
	}
	a.renewing(unknown.Token).want(403, "session_over")
	a.pass(time.Minute)
	a.stolen(g, g.Token)
}

// A device may not be renewed without end in no time.
func TestRenewalsAreLimited(t *testing.T) {
	a := start(t)
	g := a.user("alice")
	for range 64 {
		g = a.renewed(g.Token)
	}
	r := a.renewing(g.Token)
	if r.want(429, "rate_limited"); r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	r = a.grantOf("", "grant_type", "refresh_token", "refresh_token", g.Token)
	if r.wantError(429, "temporarily_unavailable"); r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After for an OAuth client")
	}
	a.pass(time.Minute)
	a.renewed(g.Token)
}

func (a *authority) form(path, auth string, pairs ...string) *reply {
	a.t.Helper()
	body := ""
	for i := 0; i < len(pairs); i += 2 {
		body += pairs[i] + "=" + pairs[i+1] + "&"
	}
	return a.do(ask{method: "POST", path: path, auth: auth, body: strings.TrimSuffix(body, "&"), header: []string{"Content-Type", "application/x-www-form-urlencoded"}})
}

// restart ends the service as a signal does, and begins it again.
func (a *authority) restart() {
	a.t.Helper()
	ended, end := context.WithCancel(a.t.Context())
	end()
	a.svc.Run(ended)
	a.kill()
}

// kill begins another service on the database of one that had no time to end.
func (a *authority) kill() {
	a.t.Helper()
	a.store.Close()
	a.open()
}

func (a *authority) backup() string {
	a.t.Helper()
	file := a.path + ".backup"
	if err := a.store.Backup(a.t.Context(), file); err != nil {
		a.t.Fatal(err)
	}
	return file
}

// restore puts a backup in place and keeps the tokens.
func (a *authority) restore(backup string) {
	a.t.Helper()
	a.store.Close()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(a.path + suffix)
	}
	if err := os.Rename(backup, a.path); err != nil {
		a.t.Fatal(err)
	}
	store := must(sqlite.Open(a.t.Context(), a.path, a.made.store))
	must(store.Restored(a.t.Context(), true, storage.Event{Time: a.clock.Now(), Type: service.EventRestored}))
	store.Close()
	a.open()
}
