package httpapi

import (
	"maps"
	"slices"
	"strings"
	"time"

	"macaroond/service/api"
)

// house is what there must be: values in maps, so that a backup is a copy.
type house struct {
	users    map[string]person    // by id
	services map[string]backend   // by id
	devices  map[string]device    // by id, those that are listed; a service's secrets, too
	keys     map[string]rootKey   // by root key ID, all there ever were
	heirs    map[string]*tok      // of a root, by its chain: the successor
	seen     map[string]time.Time // when a root, or anything derived from it, was first accepted
	ended    map[string]bool      // chains of the branches that are revoked
	spent    map[string]bool      // chains up to a once caveat that was accepted
	epochs   map[uint32]string    // number to state
	policies map[string]rule      // by id
	waiting  map[string]delayed   // by device, act and target
	links    map[string]link      // by user
	swept    time.Time            // when what had had its time last went
	backup   string               // file
}

type person struct {
	n                  int // in the order in which they came
	id, name, password string
	admin              bool
	codes, used        string // unused ones, each with a line of its own; the last that was used
	suspended          string // by whom: "admin", or a service's id
	owner, subject     string
}

type backend struct{ id, name string }

type device struct {
	id, user, install, key string
	secret, secretID       string // a service's
	reason                 string // for which it is revoked
	started, proved        time.Time
	seen, ended            time.Time // last; when it was revoked
}

type rootKey struct {
	dead   bool
	latest time.Time // the greatest expiry that a root of it is known to have
	listed time.Time // the device stays so long, for there may be later ones; zero: until latest
}

type rule struct {
	id, target, caveat string
	ends               time.Time // zero: never
}

type delayed struct {
	id, user, device, act, target string
	due                           time.Time
}

type link struct {
	id, device, code, claim string
	approved                bool
	ends                    time.Time
}

// opened is a link as it was, and whose.
type opened struct {
	user string
	link link
}

func (h house) copy() *house {
	h.users, h.services, h.devices, h.keys = maps.Clone(h.users), maps.Clone(h.services), maps.Clone(h.devices), maps.Clone(h.keys)
	h.heirs, h.seen, h.ended, h.spent = maps.Clone(h.heirs), maps.Clone(h.seen), maps.Clone(h.ended), maps.Clone(h.spent)
	h.epochs, h.policies, h.waiting, h.links = maps.Clone(h.epochs), maps.Clone(h.policies), maps.Clone(h.waiting), maps.Clone(h.links)
	return &h
}

// tok is a token that was ever given out, or narrowed from one.
type tok struct {
	text              string
	key, user, device string
	epoch             uint32
	expires           time.Time // the root's
	root              string    // names the root
	caveats           []string  // the holder's
	csrf              string    // its session's, if it is in a cookie
}

func (t *tok) isService() bool { return strings.HasPrefix(t.user, "svc_") }

func (t *tok) bare() bool {
	return len(t.caveats) == 0 || len(t.caveats) == 1 && t.caveats[0] == viaCookie
}

// once: it is good a single time.
func (t *tok) once() bool {
	return slices.ContainsFunc(t.caveats, func(c string) bool { return strings.HasPrefix(c, "once ") })
}

// chain names the chain up to so many of the holder's caveats.
func (t *tok) chain(caveats int) string {
	return t.root + strings.Join(t.caveats[:caveats], "\n") + "\n"
}

func (t *tok) String() string { return strings.ReplaceAll(t.chain(len(t.caveats)), "\n", "|") }

// ends is the earliest time-before.
func (t *tok) ends() time.Time {
	end := t.expires
	for _, c := range t.caveats {
		if at, ok := strings.CutPrefix(c, "time-before "); ok && instant(at).Before(end) {
			end = instant(at)
		}
	}
	return end
}

func instant(text string) time.Time { return must(time.Parse(time.RFC3339, text)) }

// question is what is asked about a token.
type question struct {
	audience, method, path, action string
	via, key                       string
	own                            bool // at the authority, or out of the cookie: a bare root passes
	noPolicies                     bool
	noRequest                      bool // introspection: whatever needs a request is left to the asker
}

// dead are the codes of a token that is none any more, nil for one that is.
// Several are right when what would tell them apart may be forgotten.
func (w *world) dead(t *tok) []string {
	switch state := w.epochs[t.epoch]; {
	case state == "":
		return []string{api.CodeInvalid}
	case state == "retired":
		return []string{api.CodeInvalid, api.CodeRevoked}
	}
	revoked := w.keys[t.key].dead
	for chain := range w.ended {
		revoked = revoked || strings.HasPrefix(t.chain(len(t.caveats)), chain)
	}
	switch {
	case w.forgotten(t):
		return []string{api.CodeExpired, api.CodeRevoked, api.CodeInvalid, api.CodeUnknownCaveat}
	case revoked:
		return []string{api.CodeRevoked}
	}
	return nil
}

