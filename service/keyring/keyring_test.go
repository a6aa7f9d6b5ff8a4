package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/service/token"
	"macaroond/storage"
)

// Key-encryption keys of the tests, as key file lines.
const (
	keyA = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE"
	keyB = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI"
)

func keysOf(t testing.TB, lines ...string) *SealingKeys {
	t.Helper()
	keys, err := ParseSealingKeys(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

var secret = [32]byte([]byte("an epoch secret of 32 bytes.0123"))

func sealed(t testing.TB, keys *SealingKeys, epoch uint32) []byte {
	t.Helper()
	box, err := keys.seal(epoch, secret)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func TestKeyFile(t *testing.T) {
	for name, file := range map[string]string{
		"one key": keyA, "with newline": keyA + "\n", "with CR LF": keyA + "\r\n", "blank lines": "\n\n" + keyA + "\n\n",
		"comment": "# made on Monday\n" + keyA, "indented comment and key": "  # x\n\t" + keyA + "  ", "freshly drawn": NewKeyText(),
	} {
		if keys, err := ParseSealingKeys(file); err != nil || len(keys.keys) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if keys := keysOf(t, keyA, "", "# old", keyB); len(keys.keys) != 2 {
		t.Errorf("%d keys", len(keys.keys))
	}
	for name, file := range map[string]string{
		"nothing": "", "blank": "\n \n", "comment only": "# " + keyA,
		"42 characters": keyA[:42], "44 characters": keyA + "A", "31 bytes and padding": keyA[:42] + "=", "padding": keyA + "=",
		"loose bits": keyA[:42] + "F", "the other alphabet": "+" + keyA[1:], "hexadecimal": strings.Repeat("41", 32),
		"comment behind": keyA + " # x", "two on a line": keyA + " " + keyB, "two with CR": keyA + "\r" + keyB,
		"CR within": keyA[:20] + "\r" + keyA[20:], "NUL": keyA + "\x00", "BOM": "\ufeff" + keyA,
		"second one wrong": keyA + "\n" + keyB[:42], "a passphrase": "correct horse battery staple",
	} {
		keys, err := ParseSealingKeys(file)
		if err == nil || keys != nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, line := range strings.Fields(file) {
			if len(line) > 8 && strings.Contains(err.Error(), line[:9]) {
				t.Errorf("%s: the error shows the key: %v", name, err)
			}
		}
	}
	if _, err := ParseSealingKeys("# one\n" + keyA + "\n\nbad"); err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("which line: %v", err)
	}
	if a, b := NewKeyText(), NewKeyText(); a == b || len(a) != 43 {
		t.Errorf("drew %q and %q", a, b)
	}
}

// A sealed secret opens as the secret of its epoch, under its key, unaltered,
// and in no other way.
func TestSealIsBound(t *testing.T) {
	a := keysOf(t, keyA)
	box := sealed(t, a, 1)
	if got, err := a.open(1, box); err != nil || got != secret {
		t.Fatalf("does not open: %v", err)
	}
	if got, err := keysOf(t, keyA).open(1, box); err != nil || got != secret {
		t.Errorf("does not open with the same key file read again: %v", err)
	}
	none := func(what string, keys *SealingKeys, epoch uint32, box []byte) {
		t.Helper()
		if got, err := keys.open(epoch, box); !errors.Is(err, ErrCannotOpen) || got != ([32]byte{}) {
			t.Errorf("%s: %v, secret given: %v", what, err, got != [32]byte{})
		}
	}
	none("another key", keysOf(t, keyB), 1, box)
	for _, epoch := range []uint32{0, 2, 1 << 8, 1 << 24, 1<<32 - 1} {
		none(fmt.Sprint("as epoch ", epoch), a, epoch, box)
	}
	for bit := range 8 * len(box) {
		changed := slices.Clone(box)
		changed[bit/8] ^= 1 << (bit % 8)
		none(fmt.Sprint("bit ", bit), a, 1, changed)
	}
	for n := range len(box) {
		none(fmt.Sprint("cut to ", n), a, 1, box[:n])
	}
	none("a byte more", a, 1, append(slices.Clone(box), 0))
	none("nothing", a, 1, nil)
	// The id of A's key on a box of B's, and two halves of two boxes.
	other := sealed(t, keysOf(t, keyB), 1)
	none("another key's box under this key's id", a, 1, append(slices.Clone(box[:9]), other[9:]...))
	again := sealed(t, a, 1)
	none("nonce of another box", a, 1, append(slices.Clone(again[:33]), box[33:]...))
	if bytes.Equal(box, again) || bytes.Equal(box[9:33], again[9:33]) {
		t.Error("sealed twice with one nonce")
	}
	if bytes.Contains(box, secret[:8]) {
		t.Error("the secret is in the box")
	}
}

// A secret of another length is not one, even if the key says so.
func TestSealedLength(t *testing.T) {
	keys := keysOf(t, keyA)
	for _, n := range []int{0, 16, 31, 33, 64} {
		if _, err := keys.open(1, sealAny(t, keys, 1, make([]byte, n))); !errors.Is(err, ErrCannotOpen) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := keys.open(1, sealAny(t, keys, 1, make([]byte, 32))); err != nil {
		t.Errorf("32 bytes: %v", err)
	}
}

// The first key seals, all open.
func TestSealingKeyList(t *testing.T) {
	a, b, ab, ba := keysOf(t, keyA), keysOf(t, keyB), keysOf(t, keyA, keyB), keysOf(t, keyB, keyA)
	opens := func(keys *SealingKeys, box []byte) bool {
		got, err := keys.open(9, box)
		return err == nil && got == secret
	}
	for name, c := range map[string]struct {
		by      *SealingKeys
		a, b    bool
		ab, ba_ bool
	}{
		"sealed by A":       {a, true, false, true, true},
		"sealed by B":       {b, false, true, true, true},
		"sealed by A and B": {ab, true, false, true, true},
		"sealed by B and A": {ba, false, true, true, true},
	} {
		box := sealed(t, c.by, 9)
		if opens(a, box) != c.a || opens(b, box) != c.b || opens(ab, box) != c.ab || opens(ba, box) != c.ba_ {
			t.Errorf("%s: A %v, B %v, A+B %v, B+A %v", name, opens(a, box), opens(b, box), opens(ab, box), opens(ba, box))
		}
	}
	one, err1 := a.Seal(9)
	two, err2 := a.Seal(9)
	first, err3 := a.open(9, one)
	second, err4 := a.open(9, two)
	if err := errors.Join(err1, err2, err3, err4); err != nil || first == second || first == [32]byte{} {
		t.Errorf("drew the same secret twice, or none: %v", err)
	}
}

func epoch(n uint32, box []byte, state storage.EpochState) storage.Epoch {
	return storage.Epoch{Number: n, Sealed: box, State: state, CreatedAt: time.Unix(0, 0)}
}

func id(epoch uint32, last byte) token.Identifier {
	return token.Identifier{Epoch: epoch, RootKeyID: token.RootKeyID{15: last}}
}

// Load is all or nothing, and leaves retired epochs out.
func TestLoad(t *testing.T) {
	keys := keysOf(t, keyA)
	ring := New(keys)
	if ring.Signing() != 0 || ring.Epochs() != 0 {
		t.Error("a new ring is not empty")
	}
	knows := func(want ...uint32) {
		t.Helper()
		for n := range uint32(8) {
			if _, ok := ring.RootKey(id(n, 1)); ok != slices.Contains(want, n) {
				t.Errorf("epoch %d known: %v", n, ok)
			}
		}
		if ring.Epochs() != len(want) {
			t.Errorf("%d epochs, want %v", ring.Epochs(), want)
		}
	}
	knows()
	one, two, three := sealed(t, keys, 1), sealed(t, keys, 2), sealed(t, keys, 3)
	load := func(want error, epochs ...storage.Epoch) {
		t.Helper()
		if err := ring.Load(epochs); !errors.Is(err, want) {
			t.Errorf("loading: %v, want %v", err, want)
		}
	}
	load(nil, epoch(1, one, storage.EpochVerifying), epoch(2, two, storage.EpochSigning))
	knows(1, 2)
	if ring.Signing() != 2 {
		t.Errorf("epoch %d signs", ring.Signing())
	}
	before, _ := ring.RootKey(id(1, 1))
	foreign := sealed(t, keysOf(t, keyB), 4)
	// What is on the ring stays as it is, whatever the key file opens now.
	load(nil, epoch(1, foreign, storage.EpochVerifying), epoch(2, two, storage.EpochSigning))
	if again, _ := ring.RootKey(id(1, 1)); again != before {
		t.Error("loaded again, an epoch gives another root key")
	}
	for _, bad := range []storage.Epoch{
		epoch(4, foreign, storage.EpochSigning), epoch(4, three, storage.EpochVerifying), epoch(4, nil, storage.EpochVerifying),
	} {
		load(ErrCannotOpen, epoch(3, three, storage.EpochSigning), bad)
		load(ErrCannotOpen, bad, epoch(3, three, storage.EpochSigning))
		knows(1, 2)
		if ring.Signing() != 2 {
			t.Errorf("epoch %d signs after a failed load", ring.Signing())
		}
	}
	load(nil, epoch(1, nil, storage.EpochRetired), epoch(2, two, storage.EpochVerifying), epoch(3, three, storage.EpochSigning))
	knows(2, 3)
	if ring.Signing() != 3 {
		t.Errorf("epoch %d signs", ring.Signing())
	}
	load(nil, epoch(3, three, storage.EpochSigning), epoch(2, two, storage.EpochVerifying)) // in any order
	if ring.Signing() != 3 {
		t.Errorf("epoch %d signs", ring.Signing())
	}
	load(nil, epoch(2, two, storage.EpochRetired), epoch(3, three, storage.EpochSigning)) // retired is retired, sealed or not
	knows(3)
	load(nil, epoch(1, one, storage.EpochSigning))
	knows(1)
	if after, _ := ring.RootKey(id(1, 1)); after != before {
		t.Error("the same secret gives another root key")
	}
	load(nil)
	knows()
	if ring.Signing() != 0 {
		t.Errorf("epoch %d signs on an empty ring", ring.Signing())
	}
}

// One secret under two numbers, two root key IDs: four root keys.
func TestRootKeysDiffer(t *testing.T) {
	keys := keysOf(t, keyA)
	ring := New(keys)
	if err := ring.Load([]storage.Epoch{epoch(1, sealed(t, keys, 1), storage.EpochSigning), epoch(11, sealed(t, keys, 11), storage.EpochVerifying)}); err != nil {
		t.Fatal(err)
	}
	seen := map[token.RootKey]token.Identifier{}
	for _, id := range []token.Identifier{id(1, 0), id(1, 1), id(11, 0), id(11, 1)} {
		key, ok := ring.RootKey(id)
		other, twice := seen[key]
		if !ok || twice || key == (token.RootKey{}) {
			t.Errorf("%v: known %v, and has the root key of %v", id, ok, other)
		}
		if again, _ := ring.RootKey(id); again != key {
			t.Errorf("%v: another root key each time", id)
		}
		seen[key] = id
	}
}

// An unknown epoch gives a key that nobody can know, false, and no less work.
func TestUnknownEpochIsADecoy(t *testing.T) {
	keys := keysOf(t, keyA)
	ring, other := New(keys), New(keys)
	if err := ring.Load([]storage.Epoch{epoch(1, sealed(t, keys, 1), storage.EpochSigning)}); err != nil {
		t.Fatal(err)
	}
	one, ok1 := ring.RootKey(id(2, 1))
	two, ok2 := other.RootKey(id(2, 1))
	if ok1 || ok2 || one == two || one == (token.RootKey{}) {
		t.Errorf("known %v and %v, the same everywhere %v, zero %v", ok1, ok2, one == two, one == token.RootKey{})
	}
	if again, _ := ring.RootKey(id(2, 1)); again != one {
		t.Error("the decoy changes: whoever asks twice learns that the epoch is unknown")
	}
	if guess := token.NewPRK([32]byte{}).RootKey(id(2, 1)); guess == one {
		t.Error("the decoy can be computed")
	}
	known, unknown := id(1, 1), id(2, 1)
	times := func(id token.Identifier) time.Duration {
		best := time.Hour
		for range 20 {
			start := time.Now()
			for range 50 {
				ring.RootKey(id)
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	if k, u := times(known), times(unknown); max(k, u) > 3*min(k, u) {
		t.Errorf("%v for a known epoch, %v for an unknown one", k/50, u/50)
	}
}

func TestKeyringConcurrent(t *testing.T) {
	keys := keysOf(t, keyA)
	ring := New(keys)
	epochs := []storage.Epoch{epoch(1, sealed(t, keys, 1), storage.EpochSigning)}
	if err := ring.Load(epochs); err != nil {
		t.Fatal(err)
	}
	want, _ := ring.RootKey(id(1, 1))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			ring.Load(epochs)
		}
	}()
	for range 200 {
		if got, ok := ring.RootKey(id(1, 1)); !ok || got != want {
			t.Error("a load in progress shows")
		}
	}
	<-done
}

func TestSecretsDoNotPrint(t *testing.T) {
	keys := keysOf(t, keyA, keyB)
	ring := New(keys)
	if err := ring.Load([]storage.Epoch{epoch(1, sealed(t, keys, 1), storage.EpochSigning)}); err != nil {
		t.Fatal(err)
	}
	prk, err := hkdf.Extract(sha256.New, secret[:], []byte(token.Format(0).Label()))
	if err != nil {
		t.Fatal(err)
	}
	if key, _ := ring.RootKey(id(1, 1)); key != token.NewPRK([32]byte(prk)).RootKey(id(1, 1)) {
		t.Fatal("another pseudorandom key")
	}
	decoy := [32]byte(bytes.Repeat([]byte("decoy"), 7))
	ring.decoy = token.NewPRK(decoy)
	secrets := [][]byte{keys.keys[0].aead[:], keys.keys[1].aead[:], decoy[:], prk, secret[:]}
	for _, v := range []any{keys, *keys, ring, []any{keys, ring}, ring.decoy, &ring.decoy, struct {
		Keys *SealingKeys
		Ring *Keyring
	}{keys, ring}} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		js, _ := json.Marshal(v)
		out.Write(js)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "k", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "k", v)
		for i, s := range secrets {
			for _, form := range []string{"%d", "%x", "%X", "%o", "%b", "%U", "%c", "%s", "%q"} {
				if shown := strings.Trim(fmt.Sprintf(form, s[:6]), "[]\""); strings.Contains(out.String(), shown) {
					t.Errorf("%T: secret %d shows as %s", v, i, shown)
				}
			}
			if shown := strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", s[:6]), "[]byte"), "{}"); strings.Contains(out.String(), shown) {
				t.Errorf("%T: secret %d shows as %s", v, i, shown)
			}
		}
	}
	for _, v := range []any{keys, *keys, ring} {
		if got := fmt.Sprintf("%v %x %d %#v", v, v, v, v); got != "[redacted] [redacted] [redacted] [redacted]" {
			t.Errorf("%T: %s", v, got)
		}
	}
}

func BenchmarkRootKey(b *testing.B) {
	keys := keysOf(b, keyA)
	ring := New(keys)
	if err := ring.Load([]storage.Epoch{epoch(1, sealed(b, keys, 1), storage.EpochSigning)}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		ring.RootKey(id(1, 1))
	}
}
