package httpapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"pgregory.net/rapid"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage/sqlite"
)

// process is what serves the database beside the one that is asked, and what it
// knew when it last read the tables.
type process struct {
	svc     *service.Service
	store   *sqlite.Store
	handler *http.Handler
	began   time.Time
	shown   map[string]bool
	knew    *house
	asOf    time.Time
}

// processActs are about the other process.
var processActs = map[string]func(w *world){
	"go on at the other process": func(w *world) {
		w.swap()
		must(0, w.a.svc.CatchUp(w.a.t.Context()))
	},
	"act where it is heard late": func(w *world) {
		if w.there == nil {
			w.Skip("there is one process")
		}
		of, name := tokenActs, rapid.SampledFrom([]string{
			"renew", "revoke", "log in", "sign up", "recover", "remove a device", "remove devices", "change the password", "new codes", "open a link", "trade the claim", "delete oneself",
		}).Draw(w.T, "act")
		if of[name] == nil {
			of = accountActs
		}
		asOf, knew := w.there.asOf, w.there.knew
		w.swap()
		defer func() {
			w.late = nil
			must(0, w.a.svc.CatchUp(w.a.t.Context()))
			w.swap()
			must(0, w.a.svc.CatchUp(w.a.t.Context()))
		}()
		if w.now.After(asOf.Add(30 * time.Second)) { // it would say so, and no more
			must(0, w.a.svc.CatchUp(w.a.t.Context()))
		} else {
			w.late = knew
		}
		w.Logf("late: %s", name)
		of[name](w)
	},
}

// swap goes on at the other process, which has heard of nothing since it was left.
func (w *world) swap() {
	w.writeDown()
	there := w.there
	w.there = &process{w.a.svc, w.a.store, w.a.handler.Load(), w.began, w.shown, w.copy(), w.now}
	if there == nil {
		w.a.open()
		w.began, w.shown = w.now, map[string]bool{}
		return
	}
	w.a.svc, w.a.store, w.began, w.shown = there.svc, there.store, there.began, there.shown
	w.a.handler.Store(there.handler)
}

// endThere ends the other process.
func (w *world) endThere() {
	if w.there != nil {
		w.there.store.Close()
	}
	w.there = nil
}

// writeDown has the process that is asked write down what it has seen, as it does
// now and then and at its end.
func (w *world) writeDown() {
	ended, cancel := context.WithCancel(w.a.t.Context())
	cancel()
	w.a.svc.Run(ended)
}

// heard are the codes that are right where it is only known what was known then,
// or, of some of it, what is known now.
func (w *world) heard(then *house, t *tok, q question) (codes []string, byPolicy bool) {
	is := w.house
	w.house = then.copy()
	w.spent = is.spent // is in no memory
	codes, byPolicy = w.verdict(t, q)
	w.house = is
	return codes, byPolicy
}

// checkThere is check at the other process.
func (w *world) checkThere(t *tok) {
	w.Helper()
	q := question{audience: "nobody"}
	want, _ := w.verdict(t, q)
	then, _ := w.heard(w.there.knew, t, q)
	want = append(want, then...)
	if w.now.After(w.there.asOf.Add(30 * time.Second)) {
		want = slices.DeleteFunc(want, func(code string) bool { return code != api.CodeInvalid })
		want = append(want, api.CodeStale)
	}
	d := read[api.Decision](w, w.ask(*w.there.handler, "POST", "/v1/verify", w.probe, api.VerifyIn{Token: t.text, Request: api.Request{Audience: "nobody"}}))
	if !slices.Contains(want, d.Code) {
		w.Fatalf("%s at the other process, want %v: %s", d.Code, want, t)
	}
}
