package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenced   = regexp.MustCompile("(?ms)^```.*?^```$")
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	notInID  = regexp.MustCompile(`[^\p{L}\p{N}_\- ]`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	inArgv   = regexp.MustCompile(`(?m)\bcurl\b.*\s(?:-u|--user)\s.*$|-H\s+["'](?:Authorization|Cookie):.*$`)
)

// pages are the README and everything in docs, by their path in the project.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/gateways/*.md"} {
		names, err := filepath.Glob(absolute(t, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found[name] = string(text)
		}
	}
	if len(found) < 15 {
		t.Fatalf("found %d pages", len(found))
	}
	return found
}

// anchors are a page's headings as GitHub names them.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		text := strings.ToLower(linkText.ReplaceAllString(m[1], "$1"))
		found[strings.ReplaceAll(notInID.ReplaceAllString(text, ""), " ", "-")] = true
	}
	return found
}

// What the pages link to is there, to the heading.
func TestLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	links := 0
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			links++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = filepath.Join(filepath.Dir(name), filepath.FromSlash(file))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", name, m[1], err)
			}
			if page, ok := all[target]; ok && anchor != "" && !anchors(page)[anchor] {
				t.Errorf("%s: %s: there is no such heading", name, m[1])
			}
		}
	}
	if links < 300 {
		t.Errorf("found %d links: the pages or their form have changed", links)
	}
}

// In a sequence diagram of Mermaid a semicolon ends the statement, and the rest
// of the line is an error: the page shows no picture.
func TestSequenceDiagrams(t *testing.T) {
	diagrams := 0
	for name, text := range pages(t) {
		for _, block := range fenced.FindAllString(text, -1) {
			if !strings.HasPrefix(block, "```mermaid\nsequenceDiagram\n") {
				continue
			}
			diagrams++
			for line := range strings.Lines(block) {
				if strings.Contains(line, ";") {
					t.Errorf("%s: a semicolon: %s", name, line)
				}
			}
		}
	}
	if diagrams < 8 {
		t.Errorf("found %d diagrams", diagrams)
	}
}

// No example makes a secret an argument, which everybody on the machine can
// read. (For tokens and bodies see TestAPIExamples in cmd/macaroond.)
func TestExamplesHideSecrets(t *testing.T) {
	examples := 0
	for name, text := range pages(t) {
		for _, block := range fenced.FindAllString(text, -1) {
			if strings.HasPrefix(block, "```sh\n") {
				examples++
				for _, found := range inArgv.FindAllString(block, -1) {
					t.Errorf("%s: %s", name, found)
				}
			}
		}
	}
	if examples < 40 {
		t.Errorf("found %d examples", examples)
	}
}
