package token_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"macaroond/service/token"
)

// anchorsOf are all points of a chain that somebody may know beforehand.
func anchorsOf(c token.Chain) []token.Anchor {
	var out []token.Anchor
	for n := range c.Len() + 1 {
		a := token.Anchor{Caveats: n, Signature: *c.Signature(n)}
		for i := token.MintCaveats + 1; i <= n; i++ {
			a.Fingerprints = append(a.Fingerprints, c.Fingerprint(i))
		}
		out = append(out, a)
	}
	return out
}

// A chain walked from any of its points is the chain walked from the root key:
// the same fingerprints, identity and caveats.
func TestAnchors(t *testing.T) {
	tok := mustMint(t, "time-before 2026-11-21T13:00:00Z", "audience photos", "path /photos/*", "note x")
	whole := mustVerify(t, tok)
	for _, a := range anchorsOf(whole) {
		var c token.Chain
		if !c.Walk(tok, &a) {
			t.Fatalf("does not hold from %d", a.Caveats)
		}
		for n := token.MintCaveats + 1; n <= whole.Len(); n++ {
			if c.Fingerprint(n) != whole.Fingerprint(n) {
				t.Errorf("from %d: another fingerprint after %d", a.Caveats, n)
			}
		}
		got, ok1 := c.Identity()
		want, ok2 := whole.Identity()
		if !ok1 || !ok2 || got != want || c.Len() != whole.Len() || *c.Signature(c.Len()) != *whole.Signature(c.Len()) {
			t.Errorf("from %d: %+v", a.Caveats, got)
		}
	}
}

// From any anchor, what does not hold from the root key does not hold: a
// changed byte behind the anchor, a signature of another point, a token that is
// shorter than the anchor.
func TestAnchorsRefuse(t *testing.T) {
	tok := mustMint(t, "time-before 2026-11-21T13:00:00Z", "audience photos", "path /photos/*")
	whole := mustVerify(t, tok)
	raw, err := base64.RawURLEncoding.DecodeString(tok.Text())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range anchorsOf(whole) {
		begin := bytes.Index(raw, tok.UnverifiedBegin(a.Caveats))
		for at := begin + len(tok.UnverifiedBegin(a.Caveats)); at < len(raw); at++ {
			changed := bytes.Clone(raw)
			changed[at] ^= 1
			other, err := token.Parse(base64.RawURLEncoding.EncodeToString(changed))
			if err != nil {
				continue
			}
			if c := new(token.Chain); c.Walk(other, &a) {
				t.Errorf("from %d: holds with byte %d changed", a.Caveats, at)
			}
		}
		for _, b := range anchorsOf(whole) {
			if b.Caveats == a.Caveats {
				continue
			}
			moved := token.Anchor{Caveats: b.Caveats, Signature: a.Signature, Fingerprints: b.Fingerprints}
			if c := new(token.Chain); c.Walk(tok, &moved) {
				t.Errorf("the signature after %d is taken for that after %d", a.Caveats, b.Caveats)
			}
		}
		short := mustMint(t)
		if a.Caveats > token.MintCaveats {
			c := new(token.Chain)
			if c.Walk(short, &a) {
				t.Errorf("a bare root holds from %d", a.Caveats)
			}
			if _, ok := c.Identity(); ok {
				t.Error("what does not hold has an identity")
			}
		}
	}
}

// What begins the same is byte-equal, and nothing else is.
func TestBegin(t *testing.T) {
	a := mustMint(t, "audience photos", "note a")
	b := mustMint(t, "audience photos", "note b", "note c")
	for n := range 6 {
		same := n <= token.MintCaveats+1
		if got := bytes.Equal(a.UnverifiedBegin(min(n, 5)), b.UnverifiedBegin(n)); got != same {
			t.Errorf("the first %d caveats: the same %v", n, got)
		}
	}
	// Nor as far as they go on the same, be it by long caveats or third parties'.
	for _, caveat := range []string{first(strings.Repeat("x", 127)), first(strings.Repeat("x", 128)), first(strings.Repeat("x", 512)), ident("x") + vid("v") + eos} {
		begun := identifier + eos + caveat + caveat
		tok := mustParse(t, wrapped(caveat+caveat+first("y")))
		if got := string(tok.UnverifiedBegin(2)); got != begun {
			t.Errorf("begins with %q, want %q", got, begun)
		}
	}
	// Not where one caveat is two elsewhere, nor under another location.
	c := mustMint(t, "audience photosnote a")
	if bytes.HasPrefix(c.UnverifiedBegin(4), a.UnverifiedBegin(4)) {
		t.Error("a longer caveat begins the same")
	}
	elsewhere, err := token.Mint(&rootKey, "https://elsewhere.example", id, who)
	if err != nil || !bytes.Equal(elsewhere.UnverifiedBegin(3), a.UnverifiedBegin(3)) {
		t.Error("the location is part of the beginning", err)
	}
	if a.UnverifiedDigest() == b.UnverifiedDigest() || elsewhere.UnverifiedDigest() != mustMint(t).UnverifiedDigest() {
		t.Error("the digest does not name the token")
	}
}

