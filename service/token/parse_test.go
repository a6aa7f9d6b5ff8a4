package token_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"macaroond/service/token"
)

// refusal is a text that is no token, the error it matches, and words of the
// reason: a row that is refused for another reason tests nothing.
type refusal struct {
	name, text string
	is         error
	why        string
}

func refused(t *testing.T, rows []refusal) {
	t.Helper()
	if len(rows) == 0 {
		t.Fatal("no rows")
	}
	for _, r := range rows {
		tok, err := token.Parse(r.text)
		other := map[error]error{token.ErrMalformed: token.ErrTooLarge, token.ErrTooLarge: token.ErrMalformed}[r.is]
		if tok != nil || !errors.Is(err, r.is) || errors.Is(err, other) || !strings.Contains(err.Error(), r.why) {
			t.Errorf("%s: got %v, %v; want %v: …%s…", r.name, tok != nil, err, r.is, r.why)
		}
	}
}

// One token, one spelling: whatever can be written in two ways is refused in
// all of them but one.
func TestParseRefusesOtherSpellings(t *testing.T) {
	const (
		alphabet = "not base64url"
		fields   = "missing, unknown, twice there or out of order"
		early    = "ends too early"
		varint   = "not a minimal varint"
		epoch    = "epoch is not a decimal number from 1"
		key      = "22 characters of base64url"
		bad      = "is not m1."
	)
	good := mustMint(t, "audience pictures").Text() // 1 mod 3 bytes: two characters at the end, four loose bits
	if n := base64.RawURLEncoding.DecodedLen(len(good)); n%3 != 1 {
		t.Fatalf("the fixture has %d bytes: no loose bits", n)
	}
	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	head := version2 + ident(identifier) + eos
	tail := eos + sigOf(zeroSig)
	long := strings.Repeat("x", 0x80)
	rows := []refusal{
		{"nothing", "", token.ErrMalformed, "empty"},
		{"the version and nothing more", encode(version2), token.ErrMalformed, early},
		{"the version and a zero-length location", encode(version2 + loc("")), token.ErrMalformed, early},
		{"padding", good + "==", token.ErrMalformed, alphabet},
		{"wrong padding", good + "=", token.ErrMalformed, alphabet},
		{"newline after it", good + "\n", token.ErrMalformed, alphabet},
		{"CR LF after it", good + "\r\n", token.ErrMalformed, alphabet},
		{"newline within", good[:10] + "\n" + good[10:], token.ErrMalformed, alphabet},
		{"CR within", good[:10] + "\r" + good[10:], token.ErrMalformed, alphabet},
		{"space before it", " " + good, token.ErrMalformed, alphabet},
		{"NUL after it", good + "\x00", token.ErrMalformed, alphabet},
		{"BOM before it", "\ufeff" + good, token.ErrMalformed, alphabet},
		{"invalid UTF-8", good[:10] + "\xff" + good[11:], token.ErrMalformed, alphabet},
		{"the other alphabet's +", strings.Replace(wrapped(first("\xfb\xef\xbea\xfb\xef\xbea\xfb\xef\xbe")), "-", "+", 1), token.ErrMalformed, alphabet},
		{"the other alphabet's /", strings.Replace(wrapped(first("\xff\xff\xff")), "_", "/", 1), token.ErrMalformed, alphabet},
		{"non-zero trailing bits", loosened(good), token.ErrMalformed, alphabet},
		{"a single loose character", good + "AAA", token.ErrMalformed, alphabet},

		{"trailing byte", encode(string(raw) + "\x00"), token.ErrMalformed, "bytes after its end"},
		{"a second token after it", encode(string(raw) + string(raw)), token.ErrMalformed, "bytes after its end"},
		{"version byte alone", encode("\x02"), token.ErrMalformed, early},
		{"version 0", encode("\x00" + string(raw[1:])), token.ErrMalformed, "neither"},
		{"version 1 in binary", encode("0019location loc\n0011identifier\n"), token.ErrMalformed, "neither"},
		{"version 3", encode("\x03" + string(raw[1:])), token.ErrMalformed, "neither"},
		{"a byte before it", encode("\n" + string(raw)), token.ErrMalformed, "neither"},

		{"length of one byte in two", encode(version2 + "\x02\x9b\x00" + identifier + eos + tail), token.ErrMalformed, varint},
		{"length 0 in two bytes", encode(version2 + "\x01\x80\x00" + ident(identifier) + eos + tail), token.ErrMalformed, varint},
		{"length of two bytes in three", wrapped("\x02\x80\x81\x00" + long + eos), token.ErrMalformed, varint},
		{"length of ten bytes", wrapped("\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + eos), token.ErrMalformed, varint},
		{"length without its second byte", encode(head + "\x02\x80"), token.ErrMalformed, varint},
		{"length beyond the end", encode(head + "\x02\x7f" + "x"), token.ErrMalformed, early},
		{"length one beyond the end", encode(head + tail[:1] + "\x06\x20" + zeroSig[1:]), token.ErrMalformed, early},
		{"field type without a length", encode(head + "\x02"), token.ErrMalformed, early},
		{"field type as a long varint", wrapped("\x82\x00\x01x" + eos), token.ErrMalformed, fields},

		{"no identifier", encode(version2 + loc(location) + eos + tail), token.ErrMalformed, fields},
		{"identifier twice", encode(version2 + ident(identifier) + ident(identifier) + eos + tail), token.ErrMalformed, fields},
		{"location after identifier", encode(version2 + ident(identifier) + loc(location) + eos + tail), token.ErrMalformed, fields},
		{"location twice", encode(version2 + loc(location) + loc(location) + ident(identifier) + eos + tail), token.ErrMalformed, fields},
		{"an empty location, and another", encode(version2 + loc("") + loc(location) + ident(identifier) + eos + tail), token.ErrMalformed, fields},
		{"an empty location twice", encode(version2 + loc("") + loc("") + ident(identifier) + eos + tail), token.ErrMalformed, fields},
		{"vid in the header", encode(version2 + ident(identifier) + vid("v") + eos + tail), token.ErrMalformed, fields},
		{"signature in the header", encode(version2 + ident(identifier) + sigOf(zeroSig) + eos + tail), token.ErrMalformed, fields},
		{"unknown field 3 in the header", encode(version2 + field(3, "x") + ident(identifier) + eos + tail), token.ErrMalformed, fields},
		{"no EOS after the header", encode(version2 + ident(identifier) + first("x") + tail), token.ErrMalformed, fields},
		{"unknown field 5 in a caveat", wrapped(ident("x") + field(5, "y") + eos), token.ErrMalformed, fields},
		{"unknown field 3 in a caveat", wrapped(ident("x") + field(3, "y") + eos), token.ErrMalformed, fields},
		{"unknown field 255", wrapped(ident("x") + field(255, "y") + eos), token.ErrMalformed, fields},
		{"caveat's identifier twice", wrapped(ident("x") + ident("y") + eos), token.ErrMalformed, fields},
		{"vid before identifier", wrapped(vid("v") + ident("x") + eos), token.ErrMalformed, fields},
		{"vid twice", wrapped(ident("x") + vid("v") + vid("v") + eos), token.ErrMalformed, fields},
		{"vid without identifier", wrapped(vid("v") + eos), token.ErrMalformed, fields},
		{"location without identifier", wrapped(loc("l") + eos), token.ErrMalformed, fields},
		{"signature in a caveat", wrapped(ident("x") + sigOf(zeroSig) + eos), token.ErrMalformed, fields},
		{"no EOS after a caveat", encode(head + ident("x") + eos + sigOf(zeroSig)), token.ErrMalformed, fields},
		{"no EOS after the last caveat", encode(head + first("x") + sigOf(zeroSig)), token.ErrMalformed, fields},
		{"an EOS too many", encode(head + eos + eos + sigOf(zeroSig)), token.ErrMalformed, fields},
		{"no signature", encode(head + eos), token.ErrMalformed, early},
		{"identifier where the signature goes", encode(head + eos + ident(zeroSig)), token.ErrMalformed, fields},
		{"signature of 31 bytes", encode(head + eos + sigOf(zeroSig[1:])), token.ErrMalformed, "signature is not 32 bytes"},
		{"signature of 33 bytes", encode(head + eos + sigOf(zeroSig+"\x00")), token.ErrMalformed, "signature is not 32 bytes"},
		{"signature of 0 bytes", encode(head + eos + sigOf("")), token.ErrMalformed, "signature is not 32 bytes"},
		{"signature twice", encode(head + tail + sigOf(zeroSig)), token.ErrMalformed, "bytes after its end"},

		{"empty vid", wrapped(ident("x") + vid("") + eos), token.ErrMalformed, "empty field"},
		{"empty location of a third-party caveat", wrapped(loc("") + ident("x") + vid("v") + eos), token.ErrMalformed, "empty field"},
		{"empty location of a first-party caveat", wrapped(loc("") + ident("x") + eos), token.ErrMalformed, "empty field"},
		{"location of a first-party caveat", wrapped(loc("l") + ident("x") + eos), token.ErrMalformed, "first-party caveat has a location"},
		{"location with a newline", encode(version2 + loc("https://a\nb") + ident(identifier) + eos + tail), token.ErrMalformed, "location is not printable"},
		{"location with an escape", encode(version2 + loc("https://a\x1b[2J") + ident(identifier) + eos + tail), token.ErrMalformed, "location is not printable"},
		{"location that is not UTF-8", encode(version2 + loc("https://\xff") + ident(identifier) + eos + tail), token.ErrMalformed, "location is not printable"},
		{"location with a bidirectional control", encode(version2 + loc("https://a\u202e") + ident(identifier) + eos + tail), token.ErrMalformed, "location is not printable"},

		{"empty identifier", named(""), token.ErrMalformed, bad},
		{"another format", named("m2.7.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, bad},
		{"upper-case format", named("M1.7.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, bad},
		{"space before the identifier", named(" m1.7.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, bad},
		{"no epoch", named("m1..AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"nothing after the format", named("m1."), token.ErrMalformed, epoch},
		{"no root key ID", named("m1.7"), token.ErrMalformed, epoch},
		{"empty root key ID", named("m1.7."), token.ErrMalformed, key},
		{"epoch 0", named("m1.0.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"epoch with a leading zero", named("m1.07.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"epoch with a plus", named("m1.+7.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"epoch with a minus", named("m1.-7.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"epoch with a space", named("m1. 7.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"epoch with a separator", named("m1.1_0.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"epoch in hexadecimal", named("m1.7f.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"epoch in other digits", named("m1.\u0667.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"epoch beyond 32 bits", named("m1.4294967296.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"epoch beyond 64 bits", named("m1.18446744073709551623.AAECAwQFBgcICQoLDA0ODw"), token.ErrMalformed, epoch},
		{"root key ID of 21 characters", named("m1.7.AAECAwQFBgcICQoLDA0OD"), token.ErrMalformed, key},
		{"root key ID of 23 characters", named("m1.7.AAECAwQFBgcICQoLDA0ODwA"), token.ErrMalformed, key},
		{"root key ID with loose bits", named("m1.7.AAECAwQFBgcICQoLDA0ODx"), token.ErrMalformed, key},
		{"root key ID in the other alphabet", named("m1.7.AAECAwQFBgcICQoLDA0O/w"), token.ErrMalformed, key},
		{"root key ID with padding", named("m1.7.AAECAwQFBgcICQoLDA0O=="), token.ErrMalformed, key},
		{"root key ID of 15 bytes and CR LF", named("m1.7.AAECAwQFBgcICQoLDA0O\r\n"), token.ErrMalformed, key},
		{"root key ID of 15 bytes and two newlines", named("m1.7.AAECAwQF\nBgcICQoLDA0O\n"), token.ErrMalformed, key},
		{"root key ID with a newline", named("m1.7.AAECAwQFBgcICQoLDA0O\nw"), token.ErrMalformed, key},
		{"root key ID with a newline too many", named("m1.7.AAECAwQFBgcICQoLDA0ODw\n"), token.ErrMalformed, key},
		{"a fourth part", named("m1.7.AAECAwQFBgcICQoLDA0ODw.x"), token.ErrMalformed, key},
	}
	// Every other value of the root key ID's last character, which has four loose bits.
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		if !strings.ContainsRune("AQgw", c) {
			rows = append(rows, refusal{"root key ID ends in " + string(c), named("m1.7.AAECAwQFBgcICQoLDA0OD" + string(c)), token.ErrMalformed, key})
		}
	}
	// A token cut anywhere is no token.
	for n := 1; n < len(raw); n++ {
		rows = append(rows, refusal{"cut", encode(string(raw[:n])), token.ErrMalformed, ""})
	}
	refused(t, rows)
}

// loosened gives the text another last character which decodes to the same bytes.
func loosened(text string) string {
	raw, _ := base64.RawURLEncoding.DecodeString(text)
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		other := text[:len(text)-1] + string(c)
		if b, err := base64.RawURLEncoding.DecodeString(other); err == nil && other != text && bytes.Equal(b, raw) {
			return other
		}
	}
	panic("no loose bits")
}

// What the strict form does take, beside what the vectors have.
func TestParseAccepts(t *testing.T) {
	for _, c := range []struct{ name, text, same string }{
		{"no caveat", wrapped(""), ""},
		{"an empty caveat", wrapped(first("")), ""},
		{"a caveat that is not UTF-8", wrapped(first("\xff\x00")), ""},
		{"a third-party caveat", wrapped(loc("https://idp") + ident("x") + vid("v") + eos), ""},
		{"a third-party caveat without location", wrapped(ident("x") + vid("v") + eos), ""},
		{"epoch 1", named("m1.1.AAECAwQFBgcICQoLDA0ODw"), ""},
		{"the greatest epoch", named("m1.4294967295.AAECAwQFBgcICQoLDA0ODw"), ""},
		{
			"pymacaroons' zero-length location", encode(version2 + loc("") + ident(identifier) + eos + eos + sigOf(zeroSig)),
			encode(version2 + ident(identifier) + eos + eos + sigOf(zeroSig)),
		},
		{"a location beyond ASCII", encode(version2 + loc("https://größe.example") + ident(identifier) + eos + eos + sigOf(zeroSig)), ""},
	} {
		tok, err := token.Parse(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.same == "" {
			c.same = c.text
		}
		if got := tok.Text(); got != c.same {
			t.Errorf("%s: written as %s, want %s", c.name, got, c.same)
		}
	}
}

// Caveats of every length, whose bytes look like ends of sections and like
// lengths, with another behind them.
func TestParseLengths(t *testing.T) {
	for n := range token.MaxCaveatLen + 1 {
		for _, filled := range []string{"\x00", "\x01", "\x02", "x"} {
			want := []string{strings.Repeat(filled, n), "the next"}
			tok, err := token.Parse(wrapped(first(want[0]) + first(want[1])))
			if err != nil {
				t.Fatalf("%d times %q: %v", n, filled, err)
			}
			if got := tok.UnverifiedCaveats(); !slices.Equal(got, want) {
				t.Fatalf("%d times %q: %q", n, filled, got)
			}
		}
	}
}

// The limits, each at its edge on both sides.
func TestParseLimits(t *testing.T) {
	many := func(n int) string { return strings.Repeat(first("x"), n) }
	// sized is a well-formed token of n characters (n mod 4 not 1).
	sized := func(n int) string {
		fixed := len(version2+ident(identifier)+eos+eos+sigOf(zeroSig)) + 3 // a location of two length bytes
		text := encode(version2 + loc(strings.Repeat("l", n/4*3+max(0, n%4-1)-fixed)) + ident(identifier) + eos + eos + sigOf(zeroSig))
		if len(text) != n {
			t.Fatalf("%d characters, want %d", len(text), n)
		}
		return text
	}
	for name, text := range map[string]string{
		"4096 characters":                     sized(4096),
		"64 caveats":                          wrapped(many(64)),
		"512 bytes":                           wrapped(first(strings.Repeat("x", 512))),
		"512 bytes of third-party identifier": wrapped(ident(strings.Repeat("x", 512)) + vid(strings.Repeat("v", 512)) + eos),
		"512 bytes of third-party location":   wrapped(loc(strings.Repeat("l", 512)) + ident("x") + vid("v") + eos),
		"64 caveats in JSON":                  encode(`{"v":2,"i":"` + identifier + `","c":[` + strings.Repeat(`{"i":"x"},`, 63) + `{"i":"x"}],"s64":"` + encode(zeroSig) + `"}`),
	} {
		if _, err := token.Parse(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused(t, []refusal{
		{"4097 characters", sized(4096) + "A", token.ErrTooLarge, "4096 characters"},
		{"4098 characters, well formed", sized(4098), token.ErrTooLarge, "4096 characters"},
		{"4097 characters of rubbish", strings.Repeat("\n", 4097), token.ErrTooLarge, "4096 characters"},
		{"a megabyte", strings.Repeat("A", 1<<20), token.ErrTooLarge, "4096 characters"},
		{"65 caveats", wrapped(many(65)), token.ErrTooLarge, "64 caveats"},
		{"300 caveats", wrapped(many(300)), token.ErrTooLarge, "64 caveats"},
		{"513 bytes", wrapped(first(strings.Repeat("x", 513))), token.ErrTooLarge, "512 bytes"},
		{"513 bytes of third-party identifier", wrapped(ident(strings.Repeat("x", 513)) + vid("v") + eos), token.ErrTooLarge, "512 bytes"},
		{"513 bytes of vid", wrapped(ident("x") + vid(strings.Repeat("v", 513)) + eos), token.ErrTooLarge, "512 bytes"},
		{"513 bytes of third-party location", wrapped(loc(strings.Repeat("l", 513)) + ident("x") + vid("v") + eos), token.ErrTooLarge, "512 bytes"},
		{"65 caveats in JSON", encode(`{"v":2,"i":"` + identifier + `","c":[` + strings.Repeat(`{"i":"x"},`, 64) + `{"i":"x"}],"s64":"` + encode(zeroSig) + `"}`), token.ErrTooLarge, "64 caveats"},
		{"513 bytes in JSON", encode(`{"v":2,"i":"` + identifier + `","c":[{"i":"` + strings.Repeat("x", 513) + `"}],"s64":"` + encode(zeroSig) + `"}`), token.ErrTooLarge, "512 bytes"},
	})
}

// The JSON form is for js-macaroon: exact members, no other way to write one.
func TestParseRefusesJSON(t *testing.T) {
	const (
		member = "wrong, unknown or duplicate member"
		twice  = "missing, or there in two spellings"
	)
	i, s := `"i":"`+identifier+`"`, `"s64":"`+encode(zeroSig)+`"`
	with := func(more string) string { return encode(`{"v":2,` + i + `,` + more + `,` + s + `}`) }
	rows := []refusal{
		{"nothing in it", encode(`{}`), token.ErrMalformed, twice},
		{"unknown member", with(`"x":1`), token.ErrMalformed, member},
		{"unknown member that is null", with(`"x":null`), token.ErrMalformed, member},
		{"version 1's members", encode(`{"location":"l","identifier":"` + identifier + `","caveats":[],"signature":"00"}`), token.ErrMalformed, member},
		{"unknown member of a caveat", with(`"c":[{"i":"x","cid":"y"}]`), token.ErrMalformed, member},
		{"identifier twice", with(i), token.ErrMalformed, member},
		{"caveats twice", with(`"c":[],"c":[]`), token.ErrMalformed, member},
		{"signature twice", with(s), token.ErrMalformed, member},
		{"caveat's identifier twice", with(`"c":[{"i":"x","i":"y"}]`), token.ErrMalformed, member},
		{"member twice, once escaped", with(`"\u0069":"` + identifier + `"`), token.ErrMalformed, member},
		{"upper-case V", encode(`{"V":2,` + i + `,` + s + `}`), token.ErrMalformed, member},
		{"upper-case I", encode(`{"v":2,"I":"` + identifier + `",` + s + `}`), token.ErrMalformed, member},
		{"upper-case C", with(`"C":[]`), token.ErrMalformed, member},
		{"upper-case S64", encode(`{"v":2,` + i + `,"S64":"` + encode(zeroSig) + `"}`), token.ErrMalformed, member},
		{"Kelvin-like folding of s", encode(`{"v":2,` + i + `,"ſ64":"` + encode(zeroSig) + `"}`), token.ErrMalformed, member},
		{"upper-case I of a caveat", with(`"c":[{"I":"x"}]`), token.ErrMalformed, member},
		{"v 1", encode(`{"v":1,` + i + `,` + s + `}`), token.ErrMalformed, "not of version 2"},
		{"v 3", encode(`{"v":3,` + i + `,` + s + `}`), token.ErrMalformed, "not of version 2"},
		{"v 0", encode(`{"v":0,` + i + `,` + s + `}`), token.ErrMalformed, "not of version 2"},
		{"v as text", encode(`{"v":"2",` + i + `,` + s + `}`), token.ErrMalformed, member},
		{"v as 2.0", encode(`{"v":2.0,` + i + `,` + s + `}`), token.ErrMalformed, member},
		{"v as 2e0", encode(`{"v":2e0,` + i + `,` + s + `}`), token.ErrMalformed, member},
		{"v as true", encode(`{"v":true,` + i + `,` + s + `}`), token.ErrMalformed, member},
		{"v null", encode(`{"v":null,` + i + `,` + s + `}`), token.ErrMalformed, member},
		{"l null", with(`"l":null`), token.ErrMalformed, member},
		{"i null beside i64", encode(`{"v":2,"i":null,"i64":"` + encode(identifier) + `",` + s + `}`), token.ErrMalformed, member},
		{"i64 null beside i", with(`"i64":null`), token.ErrMalformed, member},
		{"c null", with(`"c":null`), token.ErrMalformed, member},
		{"s null beside s64", with(`"s":null`), token.ErrMalformed, member},
		{"a null caveat", with(`"c":[null]`), token.ErrMalformed, member},
		{"a caveat's i null", with(`"c":[{"i":null,"i64":"eA"}]`), token.ErrMalformed, member},
		{"a caveat's v null", with(`"c":[{"i":"x","v":null}]`), token.ErrMalformed, member},
		{"a caveat's v64 null", with(`"c":[{"i":"x","v64":null}]`), token.ErrMalformed, member},
		{"a caveat's l null", with(`"c":[{"i":"x","l":null}]`), token.ErrMalformed, member},
		{"both i and i64", with(`"i64":"` + encode(identifier) + `"`), token.ErrMalformed, twice},
		{"both s and s64", with(`"s":"` + strings.Repeat("x", 32) + `"`), token.ErrMalformed, twice},
		{"both of a caveat", with(`"c":[{"i":"x","i64":"eA"}]`), token.ErrMalformed, twice},
		{"both v and v64", with(`"c":[{"i":"x","v":"y","v64":"eQ"}]`), token.ErrMalformed, twice},
		{"no identifier", encode(`{"v":2,` + s + `}`), token.ErrMalformed, twice},
		{"no signature", encode(`{"v":2,` + i + `}`), token.ErrMalformed, twice},
		{"caveat without identifier", with(`"c":[{}]`), token.ErrMalformed, twice},
		{"empty v", with(`"c":[{"i":"x","v":""}]`), token.ErrMalformed, "empty field"},
		{"empty v64", with(`"c":[{"i":"x","v64":""}]`), token.ErrMalformed, "empty field"},
		{"first-party caveat with location", with(`"c":[{"i":"x","l":"y"}]`), token.ErrMalformed, "first-party caveat has a location"},
		{"location with a newline", with(`"l":"a\nb"`), token.ErrMalformed, "location is not printable"},
		{"c an object", with(`"c":{}`), token.ErrMalformed, member},
		{"c a text", with(`"c":"x"`), token.ErrMalformed, member},
		{"c of texts", with(`"c":["x"]`), token.ErrMalformed, member},
		{"c of numbers", with(`"c":[1]`), token.ErrMalformed, member},
		{"c of arrays", with(`"c":[["x"]]`), token.ErrMalformed, member},
		{"i a number", encode(`{"v":2,"i":1,` + s + `}`), token.ErrMalformed, member},
		{"i an array", encode(`{"v":2,"i":["` + identifier + `"],` + s + `}`), token.ErrMalformed, member},
		{"l a number", with(`"l":1`), token.ErrMalformed, member},
		{"a caveat's i a number", with(`"c":[{"i":1}]`), token.ErrMalformed, member},
		{"s64 an array of bytes", encode(`{"v":2,` + i + `,"s64":[0]}`), token.ErrMalformed, member},
		{"s64 with padding", encode(`{"v":2,` + i + `,"s64":"` + encode(zeroSig) + `="}`), token.ErrMalformed, "not base64url"},
		{"s64 with a newline", encode(`{"v":2,` + i + `,"s64":"` + encode(zeroSig) + `\n"}`), token.ErrMalformed, "not base64url"},
		{"s64 with loose bits", encode(`{"v":2,` + i + `,"s64":"` + loosened(encode(zeroSig)) + `"}`), token.ErrMalformed, "not base64url"},
		{"s64 in the other alphabet", encode(`{"v":2,` + i + `,"s64":"//` + encode(zeroSig)[2:] + `"}`), token.ErrMalformed, "not base64url"},
		{"s64 of 31 bytes", encode(`{"v":2,` + i + `,"s64":"` + encode(zeroSig[1:]) + `"}`), token.ErrMalformed, "signature is not 32 bytes"},
		{"s64 of 33 bytes", encode(`{"v":2,` + i + `,"s64":"` + encode(zeroSig+"x") + `"}`), token.ErrMalformed, "signature is not 32 bytes"},
		{"s64 empty", encode(`{"v":2,` + i + `,"s64":""}`), token.ErrMalformed, "signature is not 32 bytes"},
		{"i64 with padding", encode(`{"v":2,"i64":"` + base64.URLEncoding.EncodeToString([]byte(identifier)) + `=",` + s + `}`), token.ErrMalformed, "not base64url"},
		{"a caveat's v64 with padding", with(`"c":[{"i":"x","v64":"eQ=="}]`), token.ErrMalformed, "not base64url"},
		{"wrong identifier", encode(`{"v":2,"i":"m1.07.AAECAwQFBgcICQoLDA0ODw",` + s + `}`), token.ErrMalformed, "epoch"},
		{"BOM before it", encode("\ufeff" + `{"v":2,` + i + `,` + s + `}`), token.ErrMalformed, "neither"},
		{"space before it", encode(` {"v":2,` + i + `,` + s + `}`), token.ErrMalformed, "neither"},
		{"an array", encode(`[{"v":2,` + i + `,` + s + `}]`), token.ErrMalformed, "neither"},
		{"JSON itself, not encoded", `{"v":2,` + i + `,` + s + `}`, token.ErrMalformed, "not base64url"},
		{"invalid UTF-8 in a caveat", with("\"c\":[{\"i\":\"\xff\"}]"), token.ErrMalformed, member},
		{"invalid UTF-8 in a location", with("\"l\":\"\xc3\""), token.ErrMalformed, member},
		{"half a surrogate in a caveat", with(`"c":[{"i":"\ud800"}]`), token.ErrMalformed, member},
		{"control character in a caveat", with("\"c\":[{\"i\":\"a\nb\"}]"), token.ErrMalformed, member},
		{"a second value", encode(`{"v":2,` + i + `,` + s + `}{}`), token.ErrMalformed, member},
		{"trailing rubbish", encode(`{"v":2,` + i + `,` + s + `}x`), token.ErrMalformed, member},
		{"trailing NUL", encode(`{"v":2,` + i + `,` + s + "}\x00"), token.ErrMalformed, member},
		{"not closed", encode(`{"v":2,` + i + `,` + s), token.ErrMalformed, member},
		{"comma too many", encode(`{"v":2,` + i + `,` + s + `,}`), token.ErrMalformed, member},
		{"comment", encode(`{"v":2,/**/` + i + `,` + s + `}`), token.ErrMalformed, member},
		{"nested deep in c", with(`"c":` + strings.Repeat("[", 1400) + strings.Repeat("]", 1400)), token.ErrMalformed, member},
		{"nested deep in an unknown member", with(`"x":` + strings.Repeat(`{"x":`, 400) + "1" + strings.Repeat("}", 400)), token.ErrMalformed, member},
	}
	refused(t, rows)
}

// What is accepted as JSON is the token that the binary form says.
func TestParseJSON(t *testing.T) {
	sig := encode(strings.Repeat("\xfe", 32))
	binary := func(section string) string {
		return encode(version2 + loc(location) + ident(identifier) + eos + section + eos + sigOf(strings.Repeat("\xfe", 32)))
	}
	for _, c := range []struct{ name, json, want string }{
		{"text", `{"v":2,"l":"https://auth.example.com","i":"` + identifier + `","c":[{"i":"audience photos"}],"s64":"` + sig + `"}`, binary(first("audience photos"))},
		{"macaroon.v2, which writes no v", `{"l":"https://auth.example.com","i":"` + identifier + `","c":[{"i":"audience photos"}],"s64":"` + sig + `"}`, binary(first("audience photos"))},
		{"encoded", `{"v":2,"l":"https://auth.example.com","i64":"` + encode(identifier) + `","c":[{"i64":"` + encode("\xff") + `"}],"s64":"` + sig + `"}`, binary(first("\xff"))},
		{"no caveats", `{"v":2,"l":"https://auth.example.com","i":"` + identifier + `","s64":"` + sig + `"}`, binary("")},
		{"an empty caveat", `{"v":2,"l":"https://auth.example.com","i":"` + identifier + `","c":[{"i":""}],"s64":"` + sig + `"}`, binary(first(""))},
		{"third party", `{"v":2,"l":"https://auth.example.com","i":"` + identifier + `","c":[{"i":"x","v64":"` + encode("\xff") + `","l":"idp"}],"s64":"` + sig + `"}`, binary(loc("idp") + ident("x") + vid("\xff") + eos)},
		{"empty locations, which are none", `{"v":2,"l":"","i":"` + identifier + `","c":[{"i":"x","l":""}],"s64":"` + sig + `"}`, encode(version2 + ident(identifier) + eos + first("x") + eos + sigOf(strings.Repeat("\xfe", 32)))},
		{"third party, v as text", `{"v":2,"l":"https://auth.example.com","i":"` + identifier + `","c":[{"i":"x","v":"vid"}],"s64":"` + sig + `"}`, binary(ident("x") + vid("vid") + eos)},
		{"other order, escapes and space", "{ \"s64\":\"" + sig + "\",\n\"\\u0069\":\"" + identifier + "\",\"l\":\"https:\\/\\/auth.example.com\"}\n", binary("")},
	} {
		tok, err := token.Parse(encode(c.json))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := tok.Text(); got != c.want {
			t.Errorf("%s: written as %s, want %s", c.name, got, c.want)
		}
	}
}

// A refusal never repeats what it refuses: the text is a bearer secret.
func TestParseErrorsQuoteNothing(t *testing.T) {
	secret := "Zm9yZ2VkLXNlY3JldC1ieXRlcw"
	for _, text := range []string{
		secret, encode("\x02" + secret), named(secret), named("m1." + secret), named("m1.7." + secret), named("m1.7" + secret + ".x"),
		encode(`{"` + secret + `":1}`), encode(`{"i":"` + secret + `","s64":"` + secret + `"}`), encode(`{"v":"` + secret + `"}`), wrapped(field(9, secret)),
	} {
		_, err := token.Parse(text)
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), text) || len(err.Error()) > 120 {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestIDs(t *testing.T) {
	for s, want := range map[string]bool{
		"usr_AAAAAAAAAAAAAAAA": true, "usr_----____aaaaZZZ9": true, "svc_AAAAAAAAAAAAAAAA": true,
		"dev_AAAAAAAAAAAAAAAA": false, "usr_AAAAAAAAAAAAAAA": false, "usr_AAAAAAAAAAAAAAAAA": false, "usr_": false, "": false,
		"usr_AAAAAAAAAAAAAAA=": false, "usr_AAAAAAAAAAAAAAA+": false, "usr_AAAAAAAAAAAAAAA/": false, "usr_AAAAAAAAAAAAAAA\n": false,
		"usr_AAAAAAAAAAAAAA AA": false, "USR_AAAAAAAAAAAAAAAA": false, "usr-AAAAAAAAAAAAAAAA": false, "usr_AAAAAAAAAAAAAA\u00e4": false,
		"usr_svc_AAAAAAAAAAAAAAAA": false, "usr_[AAAAAAAAAAAAAAA": false, "usr_`AAAAAAAAAAAAAAA": false, "usr_{AAAAAAAAAAAAAAA": false,
		"usr_@AAAAAAAAAAAAAAA": false, "usr_:AAAAAAAAAAAAAAA": false, "AAAAAAAAAAAAAAAA": false,
	} {
		if got := token.IsID(s, token.UserPrefix, token.ServicePrefix); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
	seen := map[string]bool{}
	for range 100 {
		s := token.NewID(token.DevicePrefix)
		if !token.IsID(s, token.DevicePrefix) || seen[s] {
			t.Errorf("drew %q", s)
		}
		seen[s] = true
		k := token.NewRootKeyID()
		if back, err := token.ParseRootKeyID(k.String()); err != nil || back != k || seen[k.String()] {
			t.Errorf("drew %v: %v, %v", k, back, err)
		}
		seen[k.String()] = true
	}
}
