package keyring

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"macaroond/service/token"
	"macaroond/storage"
)

// TestRootKeyVectors holds the derivation against Python's hmac and node's
// hkdfSync, which agreed on every figure (testdata/vectors/make.py).
func TestRootKeyVectors(t *testing.T) {
	data, err := os.ReadFile("../../testdata/vectors/rootkeys.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name        string `json:"name"`
			EpochSecret string `json:"epoch_secret"`
			Identifier  string `json:"identifier"`
			RootKey     string `json:"root_key"`
		} `json:"vectors"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	seen := map[token.RootKey]string{}
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			secret, err1 := hex.DecodeString(v.EpochSecret)
			want, err2 := hex.DecodeString(v.RootKey)
			if err1 != nil || err2 != nil || len(secret) != 32 || len(want) != 32 {
				t.Fatal("the vector is not 32 and 32 bytes in hexadecimal")
			}
			id, err := token.ParseIdentifier(v.Identifier)
			if err != nil {
				t.Fatal(err)
			}
			prk, err := extract([32]byte(secret), token.Minting)
			if err != nil {
				t.Fatal(err)
			}
			got := prk.RootKey(id)
			if got != token.RootKey(want) {
				t.Errorf("root key %x, want %x", got[:], want)
			}
			// One device, one root key: an epoch, a number or a root key ID apart
			// is another key.
			if other, ok := seen[got]; ok {
				t.Errorf("the same root key as %q", other)
			}
			seen[got] = v.Name
		})
	}
	t.Logf("%d root keys checked", len(file.Vectors))
}

// TestSealedVector holds what is sealed against the specification's example,
// which libsodium and Python's hmac made: a box lives as long as its token,
// whatever release reads it.
func TestSealedVector(t *testing.T) {
	const box = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXfmhjwm3Mv_fqP_FXKiYS_Eu7HDl_GOXbzIE"
	var secret [32]byte
	for i := range secret {
		secret[i] = byte(i)
	}
	keys := keysOf(t, keyA)
	stored, err := keys.seal(1, secret)
	if err != nil {
		t.Fatal(err)
	}
	ring := New(keys)
	if err := ring.Load([]storage.Epoch{epoch(1, stored, storage.EpochSigning)}); err != nil {
		t.Fatal(err)
	}
	id, err := token.ParseIdentifier("m1.1.AAAAAAAAAAAAAAAAAAAAAA")
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := ring.OpenSealed(id, box); !ok || text != "method GET" {
		t.Errorf("%q, %v", text, ok)
	}
}
