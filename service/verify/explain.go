package verify

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
)

// reasons says each code in words that give nothing away about a token whose
// chain did not hold.
var reasons = map[string]string{
	api.CodeOK:            "every caveat held",
	api.CodeMalformed:     "this is not a token in its one strict spelling",
	api.CodeTooLarge:      "the token is beyond the limits on size or number of caveats",
	api.CodeInvalid:       "the signature does not match, or the key is unknown",
	api.CodeStale:         "the verifier cannot know whether the token is revoked",
	api.CodeRevoked:       "the token, one it was derived from, or its device is revoked",
	api.CodeUnknownCaveat: "a caveat is not understood",
	api.CodeExpired:       "the token has expired",
	api.CodeNotYetValid:   "the token is not valid yet",
	api.CodeWrongAudience: "the token is not for this audience",
	api.CodeRefused:       "a caveat does not allow this request",
	api.CodeReplayed:      "the token was used before",
}

// Reason says the verdict in one sentence: the first refusing caveat's, if a
// caveat decided it.
func (v *Verdict) Reason() string {
	switch v.Code {
	case api.CodeUnknownCaveat, api.CodeExpired, api.CodeNotYetValid, api.CodeRefused:
	case api.CodeWrongAudience:
		if !v.named && !v.hasAudience() {
			if v.Chain.Bare() {
				return "the token names no audience, so it is good at the authority only"
			}
			return "the token is narrowed and names no audience, so it is good nowhere yet"
		}
	default:
		return reasons[v.Code]
	}
	for i := range v.Chain.Len() {
		if v.held&(1<<i) == 0 && v.codeAt(i) == v.Code {
			return v.explain(i)
		}
	}
	if v.unbound {
		return "the token is bound to no key, so it is not one for the scheme DPoP: send it as Bearer"
	}
	for _, text := range v.policies {
		if codes[ranks[v.language.Check(text, &v.request)]] == v.Code {
			return "a policy: " + v.language.Explain(text, &v.request)
		}
	}
	return reasons[v.Code]
}

func (v *Verdict) hasAudience() bool {
	for i := range v.Chain.Len() {
		if text, _ := v.Chain.Caveat(i); strings.HasPrefix(text, "audience ") {
			return true
		}
	}
	return false
}

func (v *Verdict) codeAt(i int) string {
	text, thirdParty := v.Chain.Caveat(i)
	if thirdParty {
		return api.CodeUnknownCaveat
	}
	if f, ok := v.found(i); ok {
		return f.code
	}
	return codes[ranks[v.language.Check(text, &v.request)]]
}

func (v *Verdict) explain(i int) string {
	text, thirdParty := v.Chain.Caveat(i)
	if thirdParty {
		return "third-party caveats are not supported"
	}
	if f, ok := v.found(i); ok {
		return f.why
	}
	return v.language.Explain(text, &v.request)
}

// Caveats explains every caveat, and then every policy's. It is nil unless the chain held.
func (v *Verdict) Caveats() []api.CaveatVerdict {
	if !v.Held {
		return nil
	}
	out := make([]api.CaveatVerdict, v.Chain.Len(), v.Chain.Len()+len(v.policies))
	for i := range out {
		text, _ := v.Chain.Caveat(i)
		c := api.CaveatVerdict{Index: i, Text: printable(text), Source: "holder", Held: v.held&(1<<i) != 0}
		if i < token.MintCaveats {
			c.Source = "mint"
		}
		if !c.Held {
			c.Reason = v.explain(i)
		}
		out[i] = c
	}
	for _, text := range v.policies {
		out = append(out, api.CaveatVerdict{
			Index: len(out), Text: text, Source: "policy",
			Held: v.language.Check(text, &v.request) == caveats.Held, Reason: v.language.Explain(text, &v.request),
		})
	}
	return out
}

// printable shows a caveat as it is; quoted when it is not the text that a
// caveat can be, and could garble a terminal or a log.
func printable(s string) string {
	if plain(s) || utf8.ValidString(s) && !strings.ContainsFunc(s, caveats.Hidden) {
		return s
	}
	return strconv.QuoteToASCII(s)
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
