// Package verify is the verifier: one algorithm for every verdict.
//
// Why it can be trusted: it is a straight line with no way back. Size and
// count caps, strict decoding, the identifier, the key, the chain in constant
// time, the mint caveats in place, revocation, then every caveat against the
// request. Nothing is judged before the chain held, nothing is skipped after
// a first refusal, and everything unknown refuses. It has no clock, no disk
// and no network: keys, revocations and the facts of the request are given to
// it, so the same code can serve the authority and an edge.
//
// What it leaves to others: deriving keys (keyring), keeping the list
// (revocation), the meaning of a caveat (caveats), the names of users.
package verify

import (
	"errors"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/revocation"
	"macaroond/service/token"
)

// Keys gives the root key of an identifier; false when the epoch is unknown,
// and then a decoy that costs the same work.
type Keys interface {
	RootKey(token.Identifier) (token.RootKey, bool)
}

// Verifier judges tokens. It is safe for concurrent use.
type Verifier struct {
	Keys     Keys
	Revoked  *revocation.List
	Language caveats.Language
	// MaxStaleness is how old the revocation list may be (its AsOf against the
	// request's time) before every token is refused as stale.
	MaxStaleness time.Duration
}

// Question is a token and the request it came with. The verifier fills in
// Request.User and Request.Device itself.
type Question struct {
	Token   string
	Request caveats.Request
	// AllowBare lets a bare root pass without an audience. Only the authority
	// sets it, at its own endpoints: anywhere else a token must name its audience.
	AllowBare bool
}

// Verdict is the answer. The zero value refuses.
type Verdict struct {
	Code     string         // one of api's codes; api.CodeOK when allowed
	Held     bool           // the chain held: only then is anything below known
	Chain    token.Chain    // valid when Held
	Identity token.Identity // from the mint caveats
	Expires  time.Time      // the earliest time-before of all caveats

	request  caveats.Request
	language caveats.Language
	held     uint64 // bit i: caveat i held
	named    bool   // the audience rule held
}

// Allowed reports whether every step held.
func (v *Verdict) Allowed() bool { return v.Code == api.CodeOK }

// codeOf is the code for an error of token.Parse.
func codeOf(err error) string {
	if errors.Is(err, token.ErrTooLarge) {
		return api.CodeTooLarge
	}
	return api.CodeMalformed
}

// Authenticate does the first half: is this a token of the authority's, and
// whose? It looks at neither revocation nor caveats. Revoking needs no more.
func (v *Verifier) Authenticate(text string) (c token.Chain, id token.Identity, code string) {
	t, err := token.Parse(text)
	if err != nil {
		return c, id, codeOf(err)
	}
	key, known := v.Keys.RootKey(t.UnverifiedIdentifier())
	chain, ok := t.Verify(&key) // also for an unknown key: one answer, the same work
	if !known || !ok {
		return c, id, api.CodeInvalid
	}
	if id, ok = chain.Identity(); !ok {
		return c, token.Identity{}, api.CodeInvalid
	}
	return chain, id, ""
}

// Verify judges a token against a request.
func (v *Verifier) Verify(q Question) Verdict {
	chain, id, code := v.Authenticate(q.Token)
	if code != "" {
		return Verdict{Code: code}
	}
	out := Verdict{Held: true, Chain: chain, Identity: id, request: q.Request, language: v.Language}
	out.request.User, out.request.Device = id.User, id.Device
	worst := worstOf{code: api.CodeOK}
	if age := q.Request.Time.Sub(v.Revoked.AsOf()); age > v.MaxStaleness {
		worst.add(api.CodeStale)
	}
	if v.Revoked.Revoked(chain) {
		worst.add(api.CodeRevoked)
	}
	out.named = q.AllowBare && chain.Bare()
	out.Expires = id.Expires
	for i := range chain.Len() {
		if i == token.UserPosition || i == token.DevicePosition {
			out.held |= 1 << i // the identity was read from these two, and is what they demand
			continue
		}
		text, thirdParty := chain.Caveat(i)
		if thirdParty {
			worst.add(api.CodeUnknownCaveat)
			continue
		}
		c, err := v.Language.Parse(text)
		if err != nil {
			worst.add(api.CodeUnknownCaveat)
			continue
		}
		outcome := c.Check(&out.request)
		if outcome == caveats.Held {
			out.held |= 1 << i
		}
		worst.add(codes[outcome])
		switch c.Name() {
		case "time-before":
			if t, ok := c.Time(); ok && t.Before(out.Expires) {
				out.Expires = t
			}
		case "audience":
			out.named = out.named || outcome == caveats.Held
		}
	}
	if !out.named {
		worst.add(api.CodeWrongAudience)
	}
	out.Code = worst.code
	return out
}

// codes maps a caveat's outcome to the decision's code; what is missing in it
// would be the empty code, which is the worst.
var codes = [...]string{
	caveats.Held:          api.CodeOK,
	caveats.Unknown:       api.CodeUnknownCaveat,
	caveats.Expired:       api.CodeExpired,
	caveats.NotYetValid:   api.CodeNotYetValid,
	caveats.WrongAudience: api.CodeWrongAudience,
	caveats.Refused:       api.CodeRefused,
}

// worstOf keeps the code that comes first in the order of refusals.
type worstOf struct{ code string }

func (w *worstOf) add(code string) {
	if severity(code) < severity(w.code) {
		w.code = code
	}
}

func severity(code string) int {
	switch code {
	case api.CodeStale:
		return 1
	case api.CodeRevoked:
		return 2
	case api.CodeUnknownCaveat:
		return 3
	case api.CodeExpired:
		return 4
	case api.CodeNotYetValid:
		return 5
	case api.CodeWrongAudience:
		return 6
	case api.CodeRefused:
		return 7
	case api.CodeReplayed:
		return 8
	case api.CodeOK:
		return 9
	default:
		return 0
	}
}
