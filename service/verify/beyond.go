package verify

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/dpop"
	"macaroond/service/token"
)

// Three caveats need more than the facts of a request: once a ledger, sealed a
// key, cnf a proof, which is worth checking only for a chain that held. They are
// judged here, after the language found them not to hold, so that a token
// without them costs nothing more.

// Opener opens sealed caveats: those of the tokens of one identifier.
type Opener interface {
	OpenSealed(id token.Identifier, box string) (text string, ok bool)
}

// Point is a place in a chain that may be accepted a single time: an accepted
// token's points are used up together, and with each of them everything that has
// it in its chain. It is a digest, for a signature itself is a bearer secret.
type Point struct {
	Sum   [32]byte  // SHA-256("macaroond/once/v1" ‖ the signature right after the caveat)
	Until time.Time // the earliest time-before at or before the caveat: everything with the point has expired then
	at    int       // the caveat's index
}

// pointOf names the place after a signature.
func pointOf(s *token.Signature) [32]byte {
	const label = "macaroond/once/v1"
	var b [len(label) + 32]byte
	copy(b[:], label)
	copy(b[len(label):], s[:])
	return sha256.Sum256(b[:])
}

// finding is what was found out here about the caveat at an index.
type finding struct {
	at        int
	code, why string
}

// Points are what an acceptance uses up, in the order of the token. Whoever has
// a ledger must put them there, all or none, as the last step: an allowed
// verdict is an acceptance only then.
func (v *Verdict) Points() []Point { return v.points }

// UsesUp reports whether an acceptance would use something up: points, or a
// proof.
func (v *Verdict) UsesUp() bool { return len(v.points) > 0 || v.proofAt > 0 }

// Replayed makes an allowed verdict the refusal that those of its points, by
// their place in [Verdict.Points], were used before.
func (v *Verdict) Replayed(points []int) {
	for _, p := range points {
		v.fails(v.points[p].at, api.CodeReplayed, "it was used before")
	}
	v.Code = api.CodeReplayed
}

// fails notes why a caveat does not hold; what the language would say of it
// counts no more.
func (v *Verdict) fails(at int, code, why string) {
	v.held &^= 1 << at
	v.findings = append(v.findings, finding{at, code, why})
}

// found is what was found out about the caveat at i, the last of it; false when
// the language's word counts.
func (v *Verdict) found(i int) (f finding, ok bool) {
	for _, f := range slices.Backward(v.findings) {
		if f.at == i {
			return f, true
		}
	}
	return finding{}, false
}

// beyond judges a caveat that the language found not to hold. It is told its
// text: what is sealed stands at the index of its box.
func (v *Verifier) beyond(q *Question, out *Verdict, i int, text string, outcome caveats.Outcome) caveats.Outcome {
	switch {
	case outcome == caveats.Refused && strings.HasPrefix(text, "cnf "):
		return v.proven(q, out, i, text)
	case outcome != caveats.Unknown:
		return outcome
	}
	c, err := v.Language.Parse(text)
	if err != nil {
		return outcome
	}
	switch c.Name() {
	case "once":
		return v.once(out, i)
	case "sealed":
		return v.sealed(q, out, i, c.Argument())
	}
	return outcome
}

// sealed judges what is in a box like any other caveat, and tells nobody of it:
// whatever does not hold is refused, by that code and in these words. It never
// bounds what is shown: not the expiry, not how long the ledger keeps a point,
// and not the audience rule. No box is in a box, and no once, which is between
// the ledger and whoever can read it.
func (v *Verifier) sealed(q *Question, out *Verdict, i int, box string) caveats.Outcome {
	if v.Sealed == nil {
		return caveats.Unknown
	}
	text, ok := v.Sealed.OpenSealed(out.Chain.Identifier(), box)
	if !ok {
		out.fails(i, api.CodeUnknownCaveat, "what is sealed cannot be opened: it was sealed for another token, or the key is gone")
		return caveats.Unknown
	}
	outcome := v.Language.Check(text, &out.request)
	if outcome == caveats.Refused && strings.HasPrefix(text, "cnf ") {
		outcome = v.proven(q, out, i, text)
	}
	switch outcome {
	case caveats.Held:
		return outcome
	case caveats.Unknown:
		out.fails(i, api.CodeUnknownCaveat, "what is sealed is not understood")
		return outcome
	}
	out.fails(i, api.CodeRefused, "what is sealed does not hold")
	return caveats.Refused
}

// Prover proves a key, by what came with the request: see package dpop.
type Prover interface {
	// Prove gives the thumbprint of the key. The error is safe to show.
	Prove() (key string, err error)
}

// Bind puts what a request shows of a key into the question; nil is nothing. An
// acceptance then has the binding to use up.
func (q *Question) Bind(proofs *dpop.Verifier, shown *dpop.Presented) *dpop.Binding {
	if shown == nil {
		return nil
	}
	q.MustBind = shown.Scheme
	proof := proofs.Bind(shown, dpop.Request{Method: q.Request.Method, Token: q.Token, Now: q.Request.Time})
	if proof != nil {
		q.Proof = proof
	}
	return proof
}

// proven judges a cnf once more, with the proof that nobody has looked at yet:
// its signature costs many times what the token does.
func (v *Verifier) proven(q *Question, out *Verdict, i int, text string) caveats.Outcome {
	if out.request.ProofKey == "" && out.proofAt == 0 && q.Proof != nil {
		out.proofAt = i // never 0: that is a mint caveat's
		key, err := q.Proof.Prove()
		if err != nil {
			out.proofErr = err
		}
		out.request.ProofKey = key
	}
	outcome := v.Language.Check(text, &out.request)
	if outcome != caveats.Held && out.proofErr != nil {
		out.fails(i, api.CodeRefused, out.proofErr.Error())
	}
	return outcome
}

// ProofReplayed makes an allowed verdict the refusal that its proof was used
// before.
func (v *Verdict) ProofReplayed(err error) {
	why := err.Error()
	if text, _ := v.Chain.Caveat(v.proofAt); !strings.HasPrefix(text, "cnf ") {
		why = "it was used before" // what is sealed is not told
	}
	v.fails(v.proofAt, api.CodeReplayed, why)
	v.Code = api.CodeReplayed
}

// bound reports whether a cnf held, in the open.
func (v *Verdict) bound() bool {
	for i := range v.Chain.Len() {
		if text, _ := v.Chain.Caveat(i); strings.HasPrefix(text, "cnf ") && v.held&(1<<i) != 0 {
			return true
		}
	}
	return false
}

// once holds where there is a ledger that will keep the point for as long as a
// token with it can be good. What expires after the caveat does not count: the
// next one to share the point need not have it.
func (v *Verifier) once(out *Verdict, i int) caveats.Outcome {
	if v.OnceMax <= 0 {
		return caveats.Unknown
	}
	if out.Expires.Sub(out.request.Time) > v.OnceMax {
		out.fails(i, api.CodeRefused, fmt.Sprintf("once needs a time-before in front of it that is at most %s away", v.OnceMax))
		return caveats.Refused
	}
	out.points = append(out.points, Point{Sum: pointOf(out.Chain.Signature(i + 1)), Until: out.Expires, at: i})
	return caveats.Held
}
