package token_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"gopkg.in/macaroon.v2"

	"macaroond/service/token"
)

// seeds are tokens that Parse takes: those of the vectors in all their forms,
// and some that no vector has.
func seeds(f *testing.F) []string {
	f.Helper()
	texts := []string{
		mustMint(f).Text(), mustMint(f, "audience photos", "path /a/**", "note ✓").Text(),
		wrapped(""), wrapped(first("")), wrapped(loc("idp") + ident("x") + vid("\xff") + eos), wrapped(strings.Repeat(first("x"), 64)),
		encode(version2 + loc("") + ident(identifier) + eos + eos + sigOf(zeroSig)),
		encode(`{"v":2,"i":"` + identifier + `","c":[{"i":"x","v64":"eQ","l":"z"},{"i64":"_w"}],"s64":"` + encode(zeroSig) + `"}`),
	}
	data, err := os.ReadFile("../../testdata/vectors/tokens.json")
	if err != nil {
		f.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(data, &file); err != nil {
		f.Fatal(err)
	}
	for _, v := range file.Vectors {
		texts = append(texts, v.TextJSON)
		texts = append(texts, v.Texts...)
		if v.EmptyLoc != "" {
			texts = append(texts, v.EmptyLoc)
		}
	}
	for _, text := range texts {
		if _, err := token.Parse(text); err != nil {
			f.Fatalf("a seed is no token: %v: %s", err, text)
		}
	}
	if len(texts) < 50 {
		f.Fatalf("only %d seeds", len(texts))
	}
	return texts
}

// FuzzParse: what is accepted has one spelling. data is tried as the text and
// as the bytes that the text encodes.
func FuzzParse(f *testing.F) {
	for _, text := range seeds(f) {
		data, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(text))
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, text := range []string{string(data), base64.RawURLEncoding.EncodeToString(data)} {
			tok, err := token.Parse(text)
			if err != nil {
				if tok != nil || errors.Is(err, token.ErrMalformed) == errors.Is(err, token.ErrTooLarge) {
					t.Fatalf("%q: %v, %v", text, tok != nil, err)
				}
				continue
			}
			checkAccepted(t, text, tok)
		}
	})
}

func checkAccepted(t *testing.T, text string, tok *token.Token) {
	t.Helper()
	bytes, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatalf("accepted, and not base64url: %q", text)
	}
	canonical := tok.Text()
	switch {
	case bytes[0] == '{':
	case strings.HasPrefix(string(bytes), "\x02\x01\x00"): // a zero-length location
		bytes = slices.Delete(bytes, 1, 3)
		text = base64.RawURLEncoding.EncodeToString(bytes)
		fallthrough
	default:
		if canonical != text {
			t.Fatalf("%q is written as %q", text, canonical)
		}
	}
	again, err := token.Parse(canonical)
	if err != nil || again.Text() != canonical || len(canonical) > token.MaxTextLen ||
		again.UnverifiedLocation() != tok.UnverifiedLocation() || again.UnverifiedIdentifier() != tok.UnverifiedIdentifier() ||
		!slices.Equal(again.UnverifiedCaveats(), tok.UnverifiedCaveats()) {
		t.Fatalf("%q is another token when it is read again: %v", canonical, err)
	}
	// What the strict decoder takes, the library takes for the same token, and
	// finds it good under the same keys.
	var m macaroon.Macaroon
	raw, _ := base64.RawURLEncoding.DecodeString(canonical)
	if err := m.UnmarshalBinary(raw); err != nil {
		t.Fatalf("macaroon.v2 does not take %q: %v", canonical, err)
	}
	if string(m.Id()) != tok.UnverifiedIdentifier().String() || m.Location() != tok.UnverifiedLocation() || len(m.Caveats()) != len(tok.UnverifiedCaveats()) {
		t.Fatalf("macaroon.v2 reads %q as another token", canonical)
	}
	thirdParty := false
	for i, c := range m.Caveats() {
		if string(c.Id) != tok.UnverifiedCaveats()[i] {
			t.Fatalf("macaroon.v2 reads caveat %d of %q as %q", i, canonical, c.Id)
		}
		thirdParty = thirdParty || len(c.VerificationId) > 0
	}
	if _, ok := tok.Verify(&rootKey); !thirdParty && ok != (m.Verify(rootKey[:], takeAll, nil) == nil) {
		t.Fatalf("macaroon.v2 has another verdict on %q", canonical)
	}
}

