package httpapi

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"macaroond/service/api"
	"macaroond/service/token"
)

// tokenActs are what is done to get tokens, use them and end them.
var tokenActs = map[string]func(w *world){
	"sign up": func(w *world) {
		w.n++
		in := api.SignupIn{Username: fmt.Sprint("user ", w.n), Device: w.deviceIn()}
		if w.chance("with a password") {
			in.Password = password(in.Username)
		}
		if w.chance("in a browser") {
			in.Mode = "cookie"
		}
		got := w.send("POST", "/v1/signup", "", in)
		w.is(got, api.CodeOK)
		g := read[api.Grant](w, got)
		w.users[g.User.ID] = person{n: w.n, used: neverCode, id: g.User.ID, name: in.Username, password: in.Password, codes: strings.Join(g.RecoveryCodes, "\n") + "\n"}
		w.into(w.issued(w.users[g.User.ID], in.Device.InstallID, in.Password != "", got), in.Mode != "")
	},
	"log in": func(w *world) {
		u, in := w.someone(), api.LoginIn{Device: w.deviceIn(), Password: "wrong as can be"}
		if w.chance("with many devices") {
			for _, v := range w.people() {
				if v.password != "" && v.suspended == "" && len(w.live(v.id)) >= len(w.live(u.id)) {
					u = v
				}
			}
		}
		if in.Username = u.name; u.password != "" && !w.chance("wrongly") {
			in.Password = u.password
		}
		if w.chance("in a browser") {
			in.Mode = "cookie"
		}
		w.crowded(u.id)
		got := w.send("POST", "/v1/login", "", in)
		switch {
		case u.password != in.Password:
			w.is(got, api.CodeBadCredentials)
		case u.suspended != "":
			w.is(got, api.CodeSuspended)
		default:
			w.is(got, api.CodeOK)
			w.into(w.issued(u, in.Device.InstallID, true, got), in.Mode != "")
		}
	},
	"recover": func(w *world) {
		u := w.someone()
		in := api.RecoverIn{Username: u.name, Device: w.deviceIn(), Code: u.used}
		if u.codes != "" && !w.chance("wrongly") {
			in.Code, _, _ = strings.Cut(u.codes, "\n")
		}
		got := w.send("POST", "/v1/recover", "", in)
		switch {
		case !w.hasCode(u, in.Code):
			w.is(got, api.CodeBadCredentials)
		case u.suspended != "":
			w.is(got, api.CodeSuspended)
		default:
			w.is(got, api.CodeOK)
			fresh := read[api.Grant](w, got).Device.ID
			for id, d := range w.devices {
				if d.user == u.id && id != fresh {
					w.end(id, "recovery")
				}
			}
			w.issued(u, in.Device.InstallID, true, got)
			w.useCode(u.id, in.Code)
			w.is(w.send("POST", "/v1/recover", "", in), api.CodeBadCredentials) // it was good once
		}
	},
	"renew": func(w *world) {
		t := w.anyRoot("root")
		if w.late == nil && w.chance("once more") {
			t = w.oneOf("root", func(t *tok) bool { return t.bare() && w.heirs[t.root] != nil })
		}
		if got, in := w.by(t, "renew", true, "POST", "/v1/renew", nil); in {
			code, again := w.renewal(t)
			switch w.is(got, code); {
			case code == api.CodeRevoked:
				w.end(t.device, "theft")
			case code == api.CodeOK:
				g := w.granted(got)
				heir := w.succeeds(t, again, g.Token)
				heir.csrf = g.CSRFToken
				w.into(heir, t.inCookie())
			}
		}
	},
	"refresh": func(w *world) { // the same in OAuth's words
		t := w.anyRoot("root")
		w.Logf("of %s", t)
		got := w.send("POST", "/oauth2/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.text}, "audience": {"photos"}})
		want, _ := w.verdict(t, question{audience: "macaroond", action: "renew", own: true, noPolicies: true})
		if want[0] != api.CodeOK || !t.bare() {
			w.is(got, "invalid_grant")
			return
		}
		w.accepted(t)
		code, again := w.renewal(t)
		if code == api.CodeRevoked {
			w.is(got, "invalid_grant")
			w.end(t.device, "theft")
			return
		}
		w.is(got, api.CodeOK)
		out := read[api.OAuthToken](w, got)
		from := t
		if code == api.CodeOK {
			from = w.succeeds(t, again, out.RefreshToken)
		} else if out.RefreshToken != "" {
			w.Fatalf("a successor where the session is over")
		}
		access := *from
		access.text, access.caveats = out.AccessToken, must(token.Parse(out.AccessToken)).UnverifiedCaveats()[3:]
		w.toks = append(w.toks, &access)
	},
	"narrow": func(w *world) {
		t := w.any("from")
		after := func(d time.Duration) string { return w.now.Add(d).UTC().Format(time.RFC3339) }
		hour, once := "time-before "+after(time.Hour), fmt.Sprint("once ", len(w.toks))
		with := rapid.SampledFrom([][]string{
			{"audience photos"},
			{"audience photos", hour},
			{"audience photos", hour, once},
			{"audience macaroond"},
			{"audience macaroond", hour, once},
			{"method GET"},
			{"path /v1/**"},
			{"path /photos/**"},
			{hour},
			{"time-before " + after(48*time.Hour)},
			{"time-after " + after(time.Minute)},
			{once},
			{"note lent"},
			{"allow devices:list"},
			{"x-own 1"},
			{"user " + t.user},
			{"user usr_0000000000000000"},
		}).Draw(w.T, "with")
		w.narrowed(t, with...)
	},
	"verify": func(w *world) {
		t := w.any("token")
		in, q := api.VerifyIn{Token: t.text, Request: api.Request{Audience: "photos", Method: "GET", Path: "/photos/1"}}, question{audience: "photos", method: "GET", path: "/photos/1"}
		if t.inCookie() && !w.chance("in the header") {
			in.Request.Via, q.via, q.own = "cookie", "cookie", true
		}
		want, _ := w.verdict(t, q)
		d := read[api.Decision](w, w.send("POST", "/v1/verify", w.photos, in))
		if !slices.Contains(want, d.Code) {
			w.Fatalf("%s, want %v: %s", d.Code, want, t)
		}
		if d.Allowed {
			w.accepted(t)
		}
	},
	"gateway": func(w *world) {
		t := w.any("token")
		c, q := w.carry(t, "GET"), question{audience: "photos", method: "GET", path: "/photos/1"}
		if c.cookie {
			q.via, q.own = "cookie", true
		}
		got := w.send("GET", "/authz/request/photos/1", c.auth, nil, c.header...)
		want, _ := w.verdict(t, q)
		if w.is(got, want...) {
			w.accepted(t)
		}
	},
	"introspect": func(w *world) {
		t := w.any("token")
		got := w.send("POST", "/oauth2/introspect", w.photos, url.Values{"token": {t.text}, "caveats": {"enforce"}, "policies": {"enforce"}})
		want, _ := w.verdict(t, question{audience: "photos", noRequest: true, noPolicies: true})
		w.is(got, api.CodeOK)
		if out := read[api.Introspection](w, got); out.Active != (want[0] == api.CodeOK) || out.Active && (out.Sub != t.user || out.Device != t.device) {
			w.Fatalf("%+v, want %v: %s", out, want, t)
		}
		if want[0] == api.CodeOK {
			w.saw(t)
		}
	},
	"ask the edge":     func(w *world) { w.askEdge(w.any("token")) },
	"the edge follows": func(w *world) { w.agrees() },
	"revoke": func(w *world) {
		defer w.atTheEdge()()
		t := w.any("token")
		w.Logf("of %s", t)
		got := w.send("POST", "/v1/revoke", "", api.RevokeIn{Token: t.text})
		epochs := w.epochs
		if w.late != nil {
			epochs = w.late.epochs
		}
		switch state := epochs[t.epoch]; {
		case state == "": // to whoever has not heard of it, its first tokens are none
			w.is(got, api.CodeInvalid)
			return
		case state == "retired", w.forgotten(t):
			w.is(got, api.CodeInvalid, api.CodeOK)
			return
		}
		w.is(got, api.CodeOK)
		stored := w.now.Before(t.ends().Add(10 * time.Minute))
		switch {
		case !stored:
		case t.bare():
			w.endRoot(t, "token")
		default:
			w.ended[t.chain(len(t.caveats))] = true
		}
		if w.dead(t) != nil && (stored || w.late == nil) {
			w.check(t)
		}
	},
	"revoke by caveats": func(w *world) {
		branch := w.any("branch")
		t, roots := w.anyRoot("by"), 0
		for _, v := range w.toks {
			if v.bare() && v.key == branch.key && w.dead(v) == nil {
				t, roots = v, roots+1
			}
		}
		if branch.bare() || roots == 0 || roots > 6 || !w.keys[branch.key].listed.IsZero() {
			w.Skip("the authority may not know all roots that it could be under")
		}
		if got, in := w.by(t, "revoke", true, "POST", "/v1/revoke", api.RevokeIn{Caveats: &branch.caveats}); in && w.is(got, api.CodeOK) {
			for _, v := range w.toks {
				if same := *v; v.bare() && v.key == branch.key {
					if same.caveats = branch.caveats; w.now.Before(same.ends().Add(10 * time.Minute)) {
						w.ended[same.chain(len(same.caveats))] = true
					}
				}
			}
		}
	},
	"log out": func(w *world) {
		t := w.anyRoot("root")
		if got, in := w.by(t, "logout", true, "POST", "/v1/logout", nil); in {
			w.is(got, api.CodeOK)
			w.endRoot(t, "logout")
		}
	},
	"list": func(w *world) {
		t := w.any("token")
		got, in := w.by(t, "devices:list", false, "GET", "/v1/devices", nil)
		if !in {
			return
		}
		w.is(got, api.CodeOK)
		want := map[string]string{}
		for id, d := range w.devices {
			if d.user == t.user {
				want[id] = fmt.Sprint(d.key, d.reason, w.keys[d.key].latest.Unix(), id == t.device)
			}
		}
		for _, d := range read[api.Devices](w, got).Devices {
			if got := fmt.Sprint(d.RootKeyID, d.RevokedReason, d.ExpiresAt.Unix(), d.Current); want[d.ID] != got {
				w.Fatalf("device %s is listed as %s, want %s", d.ID, got, want[d.ID])
			}
			delete(want, d.ID)
		}
		if len(want) != 0 {
			w.Fatalf("not listed: %v", want)
		}
	},
}

// narrowed adds caveats to a token, offline.
func (w *world) narrowed(t *tok, with ...string) {
	if len(t.caveats) > 5 {
		w.Skip("it is narrow enough")
	}
	d := *t
	d.text, d.caveats = narrow(t.text, with...), slices.Concat(t.caveats, with)
	w.toks = append(w.toks, &d)
}

const neverCode = "0000-0000-0000-0000" // nobody's

func (w *world) deviceIn() api.DeviceIn {
	return api.DeviceIn{Name: "phone", InstallID: rapid.SampledFrom([]string{"", "", "one", "two"}).Draw(w.T, "install")}
}

// people are the users in the order in which they came.
func (w *world) people() []person {
	return slices.SortedFunc(maps.Values(w.users), func(a, b person) int { return a.n - b.n })
}

func (w *world) someone() person {
	all := w.people()
	return all[rapid.IntRange(0, len(all)-1).Draw(w.T, "user")]
}

func (w *world) hasCode(u person, code string) bool { return strings.Contains(u.codes, code+"\n") }

func (w *world) useCode(user, code string) {
	u := w.users[user]
	u.codes, u.used = strings.Replace(u.codes, code+"\n", "", 1), code
	w.users[user] = u
}

// issued is a login of whatever kind.
func (w *world) issued(u person, install string, proved bool, got answer) *tok {
	w.Helper()
	g := w.granted(got)
	if g.User.ID != u.id || g.User.Username != u.name {
		w.Fatalf("a grant for %+v, want %+v", g.User, u)
	}
	d := device{id: g.Device.ID, user: u.id, install: install, key: g.RootKeyID, started: w.now, seen: w.now}
	if proved {
		d.proved = w.now
	}
	same := ""
	for _, v := range w.devices {
		if v.user == u.id && v.install == install && install != "" && v.reason == "" {
			same = v.id
			w.endKey(v.key)
			w.forgetAsked(v.id)
		}
	}
	if _, there := w.devices[d.id]; same != "" && d.id != same || same == "" && there {
		w.Fatalf("device %s, want %q", d.id, same)
	}
	w.devices[d.id] = d
	w.madeRoom(u.id, d.id)
	t := w.known(g.Token, d.key, u.id, d.id, w.now.Add(rootTTL))
	t.csrf = g.CSRFToken
	return t
}

// succeeds holds the successor that a root was given.
func (w *world) succeeds(t, again *tok, text string) *tok {
	w.Helper()
	if again != nil {
		if text != again.text {
			w.Fatalf("another successor than before, of %s", t)
		}
		return again
	}
	if was := w.keys[t.key].latest; t.expires.After(was) { // of a history that is lost: somebody renewed the one before it
		for _, v := range w.toks {
			if v.bare() && v.key == t.key && v.expires.Equal(was) {
				w.heirs[v.root] = t
				if w.seen[v.root].IsZero() {
					w.seen[v.root] = w.now
				}
			}
		}
	}
	heir := w.known(text, t.key, t.user, t.device, w.successorEnds(t))
	w.heirs[t.root] = heir
	return heir
}
