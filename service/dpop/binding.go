package dpop

import (
	"errors"
	"time"
)

// Presented is what a request shows besides its token.
type Presented struct {
	Proofs []string // every value of its DPoP header
	URL    string   // absolute, as the client asked for it; empty when nobody knows
	// Scheme says that the token came as "Authorization: DPoP": it must be bound
	// to a key (RFC 9449 section 7.1).
	Scheme bool
}

// Verifier checks proofs, and remembers which were used. It is safe for
// concurrent use.
type Verifier struct {
	keys keys
	seen seen
}

// NewVerifier makes one that knows nothing of what happened before now: for
// [Skew] and a second it accepts no proof. The zero time is for one before which
// there was none.
func NewVerifier(now time.Time) *Verifier { return newVerifier(now, defaultMost) }

func newVerifier(now time.Time, most int) *Verifier {
	v := &Verifier{keys: keys{known: map[string]*key{}}}
	v.seen.init(now, most)
	return v
}

// Check checks a proof for a request. It does not use it up. The error is safe
// to show.
func (v *Verifier) Check(proof string, r Request) (Proof, error) { return v.keys.check(proof, &r) }

// Binding is one request's proof on its way through a verdict. A nil one is of
// a request that shows none.
type Binding struct {
	v     *Verifier
	shown *Presented
	req   Request
	proof Proof
}

// Bind is for a request and what it presents; nil when that is nothing.
func (v *Verifier) Bind(shown *Presented, r Request) *Binding {
	if shown == nil || len(shown.Proofs) == 0 {
		return nil
	}
	r.URL = shown.URL
	return &Binding{v: v, shown: shown, req: r}
}

var (
	errNone    = errors.New("the request has no DPoP proof")
	errSeveral = errors.New("the request has more than one DPoP proof")
)

// Prove gives the thumbprint of the key that signed the one proof.
func (b *Binding) Prove() (string, error) {
	if b == nil {
		return "", errNone
	}
	if len(b.shown.Proofs) != 1 {
		return "", errSeveral
	}
	var err error
	b.proof, err = b.v.Check(b.shown.Proofs[0], b.req)
	return b.proof.Key, err
}

// Use uses the proof up that Prove found good: the last step of an acceptance,
// so that a refused request uses nothing up. A proof that nobody asked for is
// not used. Errors: [ErrReplayed], [ErrCannotKnow].
func (b *Binding) Use() error {
	if b == nil || b.proof.Key == "" {
		return nil
	}
	return b.v.seen.use(&b.proof, b.req.Now)
}

// Release takes Use back, for a request that came to nothing after it.
func (b *Binding) Release() {
	if b != nil && b.proof.Key != "" {
		b.v.seen.release(&b.proof)
	}
}
