package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

// peer is another implementation of macaroons, driven by a script of
// testdata/interop.
type peer struct {
	name   string
	run    func(*testing.T) (program, script string)
	binary bool // writes what it narrowed in the binary form
}

var peers = []peer{
	{"pymacaroons", func(t *testing.T) (string, string) {
		return python(t), absolute(t, "testdata/interop/peer_pymacaroons.py")
	}, true},
	{"js-macaroon", func(t *testing.T) (string, string) {
		return node(t), absolute(t, "testdata/interop/peer_macaroon.mjs")
	}, false},
}

// work is what a peer made of a token.
type work struct {
	Same     string
	Narrowed string
	Forged   []struct{ What, Token string }
}

func (p peer) work(t *testing.T, text string, caveats ...string) (w work) {
	t.Helper()
	program, script := p.run(t)
	stdin := encode(t, map[string]any{"token": text, "caveats": caveats})
	out, err := tool(t, stdin, nil, program, script)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &w); err != nil {
		t.Fatalf("%s printed %q: %v", script, out, err)
	}
	return w
}

// TestPeerNarrows: a root from a running server, narrowed by somebody else's
// software, is accepted for what it says and refused for anything else.
func TestPeerNarrows(t *testing.T) {
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			p.run(t) // says what is missing before a server is started
			a := sharedAuthority(t)
			u := a.user(t)
			grant := a.login(t, u)
			caveats := []string{
				in(time.Hour), "audience " + audience, "method GET HEAD", "path /photos/** /фото/*",
				"client-ip 127.0.0.0/8", "note для принтера, 日本語, 🗝",
			}
			w := p.work(t, grant.Token, caveats...)
			if binary := strings.HasPrefix(w.Narrowed, "Ag"); binary != p.binary {
				t.Errorf("binary form: %v, want %v", binary, p.binary)
			}

			good := api.Request{Method: "GET", Path: "/photos/1?size=small", Audience: audience, ClientIP: "127.0.0.1"}
			cases := []struct {
				name string
				edit func(*api.Request)
				code string
			}{
				{"as narrowed", func(*api.Request) {}, api.CodeOK},
				{"the other pattern", func(r *api.Request) { r.Path = "/%D1%84%D0%BE%D1%82%D0%BE/1" }, api.CodeOK},
				{"method", func(r *api.Request) { r.Method = "DELETE" }, api.CodeRefused},
				{"path", func(r *api.Request) { r.Path = "/albums/1" }, api.CodeRefused},
				{"address", func(r *api.Request) { r.ClientIP = "192.0.2.1" }, api.CodeRefused},
				{"no address", func(r *api.Request) { r.ClientIP = "" }, api.CodeRefused},
			}
			for _, c := range cases {
				r := good
				c.edit(&r)
				d := a.verify(t, w.Narrowed, r)
				if d.Code != c.code || d.Allowed != (c.code == api.CodeOK) {
					t.Errorf("%s: code %s, want %s: %s", c.name, d.Code, c.code, d.Reason)
				}
				checkHeld(t, d, u, grant, caveats)
			}
			if d := a.verify(t, w.Same, good); d.Code != api.CodeWrongAudience {
				t.Errorf("the root at a resource server: code %s, want %s", d.Code, api.CodeWrongAudience)
			}
			checkForged(t, a, w, good, 3+len(caveats))
		})
	}
}

// checkHeld: the server read the peer's token as the peer meant it.
func checkHeld(t *testing.T, d api.Decision, u account, g api.Grant, caveats []string) {
	t.Helper()
	want := api.Principal{User: u.ID, Username: u.Username, Device: g.Device.ID, RootKeyID: g.RootKeyID}
	if d.Principal == nil || *d.Principal != want {
		t.Errorf("principal %+v, want %+v", d.Principal, want)
	}
	var texts []string
	for i, c := range d.Caveats {
		texts = append(texts, c.Text)
		if mint := i < 3; (c.Source == "mint") != mint {
			t.Errorf("caveat %d comes from %q", i, c.Source)
		}
	}
	if len(texts) != 3+len(caveats) || !slices.Equal(texts[3:], caveats) {
		t.Errorf("the server read the caveats %q, want three and %q", texts, caveats)
	}
}

// checkForged: each forgery of each caveat is refused, and tells nothing.
func checkForged(t *testing.T, a *authority, w work, r api.Request, caveats int) {
	t.Helper()
	if want := 4 * caveats; len(w.Forged) != want { // three of each, one fewer exchanged, and one more
		t.Fatalf("%d forgeries, want %d", len(w.Forged), want)
	}
	for _, f := range w.Forged {
		if f.Token == w.Narrowed {
			t.Errorf("%s: nothing was forged", f.What)
		}
		if d := a.verify(t, f.Token, r); d.Allowed || d.Code != api.CodeInvalid || d.Principal != nil || d.Caveats != nil {
			t.Errorf("%s: %+v, want code %s and nothing more", f.What, d, api.CodeInvalid)
		}
	}
}

// TestPeerAtTheAuthority: the authority's own endpoints take a peer's token
// too, as a root and narrowed to one action.
func TestPeerAtTheAuthority(t *testing.T) {
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			p.run(t)
			a := sharedAuthority(t)
			grant := a.login(t, a.user(t))
			w := p.work(t, grant.Token, in(time.Hour), "audience macaroond", "allow devices:list")
			for what, text := range map[string]string{"root": w.Same, "narrowed": w.Narrowed} {
				res := a.send(t, "GET", "/v1/devices", bearer(text), "")
				var got api.Devices
				if err := json.Unmarshal(res.body, &got); res.status != http.StatusOK || err != nil {
					t.Errorf("%s: devices: %s", what, res)
				} else if len(got.Devices) != 1 || got.Devices[0].ID != grant.Device.ID || !got.Devices[0].Current {
					t.Errorf("%s: devices are %+v, want the one that logged in", what, got.Devices)
				} else if age := time.Since(got.Devices[0].CreatedAt.Time); age < -time.Minute || age > time.Hour {
					t.Errorf("%s: the device was created at %v", what, got.Devices[0].CreatedAt)
				}
			}
			res := a.send(t, "DELETE", "/v1/devices/"+grant.Device.ID, bearer(w.Narrowed), "")
			if challenge := res.header.Get("WWW-Authenticate"); res.status != http.StatusForbidden || !strings.Contains(challenge, `error="insufficient_scope"`) {
				t.Errorf("narrowed to listing, deleting: %s, WWW-Authenticate %q", res, challenge)
			}
			for _, f := range w.Forged {
				res := a.send(t, "GET", "/v1/devices", bearer(f.Token), "")
				if challenge := res.header.Get("WWW-Authenticate"); res.status != http.StatusUnauthorized || res.problem() != api.CodeInvalid || !strings.Contains(challenge, `error="invalid_token"`) {
					t.Errorf("%s: %s, WWW-Authenticate %q", f.What, res, challenge)
				}
			}
		})
	}
}
