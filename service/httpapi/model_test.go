package httpapi

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/token"
)

// Whatever is done, in whatever order: a model that knows no more than the
// contract says of each token that was ever given out whether it is alive, for
// what, and whose; and so says the authority, and an edge that follows it. More
// and longer: -rapid.checks=5000 -rapid.steps=60.
func TestModel(t *testing.T) {
	a := start(t, func(s *setup) {
		s.service.Log = slog.New(slog.DiscardHandler)
		s.http.Log = s.service.Log
		s.service.Settings.SessionMax, s.service.Settings.GatewayAudience = sessionMax, "photos"
		s.service.Settings.MaxPrefixTTL, s.service.Settings.MaxDevices = 2*time.Hour, maxDevices
		s.service.Settings.Browser = []string{"photos"}
		s.trust("192.0.2.0/24") // where httptest's requests come from
	})
	_, probe := a.service("probe", "nobody")
	server, photos := a.service("photos", "photos")
	chief := must(a.svc.AddUser(t.Context(), api.UserIn{Username: "chief", Password: password("chief"), Role: service.RoleAdmin}, service.ActorOperator, service.Source{}))
	begun, fresh := a.clock.Now(), filepath.Join(t.TempDir(), "fresh.db")
	must(0, a.store.Backup(t.Context(), fresh))
	rapid.Check(t, func(rt *rapid.T) {
		a.clock.drift(begun.Sub(a.clock.Now()))
		w := &world{T: rt, a: a, now: begun, probe: probe, photos: photos, boxes: map[string]box{}, house: &house{
			users:    map[string]person{chief.ID: {used: neverCode, id: chief.ID, name: "chief", password: password("chief"), admin: true}},
			services: map[string]backend{}, devices: map[string]device{}, keys: map[string]rootKey{},
			heirs: map[string]*tok{}, seen: map[string]time.Time{}, ended: map[string]bool{}, spent: map[string]bool{},
			epochs: map[uint32]string{}, policies: map[string]rule{}, waiting: map[string]delayed{}, links: map[string]link{},
		}}
		w.reopen(fresh)
		defer w.endThere()
		w.lastEpoch = w.signing()
		w.epochs[w.lastEpoch] = "signing"
		w.startEdge(server.ID, server.Secret)
		defer w.edge.Close()
		w.pass(10 * time.Second) // no proof is of before the process
		acts := map[string]func(*rapid.T){"": func(*rapid.T) { w.look() }}
		for _, some := range []map[string]func(*world){tokenActs, accountActs, serviceActs, adminActs, processActs, boundActs} {
			for name, act := range some {
				acts[fmt.Sprint(9-often[name], " ", name)] = func(*rapid.T) { act(w) }
			}
		}
		for _, begin := range []func(*world){tokenActs["sign up"], tokenActs["sign up"], tokenActs["log in"], adminActs["add a service"]} {
			begin(w)
		}
		rt.Repeat(acts)
		w.agrees()
		for _, t := range w.toks {
			w.check(t)
		}
	})
}

// Every run plays other games, but in CI, where chance should not decide whether
// a change lands: there the acts are the same each time. What the authority draws
// itself (which of two devices equally old makes room) still differs.
func init() {
	if os.Getenv("CI") != "" {
		flag.Set("rapid.seed", "20")
	}
}

// often puts what is to be done more often first: of a list rapid draws its beginning more often.
var often = map[string]int{
	"narrow": 9, "log in": 8, "renew": 8, "time": 8, "sign up": 7, "ask the edge": 7, "list": 7, "open a link": 7, "refresh": 6, "verify": 6, "revoke by caveats": 6,
	"the edge follows": 6, "remove a device": 6, "remove policies": 6, "ask for a link": 6, "approve a link": 6, "trade the claim": 6, "mint for a user": 6, "revoke": 5,
	"log out": 5, "go on at the other process": 7, "act where it is heard late": 8, "verify with a proof": 7, "bind to a key": 6, "seal": 6, "ask for the session": 5, "remove devices": 5, "back up": 5, "get a service's token": 5, "sweep": 5, "restore": 4, "suspend": 4, "change the password": 4,
}

// world is one authority, the house that it must be, and every token that was seen.
type world struct {
	*rapid.T
	*house
	*edge
	a    *authority
	now  time.Time
	toks []*tok
	n    int    // makes names new
	kept *house // when the backup was made

	boxes  map[string]box // by caveat
	proofs []shown
	began  time.Time       // of the process that is asked
	shown  map[string]bool // proofs that it has accepted

	there *process // the one that is not asked; nil: there is none
	late  *house   // what the one that is asked last heard of, when that is not all

	lastEpoch uint32 // that ever was

	opened  []opened // links, all there ever were
	claims  []string
	secrets []string // devices of services' secrets

	probe, photos string // services: for no token's audience, and for photos
}

