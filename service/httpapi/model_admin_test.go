package httpapi

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"pgregory.net/rapid"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// adminActs are what administrators and operators do, and time.
var adminActs = map[string]func(w *world){
	"suspend": func(w *world) {
		u := w.someone()
		got, in := w.administer("POST", "/v1/admin/users/"+u.id+"/suspend", nil)
		if in && w.is(got, w.unlessLast(u)) {
			u.suspended = "admin"
			w.users[u.id] = u
			w.endAll(u.id, "", "suspended")
		}
	},
	"resume": func(w *world) {
		u := w.someone()
		if got, in := w.administer("POST", "/v1/admin/users/"+u.id+"/resume", nil); in && w.is(got, api.CodeOK) {
			u.suspended = ""
			w.users[u.id] = u
		}
	},
	"delete a user": func(w *world) {
		u := w.someone()
		got, in := w.administer("DELETE", "/v1/admin/users/"+u.id, nil)
		if in && w.is(got, w.unlessLast(u)) {
			w.deleted(u)
		}
	},
	"set a password": func(w *world) {
		u, to := w.someone(), w.newPassword()
		got, in := w.administer("POST", "/v1/admin/users/"+u.id+"/password", api.PasswordIn{Password: to})
		want := api.CodeOK
		if u.owner != "" {
			want = api.CodeForbidden
		}
		if in && w.is(got, want) {
			u.password = to
			w.users[u.id] = u
			w.endAll(u.id, "", "password changed")
		}
	},
	"give or take the role": func(w *world) {
		u, role := w.someone(), rapid.SampledFrom([]string{"", "admin"}).Draw(w.T, "role")
		got, in := w.administer("PATCH", "/v1/admin/users/"+u.id, api.RoleIn{Role: &role})
		want := api.CodeOK
		switch {
		case u.admin == (role != ""):
		case u.owner != "":
			want = api.CodeForbidden
		case role == "":
			want = w.unlessLast(u)
		}
		if in && w.is(got, want) {
			u.admin = role != ""
			w.users[u.id] = u
		}
	}, "list the users": func(w *world) {
		got, in := w.administer("GET", "/v1/admin/users?limit=1000", nil)
		if !in || !w.is(got, api.CodeOK) {
			return
		}
		list := read[api.Users](w, got).Users
		for _, v := range list {
			if u := w.users[v.ID]; u.name != v.Username || u.owner != v.Owner || u.admin != (v.Role != "") || (u.suspended != "") != (v.SuspendedAt != nil) {
				w.Fatalf("listed %+v, want %+v", v, u)
			}
		}
		if len(list) != len(w.users) {
			w.Fatalf("%d users are listed, want %d", len(list), len(w.users))
		}
	},
	"add a policy": func(w *world) {
		defer w.atTheEdge()()
		in := api.PolicyIn{Reason: "INC-1", Caveats: []string{rapid.SampledFrom([]string{
			"audience photos", "method GET", "path /photos/**", "time-before " + w.now.Add(time.Hour).UTC().Format(time.RFC3339), "allow devices:list",
		}).Draw(w.T, "caveat")}}
		target := ""
		switch rapid.IntRange(0, 9).Draw(w.T, "for whom") {
		case 9:
			in.Target.Everyone = true
		case 1, 2, 3:
			target = w.someone().id
			in.Target.User = target
		default:
			target = w.anyDevice().id
			in.Target.Device = target
		}
		if len(w.policies) > 2 {
			w.Skip("there are enough")
		}
		r := rule{target: target, caveat: in.Caveats[0]}
		if w.chance("for an hour") {
			in.TTL, r.ends = 3600, w.now.Add(time.Hour)
		}
		got, ok := w.administer("POST", "/v1/admin/policies", in) // whose login may have the device make room
		if ok && w.is(got, w.while(in.Target.Device == "" || w.devices[target].id != "")) {
			r.id = read[api.Policy](w, got).ID
			w.policies[r.id] = r
		}
	},
	"remove policies": func(w *world) { // as an operator: one can be in the way of the administrator
		for _, p := range must(w.a.svc.Policies(w.a.t.Context())).Policies {
			must(0, w.a.svc.RemovePolicy(w.a.t.Context(), p.ID, service.ActorOperator, service.Source{}))
		}
		clear(w.policies)
	},
	"add a service": func(w *world) {
		w.n++
		got, in := w.administer("POST", "/v1/admin/services", api.ServiceIn{Name: fmt.Sprint("backend ", w.n), Calls: []string{"photos"}, Rights: []string{"mint"}})
		if in && w.is(got, api.CodeOK) {
			v := read[api.Service](w, got)
			w.services[v.ID] = backend{v.ID, v.Name}
			w.secret(v.ID, v.SecretID, v.Secret)
		}
	},
	"add a secret": func(w *world) {
		v, n := w.anySecret(), 0
		for _, d := range w.devices {
			if d.user == v.user && d.reason == "" {
				n++
			}
		}
		if n >= 3 {
			w.Skip("it has enough")
		}
		got, in := w.administer("POST", "/v1/admin/services/"+v.user+"/secrets", nil)
		if in && w.is(got, w.while(w.services[v.user].id != "")) {
			s := read[api.ServiceSecret](w, got)
			w.secret(v.user, s.ID, s.Secret)
		}
	},
	"remove a secret": func(w *world) {
		v := w.anySecret()
		got, in := w.administer("DELETE", "/v1/admin/services/"+v.user+"/secrets/"+v.secretID, nil)
		if in && w.is(got, w.while(v.reason == "")) {
			w.end(v.id, "removed")
		}
	},
	"remove a service": func(w *world) {
		v := w.anySecret()
		got, in := w.administer("DELETE", "/v1/admin/services/"+v.user, nil)
		if in && w.is(got, w.while(w.services[v.user].id != "")) {
			w.endAll(v.user, "", "removed")
			delete(w.services, v.user)
			for _, u := range w.users {
				if u.owner == v.user {
					w.endAll(u.id, "", "service removed")
				}
			}
		}
	},
	"rotate": func(w *world) {
		if got, in := w.administer("POST", "/v1/admin/keys/rotate", nil); in {
			w.is(got, api.CodeOK)
			w.begins(read[api.Epoch](w, got).Number)
		}
	},
	"retire": func(w *world) {
		defer w.atTheEdge()()
		n := w.epoch()
		if got, in := w.administer("POST", fmt.Sprintf("/v1/admin/keys/%d/retire", n), nil); in && w.is(got, api.CodeOK, api.CodeNotFound) {
			if w.epochs[n] == "signing" {
				w.begins(w.signing())
			}
			w.epochs[n] = "retired"
			w.voidLinks()
		}
	},
	"end every token": func(w *world) {
		must(w.a.svc.RetireAllKeys(w.a.t.Context(), service.ActorOperator, service.Source{}))
		for n := range w.epochs {
			w.epochs[n] = "retired"
		}
		w.begins(w.signing())
		w.voidLinks()
	},
	"time": func(w *world) {
		w.pass(rapid.SampledFrom([]time.Duration{time.Second, 30 * time.Second, time.Minute, time.Minute, 10 * time.Minute, time.Hour, day, 20 * day}).Draw(w.T, "passes"))
	},
	"sweep": func(w *world) {
		w.a.svc.Sweep(w.a.t.Context(), w.now)
		w.swept = w.now
		for id, d := range w.devices {
			if k := w.keys[d.key]; max(k.latest.Unix(), k.listed.Unix()) < w.now.Add(-10*time.Minute).Unix() && d.secret == "" {
				w.forgetAsked(id)
				delete(w.devices, id)
			}
		}
	},
	"restart": func(w *world) { w.reopen("") },
	"back up": func(w *world) {
		w.reopen("")
		w.n++
		w.backup = filepath.Join(w.a.t.TempDir(), fmt.Sprint(w.n))
		must(0, w.a.store.Backup(w.a.t.Context(), w.backup))
		w.kept = w.copy()
	},
	"restore": func(w *world) {
		if w.kept == nil {
			w.Skip("no backup")
		}
		w.pass(time.Minute) // numbers of epochs are safe while there is no more than one of them a second
		keep := rapid.Bool().Draw(w.T, "keep tokens")
		store, ctx := must(sqlite.Open(w.a.t.Context(), w.kept.backup, sqlite.Options{})), w.a.t.Context()
		ev := storage.Event{Time: w.now, Type: "restored"}
		must(store.Restored(ctx, keep, ev))
		if !keep {
			must(store.CreateEpoch(ctx, false, w.a.keys.Seal, ev))
		}
		must(0, store.Close())
		w.reopen(w.kept.backup)
		w.house, w.kept = w.kept, nil
		if keep {
			for id, k := range w.keys {
				k.listed = w.now.Add(storage.MaxRootTTL + storage.ClockSkew)
				w.keys[id] = k
			}
			return
		}
		for n := range w.epochs {
			w.epochs[n] = "retired"
		}
		n := w.signing()
		if n <= w.lastEpoch {
			w.Fatalf("epoch %d again, after %d", n, w.lastEpoch)
		}
		w.epochs[n], w.lastEpoch = "signing", n
		w.voidLinks()
	},
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.a.clock.drift(d)
	must(0, w.a.svc.CatchUp(w.a.t.Context()))
}

