package httpapi

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"macaroond/service/api"
)

// accountActs are what users do to their accounts: what a root alone is not enough for, and how another device comes in.
var accountActs = map[string]func(w *world){
	"remove a device": func(w *world) {
		t, target := w.any("by"), w.anyDevice()
		p := w.proof(t)
		got, in := w.by(t, "devices:revoke", false, "DELETE", "/v1/devices/"+target.id, p)
		switch {
		case !in:
		case target.id == t.device:
			w.is(got, api.CodeOK)
			w.endRoot(t, "owner")
		case target.user != t.user && w.proves(t, p) == api.CodeProofRefused && (p.Password != "" || !w.hasCode(w.users[t.user], p.Code)):
			w.is(got, api.CodeNotFound, api.CodeProofRefused)
		case target.user != t.user:
			w.is(got, api.CodeNotFound)
		case w.goesAhead(got, t, "remove", target.id, p, target.reason == "", true):
			w.end(target.id, "owner")
		}
	},
	"remove devices": func(w *world) {
		t := w.any("by")
		p, target, but, query := w.proof(t), "all", "", ""
		if w.chance("but this one") {
			target, but, query = "others", t.device, "?except=current"
		}
		got, in := w.by(t, "devices:revoke", false, "DELETE", "/v1/devices"+query, p)
		others := false
		for id, d := range w.devices {
			others = others || d.user == t.user && id != t.device && d.reason == ""
		}
		if in && w.goesAhead(got, t, "remove", target, p, others, true) {
			w.endAll(t.user, but, "owner")
			if but == "" {
				w.endKey(t.key)
			}
		}
	},
	"new codes": func(w *world) {
		t := w.anyRoot("by")
		p := w.proof(t)
		got, in := w.by(t, "recovery-codes", true, "POST", "/v1/recovery-codes", p)
		switch {
		case !in:
		case w.users[t.user].owner != "":
			w.is(got, api.CodeForbidden, api.CodeProofRefused)
		case w.goesAhead(got, t, "codes", "", p, true, true):
			u := w.users[t.user]
			u.codes = strings.Join(read[api.RecoveryCodes](w, got).RecoveryCodes, "\n") + "\n"
			w.users[t.user] = u
		}
	},
	"change the password": func(w *world) {
		t := w.anyRoot("by")
		p, u := w.proof(t), w.users[t.user]
		in := api.ChangePasswordIn{Current: p.Password, Code: p.Code, Password: w.newPassword(), KeepDevices: w.chance("keep devices")}
		got, may := w.by(t, "password", true, "POST", "/v1/password", in)
		switch {
		case !may:
		case u.owner != "":
			w.is(got, api.CodeForbidden, api.CodeProofRefused)
		case w.goesAhead(got, t, "password", "", p, true, u.password == ""):
			u = w.users[t.user]
			u.password = in.Password
			w.users[t.user] = u
			if !in.KeepDevices {
				w.endAll(t.user, t.device, "password changed")
			}
		}
	},
	"delete oneself": func(w *world) {
		t := w.anyRoot("by")
		p := w.proof(t)
		got, in := w.by(t, "delete", true, "DELETE", "/v1/user", p)
		u := w.users[t.user]
		want := w.unlessLast(u)
		if p == (api.Proof{}) {
			want = api.CodeProofRequired
		} else if code := w.proves(t, p); code != api.CodeOK {
			want = code
		}
		if in && w.is(got, want) {
			w.deleted(u)
		}
	},
	"cancel": func(w *world) {
		t := w.any("by")
		var ids []string
		for _, v := range w.waiting {
			ids = append(ids, v.due.Format(time.DateTime)+v.act+v.target[:min(3, len(v.target))]+"|"+v.id)
		}
		slices.Sort(ids)
		if len(ids) == 0 {
			w.Skip("nothing waits")
		}
		_, id, _ := strings.Cut(rapid.SampledFrom(ids).Draw(w.T, "act"), "|")
		got, in := w.by(t, "delayed:cancel", false, "DELETE", "/v1/delayed/"+id, nil)
		if !in {
			return
		}
		want := api.CodeNotFound
		for key, v := range w.waiting {
			if v.id == id && v.user == t.user && w.now.Before(v.due.Add(7*day)) {
				want = api.CodeOK
				delete(w.waiting, key)
			}
		}
		w.is(got, want)
	},
	"open a link": func(w *world) {
		t := w.anyRoot("by")
		p := w.proof(t)
		got, in := w.by(t, "link", true, "POST", "/v1/links", p)
		switch {
		case !in:
		case w.users[t.user].owner != "":
			w.is(got, api.CodeForbidden, api.CodeProofRefused)
		case w.goesAhead(got, t, "link", "", p, true, true):
			l := read[api.LinkCode](w, got)
			w.links[t.user] = link{id: l.ID, device: t.device, code: l.Code, ends: w.now.Add(5 * time.Minute)}
			w.opened = append(w.opened, opened{t.user, w.links[t.user]})
		}
	},
	"ask for a link": func(w *world) {
		u, l := w.linking()
		in := api.LinkIn{Username: u.name, Code: l.code, Device: api.DeviceIn{Name: "tablet"}}
		got, want := w.send("POST", "/v1/link", "", in), api.CodeOK
		if w.links[u.id].id != l.id || l.claim != "" || !w.now.Before(l.ends) {
			want = api.CodeBadCredentials
		}
		if w.is(got, want) {
			l.claim = read[api.LinkPending](w, got).Claim
			w.claims = append(w.claims, l.claim)
			w.links[u.id] = l
		}
	},
	"approve a link": func(w *world) {
		u, l := w.linking()
		t := w.anyRoot("by")
		if got, in := w.by(t, "link", true, "POST", "/v1/links/"+l.id+"/approve", nil); in {
			want := api.CodeNotFound
			if w.links[u.id].id == l.id && u.id == t.user && t.device == l.device && l.claim != "" && w.now.Before(l.ends) {
				want = api.CodeOK
				l.approved = true
				w.links[u.id] = l
			}
			w.is(got, want)
		}
	},
	"close a link": func(w *world) {
		u, l := w.linking()
		t := w.anyRoot("by")
		if got, in := w.by(t, "link", true, "DELETE", "/v1/links/"+l.id, nil); in {
			want := api.CodeNotFound
			if w.links[u.id].id == l.id && u.id == t.user && w.now.Before(l.ends) {
				want = api.CodeOK
				delete(w.links, u.id)
			}
			w.is(got, want)
		}
	},
	"trade the claim": func(w *world) {
		if len(w.claims) == 0 {
			w.Skip("no claim yet")
		}
		claim := rapid.SampledFrom(w.claims).Draw(w.T, "claim")
		for id := range w.links {
			w.crowded(id)
		}
		got := w.send("POST", "/v1/link/claim", "", api.ClaimIn{Claim: claim})
		for id, l := range w.links {
			switch {
			case l.claim != claim || !w.now.Before(l.ends):
			case !l.approved && got.status == 202:
				return
			case l.approved && w.is(got, api.CodeOK) && got.status == 200:
				w.issued(w.users[id], "", false, got)
				delete(w.links, id)
				return
			}
		}
		w.is(got, api.CodeBadCredentials)
	},
}

