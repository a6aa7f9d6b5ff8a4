package e2e

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

// fence is a fenced block of a page: its language and its text.
var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// TestReadmeProtects takes the README's resource server and the commands around
// it as they stand, but for addresses and how it is compiled, against a real
// authority: the program has at most fifteen lines, and it protects.
func TestReadmeProtects(t *testing.T) {
	page, err := os.ReadFile(absolute(t, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## Protect a service\n")
	section, _, ok2 := strings.Cut(section, "\n## ")
	blocks := fence.FindAllStringSubmatch(section, -1)
	if !ok || !ok2 || len(blocks) != 4 || blocks[0][1] != "go" {
		t.Fatal("the README has other headings, or not the program, how to start it, how to ask it, and the sidecar")
	}
	program, begin, ask, sidecar := blocks[0][2], blocks[1][2], blocks[2][2], blocks[3][2]

	lines := 0
	for line := range strings.Lines(program) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	if lines > 15 {
		t.Errorf("the program has %d lines, blank ones not counted", lines)
	}
	dir := t.TempDir()
	for _, sub := range []string{".bin", "home"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(macaroond, filepath.Join(dir, ".bin", "macaroond")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(absolute(t, "docs"), filepath.Join(dir, "docs")); err != nil {
		t.Fatal(err)
	}
	if err := build(filepath.Join(dir, ".bin", "macaroon"), "./cmd/macaroon"); err != nil {
		t.Fatal(err)
	}
	a, err := startAuthority(filepath.Join(dir, ".dev"), nil, "--dev")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.stop(); err != nil {
			t.Error(err)
		}
	})

	addr := freeAddr(t)
	here := strings.NewReplacer("http://127.0.0.1:8420", a.url, "127.0.0.1:9000", addr,
		"go run .dev/photos.go", "exec ./photos", " edge ", " edge --listen 127.0.0.1:0 ")
	source := filepath.Join(dir, ".dev", "photos.go")
	if err := os.WriteFile(source, []byte(here.Replace(program)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := tool(t, "", nil, "gofmt", "-l", source); err != nil || len(out) > 0 {
		t.Errorf("gofmt has something to say: %s %v", out, err)
	}
	if err := build(filepath.Join(dir, "photos"), source); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + filepath.Join(dir, "home"), "XDG_CONFIG_HOME="}
	pasted := func(commands string) (file string) {
		t.Helper()
		file = filepath.Join(t.TempDir(), "pasted")
		if err := os.WriteFile(file, []byte("exec < /dev/null\ncd '"+dir+"'\n"+here.Replace(commands)), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	run := func(commands string) *process {
		t.Helper()
		p, err := start(env, "bash", "-eu", pasted(commands))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.stop(); err != nil {
				t.Error(err)
			}
		})
		return p
	}

	service := run(begin)
	if err := service.accepts(addr); err != nil {
		t.Fatal(err)
	}
	out, err := tool(t, "", env, "bash", "-eu", pasted(ask))
	if err != nil {
		t.Fatalf("%v\n%s", err, service.stderr)
	}
	var answers []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "HTTP/") {
			answers = append(answers, strings.Fields(line)[1])
		}
	}
	if got := strings.Join(answers, " "); got != "401 200" {
		t.Errorf("the answers are %s, the page says 401 and 200\n%s", got, out)
	}

	// And what the page does not show.
	password, err := os.ReadFile(filepath.Join(dir, ".dev", "demo-password"))
	if err != nil {
		t.Fatal(err)
	}
	root := a.login(t, account{Username: "demo", Password: strings.TrimSpace(string(password))}).Token
	get := func(text string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/README.md", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", bearer(text))
		res, err := apiClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, reply{body: body}.problem()
	}
	mine := narrow(t, root, in(time.Hour), "audience photos")
	for _, row := range []struct {
		name, text string
		status     int
		code       string
	}{
		{"a narrowed token", mine, 200, ""},
		{"one more caveat that holds", narrow(t, mine, "path /README.md"), 200, ""},
		{"one that does not", narrow(t, mine, "method PUT"), 403, api.CodeRefused},
		{"a bare root", root, 401, api.CodeWrongAudience},
		{"another audience", narrow(t, root, in(time.Hour), "audience mail"), 401, api.CodeWrongAudience},
		{"no token", "x", 401, api.CodeMalformed},
	} {
		if status, code := get(row.text); status != row.status || code != row.code {
			t.Errorf("%s: %d %s, want %d %s", row.name, status, code, row.status, row.code)
		}
	}
	a.revoke(t, root)
	eventually(t, "the token of a dropped device is refused", func() bool { status, code := get(mine); return status == 401 && code == api.CodeRevoked })

	line, err := run(sidecar).firstLine()
	if err != nil || !strings.HasPrefix(line, "macaroond edge listens on http://127.0.0.1:") {
		t.Errorf("the sidecar said %q, %v", line, err)
	}
}

// TestEdgePage builds the program of docs/edge.md; and in a module of its own,
// which the page's commands tell where this one lies, all that it imports is found,
// and so is the authority for its tests.
func TestEdgePage(t *testing.T) {
	page, err := os.ReadFile(absolute(t, "docs/edge.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string][]string{}
	for _, block := range fence.FindAllStringSubmatch(string(page), -1) {
		blocks[block[1]] = append(blocks[block[1]], block[2])
	}
	if len(blocks["go"]) != 1 || len(blocks["sh"]) != 1 {
		t.Fatal("the page has not the one program, or not how to use it from another module")
	}
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine")
	if err := errors.Join(os.Symlink(absolute(t, "."), filepath.Join(dir, "macaroond")), os.Mkdir(mine, 0o700),
		os.WriteFile(filepath.Join(mine, "main.go"), []byte(blocks["go"][0]), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := tool(t, "", nil, "gofmt", "-l", mine); err != nil || len(out) > 0 {
		t.Errorf("gofmt has something to say: %s %v", out, err)
	}
	if err := build(os.DevNull, filepath.Join(mine, "main.go")); err != nil {
		t.Error(err)
	}
	getTool := regexp.MustCompile("`(go get -tool [^`]+)`").FindSubmatch(page)
	if getTool == nil {
		t.Fatal("the page does not say how tests get the authority")
	}
	commands := "cd '" + mine + "'\ngo mod init example.com/mine\n" + blocks["sh"][0] + "go list -deps .\n" + string(getTool[1]) + "\ngo list -deps macaroond/cmd/macaroond"
	if _, err := tool(t, "", nil, "bash", "-euc", commands); err != nil {
		t.Error(err)
	}
}
