package e2e

import (
	"encoding/json"
	"os"
	"testing"
)

// tokenVector is a token as pymacaroons and js-macaroon agreed on it.
type tokenVector struct {
	Name, Location string
	Caveats        []string
	Texts          []string // after 0, 1, … caveats
}

func tokenVectors(t *testing.T) []tokenVector {
	t.Helper()
	data, err := os.ReadFile(absolute(t, "testdata/vectors/tokens.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []tokenVector }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	return file.Vectors
}

// TestVectorsAreReproducible computes testdata/vectors anew, by pymacaroons and
// by js-macaroon, and compares. That the project agrees with them is tested
// where the code is: service/token and service/keyring.
func TestVectorsAreReproducible(t *testing.T) {
	node(t)
	out, err := tool(t, "", nil, python(t), absolute(t, "testdata/vectors/make.py"), "--check")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
