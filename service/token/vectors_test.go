package token_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"macaroond/service/token"
)

// vector is one token as other implementations compute it: pymacaroons and
// js-macaroon agreed on every figure (testdata/vectors/make.py).
type vector struct {
	Name         string   `json:"name"`
	RootKey      string   `json:"root_key"`
	Location     string   `json:"location"`
	Identifier   string   `json:"identifier"`
	Caveats      []string `json:"caveats"`
	Signatures   []string `json:"signatures"`   // after 0, 1, … caveats
	Fingerprints []string `json:"fingerprints"` // of these
	Texts        []string `json:"texts"`        // of these
	TextJSON     string   `json:"text_json"`    // js-macaroon's only text beyond three caveats
	EmptyLoc     string   `json:"text_with_empty_location"`
}

func readVectors(t *testing.T) []vector {
	t.Helper()
	data, err := os.ReadFile("../../testdata/vectors/tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []vector `json:"vectors"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	return file.Vectors
}

func unhex(t *testing.T, s string, n int) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != n {
		t.Fatalf("%q is not %d bytes in hexadecimal", s, n)
	}
	return b
}

// TestVectors holds the chain, its fingerprints and the text forms against
// what pymacaroons and js-macaroon make of the same root key.
func TestVectors(t *testing.T) {
	checked := 0
	for _, v := range readVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			n := len(v.Caveats)
			if len(v.Signatures) != n+1 || len(v.Fingerprints) != n+1 || len(v.Texts) != n+1 {
				t.Fatalf("%d caveats want %d signatures, fingerprints and texts", n, n+1)
			}
			rootKey := token.RootKey(unhex(t, v.RootKey, 32))
			sig := token.Start(&rootKey, v.Identifier)
			for i := 0; ; i++ {
				checkPoint(t, v, i, &sig)
				checked++
				if i == n {
					break
				}
				sig = sig.Next(v.Caveats[i])
			}
			checkText(t, v, &rootKey)
			checkAttenuation(t, v)
		})
	}
	if checked == 0 {
		t.Fatal("no signature was checked")
	}
	t.Logf("%d signatures checked", checked)
}

func checkPoint(t *testing.T, v vector, i int, sig *token.Signature) {
	t.Helper()
	if want := token.Signature(unhex(t, v.Signatures[i], 32)); *sig != want {
		t.Errorf("signature after %d caveats is %x, want %x", i, sig[:], want[:])
	}
	if got, want := sig.Fingerprint(), token.Fingerprint(unhex(t, v.Fingerprints[i], 16)); got != want {
		t.Errorf("fingerprint after %d caveats is %x, want %x", i, got[:], want[:])
	}
}

// checkText parses every spelling of the whole token and wants one token.
func checkText(t *testing.T, v vector, rootKey *token.RootKey) {
	t.Helper()
	whole := v.Texts[len(v.Caveats)]
	spellings := map[string]string{"binary": whole, "js-macaroon's JSON": v.TextJSON}
	if v.Location == "" {
		spellings["pymacaroons' with an empty location"] = v.EmptyLoc
	}
	for what, text := range spellings {
		parsed, err := token.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got := parsed.Text(); got != whole {
			t.Errorf("%s is written as %s, want %s", what, got, whole)
		}
		if got := parsed.UnverifiedLocation(); got != v.Location {
			t.Errorf("%s: location %q, want %q", what, got, v.Location)
		}
		chain, ok := parsed.Verify(rootKey)
		if !ok {
			t.Errorf("%s: the chain does not hold", what)
			continue
		}
		for i := range v.Signatures {
			if want := token.Signature(unhex(t, v.Signatures[i], 32)); *chain.Signature(i) != want {
				t.Errorf("%s: the chain has another signature after %d caveats", what, i)
			}
		}
		wrong := *rootKey
		wrong[31] ^= 1
		if _, ok := parsed.Verify(&wrong); ok {
			t.Errorf("%s: the chain holds under another root key", what)
		}
	}
}

// checkAttenuation narrows a step at a time and all at once.
func checkAttenuation(t *testing.T, v vector) {
	t.Helper()
	for i := range v.Caveats {
		parsed, err := token.Parse(v.Texts[i])
		if err != nil {
			t.Errorf("with %d caveats: %v", i, err)
			continue
		}
		for _, n := range []int{i + 1, len(v.Caveats)} {
			narrowed, err := token.Attenuate(parsed, v.Caveats[i:n]...)
			if err != nil {
				t.Errorf("from %d to %d caveats: %v", i, n, err)
			} else if got := narrowed.Text(); got != v.Texts[n] {
				t.Errorf("from %d to %d caveats: %s, want %s", i, n, got, v.Texts[n])
			}
		}
	}
}