func (w *world) newPassword() string {
	w.n++
	return fmt.Sprint("a quite long password ", w.n)
}

// proof is what is sent beside a token, right or wrong, or nothing.
func (w *world) proof(t *tok) (p api.Proof) {
	if t.once() {
		return p // it takes none beside it
	}
	u := w.users[t.user]
	switch kind := rapid.SampledFrom([]string{"", "", "password", "code", "used", "wrong"}).Draw(w.T, "proof"); {
	case kind == "password" && u.password != "":
		p.Password = u.password
	case kind == "code" && u.codes != "":
		p.Code, _, _ = strings.Cut(u.codes, "\n")
	case kind == "used":
		p.Code = u.used
	case kind == "wrong":
		p.Password = "wrong as can be"
	}
	return p
}

// proves judges a proof; a good code is not used up by it.
func (w *world) proves(t *tok, p api.Proof) string {
	if u := w.users[t.user]; p.Password != "" && p.Password != u.password || p.Code != "" && !w.hasCode(u, p.Code) {
		return api.CodeProofRefused
	}
	return api.CodeOK
}

// goesAhead holds the answer to an act that needs a proof (needs: not when it
// does nothing to others), or waits for a day, if it may, and says whether it
// was done.
func (w *world) goesAhead(got answer, t *tok, act, target string, p api.Proof, needs, waits bool) bool {
	w.Helper()
	if w.proves(t, p) != api.CodeOK && (p.Password != "" || needs) {
		w.is(got, api.CodeProofRefused)
		return false
	}
	key := t.device + act + target
	d := w.devices[t.device]
	was, there := w.waiting[key]
	switch {
	case !needs:
	case p.Code != "":
		w.useCode(t.user, p.Code)
	case p.Password != "":
	case !waits: // neither has a login a moment ago been enough
		w.is(got, api.CodeProofRequired)
		return false
	case !d.proved.IsZero() && !w.now.After(d.proved.Add(10*time.Minute)):
	case there && w.now.Before(was.due):
		w.isWaiting(got, was)
		return false
	case there && w.now.Before(was.due.Add(7*day)):
	default:
		n := 0
		for k, v := range w.waiting {
			if v.user == t.user && w.now.Before(v.due.Add(7*day)) && k != key {
				n++
			}
		}
		if n >= 10 {
			w.is(got, api.CodeTooMany)
			return false
		}
		v := delayed{id: read[api.DelayedOut](w, got).Delayed.ID, user: t.user, device: t.device, act: act, target: target, due: w.now.Add(day)}
		w.waiting[key] = v
		w.isWaiting(got, v)
		return false
	}
	if needs {
		delete(w.waiting, key)
	}
	w.is(got, api.CodeOK)
	if got.status == 202 {
		w.Fatalf("it waits: %s", got.body)
	}
	return true
}

func (w *world) isWaiting(got answer, want delayed) {
	w.Helper()
	if v := read[api.DelayedOut](w, got).Delayed; got.status != 202 || v.ID != want.id || !v.DueAt.Equal(want.due) {
		w.Fatalf("%d %s, want %+v", got.status, got.body, want)
	}
}

// anyDevice is one that any token was of.
func (w *world) anyDevice() device {
	t := w.any("device")
	d := w.devices[t.device]
	if d.id == "" || d.secret != "" {
		w.Skip("it is not listed")
	}
	return d
}

// linking is a link that there is or was, and whose.
func (w *world) linking() (person, link) {
	if len(w.opened) == 0 {
		w.Skip("no link yet")
	}
	l := w.opened[rapid.IntRange(0, len(w.opened)-1).Draw(w.T, "link")]
	for _, u := range w.users {
		if u.id == l.user {
			if now := w.links[u.id]; now.id == l.link.id {
				return u, now
			}
			return u, l.link
		}
	}
	w.Skip("nobody's any more")
	panic("not reached")
}