// reopen starts the authority on another database, or on the one that it has.
func (w *world) reopen(file string) {
	w.writeDown()
	w.a.store.Close()
	if file != "" {
		w.endThere()
		for _, suffix := range []string{"-wal", "-shm"} {
			os.Remove(w.a.path + suffix)
		}
		must(0, os.WriteFile(w.a.path, must(os.ReadFile(file)), 0o600))
	}
	w.a.open()
	w.began, w.shown = w.now, map[string]bool{}
}

func (w *world) signing() uint32 {
	for _, e := range must(w.a.svc.EpochList(w.a.t.Context())).Epochs {
		if e.State == "signing" {
			return e.Number
		}
	}
	panic("no epoch signs")
}

// look holds three tokens' lives against the model's, and a list of devices.
func (w *world) look() {
	for i := range min(3, len(w.toks)) {
		t := w.any("look at")
		w.check(t)
		if i == 0 && w.there != nil {
			w.checkThere(t)
		}
	}
}

// check asks for an audience that no token names: so nothing is accepted.
func (w *world) check(t *tok) {
	w.Helper()
	want, _ := w.verdict(t, question{audience: "nobody"})
	d := read[api.Decision](w, w.send("POST", "/v1/verify", w.probe, api.VerifyIn{Token: t.text, Request: api.Request{Audience: "nobody"}}))
	if !slices.Contains(want, d.Code) {
		w.Fatalf("%s, want %v: %s", d.Code, want, t)
	}
	if d.Principal != nil && (d.Principal.User != t.user || d.Principal.Device != t.device) {
		w.Fatalf("it speaks for %+v, want %s %s", d.Principal, t.user, t.device)
	}
}

// any is one of all the tokens, more often one that is good for something.
func (w *world) any(what string) *tok {
	return w.oneOf(what, func(*tok) bool { return true })
}

// anyRoot is any, and more often a root.
func (w *world) anyRoot(what string) *tok { return w.oneOf(what, (*tok).bare) }

// oneOf is any, and more often one that fits; where it is heard late, one that
// has ended and is not known to.
func (w *world) oneOf(what string, fits func(*tok) bool) *tok {
	if len(w.toks) == 0 {
		w.Skip("no token yet")
	}
	from := w.toks
	if rapid.IntRange(0, 3).Draw(w.T, "any "+what) > 0 {
		if good := slices.DeleteFunc(slices.Clone(from), func(t *tok) bool { return !fits(t) || !w.good(t) }); len(good) > 0 {
			from = good
		}
	}
	return from[rapid.IntRange(0, len(from)-1).Draw(w.T, what)]
}

func (w *world) good(t *tok) bool {
	if !w.now.Before(t.ends()) {
		return false
	}
	if w.late == nil {
		return w.dead(t) == nil
	}
	then, _ := w.heard(w.late, t, question{audience: "photos"})
	return w.rootEnded(t) && !slices.Contains(then, api.CodeRevoked) && !slices.Contains(then, api.CodeInvalid)
}

// answer is what came back; code is the problem's, or "ok".
type answer struct {
	status int
	code   string
	body   []byte
	cookie string // the token in the one that it sets; "-": it takes it away
}

func (w *world) send(method, path, auth string, in any, header ...string) answer {
	w.Helper()
	return w.ask(*w.a.handler.Load(), method, path, auth, in, header...)
}

// ask asks a handler. A body is JSON, or a form.
func (w *world) ask(of http.Handler, method, path, auth string, in any, header ...string) answer {
	w.Helper()
	body, media := "", "application/json"
	if values, ok := in.(url.Values); ok {
		body, media = values.Encode(), "application/x-www-form-urlencoded"
	} else if in != nil {
		body = string(must(json.Marshal(in)))
	}
	r := httptest.NewRequestWithContext(w.a.t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", media)
	}
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	of.ServeHTTP(rec, r)
	out := answer{rec.Code, "ok", rec.Body.Bytes(), ""}
	if set, found := strings.CutPrefix(rec.Header().Get("Set-Cookie"), api.Cookie+"="); found {
		if out.cookie, _, _ = strings.Cut(set, ";"); out.cookie == "" {
			out.cookie = "-"
		}
	}
	if rec.Code >= 400 {
		var p struct{ Code, Error string }
		_ = json.Unmarshal(out.body, &p)
		out.code = p.Code + p.Error
	}
	w.Logf("%s %s: %d %s", method, path, out.status, out.code)
	if out.status >= 500 && out.code != api.CodeBusy {
		w.Fatalf("%s", out.body)
	}
	return out
}

