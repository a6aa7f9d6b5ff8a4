// Package verify is the verifier: one algorithm for every verdict.
//
// Why it can be trusted: it is a straight line with no way back. Size and
// count caps, strict decoding, the identifier, the key, the chain in constant
// time, the mint caveats in place, revocation, then every caveat against the
// request: the token's own and then the policies. Nothing is judged before the
// chain held, nothing is skipped after a first refusal, and everything unknown
// refuses. It has no clock, no disk and no network: keys, revocations and the
// facts of the request are given to it, so the same code can serve the authority
// and an edge.
//
// What it leaves to others: deriving keys (keyring), keeping the list
// (revocation), the meaning of a caveat (caveats), the names of users.
package verify

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/revocation"
	"macaroond/service/token"
)

// Keys gives the start of a token's chain; false when the epoch is unknown, and
// then a decoy that costs the same work.
type Keys interface {
	Anchor(*token.Token) (token.Anchor, bool)
}

// Policies gives the caveats that tokens of a user or device have on top of
// their own: put on by an administrator after they were minted.
type Policies interface {
	// Append appends the texts that count for who at that time to room. They
	// must not change afterwards.
	Append(room []string, who token.Identity, at time.Time) []string
}

// Verifier judges tokens. It is safe for concurrent use.
type Verifier struct {
	Keys     Keys // nil at an edge, which uses JudgeFrom
	Revoked  *revocation.List
	Language caveats.Language
	Policies Policies        // nil: none
	Ended    token.FormatSet // formats that were accepted once, and are no more
	// MaxStaleness is how old the revocation list may be (its AsOf against the
	// request's time) before every token is refused as stale.
	MaxStaleness time.Duration
	// OnceMax is how far away the end of a once may be that the ledger of this
	// verifier keeps; 0 without a ledger, and then once is unknown. With one,
	// chains are walked from their start: see [Verdict.Points].
	OnceMax time.Duration
	// Sealed opens sealed caveats; nil opens none, and then they are unknown.
	Sealed Opener
}

// Question is a token and the request it came with. The verifier fills in
// Request.User and Request.Device itself.
type Question struct {
	Token   string
	Request caveats.Request
	// Proof proves the key that the request was made with: it is asked at most
	// once, for a cnf in a chain that held. nil proves none.
	Proof Prover
	// MustBind refuses a token that is bound to no key, as one that came as
	// "Authorization: DPoP" must be.
	MustBind bool
	// AllowBare lets a bare root pass without an audience. Only the authority
	// sets it, at its own endpoints: anywhere else a token must name its audience.
	AllowBare bool
	// NoPolicies leaves policies out. Only the authority sets it, for what takes
	// power away: a policy must not keep anybody from logging out.
	NoPolicies bool
}

// Verdict is the answer. The zero value refuses. One may be used again, by one
// user at a time: judging then allocates nothing, and every text that came out
// of the former verdict changes (see [token.Token.Read]). It must not be copied.
type Verdict struct {
	Code     string         // one of api's codes; api.CodeOK when allowed
	Held     bool           // the chain held: only then is anything below known
	Chain    token.Chain    // valid when Held
	Identity token.Identity // from the mint caveats
	Expires  time.Time      // the earliest time-before of all caveats, policies' included

	token    token.Token
	chain    token.Chain // the memory of Chain
	request  caveats.Request
	language caveats.Language
	held     uint64   // bit i: caveat i held
	named    bool     // the audience rule held
	policies []string // ANDed to the token's own caveats
	own      string   // the code before them
	points   []Point
	findings []finding
	proofAt  int   // the caveat that asked for the proof; 0: none did
	proofErr error // what is wrong with it
	unbound  bool  // MustBind, and nothing binds
}

// Format prints the code for every verb: the rest has a token in it.
func (v Verdict) Format(f fmt.State, _ rune) { io.WriteString(f, "verdict "+strconv.Quote(v.Code)) }

// Allowed reports whether every step held.
func (v *Verdict) Allowed() bool { return v.Code == api.CodeOK }

