package verify

import (
	"crypto/sha256"
	"fmt"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
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
	for _, f := range v.findings {
		if f.at == i {
			return f, true
		}
	}
	return finding{}, false
}

// beyond judges a caveat that the language found not to hold.
func (v *Verifier) beyond(q *Question, out *Verdict, i int, text string, outcome caveats.Outcome) caveats.Outcome {
	if outcome != caveats.Unknown {
		return outcome
	}
	c, err := v.Language.Parse(text)
	if err != nil {
		return outcome
	}
	switch c.Name() {
	case "once":
		return v.once(out, i)
	}
	return outcome
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