// administer is a request of the administrator, and now and then of somebody
// who is none. It says whether it was let in.
func (w *world) administer(method, path string, in any) (answer, bool) {
	var by *tok
	for _, t := range w.toks {
		if codes := w.dead(t); codes == nil && t.bare() && !w.lost(t) && w.users[t.user].admin && w.now.Before(t.expires) {
			by = t
		}
	}
	if len(w.toks) > 0 && rapid.IntRange(0, 9).Draw(w.T, "by anybody") == 0 {
		by = w.any("by")
	}
	if by == nil {
		u := w.admin()
		w.crowded(u.id)
		got := w.send("POST", "/v1/login", "", api.LoginIn{Username: u.name, Password: u.password, Device: api.DeviceIn{Name: "desk"}})
		w.is(got, api.CodeOK)
		by = w.issued(u, "", true, got)
	}
	got, ok := w.by(by, "admin", true, method, path, in)
	if ok && !w.users[by.user].admin {
		w.is(got, api.CodeForbidden)
		return got, false
	}
	return got, ok
}

func (w *world) admin() person {
	for _, u := range w.people() {
		if u.admin && u.suspended == "" && u.password != "" {
			return u
		}
	}
	w.Skip("no administrator who could log in")
	panic("not reached")
}

// unlessLast is the code of what takes an administrator away.
func (w *world) unlessLast(u person) string {
	if u.suspended != "" || !u.admin {
		return api.CodeOK
	}
	for _, other := range w.users {
		if other.admin && other.suspended == "" && other.id != u.id {
			return api.CodeOK
		}
	}
	return api.CodeLastAdmin
}