// ByPolicy reports whether nothing but a policy refuses: the token itself is
// good.
func (v *Verdict) ByPolicy() bool { return v.Worsened() && v.own == api.CodeOK }

// Worsened reports whether the code is a policy's doing: it says nothing of the
// token itself, which may come to another one when the policy is gone.
func (v *Verdict) Worsened() bool {
	return v.own != "" && v.own != v.Code && v.Code != api.CodeReplayed
}

// Forget lets go of everything but the memory.
func (v *Verdict) Forget() {
	*v = Verdict{token: v.token, chain: v.chain, policies: v.policies[:0]}
}

// Read takes the text apart: the steps before any cryptography. When it is no
// token, the verdict is that, and false is returned.
func (v *Verdict) Read(text string) bool {
	v.Forget()
	if err := v.token.Read(text); err != nil {
		v.Code = api.CodeMalformed
		if errors.Is(err, token.ErrTooLarge) {
			v.Code = api.CodeTooLarge
		}
		return false
	}
	return true
}

// Unverified is the token that was read.
func (v *Verdict) Unverified() *token.Token { return &v.token }

// walk takes the step from token to chain and identity.
func (v *Verdict) walk(from *token.Anchor, known bool, covered *Covered) bool {
	held := v.chain.Walk(&v.token, from) && known // also for an unknown key: one answer, the same work
	var id token.Identity
	var ok bool
	if covered != nil {
		id, ok = covered.identity, true
	} else {
		id, ok = v.chain.Identity()
	}
	if !held || !ok {
		v.Code = api.CodeInvalid
		return false
	}
	v.Held, v.Chain, v.Identity = true, v.chain, id
	return true
}

// Authenticate does the first half: is this a token of the authority's, and
// whose? It looks at neither revocation nor caveats. Revoking needs no more.
func (v *Verifier) Authenticate(text string) (c token.Chain, id token.Identity, code string) {
	out := new(Verdict)
	if out.Read(text) {
		anchor, known := v.anchor(out)
		out.walk(&anchor, known, nil)
	}
	return out.Chain, out.Identity, out.Code
}

// Verify judges a token against a request.
func (v *Verifier) Verify(q Question) *Verdict {
	out := new(Verdict)
	v.Judge(&q, out)
	return out
}

// Judge is Verify into a verdict that may have been used before.
func (v *Verifier) Judge(q *Question, out *Verdict) {
	if !out.Read(q.Token) {
		return
	}
	anchor, known := v.anchor(out)
	v.judge(q, &anchor, known, nil, out)
}

// anchor is the start of the chain. A format that has ended is as an unknown
// key is: the same work, and the same answer.
func (v *Verifier) anchor(out *Verdict) (token.Anchor, bool) {
	anchor, known := v.Keys.Anchor(&out.token)
	return anchor, known && !v.Ended.Has(out.token.UnverifiedIdentifier().Format)
}

// JudgeFrom goes on after [Verdict.Read] from an anchor that is known to be one
// of that token's, with what its caveats come to, if that is known (else nil).
// The question's own token is not looked at.
func (v *Verifier) JudgeFrom(q *Question, from *token.Anchor, covered *Covered, out *Verdict) {
	v.judge(q, from, true, covered, out)
}

// judge is the line from the chain to the code. Nothing here is an acceptance
// yet: what it would use up ([Verdict.UsesUp]) is the caller's last step.
func (v *Verifier) judge(q *Question, from *token.Anchor, known bool, covered *Covered, out *Verdict) {
	if !out.walk(from, known, covered) {
		return
	}
	out.request, out.language = q.Request, v.Language
	out.request.User, out.request.Device = out.Identity.User, out.Identity.Device
	worst := min(v.standing(out), v.clear(q, covered, out))
	if v.Policies != nil && !q.NoPolicies {
		out.own = codes[worst]
		worst = min(worst, v.clearPolicies(out))
	}
	out.Code = codes[worst]
}

