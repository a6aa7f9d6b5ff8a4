package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	cite   = regexp.MustCompile("`(?:((?:caveats|cmd|service|storage|testdata)[a-z0-9/]*) )?((?:Test|Fuzz|Benchmark|Example)[A-Z][A-Za-z0-9_]*)(/[^`]*)?`")
	ofTest = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)[A-Z][A-Za-z0-9_]*)\(`)
)

// The pages name the tests that hold what they say. Each is there, in the
// package that is named with it.
func TestCitedTestsExist(t *testing.T) {
	const root = "../.."
	rooms := map[string][]string{} // of each test
	pages := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "node_modules" || name != "." && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
				return filepath.SkipDir
			}
			return nil
		}
		test, page := strings.HasSuffix(name, "_test.go"), strings.HasSuffix(name, ".md")
		if !test && !page {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if page {
			pages[name] = string(text)
		}
		for _, m := range ofTest.FindAllStringSubmatch(string(text), -1) {
			if test {
				rooms[m[1]] = append(rooms[m[1]], filepath.ToSlash(filepath.Dir(name)))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cited := 0
	for name, text := range pages {
		for _, m := range cite.FindAllStringSubmatch(text, -1) {
			cited++
			room, test := m[1], m[2]
			if there := rooms[test]; len(there) == 0 || room != "" && !slices.Contains(there, room) {
				t.Errorf("%s cites %s %s, which is in %v", name, room, test, there)
			}
		}
	}
	if cited < 100 {
		t.Errorf("%d tests are cited: the pages or their form have changed", cited)
	}
}
