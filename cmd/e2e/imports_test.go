package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// docs/decisions.md says of each direct dependency why it is one, with the
// version that go.mod has.
func TestDependencies(t *testing.T) {
	page, err := os.ReadFile(absolute(t, "docs", "decisions.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "\n## 22 ")
	table, _, ok2 := strings.Cut(rest, "\n## ")
	if !ok || !ok2 {
		t.Fatal("docs/decisions.md has no decision 22")
	}
	out, err := tool(t, "", nil, "go", "list", "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}} {{.Version}}{{end}}", "all")
	if err != nil {
		t.Fatal(err)
	}
	direct := strings.Fields(string(out))
	for i := 0; i < len(direct); i += 2 {
		version, _, pseudo := strings.Cut(strings.TrimPrefix(direct[i+1], "v"), "-")
		row := "\n| `" + direct[i] + "` | "
		if !pseudo {
			row += version + ", "
		}
		if !strings.Contains(table, row) {
			t.Errorf("decision 22 has no row for %s %s", direct[i], direct[i+1])
		}
	}
	if rows := strings.Count(table, "\n| `"); rows != len(direct)/2 {
		t.Errorf("decision 22 has %d rows, and go.mod %d direct dependencies", rows, len(direct)/2)
	}
}

// TestImports holds the packages to the import rules in docs/design.md, as
// go/build/deps_test.go does for Go: the page and the code say the same, both
// ways, and third-party libraries that belong to one room stay in it.
func TestImports(t *testing.T) {
	page, err := os.ReadFile(absolute(t, "docs", "design.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```imports\n")
	rules, _, ok2 := strings.Cut(rest, "\n```")
	if !ok || !ok2 {
		t.Fatal("docs/design.md has no imports block")
	}
	want := map[string][]string{}
	for line := range strings.Lines(rules + "\n") {
		pkg, deps, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			t.Fatalf("no rule: %q", line)
		}
		want[pkg] = strings.Fields(deps)
	}
	if len(want) < 10 {
		t.Fatalf("only %d rules", len(want))
	}
	out, err := tool(t, "", nil, "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "macaroond/...")
	if err != nil {
		t.Fatal(err)
	}
	onlyIn := map[string][]string{
		"gopkg.in/macaroon.v2":          {"service/token"},
		"github.com/gin-gonic/gin":      {"service/httpapi", "service/guard/ginguard"},
		"github.com/spf13/viper":        {"cmd/macaroond"},
		"modernc.org/sqlite":            {"storage/sqlite"},
		"github.com/go-jose/go-jose/v4": {"service/dpop"},
		"github.com/pressly/goose/v3":   {"storage/sqlite"},
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], "macaroond/")
		allowed, known := want[pkg]
		if !known {
			t.Errorf("%s is in no rule of docs/design.md", pkg)
			continue
		}
		seen++
		var got []string
		for _, dep := range fields[1:] {
			if d, ours := strings.CutPrefix(dep, "macaroond/"); ours {
				got = append(got, d)
			}
			if rooms, bound := onlyIn[dep]; bound && !slices.Contains(rooms, pkg) {
				t.Errorf("%s imports %s, which belongs to %v", pkg, dep, rooms)
			}
		}
		slices.Sort(got)
		slices.Sort(allowed)
		if !slices.Equal(got, allowed) {
			t.Errorf("%s imports %v; docs/design.md says %v", pkg, got, allowed)
		}
	}
	if seen != len(want) {
		t.Errorf("%d rules, %d packages", len(want), seen)
	}
}
