package token_test

import (
	"encoding/base64"
	"encoding/binary"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/token"
)

// The token of these tests: whose it is and what its mint caveats say.
const (
	location   = "https://auth.example.com"
	identifier = "m1.7.AAECAwQFBgcICQoLDA0ODw"
	alice      = "usr_AliceAliceAlice1"
	mallory    = "usr_MalloryMallory12"
	phone      = "dev_PhonePhonePhone1"
	tillText   = "time-before 2026-11-21T23:00:00Z"
)

var (
	mint    = []string{tillText, "user " + alice, "device " + phone}
	till    = time.Date(2026, 11, 21, 23, 0, 0, 0, time.UTC)
	who     = token.Identity{User: alice, Device: phone, Expires: till}
	keyID   = token.RootKeyID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	id      = token.Identifier{Epoch: 7, RootKeyID: keyID}
	rootKey = token.RootKey([]byte("a root key of thirty-two bytes.."))
)

// mustMint makes alice's token on her phone, with texts appended.
func mustMint(t testing.TB, texts ...string) *token.Token {
	t.Helper()
	root, err := token.Mint(&rootKey, location, id, who)
	if err != nil {
		t.Fatal(err)
	}
	return mustAttenuate(t, root, texts...)
}

func mustAttenuate(t testing.TB, tok *token.Token, texts ...string) *token.Token {
	t.Helper()
	out, err := token.Attenuate(tok, texts...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func mustParse(t testing.TB, text string) *token.Token {
	t.Helper()
	tok, err := token.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func mustVerify(t testing.TB, tok *token.Token) token.Chain {
	t.Helper()
	chain, ok := tok.Verify(&rootKey)
	if !ok {
		t.Fatal("the chain does not hold")
	}
	return chain
}

// The binary form by hand (libmacaroons doc/format.txt), so that tests can
// write what no library would.

// field is a type, a length and the data.
func field(kind byte, data string) string {
	return string(binary.AppendUvarint([]byte{kind}, uint64(len(data)))) + data
}

const (
	version2 = "\x02"
	eos      = "\x00"
)

func loc(s string) string    { return field(1, s) }
func ident(s string) string  { return field(2, s) }
func vid(s string) string    { return field(4, s) }
func sigOf(s string) string  { return field(6, s) }
func first(s string) string  { return ident(s) + eos }
func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

const zeroSig = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// wrapped is a whole token, well formed, with these bytes where its caveats go.
func wrapped(section string) string {
	return encode(version2 + loc(location) + ident(identifier) + eos + section + eos + sigOf(zeroSig))
}

// named is a whole token, well formed but for its identifier.
func named(id string) string { return encode(version2 + ident(id) + eos + eos + sigOf(zeroSig)) }

func mustCaveat(t testing.TB, text string) caveats.Caveat {
	t.Helper()
	c, err := caveats.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
