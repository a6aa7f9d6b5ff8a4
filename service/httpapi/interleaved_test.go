package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
)

// What a request found out before the transaction that acts on it may have ended
// by then. So each act is stopped before each call of the store that it makes, and
// something that ends what it rests on happens there, at another process of the
// database. What comes out must be what one after the other gives, in some order.
func TestWhatEndsMeanwhile(t *testing.T) {
	s := newStage(t)
	const acting, ending = 0, 1
	var running sync.WaitGroup
	room := make(chan bool, 32)
	for what, act := range ownActs {
		for how, end := range ownEndings {
			room <- true
			running.Go(func() {
				defer func() { <-room }()
				one := s.household()
				s.play(one, acting, act, nil)
				s.play(one, ending, end, nil)
				first := s.outcome(one)
				other := s.household()
				s.play(other, ending, end, nil)
				s.play(other, acting, act, nil)
				last := s.outcome(other)
				for stop, met := 1, true; met; stop++ {
					h, n := s.household(), 0
					s.play(h, acting, act, func() {
						if n++; n == stop {
							s.play(h, ending, end, nil)
						}
					})
					if met = n >= stop; !met {
						if stop == 1 {
							t.Errorf("%s calls nothing that it could be stopped before", what)
						}
						continue
					}
					if got := s.outcome(h); got != first && got != last {
						t.Errorf("%s, and %s before call %d:\n%s\nthe act first:\n%s\nit last:\n%s", what, how, stop, got, first, last)
					}
				}
			})
		}
	}
	running.Wait()
}

// stepped is a store that calls what the context brings before each of the calls
// that acts of users make.
type stepped struct{ storage.Store }

type stepKey struct{}

func (s *stepped) at(ctx context.Context) storage.Store {
	if f, _ := ctx.Value(stepKey{}).(func()); f != nil {
		f()
	}
	return s.Store
}

func (s *stepped) User(ctx context.Context, id string) (storage.User, error) {
	return s.at(ctx).User(ctx, id)
}

func (s *stepped) UserByNameKey(ctx context.Context, key string) (storage.User, error) {
	return s.at(ctx).UserByNameKey(ctx, key)
}

func (s *stepped) OwnInstall(ctx context.Context, key, install string) (bool, error) {
	return s.at(ctx).OwnInstall(ctx, key, install)
}

func (s *stepped) Subject(ctx context.Context, owner, subject string) (storage.User, error) {
	return s.at(ctx).Subject(ctx, owner, subject)
}

func (s *stepped) Link(ctx context.Context, user string, now time.Time) (storage.Link, error) {
	return s.at(ctx).Link(ctx, user, now)
}

func (s *stepped) LinkByID(ctx context.Context, id string, now time.Time) (storage.Link, error) {
	return s.at(ctx).LinkByID(ctx, id, now)
}

func (s *stepped) Roots(ctx context.Context, key [16]byte, now time.Time) ([]storage.Root, bool, error) {
	return s.at(ctx).Roots(ctx, key, now)
}

func (s *stepped) IssueDevice(ctx context.Context, in storage.IssueDevice, ev storage.Event) (storage.Device, []storage.Revocation, error) {
	return s.at(ctx).IssueDevice(ctx, in, ev)
}

func (s *stepped) RenewDevice(ctx context.Context, in storage.RenewDevice, theft string, ev storage.Event) (storage.Renewed, error) {
	return s.at(ctx).RenewDevice(ctx, in, theft, ev)
}

func (s *stepped) RemoveDevices(ctx context.Context, in storage.RevokeDevices, act storage.Act, ev storage.Event) ([]storage.Revocation, *storage.Delayed, error) {
	return s.at(ctx).RemoveDevices(ctx, in, act, ev)
}

func (s *stepped) RevokeDevices(ctx context.Context, in storage.RevokeDevices, ev storage.Event) ([]storage.Revocation, error) {
	return s.at(ctx).RevokeDevices(ctx, in, ev)
}

