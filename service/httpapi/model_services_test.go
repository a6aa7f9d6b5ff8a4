package httpapi

import (
	"net/url"
	"slices"
	"time"

	"pgregory.net/rapid"

	"macaroond/service/api"
	"macaroond/service/token"
)

// serviceActs are what services do, with their tokens and with users of their own.
var serviceActs = map[string]func(w *world){
	"get a service's token": func(w *world) {
		v := w.anySecret()
		audience := rapid.SampledFrom([]string{"photos", "macaroond", "bank"}).Draw(w.T, "audience")
		got := w.send("POST", "/oauth2/token", basic(v.user, v.secret), url.Values{"grant_type": {"client_credentials"}, "audience": {audience}})
		switch {
		case v.reason != "":
			w.is(got, "invalid_client")
		case audience == "bank":
			w.is(got, "invalid_target")
		default:
			w.is(got, api.CodeOK)
			w.known(read[api.OAuthToken](w, got).AccessToken, v.key, v.user, v.id, w.now.Add(10*time.Minute))
		}
	},
	"mint for a user": func(w *world) {
		subject := rapid.SampledFrom([]string{"41", "42"}).Draw(w.T, "subject")
		in := api.MintIn{Subject: subject, Device: w.deviceIn()}
		for _, v := range w.services {
			w.crowded(w.subject(v.id, subject).id)
		}
		got, owner, ok := w.asService("mint", "POST", "/v1/mint", in)
		if !ok {
			return
		}
		u := w.subject(owner, subject)
		if u.suspended != "" {
			w.is(got, api.CodeSuspended)
			return
		}
		w.is(got, api.CodeOK)
		if g := read[api.Grant](w, got); u.id == "" {
			w.n++
			u = person{n: w.n, used: neverCode, id: g.User.ID, name: w.services[owner].name + ":" + g.User.ID, owner: owner, subject: subject}
			if _, there := w.users[u.id]; there {
				w.Fatalf("somebody else's user: %+v", g.User)
			}
			w.users[u.id] = u
		}
		w.issued(u, in.Device.InstallID, false, got)
	},
	"suspend a service's user": func(w *world) {
		if got, u, ok := w.asOwner("subjects:suspend", "POST", "/suspend"); ok && w.is(got, api.CodeOK) && u.suspended == "" {
			u.suspended = u.owner
			w.users[u.id] = u
			w.endAll(u.id, "", "suspended")
		}
	},
	"resume a service's user": func(w *world) {
		if got, u, ok := w.asOwner("subjects:resume", "POST", "/resume"); ok {
			if u.suspended == "admin" {
				w.is(got, api.CodeForbidden)
				return
			}
			w.is(got, api.CodeOK)
			u.suspended = ""
			w.users[u.id] = u
		}
	},
	"end a service's user's devices": func(w *world) {
		if got, u, ok := w.asOwner("subjects:revoke", "DELETE", "/devices"); ok && w.is(got, api.CodeOK) {
			w.endAll(u.id, "", "service")
		}
	},
}

// secret is one more of a service's.
func (w *world) secret(service, id, secret string) {
	for _, v := range must(w.a.store.Services(w.a.t.Context())) {
		for _, s := range v.Secrets {
			if s.ID == id {
				d := device{id: s.DeviceID, user: service, key: token.RootKeyID(s.RootKeyID).String(), secret: secret, secretID: id}
				w.devices[d.id] = d
				w.secrets = append(w.secrets, d.id)
			}
		}
	}
}

// anySecret is one that there is or was.
func (w *world) anySecret() device {
	if len(w.secrets) == 0 {
		w.Skip("no service yet")
	}
	id := w.secrets[rapid.IntRange(0, len(w.secrets)-1).Draw(w.T, "secret")]
	if w.devices[id].id == "" {
		w.Skip("of a history that is lost")
	}
	return w.devices[id]
}

// asService is a request by a service's secret, or by any token. It says for
// which service it was let in.
func (w *world) asService(action, method, path string, in any) (answer, string, bool) {
	w.Helper()
	if w.chance("by a token") {
		t := w.any("by")
		if w.lost(t) {
			w.Skip("its service or secret may be unknown here")
		}
		w.Logf("by %s", t)
		want, byPolicy := w.verdict(t, question{audience: "macaroond", method: method, path: path, action: action, own: true})
		got := w.send(method, path, bearer(t.text), in)
		switch {
		case !t.isService():
			want = []string{api.CodeForbidden}
		case byPolicy:
			want = []string{api.CodeForbidden}
		case want[0] == api.CodeReplayed:
			want = append(want, sooner...)
		case want[0] == api.CodeOK:
			if len(t.caveats) == 0 || !slices.Contains([]int{400, 403, 404, 409}, got.status) {
				w.accepted(t)
			}
			return got, t.user, true
		}
		w.is(got, want...)
		return got, "", false
	}
	v := w.anySecret()
	got := w.send(method, path, basic(v.user, v.secret), in)
	if v.reason != "" {
		w.is(got, api.CodeBadCredentials)
		return got, "", false
	}
	return got, v.user, true
}

func (w *world) subject(owner, subject string) person {
	for _, u := range w.users {
		if u.owner == owner && u.subject == subject {
			return u
		}
	}
	return person{}
}

// asOwner is asService about one of the service's users.
func (w *world) asOwner(action, method, what string) (answer, person, bool) {
	w.Helper()
	subject := rapid.SampledFrom([]string{"41", "42"}).Draw(w.T, "subject")
	got, owner, ok := w.asService(action, method, "/v1/subjects/"+subject+what, nil)
	u := w.subject(owner, subject)
	if ok && u.id == "" {
		w.is(got, api.CodeNotFound)
		ok = false
	}
	return got, u, ok
}