// standing is what the list of revocations says of a chain that held.
func (v *Verifier) standing(out *Verdict) (worst int) {
	worst = rankOK
	if age := out.request.Time.Sub(v.Revoked.AsOf()); age > v.MaxStaleness {
		worst = rankStale
	}
	if v.Revoked.Revoked(out.Chain) {
		worst = min(worst, rankRevoked)
	}
	return worst
}

// clear holds every caveat against the request, and the two things that a
// request demands of a token as a whole: an audience, and a key if MustBind.
func (v *Verifier) clear(q *Question, covered *Covered, out *Verdict) (worst int) {
	worst = rankOK
	out.named = q.AllowBare && out.Chain.Bare()
	out.Expires = out.Identity.Expires
	if out.held = covered.holds(&out.request); out.held != 0 {
		out.named, out.Expires = out.named || covered.named, covered.until
	}
	for i := range out.Chain.Len() {
		if out.held&(1<<i) != 0 {
			continue
		}
		outcome := v.check(q, out, i)
		worst = min(worst, ranks[outcome])
		if outcome == caveats.Held {
			out.held |= 1 << i
		}
	}
	if !out.named {
		worst = min(worst, rankAudience)
	}
	if q.MustBind && !out.bound() {
		out.unbound = true
		worst = min(worst, rankRefused)
	}
	return worst
}

// clearPolicies judges the policies. None of them names the audience for the
// token: that is the holder's to do, and a policy can only refuse.
func (v *Verifier) clearPolicies(out *Verdict) (worst int) {
	worst = rankOK
	out.policies = v.Policies.Append(out.policies[:0], out.Identity, out.request.Time)
	for _, text := range out.policies {
		if t, ok := caveats.Before(text); ok && t.Before(out.Expires) {
			out.Expires = t
		}
		worst = min(worst, ranks[v.Language.Check(text, &out.request)])
	}
	return worst
}

// check judges the caveat at i, and notes what it says of expiry and audience.
// The mint caveats were read when the identity was: the user and the device are
// what two of them demand.
func (v *Verifier) check(q *Question, out *Verdict, i int) caveats.Outcome {
	switch i {
	case token.ExpiryPosition:
		return caveats.CheckBefore(out.Identity.Expires, &out.request)
	case token.UserPosition, token.DevicePosition:
		return caveats.Held
	}
	text, thirdParty := out.Chain.Caveat(i)
	if thirdParty {
		return caveats.Unknown
	}
	if t, ok := caveats.Before(text); ok {
		if t.Before(out.Expires) {
			out.Expires = t
		}
		return caveats.CheckBefore(t, &out.request)
	}
	outcome := v.Language.Check(text, &out.request)
	if outcome != caveats.Held {
		return v.beyond(q, out, i, text, outcome)
	}
	out.named = out.named || strings.HasPrefix(text, "audience ")
	return outcome
}

// codes are those of a verdict on a chain that held, in the order of refusals:
// with several the first is the answer. The first here is one that no outcome
// has a rank for, so that one forgotten refuses.
var codes = [...]string{
	rankInvalid:  api.CodeInvalid,
	rankStale:    api.CodeStale,
	rankRevoked:  api.CodeRevoked,
	rankUnknown:  api.CodeUnknownCaveat,
	rankExpired:  api.CodeExpired,
	rankNotYet:   api.CodeNotYetValid,
	rankAudience: api.CodeWrongAudience,
	rankRefused:  api.CodeRefused,
	rankOK:       api.CodeOK,
}

const (
	rankInvalid = iota
	rankStale
	rankRevoked
	rankUnknown
	rankExpired
	rankNotYet
	rankAudience
	rankRefused
	rankOK
)

var ranks = [...]int{
	caveats.Held:          rankOK,
	caveats.Unknown:       rankUnknown,
	caveats.Expired:       rankExpired,
	caveats.NotYetValid:   rankNotYet,
	caveats.WrongAudience: rankAudience,
	caveats.Refused:       rankRefused,
}