// forgotten: it expired so long ago that what was known of it may be gone.
func (w *world) forgotten(t *tok) bool { return !w.swept.Before(t.ends().Add(10 * time.Minute)) }

// rootEnded: no act begins with it any more, wherever.
func (w *world) rootEnded(t *tok) bool { return w.keys[t.key].dead || w.epochs[t.epoch] == "retired" }

// verdict gives the codes that are right; byPolicy, that a policy alone refuses.
func (w *world) verdict(t *tok, q question) (codes []string, byPolicy bool) {
	if codes = w.dead(t); codes != nil {
		return codes, false
	}
	own, named := map[string]bool{}, q.own && t.bare()
	if !w.now.Before(t.expires) {
		own[api.CodeExpired] = true
	}
	end := t.expires
	for i, c := range t.caveats {
		name, arg, _ := strings.Cut(c, " ")
		named = named || name == "audience"
		if name == "time-before" && instant(arg).Before(end) {
			end = instant(arg)
		}
		switch {
		case name != "once":
			own[w.caveat(name, arg, t, q)] = true
		case q.noRequest:
		case end.Sub(w.now) > 24*time.Hour:
			own[api.CodeRefused] = true
		case w.spent[t.chain(i+1)]:
			own[api.CodeReplayed] = true
		}
	}
	if !named {
		own[api.CodeWrongAudience] = true
	}
	all := maps.Clone(own)
	for _, p := range w.policies {
		if !q.noPolicies && (p.target == "" || p.target == t.user || p.target == t.device) && (p.ends.IsZero() || w.now.Before(p.ends)) {
			name, arg, _ := strings.Cut(p.caveat, " ")
			all[w.caveat(name, arg, t, q)] = true
		}
	}
	code := first(all)
	// Whether it was used is asked last, of what nothing else refuses.
	good := first(own) == api.CodeOK || first(own) == api.CodeReplayed
	return []string{code}, good && code != first(own)
}

// first is the code that has precedence.
func first(codes map[string]bool) string {
	for _, code := range api.DecisionCodes[1:] {
		if codes[code] {
			return code
		}
	}
	return api.CodeOK
}

// caveat is what one comes to. Those that the acts make are of few forms.
func (w *world) caveat(name, arg string, t *tok, q question) string {
	refused := func(is bool, code string) string {
		if is {
			return code
		}
		return api.CodeOK
	}
	switch name {
	case "time-before":
		return refused(!w.now.Before(instant(arg)), api.CodeExpired)
	case "time-after":
		return refused(w.now.Before(instant(arg)), api.CodeNotYetValid)
	case "audience":
		return refused(arg != q.audience, api.CodeWrongAudience)
	case "note":
		return api.CodeOK
	}
	if q.noRequest {
		return api.CodeOK
	}
	switch name {
	case "user":
		return refused(arg != t.user, api.CodeRefused)
	case "method":
		return refused(arg != q.method, api.CodeRefused)
	case "path": // a prefix and **
		return refused(!strings.HasPrefix(q.path, strings.TrimSuffix(arg, "**")), api.CodeRefused)
	case "allow":
		return refused(arg != q.action, api.CodeRefused)
	case "via":
		return refused(arg != q.via, api.CodeRefused)
	case "cnf":
		return refused(arg != q.key, api.CodeRefused)
	case "sealed":
		b := w.boxes[name+" "+arg]
		if b.key != t.key || b.epoch != t.epoch {
			return api.CodeUnknownCaveat
		}
		name, arg, _ = strings.Cut(b.inside, " ")
		return refused(w.caveat(name, arg, t, q) != api.CodeOK, api.CodeRefused)
	}
	return api.CodeUnknownCaveat
}

// saw is what a good token leaves behind.
func (w *world) saw(t *tok) {
	if w.seen[t.root].IsZero() {
		w.seen[t.root] = w.now
	}
	if d, there := w.devices[t.device]; there && d.reason == "" {
		d.seen = w.now
		w.devices[d.id] = d
	}
}

// accepted is saw, and what an acceptance uses up.
func (w *world) accepted(t *tok) {
	w.saw(t)
	for i, c := range t.caveats {
		if strings.HasPrefix(c, "once ") {
			w.spent[t.chain(i+1)] = true
		}
	}
}

const (
	rootTTL    = 30 * 24 * time.Hour
	sessionMax = 75 * 24 * time.Hour
	day        = 24 * time.Hour
	maxDevices = 3
)

// lost: it was given out in a history that a restored backup does not know.
func (w *world) lost(t *tok) bool { return w.devices[t.device].key != t.key && !w.keys[t.key].dead }

// heir is the successor that a root was given. One of a history that is lost got
// that of the latest root before it.
func (w *world) heir(t *tok) (heir *tok) {
	if heir = w.heirs[t.root]; heir == nil && t.expires.Before(w.keys[t.key].latest) {
		for _, v := range w.toks {
			if h := w.heirs[v.root]; h != nil && v.key == t.key && v.expires.Before(t.expires) && h.expires.After(t.expires) && (heir == nil || h.expires.Before(heir.expires)) {
				heir = h
			}
		}
	}
	return heir
}

