package service

import (
	"strconv"
	"strings"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
)

// maxSealed is how many bytes a caveat may have that is to be sealed: what comes
// out, with nonce and tag in base64url, is a caveat itself.
const maxSealed = 338

// Seal encrypts caveats for the tokens of one root key, so that nobody but the
// authority reads them. Whoever has such a token may ask: its chain must hold,
// its caveats need not. What is not understood is not sealed, for nobody could
// find out later why it refuses; nor is once, nor what is sealed already.
func (s *Service) Seal(in api.SealIn) (api.SealOut, error) {
	if in.Token == "" {
		return api.SealOut{}, badField("/token", "no token")
	}
	if n := len(in.Caveats); n == 0 || n > token.MaxCaveats-token.MintCaveats {
		return api.SealOut{}, badField("/caveats", "1 to %d caveats", token.MaxCaveats-token.MintCaveats)
	}
	for i, text := range in.Caveats {
		if err := sealable(text); err != "" {
			return api.SealOut{}, badField("/caveats/"+strconv.Itoa(i), "%s", err)
		}
	}
	ver := s.verifier()
	chain, _, code := ver.Authenticate(in.Token)
	if code != "" {
		return api.SealOut{}, &api.Refusal{Code: code, Reason: "the token is not one of this authority's"}
	}
	out := api.SealOut{Caveats: make([]string, 0, len(in.Caveats))}
	for _, text := range in.Caveats {
		box, ok := s.keyring.SealCaveat(chain.Identifier(), text)
		if !ok { // the epoch went a moment ago
			return api.SealOut{}, &api.Refusal{Code: api.CodeInvalid, Reason: "the token is not one of this authority's"}
		}
		out.Caveats = append(out.Caveats, "sealed "+box)
	}
	return out, nil
}

// sealable says what keeps a caveat from being sealed; "" for nothing. It
// repeats nothing of it.
func sealable(text string) string {
	if len(text) > maxSealed {
		return "a caveat that is to be sealed has at most " + strconv.Itoa(maxSealed) + " bytes"
	}
	if _, err := caveats.Parse(text); err != nil {
		return "not a caveat that the authority understands"
	}
	if name, _, _ := strings.Cut(text, " "); name == "once" || name == "sealed" {
		return name + " cannot be sealed"
	}
	return ""
}
