package keyring

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// SealingKeys is the list of key-encryption keys: the first seals, all open.
type SealingKeys struct{ keys []sealingKey }

type sealingKey struct {
	id   [8]byte // names the key inside a sealed secret; derived, not secret
	aead [32]byte
	link [32]byte
	name [32]byte
}

const redacted = "[redacted]"

// String keeps the keys out of logs.
func (SealingKeys) String() string { return redacted }

// Format is String for every verb.
func (SealingKeys) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue is String for slog.
func (SealingKeys) LogValue() slog.Value { return slog.StringValue(redacted) }

// NewKeyText draws a key-encryption key and writes it as a key file line: 43
// characters of base64url.
func NewKeyText() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ParseSealingKeys reads a key file: a key a line, blank lines and lines that
// begin with # left out. The errors tell the line's number and never its text.
func ParseSealingKeys(file string) (*SealingKeys, error) {
	var out SealingKeys
	for n, line := range strings.Split(file, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		kek, err := base64.RawURLEncoding.Strict().DecodeString(line)
		if err != nil || len(kek) != 32 || len(line) != 43 { // the decoder skips CR
			return nil, fmt.Errorf("key file line %d: a key is 32 random bytes in base64url without padding (43 characters)", n+1)
		}
		var k sealingKey
		copy(k.id[:], expand(kek, "macaroond/key-id/v1", 8))
		copy(k.aead[:], expand(kek, "macaroond/seal/v1", 32))
		copy(k.link[:], expand(kek, "macaroond/link-code/v1", 32))
		copy(k.name[:], expand(kek, "macaroond/stand-in/v1", 32))
		out.keys = append(out.keys, k)
	}
	if len(out.keys) == 0 {
		return nil, errors.New("the key file holds no key")
	}
	return &out, nil
}

func expand(secret []byte, info string, n int) []byte {
	out, err := hkdf.Key(sha256.New, secret, nil, info, n)
	if err != nil {
		panic(err) // only for a length beyond 8,160 bytes
	}
	return out
}

// sealedVersion begins every sealed secret: version, key id, nonce, ciphertext.
const sealedVersion = 1

// bound is the AEAD's associated data: a sealed secret opens only as the
// secret of that epoch.
func bound(epoch uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte("macaroond/epoch-secret/v1\x00"), epoch)
}

// Seal draws a fresh epoch secret and seals it under the first key.
// The secret itself is not returned: it is opened when it is needed.
func (s *SealingKeys) Seal(epoch uint32) ([]byte, error) {
	var secret [32]byte
	rand.Read(secret[:])
	return s.seal(epoch, secret)
}

func (s *SealingKeys) seal(epoch uint32, secret [32]byte) ([]byte, error) {
	k := s.keys[0]
	aead, err := chacha20poly1305.NewX(k.aead[:])
	if err != nil {
		return nil, err
	}
	out := append([]byte{sealedVersion}, k.id[:]...)
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	out = append(out, nonce...)
	return aead.Seal(out, nonce, secret[:], bound(epoch)), nil
}

// Reseal opens an epoch's secret with whichever key sealed it, and seals it
// under the first. [ErrCannotOpen].
func (s *SealingKeys) Reseal(epoch uint32, sealed []byte) ([]byte, error) {
	secret, err := s.open(epoch, sealed)
	if err != nil {
		return nil, err
	}
	return s.seal(epoch, secret)
}

// ErrCannotOpen says that no key of the file opens an epoch's secret. The
// database and the key file do not belong together, or one was altered.
var ErrCannotOpen = errors.New("no key in the key file opens the stored epoch secret: give the key file that has its key (a running server reads it when it is restarted)")

func (s *SealingKeys) open(epoch uint32, sealed []byte) (secret [32]byte, err error) {
	const head = 1 + 8
	if len(sealed) < head+chacha20poly1305.NonceSizeX || sealed[0] != sealedVersion {
		return secret, ErrCannotOpen
	}
	for _, k := range s.keys {
		if string(k.id[:]) != string(sealed[1:head]) { // the id is public
			continue
		}
		aead, err := chacha20poly1305.NewX(k.aead[:])
		if err != nil {
			return secret, err
		}
		nonce, box := sealed[head:head+aead.NonceSize()], sealed[head+aead.NonceSize():]
		plain, err := aead.Open(nil, nonce, box, bound(epoch))
		if err != nil || len(plain) != len(secret) {
			return secret, ErrCannotOpen
		}
		return [32]byte(plain), nil
	}
	return secret, ErrCannotOpen
}

// LinkCode is what is stored of a link's short code: HMAC-SHA256 under a key
// for nothing else, which is derived from the first key-encryption key. A copy
// of the database is thus not enough to try codes.
func (s *SealingKeys) LinkCode(userID, code string) [32]byte {
	mac := hmac.New(sha256.New, s.keys[0].link[:])
	fmt.Fprintf(mac, "%d\x00%s%s", len(userID), userID, code)
	return [32]byte(mac.Sum(nil))
}

// StandIn is the point in the order of random ids that a name falls on: 12 bytes
// of HMAC-SHA256 under a key for nothing else. Nobody without the key file can
// tell who is next to it.
func (s *SealingKeys) StandIn(nameKey string) []byte {
	mac := hmac.New(sha256.New, s.keys[0].name[:])
	mac.Write([]byte(nameKey))
	return mac.Sum(nil)[:12]
}
