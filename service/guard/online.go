package guard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/dpop"
)

// online has the authority judge a token that only it can judge.
func (g *Guard) online(ctx context.Context, text string, facts *caveats.Request, special special, shown *dpop.Presented) (*api.Pass, error) {
	pass, refusal := g.askVerdict(ctx, text, facts, special, shown)
	if refusal != nil {
		g.observe(ctx, refusal.Code, Online)
		return nil, refusal
	}
	g.o.Observe(Observation{api.CodeOK, Online})
	return pass, nil
}

func (g *Guard) askVerdict(ctx context.Context, text string, facts *caveats.Request, special special, shown *dpop.Presented) (*api.Pass, *api.Refusal) {
	in := api.VerifyIn{Token: text, Request: api.Request{
		Method: facts.Method, Path: inASCII(facts.Target), Audience: facts.Audience, Actions: facts.Actions,
		BodySHA256: facts.BodySHA256, Extra: facts.Extra,
	}}
	if shown != nil {
		// The authority is told of one proof: two are as good as none. It is not
		// told of the scheme, so that is judged here.
		if shown.Scheme && !special.bound {
			return nil, &api.Refusal{Code: api.CodeRefused, Reason: "the token is bound to no key, so it is not one for the scheme DPoP: send it as Bearer"}
		}
		if len(shown.Proofs) == 1 && utf8.ValidString(shown.Proofs[0]) { // what is no text is none
			in.Request.DPoP, in.Request.URL = shown.Proofs[0], inASCII(shown.URL)
		}
	}
	if refusal := g.limits.allow(facts.ClientIP, facts.Time); refusal != nil {
		return nil, refusal
	}
	if facts.ClientIP.IsValid() {
		in.Request.ClientIP = facts.ClientIP.String()
	}
	if len(facts.Origins) == 1 && utf8.ValidString(facts.Origins[0]) {
		in.Request.Origin = facts.Origins[0]
	}
	var d *api.Decision
	err := g.silence.ask(ctx, func(ctx context.Context) (err error) {
		d, err = g.client.Verify(ctx, g.o.Credential, in)
		return err
	})
	if err == errSilent {
		return nil, cannotKnow()
	}
	p, ok := errors.AsType[*api.Problem](err)
	if ok && (p.Status == http.StatusBadRequest || p.Status == http.StatusRequestEntityTooLarge) || errors.Is(err, client.ErrText) {
		return nil, &api.Refusal{Code: api.CodeBadRequest, Reason: "the request is not one that can be judged"}
	}
	if err != nil {
		g.unheard(ctx, err)
		return nil, cannotKnow()
	}
	switch {
	case d.Code == "", d.Allowed != (d.Code == api.CodeOK), d.Allowed && (d.Principal == nil || d.ExpiresAt == nil):
		return nil, cannotKnow() // an answer that contradicts itself allows nothing
	case !d.Allowed:
		return nil, &api.Refusal{Code: d.Code, Reason: d.Reason}
	}
	return &api.Pass{User: d.Principal.User, Username: d.Principal.Username, Device: d.Principal.Device, Audience: g.o.Audience, Expires: d.ExpiresAt.Time}, nil
}

// inASCII escapes what is not ASCII. It is the same path, and JSON has no bytes
// that are not UTF-8: the authority would judge others in their place.
func inASCII(target string) string {
	escaped := 0
	for i := range len(target) {
		if target[i] >= utf8.RuneSelf {
			escaped++
		}
	}
	if escaped == 0 {
		return target
	}
	out := make([]byte, 0, len(target)+2*escaped)
	for i := range len(target) {
		if c := target[i]; c < utf8.RuneSelf {
			out = append(out, c)
		} else {
			out = fmt.Appendf(out, "%%%02X", c)
		}
	}
	return string(out)
}