// while is the code of what needs something to be there.
func (w *world) while(there bool) string {
	if there {
		return api.CodeOK
	}
	return api.CodeNotFound
}

// epoch is the number of one that there was.
func (w *world) epoch() uint32 {
	all := slices.Sorted(maps.Keys(w.epochs))
	return all[rapid.IntRange(0, len(all)-1).Draw(w.T, "epoch")]
}

// begins is another epoch that signs. Most times the authority starts anew with
// it: else its first token waits until others know the epoch.
func (w *world) begins(n uint32) {
	if n <= w.lastEpoch {
		w.Fatalf("epoch %d again, after %d", n, w.lastEpoch)
	}
	w.lastEpoch = n
	for other, state := range w.epochs {
		if state == "signing" {
			w.epochs[other] = "verifying"
		}
	}
	w.epochs[n] = "signing"
	if rapid.IntRange(0, 9).Draw(w.T, "goes on") != 0 {
		w.endThere()
		w.reopen("")
	}
}

// voidLinks ends the links that devices opened whose latest root has ended with its epoch.
func (w *world) voidLinks() {
	latest := map[string]*tok{}
	for _, t := range w.toks {
		if t.bare() && w.devices[t.device].key == t.key && t.expires.Equal(w.keys[t.key].latest) {
			latest[t.device] = t
		}
	}
	for user, l := range w.links {
		if t := latest[l.device]; t != nil && w.epochs[t.epoch] == "retired" {
			delete(w.links, user)
		}
	}
}

// deleted is a user's end.
func (w *world) deleted(u person) {
	w.endAll(u.id, "", "deleted")
	for id, d := range w.devices {
		if d.user == u.id {
			delete(w.devices, id)
		}
	}
	for id, r := range w.policies {
		if r.target == u.id {
			delete(w.policies, id)
		}
	}
	delete(w.users, u.id)
}