// A token that is read into again and again is each time what Parse makes of
// the text, and so is a chain.
func TestReadAgain(t *testing.T) {
	texts := []string{
		mustMint(t).Text(), mustMint(t, "audience photos", strings.Repeat("x", 512)).Text(), "", "garbage",
		mustMint(t, "note a").Text(), strings.Repeat("A", 4097), wrapped(strings.Repeat(first("y"), 64)),
		wrapped(strings.Repeat(first("y"), 65)), mustMint(t, "note b", "note c").Text(), mustMint(t).Text() + "=",
		encode(`{"v":2,"l":"l","i":"` + identifier + `","c":[{"i":"x"}],"s64":"` + encode(zeroSig) + `"}`),
	}
	var tok token.Token
	var chain token.Chain
	for range 3 {
		for _, text := range texts {
			fresh, want := token.Parse(text)
			err := tok.Read(text)
			if (err == nil) != (want == nil) || err != nil && err.Error() != want.Error() {
				t.Fatalf("%.40q: %v, fresh: %v", text, err, want)
			}
			anchor := token.Anchor{Signature: token.Start(&rootKey, id.String())}
			held := chain.Walk(&tok, &anchor)
			if _, ok := chain.Identity(); ok && !held {
				t.Fatalf("%.40q: a chain that does not hold has the identity of the one before it", text)
			}
			if err != nil {
				if held {
					t.Fatalf("%.40q: what is no token holds", text)
				}
				continue
			}
			_, wantHeld := fresh.Verify(&rootKey)
			if tok.Text() != fresh.Text() || held != wantHeld || strings.Join(tok.UnverifiedCaveats(), "\n") != strings.Join(fresh.UnverifiedCaveats(), "\n") {
				t.Fatalf("%.40q: another token", text)
			}
		}
	}
}

// FuzzAnchor: whatever follows, a chain holds from a point just when it holds
// from the root key, with the same fingerprints; and reading into a used token
// reads the same.
func FuzzAnchor(f *testing.F) {
	f.Add("audience photos", "note x\npath /a", uint8(4), uint8(0), byte(0))
	f.Add("audience photos", "note x\npath /a", uint8(5), uint8(40), byte(1))
	f.Add("time-before 2026-11-21T13:00:00Z", "audience a", uint8(3), uint8(9), byte(0x80))
	f.Fuzz(func(t *testing.T, before, after string, n, at uint8, flip byte) {
		root, err := token.Mint(&rootKey, location, id, who)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := token.Attenuate(root, append([]string{before}, strings.Split(after, "\n")...)...)
		if err != nil {
			return
		}
		anchors := anchorsOf(mustVerify(t, tok))
		a := anchors[int(n)%len(anchors)]
		raw, _ := base64.RawURLEncoding.DecodeString(tok.Text())
		end := len(tok.UnverifiedBegin(a.Caveats)) + bytes.Index(raw, tok.UnverifiedBegin(0))
		raw[end+int(at)%(len(raw)-end)] ^= flip
		used := *mustMint(t, "note "+strings.Repeat("u", 300))
		if used.Read(base64.RawURLEncoding.EncodeToString(raw)) != nil {
			return
		}
		whole, held := used.Verify(&rootKey)
		var c token.Chain
		if !bytes.Equal(used.UnverifiedBegin(min(a.Caveats, used.UnverifiedLen())), tok.UnverifiedBegin(a.Caveats)) {
			return // the change made it another beginning: nobody would walk from there
		}
		if got := c.Walk(&used, &a); got != held || held != (flip == 0) {
			t.Fatalf("from %d %v, from the root key %v, changed %v", a.Caveats, got, held, flip != 0)
		}
		for i := token.MintCaveats + 1; held && i <= whole.Len(); i++ {
			if c.Fingerprint(i) != whole.Fingerprint(i) {
				t.Fatalf("another fingerprint after %d", i)
			}
		}
	})
}
