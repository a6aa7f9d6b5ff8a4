package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// configTable is a table of docs/operations.md, made from the tags.
func configTable(t *testing.T, c any) string {
	var b strings.Builder
	b.WriteString("| key | default | reload | what it is |\n|---|---|---|---|\n")
	fields(c, func(key string, f reflect.StructField, _ reflect.Value) {
		if f.Tag.Get("doc") == "" {
			t.Errorf("%s has no doc", key)
		}
		value, reload := "", ""
		if d := f.Tag.Get("default"); d != "" {
			value = "`" + d + "`"
		}
		if f.Tag.Get("reload") != "" {
			reload = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", key, value, reload, f.Tag.Get("doc"))
	})
	return b.String()
}

// Configuration is told once: the page has the very tables of the structs.
func TestConfigTable(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	for _, c := range []any{new(config), new(edgeConfig)} {
		if want := configTable(t, c); !strings.Contains(string(page), "\n"+want+"\n") {
			t.Errorf("docs/operations.md has another table than this:\n%s", want)
		}
	}
}

// Every field of a configuration has a key, but for those that are not
// configuration, and config print shows it.
func TestEveryKeyIsTagged(t *testing.T) {
	for _, of := range []struct {
		c    any
		args []string
	}{
		{new(config), nil},
		{new(edgeConfig), []string{"--edge"}},
	} {
		v := reflect.TypeOf(of.c).Elem()
		for i := range v.NumField() {
			f := v.Field(i)
			if f.IsExported() != (f.Tag.Get("key") != "") {
				t.Errorf("%s: exported fields are keys, others are not", f.Name)
			}
		}
		var out strings.Builder
		p := process{Args: append([]string{"config", "print"}, of.args...), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out}
		if code := run(t.Context(), p); code != exitOK {
			t.Fatal(code, out.String())
		}
		n := 0
		fields(of.c, func(key string, f reflect.StructField, _ reflect.Value) {
			n++
			if !strings.Contains(out.String(), "# "+f.Tag.Get("doc")+"\n"+key+": ") {
				t.Errorf("config print %v does not show %s with its documentation", of.args, key)
			}
		})
		if n == 0 {
			t.Fatal("no fields")
		}
	}
}

// docs/alerts.yml asks for metrics that there are: docs/operations.md, which is
// compared with what is served, has each.
func TestAlerts(t *testing.T) {
	rules, err := os.ReadFile("../../docs/alerts.yml")
	must(t, err)
	page, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	names := regexp.MustCompile(`macaroond_[a-z_]+`).FindAllString(string(rules), -1)
	if len(names) < 10 {
		t.Fatalf("found %d metrics", len(names))
	}
	for _, name := range names {
		name = strings.TrimSuffix(name, "_count")
		if !regexp.MustCompile("(?m)^\\| .*`" + name + "[`{]").Match(page) {
			t.Errorf("%s is in no table of docs/operations.md", name)
		}
	}
}

// docs/api.md has every code that the service answers and every route that it
// serves, in its index too, and names no route that is not there.
func TestAPIPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/api.md")
	must(t, err)
	page := string(b)

	codes := constants(t, "../../service/api/codes.go", "Code")
	if len(codes) < 20 {
		t.Fatalf("found %d codes", len(codes))
	}
	for _, code := range codes {
		if !regexp.MustCompile("(?m)^\\| `" + code + "` \\|").MatchString(page) {
			t.Errorf("code %s has no row", code)
		}
	}

	files, err := filepath.Glob("../../service/httpapi/*.go")
	must(t, err)
	var source []byte
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			text, err := os.ReadFile(name)
			must(t, err)
			source = append(source, text...)
		}
	}
	routes := regexp.MustCompile(`(?:g\.(POST|PUT|PATCH|DELETE|Any)\(|get\(g, )"(/[^"]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(routes) < 26 {
		t.Fatalf("found %d routes", len(routes))
	}
	known := map[string]bool{}
	for _, r := range routes {
		method, path := cmp.Or(r[1], "GET"), regexp.MustCompile(`[:*](\w+)`).ReplaceAllString(r[2], "{$1}")
		if method == "Any" {
			method = "ANY"
		}
		known[method+" "+path] = true
		if !strings.Contains(page, "\n### `"+method+" "+path+"`\n") {
			t.Errorf("there is no heading `%s %s`", method, path)
		}
	}
	for _, h := range regexp.MustCompile("(?m)^### `([^`]+)`$").FindAllStringSubmatch(page, -1) {
		if !known[h[1]] {
			t.Errorf("%s is described and not served", h[1])
		}
		if !strings.Contains(page, "[`"+h[1]+"`](#") {
			t.Errorf("%s is not in the page's index", h[1])
		}
	}
}

// constants are the string constants of a file whose names begin with prefix.
func constants(t *testing.T, path, prefix string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash(path), nil, 0)
	must(t, err)
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, prefix) || len(spec.Values) == 0 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			s, err := strconv.Unquote(lit.Value)
			must(t, err)
			out = append(out, s)
		}
		return true
	})
	return out
}

// guarded runs curl, unless one of its arguments is a secret.
const guarded = `#!/bin/sh
for argument; do
	case $argument in *AgE*|*mds_*|*"$(cat "$DATA/demo-password")"*) echo "everybody can read this secret: $argument" >&2; exit 1;; esac
done
exec %s "$@"
`

// The examples of docs/api.md run as they stand, in their order. No token,
// password or secret of a service is an argument in them.
func TestAPIExamples(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		const missing = "NOT PROVED: that the examples of docs/api.md run as they stand. curl is missing: apt-get install curl"
		if os.Getenv("CI") != "" || os.Getenv("MACAROOND_REQUIRE_PEERS") == "1" { // cmd/e2e's rule
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	page, err := os.ReadFile("../../docs/api.md")
	must(t, err)
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 10 {
		t.Fatalf("%d examples", len(blocks))
	}
	script := "set -euo pipefail\n"
	for i, b := range blocks {
		script += fmt.Sprintf("echo '## example %d' >&2\n%s", i+1, b[1])
	}

	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "macaroond/cmd/macaroon").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, os.WriteFile(filepath.Join(bin, "curl"), fmt.Appendf(nil, guarded, curl), 0o700))
	s := newSite(t, map[string]string{"signup": "device", "trusted_proxies": "127.0.0.1/32"})
	s.serve()
	s.must(nil, password, "user", "add", "demo", "--password-file", "-")
	s.write(filepath.Join(s.dir, "demo-password"), password+"\n")
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = bin
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + bin, "URL=" + s.url, "DATA=" + s.dir, "GORACE=atexit_sleep_ms=10"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
