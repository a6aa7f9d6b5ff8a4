package guard_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"macaroond/service/api"
	"macaroond/service/guard"
)

func bodyIs(b string) string {
	sum := sha256.Sum256([]byte(b))
	return "body-sha256 " + hex.EncodeToString(sum[:])
}

// sealed is a caveat that only the authority can read.
func (a *authority) sealed(root, caveat string) string {
	a.t.Helper()
	out, err := a.svc.Seal(api.SealIn{Token: root, Caveats: []string{caveat}})
	ok(a.t, err)
	return out.Caveats[0]
}

// What is sealed is checked like any other caveat, and the handler reads the
// body that was judged. One that is too long is no fact, and no reason to refuse
// what is sealed about something else.
func TestSealedBody(t *testing.T) {
	a := start(t)
	g := a.guard(func(o *guard.Options) { o.MaxBody = 16 })
	root := a.device("ann").Token
	read := g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	for _, x := range []struct {
		caveat, body string
		want         int
	}{
		{bodyIs("amount=1"), "amount=1", 200},
		{bodyIs("amount=1"), "amount=2", 403},
		{bodyIs("amount=1"), "", 403},
		{bodyIs(""), "", 200},
		{"method POST", strings.Repeat("long", 100), 200},
		{bodyIs(strings.Repeat("long", 100)), strings.Repeat("long", 100), 403},
	} {
		r := httptest.NewRequest("POST", "/photos/1", strings.NewReader(x.body))
		r.Header.Set("Authorization", "Bearer "+narrow(t, root, window(), "audience photos", soon(), a.sealed(root, x.caveat)))
		w := httptest.NewRecorder()
		read.ServeHTTP(w, r)
		if w.Code != x.want || w.Code == 200 && w.Body.String() != x.body {
			t.Errorf("%s, body %q: %d %s", x.caveat, x.body, w.Code, w.Body)
		}
	}
	// One that says so itself is refused before anybody is asked.
	before := a.count("/v1/verify").Load()
	r := httptest.NewRequest("POST", "/photos/1", strings.NewReader(strings.Repeat("long", 100)))
	r.Header.Set("Authorization", "Bearer "+narrow(t, root, window(), "audience photos", "once x", bodyIs(strings.Repeat("long", 100))))
	w := httptest.NewRecorder()
	read.ServeHTTP(w, r)
	if w.Code != 413 || a.count("/v1/verify").Load() != before {
		t.Errorf("a one-time token of a body too long: %d %s", w.Code, w.Body)
	}
}

// A body that somebody has read already is not the empty body.
func TestBodyReadBefore(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	text := narrow(t, a.device("ann").Token, window(), "audience photos", soon(), bodyIs(""))
	show := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.FormValue("amount")) })
	after := func(read func(*http.Request)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			read(r)
			g.Protect(show).ServeHTTP(w, r)
		})
	}
	form := func(r *http.Request) { r.ParseForm() } // as middleware for CSRF or for methods in forms does
	for name, x := range map[string]struct {
		h    http.Handler
		body io.Reader
		want int
	}{
		"nothing there":               {g.Protect(show), http.NoBody, 200},
		"nothing there, in chunks":    {g.Protect(show), io.MultiReader(strings.NewReader("")), 200},
		"not read":                    {g.Protect(show), strings.NewReader("amount=1000000"), 403},
		"not read, in chunks":         {g.Protect(show), io.MultiReader(strings.NewReader("amount=1000000")), 403},
		"a form":                      {after(form), strings.NewReader("amount=1000000"), 403},
		"a form, in chunks":           {after(form), io.MultiReader(strings.NewReader("amount=1000000")), 403},
		"all of it":                   {after(func(r *http.Request) { io.Copy(io.Discard, r.Body) }), strings.NewReader("amount=1000000"), 403},
		"more than net/http lets":     {after(func(r *http.Request) { r.Body = http.MaxBytesReader(nil, r.Body, 3) }), strings.NewReader("amount=1000000"), 413},
		"as much as can be, not read": {a.guard(func(o *guard.Options) { o.MaxBody = math.MaxInt64 }).Protect(show), strings.NewReader("amount=1000000"), 403},
	} {
		r, err := http.NewRequest("POST", listen(t, x.h)+"/photos/1", x.body)
		ok(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "Bearer "+text)
		res, err := http.DefaultClient.Do(r)
		ok(t, err)
		if got := body(res); res.StatusCode != x.want {
			t.Errorf("%s: %d %s, want %d", name, res.StatusCode, got, x.want)
		}
	}
}

// No body is read for a token that nobody signed.
func TestForgedTokenHasNoBodyRead(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	root := a.device("ann").Token
	a.want("the prefix is known", g, narrow(t, root, window(), "audience photos", soon()), "ok", 1)
	good := narrow(t, root, window(), "audience photos", soon(), bodyIs("x"))
	for _, x := range []struct {
		name, text string
		want, read int
	}{
		{"forged", forge(good), 401, 0},
		{"for another audience", narrow(t, root, "audience mail", bodyIs("x")), 401, 0},
		{"good", good, 200, 1},
	} {
		b := bytes.NewReader([]byte("x"))
		r := httptest.NewRequest("POST", "/photos/1", io.NopCloser(b))
		r.Header.Set("Authorization", "Bearer "+x.text)
		w := httptest.NewRecorder()
		g.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		if read := 1 - b.Len(); w.Code != x.want || read != x.read {
			t.Errorf("%s: %d, and %d bytes read", x.name, w.Code, read)
		}
	}
}