// is holds an answer against the codes that are right, and says whether it is a success.
func (w *world) is(got answer, want ...string) bool {
	w.Helper()
	if !slices.Contains(want, got.code) {
		w.Fatalf("%s, want %v: %s", got.code, want, got.body)
	}
	return got.code == api.CodeOK
}

func read[T any](w *world, got answer) (v T) {
	w.Helper()
	if err := json.Unmarshal(got.body, &v); err != nil {
		w.Fatalf("%v: %s", err, got.body)
	}
	return v
}

// by is a request to the authority's own endpoint with a token, and whether it
// is let in: if it must not be, it is refused for the right reason.
func (w *world) by(t *tok, action string, bare bool, method, path string, in any) (answer, bool) {
	w.Helper()
	if w.lost(t) && !slices.Contains([]string{"renew", "logout", "devices:list"}, action) {
		w.Skip("what is left of it depends on what is known of its user")
	}
	w.Logf("by %s", t)
	spared := action == "renew" || action == "logout" || action == "revoke"
	path_, _, _ := strings.Cut(path, "?")
	c := w.carry(t, method)
	q := question{audience: "macaroond", method: method, path: path_, action: action, own: true, noPolicies: spared}
	if c.cookie {
		q.via = "cookie"
	}
	want, byPolicy := w.verdict(t, q)
	dead := w.late != nil && w.rootEnded(t)
	if w.late != nil && !dead {
		if then, policy := w.heard(w.late, t, q); then[0] != want[0] || policy != byPolicy { // a branch, a policy
			w.Skip("whether it is refused depends on what is heard of late")
		}
	}
	got := w.send(method, path, c.auth, in, c.header...)
	if c.cookie && !dead && got.code != api.CodeOK {
		q.noPolicies = true // what a policy ends it gives back when it is removed
		own, _ := w.verdict(t, q)
		ended := own[0] == api.CodeOK || slices.Contains(own, got.code) // or the act itself finds that its session is over
		gone := ended && slices.Contains([]string{api.CodeInvalid, api.CodeRevoked, api.CodeExpired}, got.code)
		if (got.cookie == "-") != gone {
			w.Fatalf("%s, and the cookie is %q", got.code, got.cookie)
		}
	}
	switch {
	case c.foreign:
		w.is(got, append(w.dead(t), api.CodeCSRF)...)
		return got, false
	case dead && got.code == api.CodeOK:
		w.Fatalf("let in where it is heard late: %s", t)
	case dead:
		return got, false
	case byPolicy:
		want = []string{api.CodeForbidden}
	case want[0] == api.CodeReplayed:
		want = append(want, sooner...)
	case want[0] != api.CodeOK:
	case bare && !t.bare():
		want = []string{api.CodeBareRootRequired}
	case t.isService():
		want = []string{api.CodeForbidden}
	default:
		if nothing := []int{400, 404, 409}; !t.once() || !slices.Contains(nothing, got.status) {
			w.accepted(t)
		}
		return got, true
	}
	w.is(got, want...)
	return got, false
}

// sooner is what else refuses a one-time token before anybody looks whether it was used.
var sooner = []string{api.CodeBareRootRequired, api.CodeForbidden, api.CodeNotFound, api.CodeTooMany, api.CodeSuspended}

// known takes a root that was given out.
func (w *world) known(text, key, user, device string, expires time.Time) *tok {
	w.Helper()
	parsed := must(token.Parse(text))
	t := &tok{text: text, key: key, user: user, device: device, epoch: parsed.UnverifiedIdentifier().Epoch, expires: expires}
	t.root = fmt.Sprintf("%s of %s in %d until %s\n", key, device, t.epoch, expires.Format(time.DateTime))
	caveats := parsed.UnverifiedCaveats()
	if want := fmt.Sprintf("time-before %s|user %s|device %s", expires.UTC().Format(time.RFC3339), t.user, t.device); strings.Join(caveats[:3], "|") != want {
		w.Fatalf("minted %v, want %s", caveats, want)
	}
	if w.epochs[t.epoch] != "signing" {
		w.Fatalf("minted in epoch %d", t.epoch)
	}
	t.caveats = caveats[3:]
	k := w.keys[key]
	if k.latest.Before(expires) {
		k.latest = expires
	}
	w.keys[key] = k
	w.toks = append(w.toks, t)
	return t
}

func (w *world) chance(what string) bool { return rapid.IntRange(0, 2).Draw(w.T, what) == 0 }
