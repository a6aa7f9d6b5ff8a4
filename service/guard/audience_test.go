package guard_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/guard"
)

// Where the audience stands decides what is remembered; which it is decides who
// lets the token in. A question is put only about a token that could be good.
func TestAudiences(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	photos := a.guard(nil)
	mail := a.guard(func(o *guard.Options) { o.Audience, o.Credential = "mail", a.credential("mail") })
	// Serves more than it guards: whatever else it may ask about is not for it.
	both := a.guard(func(o *guard.Options) { o.Credential = a.credential("photos", "mail", "photos2") })
	for i, row := range []struct {
		name                string
		caveats             []string
		photos, mail, both  string
		askPhotos, askAgain int64 // about the token, and about a child of it
	}{
		{"its own", []string{"W", "audience photos"}, "ok", "wrong_audience", "ok", 1, 0},
		{"another's", []string{"W", "audience mail"}, "wrong_audience", "ok", "wrong_audience", 0, 0},
		{"the same twice", []string{"W", "audience photos", "audience photos"}, "ok", "wrong_audience", "ok", 1, 1},
		{"two of them", []string{"W", "audience photos", "audience mail"}, "invalid", "invalid", "invalid", 1, 1},
		{"two of them, the other way round", []string{"W", "audience mail", "audience photos"}, "invalid", "invalid", "invalid", 1, 1},
		{"before the window", []string{"audience photos", "W"}, "ok", "wrong_audience", "ok", 1, 1},
		{"without a window", []string{"audience photos"}, "ok", "wrong_audience", "ok", 1, 1},
		{"behind others", []string{"W", "path /photos/*", "method GET", "note x", "audience photos"}, "ok", "wrong_audience", "ok", 1, 0},
		{"behind one that refuses", []string{"W", "path /albums/*", "audience photos"}, "refused", "wrong_audience", "refused", 1, 0},
		{"behind one that nobody knows", []string{"W", "x-colour blue", "audience photos"}, "unknown_caveat", "wrong_audience", "unknown_caveat", 1, 0},
		{"before one that nobody knows", []string{"W", "audience photos", "colour blue"}, "unknown_caveat", "wrong_audience", "unknown_caveat", 1, 0},
		{"none", []string{"W"}, "wrong_audience", "wrong_audience", "wrong_audience", 0, 0},
		{"one that begins alike", []string{"W", "audience photos2"}, "wrong_audience", "wrong_audience", "wrong_audience", 0, 0},
		{"one that begins alike, and its own", []string{"W", "audience photos2", "audience photos"}, "invalid", "wrong_audience", "invalid", 1, 1},
		{"another case", []string{"W", "audience Photos"}, "wrong_audience", "wrong_audience", "wrong_audience", 0, 0},
		{"the authority's", []string{"W", "audience macaroond"}, "wrong_audience", "wrong_audience", "wrong_audience", 0, 0},
		{"not in the grammar", []string{"W", "audience  photos"}, "wrong_audience", "wrong_audience", "wrong_audience", 0, 0},
		{"as a note", []string{"W", "note audience photos"}, "wrong_audience", "wrong_audience", "wrong_audience", 0, 0},
	} {
		with := []string{"note " + strings.Repeat("i", i+1)} // no two rows begin alike
		for _, c := range row.caveats {
			if c == "W" {
				c = window()
			}
			with = append(with, c)
		}
		text := narrow(t, alice.Token, with...)
		a.want(row.name+", at photos", photos, text, row.photos, row.askPhotos)
		a.want(row.name+", at photos again", photos, text, row.photos, 0)
		a.want(row.name+", a child of it", photos, narrow(t, text, "note child"), row.photos, row.askAgain)
		if got := code(mail, text); got != row.mail {
			t.Errorf("%s, at mail: %s, want %s", row.name, got, row.mail)
		}
		if got := code(both, text); got != row.both {
			t.Errorf("%s, at photos by a credential that serves more: %s, want %s", row.name, got, row.both)
		}
	}
}

// Nor is the authority asked to judge what it alone can judge, when the token is
// for another audience.
func TestOnlineNamesTheAudience(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	root := a.device("alice").Token
	box := a.sealed(root, "audience photos") // which names none
	for i, row := range []struct {
		with  []string
		want  string
		asked int64
	}{
		{[]string{"audience photos"}, api.CodeOK, 1},
		{[]string{"audience mail"}, api.CodeWrongAudience, 0},
		{[]string{"audience photos", "audience mail"}, api.CodeWrongAudience, 1},
		{nil, api.CodeWrongAudience, 0},
		{[]string{box}, api.CodeWrongAudience, 0},
		{[]string{box, "audience photos"}, api.CodeOK, 1},
	} {
		before := a.count("/v1/verify").Load()
		text := narrow(t, root, append(append([]string{window()}, row.with...), fmt.Sprint("once ", i))...)
		if got := codeOf(g, text, get()); got != row.want {
			t.Errorf("%q: %s, want %s", row.with, got, row.want)
		}
		if n := a.count("/v1/verify").Load() - before; n != row.asked {
			t.Errorf("%q: %d questions, want %d", row.with, n, row.asked)
		}
	}
}

