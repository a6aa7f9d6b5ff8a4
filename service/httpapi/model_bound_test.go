package httpapi

import (
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"macaroond/service/api"
	"macaroond/service/dpop"
	"macaroond/service/token"
)

// boundActs are about tokens that are good for nothing without something else:
// the cookie, a key, or the authority, which opens what is sealed.
var boundActs = map[string]func(w *world){
	"seal": func(w *world) {
		t := w.any("from")
		b := box{key: t.key, epoch: t.epoch, inside: rapid.SampledFrom([]string{
			"method GET", "method PUT", "path /photos/**", "time-before " + w.now.Add(time.Minute).UTC().Format(time.RFC3339), "audience photos",
			"user " + t.user, "note hush", "cnf " + modelKeys[0].Thumbprint(),
		}).Draw(w.T, "inside")}
		got := w.send("POST", "/v1/seal", "", api.SealIn{Token: t.text, Caveats: []string{b.inside}})
		if slices.Contains(w.dead(t), api.CodeInvalid) {
			w.is(got, api.CodeInvalid, api.CodeOK)
			return
		}
		w.is(got, api.CodeOK)
		text := read[api.SealOut](w, got).Caveats[0]
		w.boxes[text] = b
		if w.chance("onto another") {
			t = w.any("onto")
		}
		with := []string{"audience photos", text}
		if w.chance("for no audience") {
			with = with[1:]
		}
		w.narrowed(t, with...)
	},
	"bind to a key": func(w *world) {
		w.narrowed(w.any("from"), "audience photos", "cnf "+rapid.SampledFrom(modelKeys).Draw(w.T, "key").Thumbprint())
	},
	"verify with a proof": func(w *world) {
		const url = "https://photos.example/photos/1"
		var p shown
		if len(w.proofs) > 0 && w.chance("of before") {
			p = rapid.SampledFrom(w.proofs).Draw(w.T, "proof")
		} else {
			p = shown{by: w.oneOf("token", w.wantsProof), key: modelKeys[0], at: w.now}
			if slices.Contains(p.by.caveats, "cnf "+modelKeys[1].Thumbprint()) != w.chance("by another key") {
				p.key = modelKeys[1]
			}
			p.text = must(p.key.Prove("GET", url, p.by.text, p.at))
			w.proofs = slices.Insert(w.proofs, 0, p) // the first are drawn more often
		}
		t, q := p.by, question{audience: "photos", method: "GET", path: "/photos/1"}
		if !w.now.After(p.at.Add(dpop.Window)) {
			q.key = p.key.Thumbprint()
		}
		want, _ := w.verdict(t, q)
		uses := (want[0] == api.CodeOK || want[0] == api.CodeReplayed) && w.wantsProof(t) // it is used before a one-time token is
		got := w.send("POST", "/v1/verify", w.photos, api.VerifyIn{Token: t.text, Request: api.Request{Audience: "photos", Method: "GET", URL: url, DPoP: p.text}})
		switch {
		case uses && w.shown[p.text]:
			want = []string{api.CodeReplayed}
		case uses && !p.at.After(w.began.Add(dpop.Skew)): // the process before may have seen it
			w.is(got, api.CodeBusy)
			return
		}
		w.is(got, api.CodeOK)
		d := read[api.Decision](w, got)
		if !slices.Contains(want, d.Code) {
			w.Fatalf("%s with a proof, want %v: %s", d.Code, want, t)
		}
		if d.Allowed {
			w.accepted(t)
			if uses {
				w.shown[p.text] = true
			}
		}
	},
	"ask for the session": func(w *world) {
		t := w.oneOf("by", (*tok).inCookie)
		if got, in := w.by(t, "session", false, "GET", "/v1/session", nil); in && w.is(got, api.CodeOK) {
			if s := read[api.Session](w, got); s.User.ID != t.user || s.Device.ID != t.device || s.CSRFToken != "" && s.CSRFToken != t.csrf {
				w.Fatalf("the session is %+v: %s", s, t)
			}
		}
	},
	"get a ticket": func(w *world) {
		t := w.oneOf("by", (*tok).inCookie)
		if got, in := w.by(t, "ticket", true, "POST", "/v1/ticket", api.TicketIn{Audience: "photos"}); in && w.is(got, api.CodeOK) {
			ticket := *t
			ticket.text = read[api.Ticket](w, got).Ticket
			ticket.caveats = must(token.Parse(ticket.text)).UnverifiedCaveats()[3:]
			if ticket.ends().After(w.now.Add(30*time.Second)) || !ticket.once() || ticket.inCookie() {
				w.Fatalf("a ticket for %v", ticket.caveats)
			}
			w.toks = append(w.toks, &ticket)
		}
	},
}

// modelKeys are those that tokens are bound to.
var modelKeys = []*dpop.Key{newKey(), newKey()}

// box is what is sealed, and for which tokens.
type box struct {
	inside, key string
	epoch       uint32
}

// shown is a proof, and the token that it is for.
type shown struct {
	by   *tok
	key  *dpop.Key
	text string
	at   time.Time
}

// wantsProof: a good request with it shows a proof.
func (w *world) wantsProof(t *tok) bool {
	return slices.ContainsFunc(t.caveats, func(c string) bool {
		return strings.HasPrefix(c, "cnf ") || strings.HasPrefix(w.boxes[c].inside, "cnf ")
	})
}

// inCookie: the token is one for the cookie.
func (t *tok) inCookie() bool { return slices.Contains(t.caveats, viaCookie) }

const viaCookie = "via cookie"

// carried is how a request comes with a token.
type carried struct {
	auth    string
	header  []string
	cookie  bool
	foreign bool // no page of the authority's sent it
}

// carry draws it: one for the cookie is seldom sent otherwise, and seldom by a page that may not.
func (w *world) carry(t *tok, method string) carried {
	if !t.inCookie() || rapid.IntRange(0, 7).Draw(w.T, "in the header") == 0 {
		return carried{auth: bearer(t.text)}
	}
	c := carried{cookie: true, header: []string{"Cookie", api.Cookie + "=" + t.text}}
	if method == "GET" {
		return c
	}
	site, csrf := "same-origin", t.csrf
	switch rapid.IntRange(0, 11).Draw(w.T, "by whose page") {
	case 11:
		site, c.foreign = "same-site", true
	case 10:
		csrf, c.foreign = "", true
	case 9:
		for _, v := range w.toks {
			if v.csrf != "" && v.key != t.key {
				csrf, c.foreign = v.csrf, true
			}
		}
	}
	c.header = append(c.header, "Sec-Fetch-Site", site, api.CSRFHeader, csrf)
	return c
}

// granted reads a grant: for the cookie the token is there and not in the body.
func (w *world) granted(got answer) api.Grant {
	w.Helper()
	g := read[api.Grant](w, got)
	if (g.CSRFToken != "") != (got.cookie != "") || (g.Token == "") != (got.cookie != "") {
		w.Fatalf("cookie %q beside %s", got.cookie, got.body)
	}
	if got.cookie != "" {
		g.Token = got.cookie
	}
	return g
}

// into holds that a root is one for the cookie, or is not.
func (w *world) into(root *tok, cookie bool) {
	w.Helper()
	if root.inCookie() != cookie || cookie != (root.csrf != "") {
		w.Fatalf("for the cookie: %v, and it is %s", cookie, root)
	}
}