func (s *stepped) RevokeRootKey(ctx context.Context, key [16]byte, expires time.Time, ev storage.Event) ([]storage.Revocation, error) {
	return s.at(ctx).RevokeRootKey(ctx, key, expires, ev)
}

func (s *stepped) RevokeBranch(ctx context.Context, in storage.RevokeBranch, ev storage.Event) (storage.Revocation, bool, error) {
	return s.at(ctx).RevokeBranch(ctx, in, ev)
}

func (s *stepped) ChangePassword(ctx context.Context, in storage.ChangePassword, act storage.Act, ev storage.Event) ([]storage.Revocation, *storage.Delayed, error) {
	return s.at(ctx).ChangePassword(ctx, in, act, ev)
}

func (s *stepped) ReplaceRecoveryCodes(ctx context.Context, user string, codes [][32]byte, act *storage.Act, ev storage.Event) (*storage.Delayed, error) {
	return s.at(ctx).ReplaceRecoveryCodes(ctx, user, codes, act, ev)
}

func (s *stepped) DeleteUser(ctx context.Context, in storage.DeleteUser, ev storage.Event) ([]storage.Revocation, error) {
	return s.at(ctx).DeleteUser(ctx, in, ev)
}

func (s *stepped) OpenLink(ctx context.Context, l storage.Link, act storage.Act, ev storage.Event) (*storage.Delayed, error) {
	return s.at(ctx).OpenLink(ctx, l, act, ev)
}

func (s *stepped) ApproveLink(ctx context.Context, user, device, id string, ev storage.Event) error {
	return s.at(ctx).ApproveLink(ctx, user, device, id, ev)
}

// stage is two processes of one database: the one that acts, and the one where
// the end comes.
type stage struct {
	*authority
	services [2]*service.Service
	handlers [2]http.Handler
	users    atomic.Int64
}

func newStage(t *testing.T) *stage {
	a := start(t)
	c := a.made.service
	c.Store = &stepped{a.store}
	svc := must(service.New(t.Context(), c))
	return &stage{
		authority: a, services: [2]*service.Service{svc, a.svc},
		handlers: [2]http.Handler{New(Config{Service: svc, Log: c.Log, Requests: NewRequests()}), *a.handler.Load()},
	}
}

// household is a user of one trial: two devices, ten codes, and a link that the
// phone has approved.
type household struct {
	name          string
	phone, tablet api.Grant
	codes         []string
	link          api.LinkCode
	claim         string
	came          [2]api.Grant // of what was done in either process: a root, or codes
}

const (
	phoneInstall = "3f9c"
	magpies      = "several loud magpies" // the act's password
)

func (h *household) proof() string { return fmt.Sprintf(`{"password":%q}`, password(h.name)) }

func (h *household) login(install string) ask {
	return ask{method: "POST", path: "/v1/login", body: fmt.Sprintf(`{"username":%q,"password":%q,"device":{"name":"phone","install_id":%q}}`, h.name, password(h.name), install)}
}

func (h *household) recover(code, install string) ask {
	return ask{method: "POST", path: "/v1/recover", body: fmt.Sprintf(`{"username":%q,"code":%q,"device":{"name":"phone","install_id":%q}}`, h.name, code, install)}
}

// by is a request of a device of theirs.
func by(g api.Grant, method, path, body string) ask {
	return ask{method: method, path: path, auth: bearer(g.Token), body: body}
}

