// Package keyring keeps the authority's secrets: the key-encryption keys that
// come from outside, the epoch secrets that they seal, and the derivation of
// root keys.
//
// Why it can be trusted: an epoch secret is 32 random bytes and is stored only
// sealed by an AEAD that binds it to its epoch and purpose; a root key is
// HKDF-SHA256 of it, bound to the format and the whole identifier, and is never
// stored at all. A copy of the database is therefore not a key, and losing the
// database loses every key: it fails closed. Nothing here prints a secret.
//
// What it leaves to others: where the key file lives and who may read it
// (cmd/macaroond), and which epochs are there (storage).
package keyring

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"macaroond/service/token"
	"macaroond/storage"
)

// Keyring derives root keys from the epochs that are open. It is safe for
// concurrent use; [Keyring.Load] replaces all of it at once.
type Keyring struct {
	keys  *SealingKeys
	decoy token.PRK // stands in for unknown epochs, so that they cost the same work
	state atomic.Pointer[state]
}

type state struct {
	prk     map[slot]token.PRK // HKDF-Extract of the epoch secret, under the format's label
	epochs  int
	signing uint32
}

// slot is an epoch and a format in one word, which a map finds fastest.
type slot uint64

func slotOf(epoch uint32, f token.Format) slot { return slot(f)<<32 | slot(epoch) }

// New makes a keyring with no epoch.
func New(keys *SealingKeys) *Keyring {
	var decoy [32]byte
	rand.Read(decoy[:])
	k := &Keyring{keys: keys, decoy: token.NewPRK(decoy)}
	k.state.Store(&state{})
	return k
}

// String keeps the keyring out of logs.
func (*Keyring) String() string { return redacted }

// Format is String for every verb.
func (*Keyring) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue is String for slog.
func (*Keyring) LogValue() slog.Value { return slog.StringValue(redacted) }

// Load opens the epochs as stored; retired ones are left out. It is all or
// nothing: an epoch that cannot be opened is [ErrCannotOpen], and the keyring
// stays as it was.
func (k *Keyring) Load(epochs []storage.Epoch) error {
	next := state{prk: map[slot]token.PRK{}}
	old := k.state.Load()
	for _, e := range epochs {
		if e.State == storage.EpochRetired {
			continue
		}
		if err := k.open(&next, old, e); err != nil {
			return err
		}
		next.epochs++
		if e.State == storage.EpochSigning {
			next.signing = e.Number
		}
	}
	k.state.Store(&next)
	return nil
}

// open puts what root keys of an epoch are derived from into next, for each
// format, out of old when it is there.
func (k *Keyring) open(next, old *state, e storage.Epoch) error {
	var secret [32]byte
	opened := false
	for f := range token.Format(token.Formats()) {
		at := slotOf(e.Number, f)
		prk, known := old.prk[at]
		var err error
		if !known && !opened {
			if secret, err = k.keys.open(e.Number, e.Sealed); err != nil {
				return fmt.Errorf("epoch %d: %w", e.Number, err)
			}
			opened = true
		}
		if !known {
			if prk, err = extract(secret, f); err != nil {
				return err
			}
		}
		next.prk[at] = prk
	}
	return nil
}

// Signing is the epoch that mints; 0 when there is none.
func (k *Keyring) Signing() uint32 { return k.state.Load().signing }

// Epochs is how many epochs verify.
func (k *Keyring) Epochs() int { return k.state.Load().epochs }

func extract(secret [32]byte, f token.Format) (token.PRK, error) {
	prk, err := hkdf.Extract(sha256.New, secret[:], []byte(f.Label()))
	if err != nil {
		return token.PRK{}, err
	}
	return token.NewPRK([32]byte(prk)), nil
}

// prk is what keys of an identifier's epoch are derived from. For an epoch that
// is not on the ring it is a decoy, and false: the work is the same, so a forger
// learns nothing from the time about which epochs exist.
func (k *Keyring) prk(id token.Identifier) (token.PRK, bool) {
	prk, known := k.state.Load().prk[slotOf(id.Epoch, id.Format)]
	if !known {
		prk = k.decoy
	}
	return prk, known
}

// RootKey derives the root key of an identifier by HKDF-SHA256 (RFC 5869). The
// salt is the format's label: the purpose and its version. The info is the whole
// identifier, which begins with the format's name. For an epoch that is not on the
// ring the key is one that nobody can know, and known is false.
func (k *Keyring) RootKey(id token.Identifier) (key token.RootKey, known bool) {
	prk, known := k.prk(id)
	return prk.RootKey(id), known
}

// CSRF is the synchronizer token of a session in a browser, in one epoch: bound
// to the user, the device and its root key, and to nothing that a renewal
// changes. Its info begins with the purpose: an identifier, which is a root key's
// info, begins otherwise. It gives nothing away about the root key and is no
// bearer secret: without the cookie it is good for nothing. known as RootKey has it.
func (k *Keyring) CSRF(id token.Identifier, user, device string) (sum [32]byte, known bool) {
	prk, known := k.prk(id)
	const purpose = "macaroond/csrf/v1"
	// No part can hold a zero byte, so no two sessions have one info.
	return prk.Expand(purpose + "\x00" + id.String() + "\x00" + user + "\x00" + device), known
}

// Anchor is the start of a token's chain; known as RootKey has it.
func (k *Keyring) Anchor(t *token.Token) (start token.Anchor, known bool) {
	prk, known := k.prk(t.UnverifiedIdentifier())
	return prk.Anchor(t), known
}
