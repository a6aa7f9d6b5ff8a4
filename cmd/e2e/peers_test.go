package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// notProved ends a test for which something is missing on this machine: loudly,
// and as a failure where everything has to be there.
func notProved(t *testing.T, what, missing, remedy string) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("MACAROOND_REQUIRE_PEERS") == "1" {
		t.Fatalf("NOT PROVED: %s. %s is missing: %s", what, missing, remedy)
	}
	t.Skipf("NOT PROVED: %s. %s is missing: %s", what, missing, remedy)
}

// python is an interpreter that has pymacaroons. Debian's comes first: another
// python3 may stand before it in PATH.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if _, err := tool(t, "", nil, path, "-c", "import pymacaroons"); err == nil {
			return path
		}
	}
	notProved(t, "that pymacaroons and macaroond understand each other", "python3 with pymacaroons", "apt-get install python3-pymacaroons")
	return ""
}

// node is node.js, with js-macaroon installed where the tests take it from.
func node(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		notProved(t, "that js-macaroon and macaroond understand each other", "node", "install node.js 18 or later")
	}
	if _, err := os.Stat(filepath.Join(root, "testdata/interop/node_modules/macaroon/package.json")); err != nil {
		notProved(t, "that js-macaroon and macaroond understand each other", "npm's package macaroon", "run npm ci in testdata/interop")
	}
	return path
}

// program is a Debian package's program of the same name.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err == nil { // not in everybody's PATH
			return path
		}
		notProved(t, "that "+name+" guards a backend with the documented configuration", name, "apt-get install "+name)
	}
	return path
}

// absolute is a path of the repository for a program with another directory.
func absolute(t *testing.T, elem ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(append([]string{root}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