// ownActs are what the phone does, and what is done to come in beside it.
var ownActs = map[string]func(h *household) ask{
	"a login of the install": func(h *household) ask { return h.login(phoneInstall) },
	"recovering":             func(h *household) ask { return h.recover(h.codes[0], phoneInstall) },
	"a claim traded": func(h *household) ask {
		return ask{method: "POST", path: "/v1/link/claim", body: fmt.Sprintf(`{"claim":%q}`, h.claim)}
	},
	"a renewal":           func(h *household) ask { return by(h.phone, "POST", "/v1/renew", "") },
	"logging out":         func(h *household) ask { return by(h.phone, "POST", "/v1/logout", "") },
	"removing itself":     func(h *household) ask { return by(h.phone, "DELETE", "/v1/devices/"+h.phone.Device.ID, "") },
	"removing the tablet": func(h *household) ask { return by(h.phone, "DELETE", "/v1/devices/"+h.tablet.Device.ID, h.proof()) },
	"removing all others": func(h *household) ask { return by(h.phone, "DELETE", "/v1/devices?except=current", h.proof()) },
	"removing all":        func(h *household) ask { return by(h.phone, "DELETE", "/v1/devices", h.proof()) },
	"a new password": func(h *household) ask {
		return by(h.phone, "POST", "/v1/password", fmt.Sprintf(`{"password":%q,"current":%q}`, magpies, password(h.name)))
	},
	"a new password for a code": func(h *household) ask {
		return by(h.phone, "POST", "/v1/password", fmt.Sprintf(`{"password":%q,"code":%q}`, magpies, h.codes[0]))
	},
	"new codes":        func(h *household) ask { return by(h.phone, "POST", "/v1/recovery-codes", h.proof()) },
	"another link":     func(h *household) ask { return by(h.phone, "POST", "/v1/links", h.proof()) },
	"approving":        func(h *household) ask { return by(h.phone, "POST", "/v1/links/"+h.link.ID+"/approve", "") },
	"deleting oneself": func(h *household) ask { return by(h.phone, "DELETE", "/v1/user", h.proof()) },
}

// ownEndings are what ends the phone, or what its acts rest on.
var ownEndings = map[string]func(h *household) ask{
	"a login of its install": func(h *household) ask { return h.login(phoneInstall) },
	"all others' removal":    func(h *household) ask { return by(h.tablet, "DELETE", "/v1/devices?except=current", h.proof()) },
	"another password": func(h *household) ask {
		return by(h.tablet, "POST", "/v1/password", fmt.Sprintf(`{"password":"twelve quiet herons","current":%q}`, password(h.name)))
	},
	"a recovery":          func(h *household) ask { return h.recover(h.codes[1], "third") },
	"the user's deletion": func(h *household) ask { return by(h.tablet, "DELETE", "/v1/user", h.proof()) },
}

func (s *stage) household() *household {
	h := &household{name: fmt.Sprint("user ", s.users.Add(1))}
	must(s.svc.AddUser(s.t.Context(), api.UserIn{Username: h.name, Password: password(h.name)}, service.ActorOperator, service.Source{}))
	h.tablet = into[api.Grant](s.asked(1, nil, h.login("tablet")), 200)
	h.phone = into[api.Grant](s.asked(1, nil, h.login(phoneInstall)), 200)
	h.codes = into[api.RecoveryCodes](s.asked(1, nil, by(h.phone, "POST", "/v1/recovery-codes", "")), 201).RecoveryCodes
	h.link = into[api.LinkCode](s.asked(1, nil, by(h.phone, "POST", "/v1/links", "")), 201)
	h.claim = into[api.LinkPending](s.asked(1, nil, ask{method: "POST", path: "/v1/link", body: fmt.Sprintf(`{"username":%q,"code":%q,"device":{"name":"new"}}`, h.name, h.link.Code)}), 202).Claim
	s.asked(1, nil, by(h.phone, "POST", "/v1/links/"+h.link.ID+"/approve", "")).want(204, "")
	return h
}

// asked is a request to one of the processes, which calls step before each call
// of the store.
func (s *stage) asked(process int, step func(), q ask) *reply {
	ctx := context.WithValue(s.t.Context(), stepKey{}, step)
	r := httptest.NewRequestWithContext(ctx, q.method, "http://"+s.addr+q.path, strings.NewReader(q.body))
	if q.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if q.auth != "" {
		r.Header.Set("Authorization", q.auth)
	}
	for i := 0; i+1 < len(q.header); i += 2 {
		r.Header.Set(q.header[i], q.header[i+1])
	}
	w := httptest.NewRecorder()
	s.handlers[process].ServeHTTP(w, r)
	out := w.Result()
	out.Request = r
	return &reply{s.t, out, w.Body.Bytes()}
}