// What a prefix covers is checked against each request, like everything else.
func TestCoveredCaveatsAreChecked(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	begin := narrow(t, a.device("alice").Token, window(), "path /photos/*", "method GET", "allow photos:read", "audience photos")
	read := []string{"photos:read"}
	for i, row := range []struct {
		name  string
		facts caveats.Request
		code  string
	}{
		{"what it is for", caveats.Request{Method: "GET", Target: "/photos/1", Actions: read}, "ok"},
		{"another path", caveats.Request{Method: "GET", Target: "/albums/1", Actions: read}, "refused"},
		{"another method", caveats.Request{Method: "PUT", Target: "/photos/1", Actions: read}, "refused"},
		{"another action", caveats.Request{Method: "GET", Target: "/photos/1", Actions: []string{"photos:write"}}, "refused"},
		{"no facts", caveats.Request{}, "refused"},
		{"the gateway's own audience", caveats.Request{Method: "GET", Target: "/photos/1", Actions: read, Audience: "photos"}, "ok"},
		{"for another audience", caveats.Request{Method: "GET", Target: "/photos/1", Actions: read, Audience: "mail"}, "forbidden"},
		{"with an identity and a time of its own", caveats.Request{Method: "GET", Target: "/photos/1", Actions: read, User: "usr_admin00000000000", Time: time.Unix(1, 0)}, "ok"},
	} {
		if got := codeOf(g, narrow(t, begin, soon(), "note "+string(rune('a'+i))), row.facts); got != row.code {
			t.Errorf("%s: %s, want %s", row.name, got, row.code)
		}
	}
	if n := a.introspections(); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
}

// A resource server is told of tokens for its audiences and of no others, and
// what it is told of one audience is worth nothing at another.
func TestPrefixIsForOneAudience(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	begin := narrow(t, alice.Token, window(), "audience photos")
	photos, mail, both := a.credential("photos"), a.credential("mail"), a.credential("mail", "photos")
	for _, row := range []struct {
		name string
		got  func() (*api.Introspection, error)
		aud  string
	}{
		{"its own", func() (*api.Introspection, error) { return a.c.IntrospectToEnforce(t.Context(), photos, begin) }, "photos"},
		{"another's", func() (*api.Introspection, error) { return a.c.IntrospectToEnforce(t.Context(), mail, begin) }, ""},
		{"one of its own", func() (*api.Introspection, error) { return a.c.IntrospectToEnforce(t.Context(), both, begin) }, "photos"},
		{"a root", func() (*api.Introspection, error) { return a.c.IntrospectToEnforce(t.Context(), both, alice.Token) }, ""},
	} {
		in, err := row.got()
		ok(t, err)
		if in.Active != (row.aud != "") || in.Aud != row.aud || (in.Prefix != nil) != in.Active {
			t.Errorf("%s: %+v", row.name, in)
		}
		if text, _ := json.Marshal(in); !in.Active && string(text) != `{"active":false}` {
			t.Errorf("%s: %s", row.name, text)
		}
	}
	// A photos server goes on from its prefix to mail.
	g := a.guard(func(o *guard.Options) { o.Audience, o.Credential = "mail", mail })
	if got := code(g, narrow(t, begin, "audience mail")); got != api.CodeInvalid {
		t.Errorf("from the prefix of photos: %s", got)
	}
	// Even a mail server that has the mail prefix of the same device.
	if got := code(g, narrow(t, alice.Token, window(), "audience mail")); got != api.CodeOK {
		t.Errorf("the device at mail: %s", got)
	}
	if got := code(g, narrow(t, begin, "audience mail", "note x")); got != api.CodeInvalid {
		t.Errorf("from the prefix of photos, the device being known: %s", got)
	}
}

// Beyond max_prefix_ttl there is no prefix: the very token is remembered, and
// nothing that only resembles it.
func TestWholeToken(t *testing.T) {
	a := start(t)
	g := a.guard(nil)
	link := narrow(t, a.device("alice").Token, caveats.TimeBefore(time.Now().Add(20*time.Hour)).String(), "audience photos", "path /photos/*")
	a.want("the link", g, link, "ok", 1)
	a.want("the link again", g, link, "ok", 0)
	a.want("with another signature", g, forge(link), "invalid", 1)
	a.want("with another signature, again", g, forge(link), "invalid", 0)
	child := narrow(t, link, "method GET")
	a.want("a child", g, child, "ok", 1)
	a.want("a child again", g, child, "ok", 0)
	a.want("a child with another signature", g, forge(child), "invalid", 1)
	if got := codeOf(g, link, caveats.Request{Method: "GET", Target: "/albums/1"}); got != api.CodeRefused {
		t.Errorf("another path: %s", got)
	}
	if n := g.Prefixes(); n != 0 {
		t.Errorf("%d prefixes", n)
	}
	a.revoke(g, child)
	a.want("the child, revoked", g, child, "revoked", 0)
	a.want("its parent", g, link, "ok", 0)
	a.revoke(g, link)
	a.want("the link, revoked", g, link, "revoked", 0)
	a.want("a child of the revoked link", g, narrow(t, link, "note x"), "invalid", 1)
}