// FuzzSameAsLibrary builds tokens with macaroon.v2, third-party caveats with
// their discharges included, and wants the same signatures and the same
// verdict, under the right key and a wrong one, tampered with and not.
func FuzzSameAsLibrary(f *testing.F) {
	f.Add(rootKey[:], "a\nb\nc", uint64(0), uint16(0), byte(0))
	f.Add(rootKey[:], strings.Join(mint, "\n"), uint64(2), uint16(77), byte(1))
	f.Add([]byte("short"), "\xff\n\n\x00\nuser "+mallory, uint64(5), uint16(500), byte(0x80))
	f.Add([]byte{}, strings.Repeat("x\n", 63), uint64(1)<<63, uint16(0), byte(0))
	f.Add([]byte{}, strings.Repeat("x", 512), uint64(1), uint16(3), byte(255))
	f.Fuzz(func(t *testing.T, secret []byte, list string, thirdParty uint64, at uint16, flip byte) {
		var key token.RootKey
		copy(key[:], secret)
		m, err := macaroon.New(key[:], []byte(identifier), location, macaroon.V2)
		if err != nil {
			t.Fatal(err)
		}
		sigs := [][]byte{m.Signature()}
		var discharges []*macaroon.Macaroon
		for i, text := range strings.Split(list, "\n") {
			if i == token.MaxCaveats || len(text) > token.MaxCaveatLen {
				return
			}
			if thirdParty&(1<<i) != 0 {
				text = fmt.Sprintf("%d %.400s", i, text) // one discharge each
				err = m.AddThirdPartyCaveat([]byte(list), []byte(text), "https://idp.example")
				d, err2 := macaroon.New([]byte(list), []byte(text), "", macaroon.V2)
				discharges = append(discharges, d)
				err = errors.Join(err, err2)
			} else {
				err = m.AddFirstPartyCaveat([]byte(text))
			}
			if err != nil {
				t.Fatal(err)
			}
			sigs = append(sigs, m.Signature())
		}
		for _, d := range discharges {
			d.Bind(m.Signature())
		}
		data, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		tok, err := token.Parse(base64.RawURLEncoding.EncodeToString(data))
		if errors.Is(err, token.ErrTooLarge) && len(data) > 3*token.MaxTextLen/4 {
			return
		}
		if err != nil {
			t.Fatalf("not taken: %v", err)
		}
		if tok.Text() != base64.RawURLEncoding.EncodeToString(data) {
			t.Fatal("other bytes")
		}
		chain, ok := tok.Verify(&key)
		if !ok || m.Verify(key[:], takeAll, discharges) != nil {
			t.Fatalf("ours holds %v, the library's: %v", ok, m.Verify(key[:], takeAll, discharges))
		}
		for i, want := range sigs {
			if !bytes.Equal(chain.Signature(i)[:], want) {
				t.Fatalf("another signature after %d caveats", i)
			}
		}
		for i := range chain.Len() {
			if _, third := chain.Caveat(i); third != (thirdParty&(1<<i) != 0) {
				t.Fatalf("caveat %d third party: %v", i, third)
			}
		}
		wrong := key
		wrong[int(at)%32] ^= flip
		if _, ok := tok.Verify(&wrong); ok != (flip == 0) || ok != (m.Verify(wrong[:], takeAll, discharges) == nil) {
			t.Fatalf("under another key: ours %v, the library's %v", ok, m.Verify(wrong[:], takeAll, discharges))
		}
		// The same changed bytes, judged by both: never ours alone.
		data[int(at)%len(data)] ^= flip
		changed, err := token.Parse(base64.RawURLEncoding.EncodeToString(data))
		if err != nil {
			return
		}
		var lib macaroon.Macaroon
		if err := lib.UnmarshalBinary(data); err != nil {
			t.Fatalf("taken by us alone: %v", err)
		}
		_, ok = changed.Verify(&key)
		if libOK := lib.Verify(key[:], takeAll, discharges) == nil; ok != libOK {
			t.Fatalf("changed at %d: ours %v, the library's %v", int(at)%len(data), ok, libOK)
		}
	})
}

// FuzzTamper changes a valid token in every way a holder of its text could and
// wants it refused; only what is unchanged, or has another (unsigned) location,
// is accepted.
func FuzzTamper(f *testing.F) {
	seeded := 0
	for op := range byte(opCount) {
		for _, list := range []string{"audience photos", "audience photos\nmethod GET\nnote x", "", "a\na\nb"} {
			f.Add(list, op, uint16(3), uint16(5), "user "+mallory)
			f.Add(list, op, uint16(40), uint16(0), "")
			seeded++
		}
	}
	if seeded < 20 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, list string, op byte, at, by uint16, with string) {
		texts := slices.Clone(mint)
		if list != "" {
			texts = append(texts, strings.Split(list, "\n")...)
		}
		if len(texts) > 60 || len(with) > 500 {
			return
		}
		m, err := macaroon.New(rootKey[:], []byte(identifier), location, macaroon.V2)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if len(text) > token.MaxCaveatLen {
				return
			}
			m.AddFirstPartyCaveat([]byte(text))
		}
		whole, err := m.MarshalBinary()
		if err != nil || len(whole) > 3000 {
			return
		}
		if _, ok := mustParse(t, encode(string(whole))).Verify(&rootKey); !ok {
			t.Fatal("the token that is tampered with does not hold")
		}
		data := tamper(op, whole, texts, string(m.Signature()), int(at), int(by), with)
		tok, err := token.Parse(encode(data))
		if err != nil {
			return
		}
		chain, ok := tok.Verify(&rootKey)
		same := tok.UnverifiedIdentifier() == id && slices.Equal(tok.UnverifiedCaveats(), texts) && strings.HasSuffix(data, string(m.Signature()))
		for i := range len(tok.UnverifiedCaveats()) {
			if ok {
				_, third := chain.Caveat(i)
				same = same && !third
			}
		}
		if ok && !same {
			t.Fatalf("op %d accepts %q for %q", op%opCount, tok.UnverifiedCaveats(), texts)
		}
		// And the other way: only the location changed is accepted, so that the
		// test cannot pass by refusing everything.
		if !ok && same && data == string(whole) {
			t.Fatal("unchanged, and refused")
		}
	})
}

