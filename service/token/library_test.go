package token_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gopkg.in/macaroon.v2"

	"macaroond/service/token"
)

// raw builds any token at all with macaroon.v2; thirdParty says which of the
// caveats are third-party ones.
func raw(t testing.TB, thirdParty map[int]bool, texts ...string) *token.Token {
	t.Helper()
	return mustParse(t, libText(t, library(t, thirdParty, texts...)))
}

func library(t testing.TB, thirdParty map[int]bool, texts ...string) *macaroon.Macaroon {
	t.Helper()
	m, err := macaroon.New(rootKey[:], []byte(identifier), location, macaroon.V2)
	for i, text := range texts {
		if thirdParty[i] {
			err = errors.Join(err, m.AddThirdPartyCaveat([]byte("shared"), []byte(text), "https://idp.example"))
		} else {
			err = errors.Join(err, m.AddFirstPartyCaveat([]byte(text)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func libText(t testing.TB, m *macaroon.Macaroon) string {
	t.Helper()
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func takeAll(string) error { return nil }

// The sharp edges of macaroon.v2 2.1.0. Each test shows the edge first, so that
// it says when a later release has none, and then the fence.

// Edge 1: a version 1 macaroon loses a caveat that is not UTF-8, and nobody is told.
func TestEdgeVersion1DropsCaveats(t *testing.T) {
	m, err := macaroon.New(rootKey[:], []byte(identifier), location, macaroon.V1)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddFirstPartyCaveat([]byte("note \xff")); err != nil || len(m.Caveats()) != 0 {
		t.Fatalf("the edge is gone: %v, %d caveats", err, len(m.Caveats()))
	}
	js, err := m.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"binary": libText(t, m), "JSON": encode(string(js))} {
		if _, err := token.Parse(text); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("version 1 %s is taken: %v", what, err)
		}
	}
	if _, err := token.Attenuate(mustMint(t), "note \xff"); err == nil {
		t.Error("a caveat that is not UTF-8 is taken")
	}
	if text := mustMint(t).Text(); !strings.HasPrefix(text, "Ag") { // 0x02
		t.Error("minted another version")
	}
	// In version 2 such a caveat is kept and signed, and the same bytes come back.
	m = library(t, nil, append(slices.Clone(mint), "note \xff")...)
	tok := mustParse(t, libText(t, m))
	if chain := mustVerify(t, tok); chain.Len() != 4 || tok.Text() != libText(t, m) {
		t.Error("a caveat that is not UTF-8 is lost")
	}
}

// Edge 2: Verify shows the checker caveats that nobody has signed.
func TestEdgeCheckerBeforeSignature(t *testing.T) {
	var forged macaroon.Macaroon
	m := library(t, nil, mint...)
	b, _ := m.MarshalBinary()
	b[len(b)-1] ^= 1
	if err := forged.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	asked := 0
	if err := forged.Verify(rootKey[:], func(string) error { asked++; return nil }, nil); err == nil || asked == 0 {
		t.Fatalf("the edge is gone: %v, asked %d times", err, asked)
	}
	chain, ok := mustParse(t, encode(string(b))).Verify(&rootKey)
	if ok || !reflect.ValueOf(chain).IsZero() {
		t.Error("a forged token gives a chain")
	}
}

// Edge 3: UnmarshalBinary takes trailing bytes and over-long varints, and appends to a used value.
func TestEdgeLooseBinary(t *testing.T) {
	m := library(t, nil, mint...)
	b, _ := m.MarshalBinary()
	long := strings.Replace(string(b), ident(mint[1]), "\x02"+string([]byte{byte(len(mint[1])) | 0x80, 0})+mint[1], 1)
	for what, data := range map[string]string{"trailing bytes": string(b) + "rubbish", "an over-long varint": long} {
		var got macaroon.Macaroon
		if err := got.UnmarshalBinary([]byte(data)); err != nil || got.Verify(rootKey[:], takeAll, nil) != nil {
			t.Fatalf("the edge is gone: %s: %v", what, err)
		}
		if _, err := token.Parse(encode(data)); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	used := library(t, nil, mint...)
	if err := used.UnmarshalBinary(b); err != nil || len(used.Caveats()) != 6 {
		t.Fatalf("the edge is gone: %v, %d caveats", err, len(used.Caveats()))
	}
	tok := mustParse(t, encode(string(b)))
	for range 3 {
		if got := mustAttenuate(t, tok, "audience a").UnverifiedCaveats(); len(got) != 4 {
			t.Errorf("narrowed to %q", got)
		}
	}
}

// Edge 4: Base64Decode takes four alphabets, newlines and loose tail bits.
func TestEdgeLooseBase64(t *testing.T) {
	good := wrapped(first("\xff\xff\xff") + first("xx"))
	data, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil || len(data)%3 == 0 {
		t.Fatal("the fixture wants loose bits", len(data)%3, err)
	}
	for what, text := range map[string]string{
		"padded":                base64.URLEncoding.EncodeToString(data),
		"the other alphabet":    base64.RawStdEncoding.EncodeToString(data),
		"both":                  base64.StdEncoding.EncodeToString(data),
		"a newline":             good[:40] + "\r\n" + good[40:],
		"loose bits in the end": loosened(good),
	} {
		if got, err := macaroon.Base64Decode([]byte(text)); err != nil || string(got) != string(data) || text == good {
			t.Fatalf("the edge is gone: %s: %v", what, err)
		}
		if _, err := token.Parse(text); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	mustParse(t, good)
}

// Edge 5: UnmarshalJSON panics on nothing; keys match in any case, the last of
// two wins, and v is ignored.
func TestEdgeLooseJSON(t *testing.T) {
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the edge is gone: UnmarshalJSON(nil) does not panic")
			}
		}()
		new(macaroon.Macaroon).UnmarshalJSON(nil)
	}()
	if _, err := token.Parse(""); !errors.Is(err, token.ErrMalformed) {
		t.Errorf("nothing: %v", err)
	}
	js, err := library(t, nil, mint...).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string][2]string{
		"keys in another case": {`"i":`, `"I":`},
		"the last of two wins": {`{`, `{"s64":"AAAA",`},
		"v is ignored":         {`{`, `{"v":9,`},
		"unknown members":      {`{`, `{"caveats_":[],`},
	} {
		text := strings.Replace(string(js), change[0], change[1], 1)
		if what == "keys in another case" {
			text = strings.ReplaceAll(string(js), change[0], change[1])
		}
		var m macaroon.Macaroon
		if err := json.Unmarshal([]byte(text), &m); err != nil || m.Verify(rootKey[:], takeAll, nil) != nil {
			t.Fatalf("the edge is gone: %s: %v", what, err)
		}
		if _, err := token.Parse(encode(text)); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	mustVerify(t, mustParse(t, encode(string(js))))
}

// Edge 6: VerifySignature mixes the conditions of root and discharges.
func TestEdgeMixedConditions(t *testing.T) {
	texts := append(slices.Clone(mint), "who is it")
	m := library(t, map[int]bool{3: true}, texts...)
	discharge, err := macaroon.New([]byte("shared"), []byte("who is it"), "https://idp.example", macaroon.V2)
	if err != nil {
		t.Fatal(err)
	}
	if err := discharge.AddFirstPartyCaveat([]byte("user " + mallory)); err != nil {
		t.Fatal(err)
	}
	discharge.Bind(m.Signature())
	conds, err := m.VerifySignature(rootKey[:], []*macaroon.Macaroon{discharge})
	if err != nil || !slices.Contains(conds, "user "+mallory) {
		t.Fatalf("the edge is gone: %v, %q", err, conds)
	}
	tok := mustParse(t, libText(t, m))
	chain := mustVerify(t, tok)
	for i := range chain.Len() {
		if text, thirdParty := chain.Caveat(i); text != texts[i] || thirdParty != (i == 3) {
			t.Errorf("caveat %d is %q, third party %v", i, text, thirdParty)
		}
	}
	if id, ok := chain.Identity(); !ok || id != who {
		t.Errorf("identity %+v, %v", id, ok)
	}
}

// Edge 7: no limits, and an empty identifier.
func TestEdgeNoLimits(t *testing.T) {
	empty, err := macaroon.New(rootKey[:], nil, "", macaroon.V2)
	if err != nil {
		t.Fatalf("the edge is gone: %v", err)
	}
	if _, err := token.Parse(libText(t, empty)); !errors.Is(err, token.ErrMalformed) {
		t.Errorf("empty identifier: %v", err)
	}
	for what, texts := range map[string][]string{
		"caveats":    slices.Repeat([]string{"x"}, 65),
		"bytes":      {strings.Repeat("x", 513)},
		"characters": slices.Repeat([]string{strings.Repeat("x", 500)}, 8),
	} {
		var back macaroon.Macaroon
		m := library(t, nil, texts...)
		b, _ := m.MarshalBinary()
		if err := back.UnmarshalBinary(b); err != nil {
			t.Fatalf("the edge is gone: %s: %v", what, err)
		}
		if _, err := token.Parse(libText(t, m)); !errors.Is(err, token.ErrTooLarge) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Edge 8: locations are unsigned. Nothing but the name with the warning reads one.
func TestEdgeUnsignedLocation(t *testing.T) {
	m := library(t, nil, mint...)
	m.SetLocation("https://evil.example")
	if m.Verify(rootKey[:], takeAll, nil) != nil {
		t.Fatal("the edge is gone")
	}
	tok := mustParse(t, libText(t, m))
	if tok.UnverifiedLocation() != "https://evil.example" {
		t.Errorf("%q", tok.UnverifiedLocation())
	}
	if id, ok := mustVerify(t, tok).Identity(); !ok || id != who {
		t.Errorf("%+v, %v", id, ok)
	}
}