// play does something at a process that knows all that was before.
func (s *stage) play(h *household, process int, do func(*household) ask, step func()) {
	must(0, s.services[process].CatchUp(s.t.Context()))
	if r := s.asked(process, step, do(h)); r.StatusCode < 300 {
		_ = json.Unmarshal(r.body, &h.came[process]) // or it is something else, or nothing
	}
}

// outcome is what counts afterwards: who is alive, what waits, and which password
// and codes are good. To find the latter out uses them up.
func (s *stage) outcome(h *household) string {
	var out []string
	say := func(what string, v any) { out = append(out, fmt.Sprint(what, ": ", v)) }
	for i, process := range s.services {
		must(0, process.CatchUp(s.t.Context()))
		for who, g := range map[string]api.Grant{"the phone": h.phone, "the tablet": h.tablet, "who came of the act": h.came[0], "who came of the end": h.came[1]} {
			if g.Token != "" {
				say(fmt.Sprint(who, " at process ", i), s.asked(i, nil, by(g, "GET", "/v1/devices", "")).StatusCode)
			}
		}
	}
	id := h.phone.User.ID
	for _, d := range must(s.store.Devices(s.t.Context(), id)) {
		say("device "+d.InstallID, d.RevokedAt.IsZero())
	}
	_, err := s.store.Link(s.t.Context(), id, s.clock.Now())
	say("a link", err)
	say("codes", must(s.store.RecoveryCodes(s.t.Context(), id)))
	login := func(password string) ask {
		return ask{method: "POST", path: "/v1/login", body: fmt.Sprintf(`{"username":%q,"password":%q,"device":{}}`, h.name, password)}
	}
	say("the password", s.asked(1, nil, login(password(h.name))).StatusCode)
	say("the act's password", s.asked(1, nil, login(magpies)).StatusCode)
	say("a code", s.asked(1, nil, h.recover(h.codes[2], "third")).StatusCode)
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// A page whose session is found to have ended only by the act's own transaction
// is told so as by any other verdict: the 401 takes its cookie away. A token in
// the body that is none says nothing of the session.
func TestCookieEndsMeanwhile(t *testing.T) {
	s := newStage(t)
	s.user("alice")
	login := ask{method: "POST", path: "/v1/login", body: fmt.Sprintf(`{"username":"alice","password":%q,"device":{"name":"browser"},"mode":"cookie"}`, password("alice"))}
	opened := func() tab {
		r := s.asked(1, nil, login)
		must(0, s.services[0].CatchUp(t.Context()))
		return tab{into[api.Grant](r, 200), setCookie(r)}
	}
	proof := fmt.Sprintf(`{"password":%q}`, password("alice"))
	for _, act := range []ask{
		{method: "POST", path: "/v1/renew"},
		{method: "POST", path: "/v1/recovery-codes", body: proof},
		{method: "POST", path: "/v1/links", body: proof},
		{method: "POST", path: "/v1/password", body: fmt.Sprintf(`{"password":%q,"current":%q}`, magpies, password("alice"))},
		{method: "DELETE", path: "/v1/devices?except=current", body: proof},
		{method: "DELETE", path: "/v1/user", body: proof},
	} {
		page, ended := opened(), false
		act.header = s.own(page)
		r := s.asked(0, func() {
			if !ended {
				ended = true
				s.asked(1, nil, ask{method: "POST", path: "/v1/logout", header: s.own(page)}).want(204, "")
			}
		}, act)
		if r.want(401, "revoked"); setCookie(r) != "-" {
			t.Errorf("%s %s: the cookie becomes %q", act.method, act.path, setCookie(r))
		}
	}
	page := opened()
	r := s.asked(0, nil, ask{method: "POST", path: "/v1/revoke", body: `{"token":"m1.x"}`, header: s.own(page)})
	if r.want(400, "bad_request"); setCookie(r) != "" {
		t.Errorf("a token that is none: the cookie becomes %q", setCookie(r))
	}
}

// What ends every token ends the service's, too, that asks for a root at that
// moment: nothing is minted into the next epoch for it.
func TestEpochEndsWhileAServiceMints(t *testing.T) {
	s := newStage(t)
	_, secret := s.credential(api.ServiceIn{Name: "backend", Calls: []string{"macaroond"}, Rights: []string{"mint"}})
	must(0, s.services[0].CatchUp(t.Context()))
	q := ask{method: "POST", path: "/v1/mint", auth: bearer(s.ownToken(secret, "macaroond")), body: `{"subject":"42","device":{}}`}
	s.asked(0, nil, q).want(200, "")
	met := false
	s.asked(0, func() {
		if !met {
			met = true
			must(s.svc.RetireAllKeys(t.Context(), service.ActorOperator, service.Source{}))
		}
	}, q).want(401, "invalid")
	q.auth = secret
	s.asked(0, nil, q).want(200, "") // the secret is good still
}

// A login is tried again in the epoch that another process began meanwhile. One
// that never finds the epoch that signs may come again: nothing is wrong.
func TestRotatedAgainAndAgain(t *testing.T) {
	s := newStage(t)
	s.user("alice")
	login := ask{method: "POST", path: "/v1/login", body: fmt.Sprintf(`{"username":"alice","password":%q,"device":{}}`, password("alice"))}
	for rotations, want := range []int{200, 200, 503} {
		calls := 0
		r := s.asked(0, func() {
			// The first call finds the user; each of the others is an attempt.
			if calls++; calls > 1 && calls <= 1+rotations {
				must(s.svc.RotateKeys(t.Context(), service.ActorOperator, service.Source{}))
			}
		}, login)
		if want == 200 {
			r.want(200, "")
		} else if r.want(503, "busy"); r.Header.Get("Retry-After") != "1" {
			t.Errorf("come again after %q", r.Header.Get("Retry-After"))
		}
	}
}

// adding is a store beside which something happens once a service or a secret is
// added, before whoever added it goes on.
type adding struct {
	storage.Store
	added func()
}

func (s *adding) AddService(ctx context.Context, v storage.Service, ev storage.Event) error {
	defer s.added()
	return s.Store.AddService(ctx, v, ev)
}

func (s *adding) AddServiceSecret(ctx context.Context, in storage.AddServiceSecret, ev storage.Event) error {
	defer s.added()
	return s.Store.AddServiceSecret(ctx, in, ev)
}

// A credential that another process removes as soon as it is added, and that the
// follower knows to be removed before this one goes on, is not good here.
func TestAddedAndRemovedAtOnce(t *testing.T) {
	a := start(t)
	there := a.svc
	store := &adding{a.store, func() {}}
	a.made.service.Store = store
	a.svc = must(service.New(t.Context(), a.made.service))
	a.made.http.Service = a.svc
	handler := New(a.made.http)
	a.handler.Store(&handler)
	ctx, by, src := t.Context(), service.ActorOperator, service.Source{}
	asks := func(id, secret string) *reply {
		return a.do(ask{method: "GET", path: "/v1/revocations", auth: basic(id, secret)})
	}
	bank, _ := a.service("bank", "photos")
	store.added = func() {
		for _, v := range must(a.store.Services(ctx)) {
			if v.Name == "shop" {
				must(0, there.RemoveService(ctx, v.ID, by, src))
			}
			for _, secret := range v.Secrets {
				if v.Name == "bank" && secret.ID != bank.SecretID {
					must(0, there.RemoveServiceSecret(ctx, v.ID, secret.ID, by, src))
				}
			}
		}
		a.pass(0)
	}
	shop, _ := a.service("shop", "photos")
	asks(shop.ID, shop.Secret).want(401, "bad_credentials")
	second := must(a.svc.AddServiceSecret(ctx, bank.ID, by, src))
	asks(bank.ID, second.Secret).want(401, "bad_credentials")
	asks(bank.ID, bank.Secret).want(200, "")
}