// renewal is what renewing a good root comes to: the code, and the successor
// that it had before, if it is that again.
func (w *world) renewal(t *tok) (code string, again *tok) {
	if w.lost(t) {
		return api.CodeSessionOver, nil
	}
	for heir := w.heir(t); heir != nil; heir = w.heir(heir) {
		if seen := w.seen[heir.root]; !seen.IsZero() && !w.now.Before(seen.Add(time.Minute)) {
			return api.CodeRevoked, nil
		}
		if w.epochs[heir.epoch] != "retired" {
			return api.CodeOK, heir
		}
	}
	if !w.successorEnds(t).After(w.latest(t)) {
		return api.CodeSessionOver, nil
	}
	return api.CodeOK, nil
}

// latest is the greatest expiry of a root of the key that is known, or shown now.
func (w *world) latest(t *tok) time.Time {
	if latest := w.keys[t.key].latest; latest.After(t.expires) {
		return latest
	}
	return t.expires
}

func (w *world) successorEnds(t *tok) time.Time {
	end := w.now.Add(rootTTL)
	if least := w.latest(t).Add(time.Second); end.Before(least) {
		end = least
	}
	if most := w.devices[t.device].started.Add(sessionMax); end.After(most) {
		end = most
	}
	return end
}

// end revokes a device, and what it asked for goes with it.
func (w *world) end(id, reason string) {
	d, there := w.devices[id]
	if !there || d.reason != "" {
		return
	}
	d.reason, d.ended = reason, w.now
	w.devices[id] = d
	w.endKey(d.key)
	w.forgetAsked(id)
}

// endRoot ends a root's device, if the device has not another root key by now.
func (w *world) endRoot(t *tok, reason string) {
	if w.devices[t.device].key == t.key {
		w.end(t.device, reason)
	}
	w.endKey(t.key)
}

func (w *world) endKey(id string) {
	k := w.keys[id]
	k.dead = true
	w.keys[id] = k
}

func (w *world) forgetAsked(id string) {
	maps.DeleteFunc(w.waiting, func(_ string, v delayed) bool { return v.device == id })
	maps.DeleteFunc(w.links, func(_ string, v link) bool { return v.device == id })
}

// endAll revokes all of a user's devices, but for one.
func (w *world) endAll(user, but, reason string) {
	for id, d := range w.devices {
		if d.user == user && id != but {
			w.end(id, reason)
		}
	}
	delete(w.links, user)
}

// crowded has it written down what was seen of a user's devices when one more
// would be too many: which of them goes depends on it.
func (w *world) crowded(user string) {
	if len(w.live(user)) >= maxDevices {
		w.writeDown()
	}
}

// live are a user's devices that are not revoked.
func (w *world) live(user string) (live []device) {
	for _, d := range w.devices {
		if d.user == user && d.reason == "" {
			live = append(live, d)
		}
	}
	return live
}

// madeRoom holds what went for a new device, or for what is listed of those that
// are revoked. Which of two that are alike, it takes from the list.
func (w *world) madeRoom(user, fresh string) {
	w.Helper()
	listed := map[string]string{} // with the reason
	for _, d := range must(w.a.store.Devices(w.a.t.Context(), user)) {
		listed[d.ID] = d.RevokedReason
	}
	for _, was := range w.live(user) {
		if reason, there := listed[was.id]; there && reason != "evicted" { // of those that ended at one moment any may be off the list
			continue
		}
		if len(w.live(user)) <= maxDevices {
			w.Fatalf("evicted, and there was room: %+v", was)
		}
		w.end(was.id, "evicted")
		for _, kept := range w.live(user) {
			if kept.id != fresh && kept.goesBefore(was) {
				w.Fatalf("%+v had to make room, not %+v", kept, was)
			}
		}
	}
	if n := len(w.live(user)); n > maxDevices {
		w.Fatalf("%d devices", n)
	}
	var stay, gone []device
	for id, d := range w.devices {
		_, there := listed[id]
		switch {
		case d.user != user || d.reason == "":
		case there:
			stay = append(stay, d)
		default:
			gone = append(gone, d)
			delete(w.devices, id)
		}
	}
	for _, d := range gone {
		if len(stay) != maxDevices || slices.ContainsFunc(stay, func(v device) bool { return v.ended.Before(d.ended) }) {
			w.Fatalf("%+v is not listed, and %+v are", d, stay)
		}
	}
	if len(stay) > maxDevices {
		w.Fatalf("%d revoked devices are listed", len(stay))
	}
}

// goesBefore: for another device those without an install go first, and of them
// those idle longest.
func (d device) goesBefore(v device) bool {
	if (d.install == "") != (v.install == "") {
		return d.install == ""
	}
	return d.seen.Before(v.seen)
}
