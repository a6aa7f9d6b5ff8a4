package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

// The snippets of docs/clients.md: the block ```js file=call.mjs is call.mjs.
var snippet = regexp.MustCompile("(?ms)^```(?:js|python) file=(\\S+)\n(.*?)^```$")

func snippets(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(absolute(t, "docs/clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range snippet.FindAllStringSubmatch(string(page), -1) {
		if _, twice := found[m[1]]; twice {
			t.Errorf("docs/clients.md has %s twice", m[1])
		}
		found[m[1]] = m[2]
	}
	return found
}

// recipe is one way of narrowing that the page shows, in a language in which it
// has a whole client.
type recipe struct {
	narrow string // the snippet
	module string // the name that the client imports it by
	client string // the snippet that imports it
	driver string // prints window(at) and narrow(token, caveats…) of its arguments
	run    func(*testing.T) string
}

const (
	driveJS = `import { narrow, window } from './narrow.mjs';
const [at, token, ...caveats] = process.argv.slice(2);
console.log(window(new Date(at)));
console.log(await narrow(token, ...caveats));
`
	drivePython = `import sys
from datetime import datetime
from narrow import narrow, window
at, token, *caveats = sys.argv[1:]
print(window(datetime.fromisoformat(at.replace("Z", "+00:00"))))
print(narrow(token, *caveats))
`
)

var recipes = []recipe{
	{"narrow_macaroon.mjs", "narrow.mjs", "call.mjs", driveJS, node},
	{"narrow_plain.mjs", "narrow.mjs", "call.mjs", driveJS, node},
	{"narrow_webcrypto.mjs", "narrow.mjs", "call.mjs", driveJS, node},
	{"narrow_pymacaroons.py", "narrow.py", "call.py", drivePython, python},
	{"narrow_plain.py", "narrow.py", "call.py", drivePython, python},
}

// lay puts the recipe's snippets into a directory, as the reader of the page
// would, and returns it.
func (r recipe) lay(t *testing.T) string {
	t.Helper()
	all := snippets(t)
	dir := t.TempDir()
	for file, text := range map[string]string{r.module: all[r.narrow], r.client: all[r.client], "drive" + filepath.Ext(r.client): r.driver} {
		if text == "" {
			t.Fatalf("docs/clients.md lacks a snippet for %s", file)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(absolute(t, "testdata/interop/node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestClientsPage runs each whole client of the page with each of the page's
// ways of narrowing, against a server.
func TestClientsPage(t *testing.T) {
	for _, r := range recipes {
		t.Run(r.narrow, func(t *testing.T) {
			interpreter := r.run(t)
			a := sharedAuthority(t)
			u := a.user(t)
			dir := r.lay(t)
			env := []string{
				"MACAROON_SERVER=" + a.url, "MACAROON_USER=" + u.Username, "MACAROON_PASSWORD=" + u.Password, "INSTALL_ID=" + t.Name(),
				"PYTHONIOENCODING=utf-8", "PYTHONDONTWRITEBYTECODE=1",
			}
			for range 2 { // with install_id a second login is the same device
				out, err := tool(t, "", env, interpreter, filepath.Join(dir, r.client))
				if err != nil {
					t.Fatal(err)
				}
				words := strings.Fields(string(out))
				if len(words) != 5 || !strings.HasPrefix(words[0], "dev_") || strings.Join(words[1:], " ") != "Ana’s laptop (this one)" {
					t.Errorf("%s printed %q, want one device, this one", r.client, out)
				}
			}
		})
	}
}

// TestClientsPageShares: the page's token for somebody else works and is ended by
// its caveats, with each of the page's ways of narrowing in Python.
func TestClientsPageShares(t *testing.T) {
	for _, r := range recipes {
		if r.client != "call.py" {
			continue
		}
		t.Run(r.narrow, func(t *testing.T) {
			interpreter := r.run(t)
			a := sharedAuthority(t)
			u := a.user(t)
			all, file := snippets(t), filepath.Join(r.lay(t), "shares.py")
			if err := os.WriteFile(file, []byte(all["call.py"]+all["share.py"]), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := tool(t, "", []string{
				"MACAROON_SERVER=" + a.url, "MACAROON_USER=" + u.Username, "MACAROON_PASSWORD=" + u.Password, "INSTALL_ID=" + t.Name(),
				"PYTHONIOENCODING=utf-8", "PYTHONDONTWRITEBYTECODE=1",
			}, interpreter, file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(string(out), "\n1 shared\nrevoked\n") {
				t.Errorf("it printed %q, want one device that was shared, then a token that is revoked", out)
			}
		})
	}
}

// TestClientsPageNarrows: what each recipe of the page makes of a root is the
// same token, in the promised order, and the server takes it for what it says.
func TestClientsPageNarrows(t *testing.T) {
	for _, r := range recipes {
		t.Run(r.narrow, func(t *testing.T) {
			interpreter := r.run(t)
			a := sharedAuthority(t)
			u := a.user(t)
			grant := a.login(t, u)
			dir := r.lay(t)
			rest := []string{"audience " + audience, "path /photos/** /фото/**", "note " + strings.Repeat("n", 123), "note " + strings.Repeat("n", 507)}
			for at, want := range windows(time.Now()) {
				out, err := tool(t, "", []string{"PYTHONDONTWRITEBYTECODE=1"}, interpreter,
					append([]string{filepath.Join(dir, "drive"+filepath.Ext(r.client)), at, grant.Token, want}, rest...)...)
				if err != nil {
					t.Fatal(err)
				}
				lines := strings.Fields(strings.ReplaceAll(string(out), "time-before ", ""))
				if len(lines) != 2 || "time-before "+lines[0] != want {
					t.Fatalf("at %s the window is %q, want %q", at, out, want)
				}
				d := a.verify(t, lines[1], api.Request{Method: "GET", Path: "/photos/1", Audience: audience})
				checkHeld(t, d, u, grant, slices.Concat([]string{want}, rest))
				if d.Code != api.CodeOK {
					t.Errorf("code %s: %s", d.Code, d.Reason)
				}
			}
		})
	}
}

// windows are moments of the hour after next, so that none has passed, and
// the windows that the specification gives them.
func windows(now time.Time) map[string]string {
	hour := now.UTC().Truncate(time.Hour).Add(2 * time.Hour)
	out := map[string]string{}
	for minutes, hours := range map[string]int{"00:00": 1, "00:01": 1, "49:59": 1, "50:00": 1, "50:01": 2, "59:59": 2} {
		at := hour.Format("2006-01-02T15:") + minutes + "Z"
		out[at] = fmt.Sprintf("time-before %s", hour.Add(time.Duration(hours)*time.Hour).Format(time.RFC3339))
	}
	return out
}

// TestClientsPageVectors: each recipe gives the vectors' texts.
func TestClientsPageVectors(t *testing.T) {
	for _, r := range recipes {
		if r.narrow == "narrow_macaroon.mjs" {
			continue // writes the JSON form, which TestVectors of service/token reads
		}
		t.Run(r.narrow, func(t *testing.T) {
			interpreter := r.run(t)
			driver := filepath.Join(r.lay(t), "drive"+filepath.Ext(r.client))
			checked := 0
			for _, v := range tokenVectors(t) {
				if v.Location == "" && r.narrow == "narrow_pymacaroons.py" {
					continue // it writes a location of no bytes
				}
				n := len(v.Caveats)
				out, err := tool(t, "", []string{"PYTHONDONTWRITEBYTECODE=1"}, interpreter, append([]string{driver, "2026-11-21T22:00:00Z", v.Texts[0]}, v.Caveats...)...)
				if err != nil {
					t.Fatal(err)
				}
				words := strings.Fields(string(out))
				if got := words[len(words)-1]; got != v.Texts[n] {
					t.Errorf("%s: %s, want %s", v.Name, got, v.Texts[n])
				}
				checked++
			}
			if checked == 0 {
				t.Error("no vector was checked")
			}
		})
	}
}
