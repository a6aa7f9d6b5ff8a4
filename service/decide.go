package service

import (
	"context"
	"encoding/hex"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/service/verify"
	"macaroond/storage"
)

// Caller is a user who has shown a token that holds at the authority.
type Caller struct {
	token.Identity
	Chain token.Chain
}

// verdict runs the verifier and counts.
func (s *Service) verdict(q *verify.Question) *verify.Verdict {
	out := new(verify.Verdict)
	s.judge(q, out)
	return out
}

func (s *Service) judge(q *verify.Question, out *verify.Verdict) {
	v := s.verifier()
	v.Judge(q, out)
	if c, ok := s.metrics.verdicts[out.Code]; ok {
		c.Inc()
	}
}

// Authorize judges a token at the authority's own endpoint: it is a bare root,
// or it names the authority's audience and holds in all its caveats. facts are
// the request's; time and audience are filled in here. bare demands a bare root.
func (s *Service) Authorize(text string, facts caveats.Request, bare bool) (*Caller, error) {
	facts.Time, facts.Audience = s.now(), s.Settings().Audience
	v := s.verdict(&verify.Question{Token: text, Request: facts, AllowBare: true})
	if !v.Allowed() {
		return nil, &api.Refusal{Code: v.Code, Reason: v.Reason()}
	}
	s.saw(v.Chain, &v.Identity, facts.Time)
	if bare && !v.Chain.Bare() {
		return nil, refuse(api.CodeBareRootRequired, "this needs the device's own root token, not one narrowed from it")
	}
	if !strings.HasPrefix(v.Identity.User, token.UserPrefix) {
		return nil, refuse(api.CodeForbidden, "this is for users")
	}
	return &Caller{v.Identity, v.Chain}, nil
}

// Verify answers POST /v1/verify: asked by a service for an audience it serves,
// or (svc nil) by a user with a bare root about a token of the same user.
func (s *Service) Verify(ctx context.Context, in api.VerifyIn, svc *storage.Service, caller *Caller) (api.Decision, error) {
	facts, err := s.facts(in.Request)
	if err != nil {
		return api.Decision{}, err
	}
	if in.Token == "" {
		return api.Decision{}, badField("/token", "no token")
	}
	own := s.Settings().Audience
	if svc != nil {
		if !Serves(*svc, facts.Audience) {
			return api.Decision{}, refuse(api.CodeForbidden, "the credential does not serve this audience: name one that it serves in request.audience")
		}
	} else if facts.Audience == "" {
		facts.Audience = own
	}
	v := s.verdict(&verify.Question{Token: in.Token, Request: facts, AllowBare: svc == nil && facts.Audience == own})
	if svc == nil && v.Held && v.Identity.User != caller.User {
		v = &verify.Verdict{Code: api.CodeInvalid} // somebody else's token is no business of the asker's
	}
	if v.Allowed() {
		s.saw(v.Chain, &v.Identity, facts.Time)
	}
	return s.decision(ctx, v), nil
}

// facts turns what the asker says into the caveats' request.
func (s *Service) facts(in api.Request) (caveats.Request, error) {
	r := caveats.Request{
		Time: s.now(), Audience: in.Audience, Method: in.Method, Target: in.Path,
		Actions: in.Actions, BodySHA256: in.BodySHA256, Extra: in.Extra,
	}
	if len(in.Actions) > 64 {
		return r, badField("/request/actions", "at most 64 actions")
	}
	if in.ClientIP != "" {
		ip, err := netip.ParseAddr(in.ClientIP)
		if err != nil || ip.Zone() != "" {
			return r, badField("/request/client_ip", "not an IP address")
		}
		r.ClientIP = ip
	}
	if in.Origin != "" {
		r.Origins = []string{in.Origin}
	}
	if in.BodySHA256 != "" {
		if b, err := hex.DecodeString(in.BodySHA256); err != nil || len(b) != 32 {
			return r, badField("/request/body_sha256", "not 64 hexadecimal digits")
		}
		r.BodySHA256 = strings.ToLower(in.BodySHA256)
	}
	if in.URL != "" {
		u, err := url.Parse(in.URL)
		if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil {
			return r, badField("/request/url", "not an absolute URL")
		}
		if r.Target == "" {
			if r.Target = u.EscapedPath(); r.Target == "" {
				r.Target = "/" // RFC 9110 section 4.2.3
			}
		}
	}
	return r, nil
}

// decision is a verdict as it goes over the wire, with the name of the user.
func (s *Service) decision(ctx context.Context, v *verify.Verdict) api.Decision {
	d := api.Decision{Allowed: v.Allowed(), Code: v.Code, Reason: v.Reason()}
	if !v.Held {
		return d
	}
	d.Principal = &api.Principal{
		User: v.Identity.User, Username: s.nameOf(ctx, v.Identity.User).name,
		Device: v.Identity.Device, RootKeyID: v.Chain.Identifier().RootKeyID.String(),
	}
	d.ExpiresAt, d.Caveats = apiTime(v.Expires), v.Caveats()
	return d
}

func (s *Service) nameOf(ctx context.Context, id string) userInfo {
	return s.nameWithin(ctx, id, nameTimeout)
}

func (s *Service) nameWithin(ctx context.Context, id string, wait time.Duration) userInfo {
	if strings.HasPrefix(id, token.ServicePrefix) {
		return userInfo{name: s.services.Load().byID[id].Name}
	}
	return s.names.get(ctx, id, wait)
}

// Gateway judges a request that a gateway asks about. At a gateway, as at any
// resource server, a token must name the audience.
func (s *Service) Gateway(ctx context.Context, text string, facts caveats.Request) (*api.Pass, error) {
	facts.Time = s.now()
	if facts.Audience == "" {
		facts.Audience = s.Settings().GatewayAudience
	}
	v := verdicts.Get().(*verify.Verdict)
	defer verdicts.Put(v)
	defer v.Forget()
	s.judge(&verify.Question{Token: text, Request: facts}, v)
	if !v.Allowed() {
		return nil, &api.Refusal{Code: v.Code, Reason: v.Reason()}
	}
	who := v.Identity.Clone() // the verdict's own texts go with it
	s.saw(v.Chain, &who, facts.Time)
	info := s.nameOf(ctx, who.User)
	return &api.Pass{User: who.User, Username: info.name, Device: who.Device, Audience: facts.Audience, Role: info.role, Expires: v.Expires}, nil
}

// verdicts are used again by Gateway, which lets no text of one out.
var verdicts = sync.Pool{New: func() any { return new(verify.Verdict) }}
