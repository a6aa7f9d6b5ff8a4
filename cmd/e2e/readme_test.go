package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadme pastes the commands of the README's first ten minutes, as they
// stand, into a shell, at once: only the address is another. What a command
// prints is compared where the page says what comes of it.
func TestReadme(t *testing.T) {
	page, err := os.ReadFile(absolute(t, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, page2, ok := strings.Cut(string(page), "\n## The first ten minutes\n")
	section, _, ok2 := strings.Cut(page2, "\n## In front of a service\n")
	if !ok || !ok2 {
		t.Fatal("the README has other headings")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(macaroond, filepath.Join(dir, ".bin", "macaroond")); err != nil {
		t.Fatal(err)
	}
	if err := build(filepath.Join(dir, ".bin", "macaroon"), "./cmd/macaroon"); err != nil {
		t.Fatal(err)
	}
	a, err := startAuthority(filepath.Join(dir, ".dev"), nil, "--dev")
	if err != nil {
		t.Fatal(err)
	}
	defer a.stop()
	script := "exec < /dev/null\ncd '" + dir + "'\n" // no terminal, and no token on stdin
	blocks := 0
	for i, part := range strings.Split(section, "```") {
		code, isShell := strings.CutPrefix(part, "sh\n")
		if i%2 == 0 || !isShell || strings.HasPrefix(code, "make ") {
			continue
		}
		blocks++
		script += strings.ReplaceAll(code, "http://127.0.0.1:8420", a.url)
	}
	if blocks < 6 {
		t.Fatalf("only %d blocks", blocks)
	}
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	pasted := filepath.Join(dir, "pasted") // a file: on stdin it would be read as a token
	if err := os.WriteFile(pasted, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := tool(t, "", []string{"HOME=" + home, "XDG_CONFIG_HOME="}, "bash", "-eu", pasted)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"path /photos/**", "allowed", "method DELETE", "revoked", `"access":{"token":`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("nothing said %q:\n%s", want, out)
		}
	}
}
