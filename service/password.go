package service

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"macaroond/service/api"
)

// Hashing says how passwords are hashed (argon2id, RFC 9106) and how much of
// it happens at once.
type Hashing struct {
	MemoryKiB uint32 // at least 19,456 (19 MiB)
	Time      uint32 // passes, at least 2
	Threads   uint8  // at least 1
	Pool      int    // hashes at a time; each takes MemoryKiB
	Queue     int    // callers that may wait for the pool; more are told to come back
}

// Bounds of a password's length, in its one form.
const (
	minPassword = 8    // characters
	maxPassword = 1024 // bytes of UTF-8
)

// oneForm is a password in NFC (RFC 8265's OpaqueString): two keyboards type the
// same one.
func oneForm(password string) string { return norm.NFC.String(password) }

// nameKey is the user's name, which is nobody's password.
func checkPassword(password, nameKey string) error {
	const field = "/password"
	if !utf8.ValidString(password) {
		return badField(field, "not UTF-8")
	}
	password = oneForm(password)
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return badField(field, "a password has at least %d characters", minPassword)
	case len(password) > maxPassword:
		return badField(field, "a password has at most %d bytes", maxPassword)
	}
	if why := weakPassword(password, nameKey); why != "" {
		return badField(field, "the password %s: several words that have nothing to do with one another make a good one", why)
	}
	return nil
}

// hasher is the bounded pool.
type hasher struct {
	Hashing
	slots chan struct{} // one token per hash in progress
	queue chan struct{} // one token per caller inside
	decoy string        // verified for unknown users, so that they cost the same
}

func newHasher(h Hashing) *hasher {
	p := &hasher{Hashing: h, slots: make(chan struct{}, h.Pool), queue: make(chan struct{}, h.Pool+h.Queue)}
	salt, sum := make([]byte, 16), make([]byte, 32)
	rand.Read(salt)
	rand.Read(sum) // of no password that anybody knows
	p.decoy = p.encode(salt, sum)
	return p
}

// errBusy tells a caller to come back: no memory is spent on it.
func errBusy() error {
	return &Error{Code: api.CodeBusy, Detail: "too many logins at once", RetryAfter: time.Second}
}

// full says that a hash asked for now would be refused.
func (p *hasher) full() bool { return len(p.queue) == cap(p.queue) }

// like is a hash of no password that anybody knows, at the costs of another one.
func (p *hasher) like(phc string) string {
	theirs, ours := strings.Split(phc, "$"), strings.Split(p.decoy, "$")
	if len(theirs) != len(ours) {
		return p.decoy
	}
	ours[3] = theirs[3]
	return strings.Join(ours, "$")
}

// run does one hash inside the pool, of a password in its one form.
func (p *hasher) run(ctx context.Context, password string, salt []byte, m, t uint32, threads uint8, size int) ([]byte, error) {
	select {
	case p.queue <- struct{}{}:
		defer func() { <-p.queue }()
	default:
		return nil, errBusy()
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	sum := argon2.IDKey([]byte(password), salt, t, m, threads, uint32(size))
	// The library takes a fresh block of memory each time. Collecting it while
	// the slot is still held is what bounds the process to pool × memory; it costs
	// about a millisecond beside the hash's thirty.
	runtime.GC()
	return sum, nil
}

func (p *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	rand.Read(salt)
	sum, err := p.run(ctx, oneForm(password), salt, p.MemoryKiB, p.Time, p.Threads, 32)
	if err != nil {
		return "", err
	}
	return p.encode(salt, sum), nil
}

// encode writes the PHC string.
func (p *hasher) encode(salt, sum []byte) string {
	e := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.MemoryKiB, p.Time, p.Threads, e.EncodeToString(salt), e.EncodeToString(sum))
}

// verify checks a password against a PHC string, or against the decoy when it
// is empty; then it is false whatever the password. current is false when the
// string was made with other costs than today's.
func (p *hasher) verify(ctx context.Context, password, phc string) (ok, current bool, err error) {
	known := phc != ""
	if !known {
		phc = p.decoy
	}
	if password = oneForm(password); len(password) > maxPassword {
		password = "" // no password is empty: refused, at the price of any other
		known = false
	}
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != "v=19" {
		return false, false, errors.New("a stored password hash is not argon2id version 19")
	}
	var m, t uint32
	var threads uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &m, &t, &threads); err != nil {
		return false, false, fmt.Errorf("a stored password hash has no costs: %w", err)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, false, fmt.Errorf("a stored password hash has no salt: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) == 0 {
		return false, false, errors.New("a stored password hash has no sum")
	}
	got, err := p.run(ctx, password, salt, m, t, threads, len(want))
	if err != nil {
		return false, false, err
	}
	same := subtle.ConstantTimeCompare(got, want) == 1
	return same && known, m == p.MemoryKiB && t == p.Time && threads == p.Threads, nil
}