const (
	opFlip = iota
	opDrop
	opSwap
	opDuplicate
	opEdit
	opInsert
	opAppend
	opThirdParty
	opSplice
	opEpoch
	opLocation
	opCut
	opCount
)

// tamper gives the bytes of a changed token.
func tamper(op byte, whole []byte, texts []string, sig string, at, by int, with string) string {
	i, j := at%len(texts), by%len(texts)
	head, section := version2+loc(location)+ident(identifier)+eos, ""
	list := slices.Clone(texts)
	switch op % opCount {
	case opFlip:
		out := slices.Clone(whole)
		out[at%len(out)] ^= 1 << (by % 8)
		return string(out)
	case opDrop:
		list = slices.Delete(list, i, i+1)
	case opSwap:
		list[i], list[j] = list[j], list[i]
	case opDuplicate:
		list = slices.Insert(list, j, list[i])
	case opEdit:
		list[i] = with
	case opInsert:
		list = slices.Insert(list, i, with)
	case opAppend: // a caveat without its HMAC
		list = append(list, with)
	case opThirdParty: // a first-party caveat made a third-party one
		for k, text := range list {
			section += ident(text)
			if k == i {
				section += vid(with + "v")
			}
			section += eos
		}
		return head + section + eos + sigOf(sig)
	case opSplice: // another token's caveats or tail
		other, _ := macaroon.New([]byte("another root key"), []byte(identifier), location, macaroon.V2)
		for _, text := range list {
			other.AddFirstPartyCaveat([]byte(text))
		}
		sig = string(other.Signature()[:by%33]) + sig[by%33:]
	case opEpoch:
		head = version2 + loc(location) + ident("m1.8."+keyID.String()) + eos
	case opLocation:
		head = version2 + loc(with) + ident(identifier) + eos
	case opCut: // an earlier point of the chain with the later tail
		list = list[:i]
	}
	for _, text := range list {
		section += first(text)
	}
	return head + section + eos + sigOf(sig)
}

// TestTamperEveryBit flips each single bit of a token: none is accepted but
// those of the location's text.
func TestTamperEveryBit(t *testing.T) {
	tok := mustMint(t, "audience photos", "method GET")
	data, _ := base64.RawURLEncoding.DecodeString(tok.Text())
	accepted, inLocation := 0, 0
	for bit := range 8 * len(data) {
		changed := slices.Clone(data)
		changed[bit/8] ^= 1 << (bit % 8)
		got, err := token.Parse(encode(string(changed)))
		if err != nil {
			continue
		}
		if _, ok := got.Verify(&rootKey); ok {
			accepted++
			if b := bit / 8; b >= 3 && b < 3+len(location) && got.UnverifiedLocation() != location {
				inLocation++
			}
		}
	}
	if accepted != inLocation || accepted == 0 {
		t.Errorf("%d changed tokens accepted, %d of them in the location", accepted, inLocation)
	}
	t.Logf("%d bits flipped, %d accepted, all in the location", 8*len(data), accepted)
}

// FuzzAppendKeepsIdentity: whatever holders append, in whatever number, the
// identity is the authority's.
func FuzzAppendKeepsIdentity(f *testing.F) {
	for _, list := range []string{"user " + mallory, "device dev_MalloryMallory12", "time-before 2099-01-01T00:00:00Z", "\n\xff", "user  x\nuser"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		texts := append(slices.Clone(mint), strings.Split(list, "\n")...)
		m, err := macaroon.New(rootKey[:], []byte(identifier), location, macaroon.V2)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			m.AddFirstPartyCaveat([]byte(text))
		}
		tok, err := token.Parse(libText(t, m))
		if err != nil {
			return
		}
		if got, ok := mustVerify(t, tok).Identity(); !ok || got != who {
			t.Fatalf("%q: %+v, %v", texts, got, ok)
		}
		// Attenuate writes the same bytes, or refuses.
		narrowed, err := token.Attenuate(mustMint(t), texts[3:]...)
		if err == nil && narrowed.Text() != tok.Text() {
			t.Fatalf("%q: another token", texts)
		}
	})
}
