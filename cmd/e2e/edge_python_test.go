package e2e

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"macaroond/service/api"
)

// TestEdgePython: the service of docs/gateways/README.md, as it stands there,
// asks a sidecar by itself.
func TestEdgePython(t *testing.T) {
	interpreter, err := exec.LookPath("/usr/bin/python3") // Debian's; it needs no library
	if err != nil {
		notProved(t, "that a service in Python can ask a sidecar", "python3", "apt-get install python3")
	}
	page, err := os.ReadFile(absolute(t, "docs/gateways/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := snippet.FindAllStringSubmatch(string(page), -1)
	if len(found) != 1 || found[0][1] != "photos.py" {
		t.Fatalf("the page has other snippets: %q", found)
	}
	file := filepath.Join(t.TempDir(), "photos.py")
	if err := os.WriteFile(file, []byte(found[0][2]), 0o600); err != nil {
		t.Fatal(err)
	}

	a := sharedAuthority(t)
	e := startEdge(t, a.url, a.credential(t))
	p, err := start([]string{"SIDECAR=" + e.addr(), "PORT=0", "PYTHONDONTWRITEBYTECODE=1"}, interpreter, file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("what it wrote:\n%s", p.stderr)
		}
	})
	url, err := p.firstLine()
	if err != nil {
		t.Fatal(err)
	}

	h := a.holder(t)
	text := h.photos(t, "path /photos/**", "method GET")
	check := func(what, method, path string, status int, challenge string, tokens ...string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range tokens {
			req.Header.Add("Authorization", bearer(text))
		}
		req.Header.Set("X-Original-URI", "/photos/1") // what a client says of itself counts for nothing
		req.Header.Set("X-Forwarded-For", "192.0.2.1")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if status == http.StatusOK {
			want = path + " for " + h.ID + "\n"
		}
		got := res.Header.Get("WWW-Authenticate")
		if res.StatusCode != status || string(body) != want || (challenge == "") != (got == "") || !strings.Contains(got, challenge) {
			t.Errorf("%s: %s, %q, challenge %q; want %d, %q, %q", what, res.Status, body, got, status, want, challenge)
		}
	}
	check("allowed", "GET", "/photos/1?size=small", 200, "", text)
	check("no token", "GET", "/photos/1", 401, "Bearer")
	check("not a token", "GET", "/photos/1", 401, "invalid_token", "AAAA")
	check("another path", "GET", "/albums/1", 403, "insufficient_scope", text)
	check("another method", "DELETE", "/photos/1", 403, "insufficient_scope", text)
	check("another address", "GET", "/photos/1", 403, "insufficient_scope", h.photos(t, "client-ip 192.0.2.0/24"))
	check("its own address", "GET", "/photos/1", 200, "", h.photos(t, "client-ip 127.0.0.0/8"))
	check("two tokens", "GET", "/photos/1", 403, "", text, text)
	check("dots", "GET", "/photos/../admin", 403, "insufficient_scope", text)

	if res := a.send(t, "POST", "/v1/revoke", "", encode(t, api.RevokeIn{Token: text})); res.status != http.StatusOK {
		t.Fatal(res)
	}
	eventually(t, "the edge knows", func() bool { status, _ := e.ask(t, text, ""); return status == http.StatusUnauthorized })
	check("revoked", "GET", "/photos/1", 401, "invalid_token", text)
	if err := e.stop(); err != nil {
		t.Error(err)
	}
	check("no sidecar", "GET", "/photos/1", 503, "", h.photos(t))
}
