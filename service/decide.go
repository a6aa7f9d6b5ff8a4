package service

import (
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/dpop"
	"macaroond/service/token"
	"macaroond/service/verify"
	"macaroond/storage"
)

// Caller is a user who has shown a token that holds at the authority.
type Caller struct {
	token.Identity
	Chain token.Chain
}

// unknownHere is the answer to a caller whose user is not found: of a history
// that a restored backup has lost, or deleted since the token was judged.
func unknownHere(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return refuse(api.CodeSessionOver, "this login is not known here any more: the token is good until it expires; log in again")
	}
	return err
}

// loggedOut is the answer to a caller whose root has ended since it was judged:
// the same as a moment later.
func loggedOut(err error) error {
	if errors.Is(err, storage.ErrRevoked) {
		return &api.Refusal{Code: api.CodeRevoked, Reason: "the device is logged out"}
	}
	return err
}

// judge runs the verifier. An allowed verdict is no acceptance before settle.
func (s *Service) judge(q *verify.Question, out *verify.Verdict) {
	v := s.verifier()
	v.Judge(q, out)
}

// count counts a verdict by the code that it came to.
func (s *Service) count(code string) {
	if c, ok := s.metrics.verdicts[code]; ok {
		c.Inc()
	}
}

// Shown is a request to the authority's own endpoint, as it shows itself.
type Shown struct {
	Token string
	Facts caveats.Request // time and audience are filled in
	DPoP  *dpop.Presented // nil: nothing
	Bare  bool            // it must be a bare root
}

// Authorize judges a token at the authority's own endpoint: it is a bare root,
// or it names the authority's audience and holds in all its caveats.
//
// A policy that refuses is no 401: what it takes it gives back when it is
// removed, and a client that is told that its token is none logs its user out.
//
// ready is what else could refuse the request: it is asked before a one-time
// token or a proof is used up, and of no other token.
func (s *Service) Authorize(ctx context.Context, in Shown, ready ...func(*Caller) error) (*Caller, error) {
	in.Facts.Time, in.Facts.Audience = s.now(), s.Settings().Audience
	v := new(verify.Verdict)
	q := verify.Question{Token: in.Token, Request: in.Facts, AllowBare: true, NoPolicies: spared(in.Facts.Actions)}
	proof := q.Bind(s.proofs, in.DPoP)
	s.judge(&q, v)
	who := &Caller{v.Identity, v.Chain}
	if v.Allowed() {
		if err := s.ready(v, in.Bare, who, ready); err != nil {
			s.count(v.Code)
			return nil, err
		}
	}
	if err := s.settle(ctx, v, proof); err != nil {
		return nil, err
	}
	if v.ByPolicy() {
		return nil, refuse(api.CodeForbidden, "the token is good, but not under %s", v.Reason())
	}
	if !v.Allowed() {
		return nil, refusalOf(v)
	}
	s.saw(v.Chain, &v.Identity, in.Facts.Time)
	return who, nil
}

// ready is what the authority's own endpoints ask of a token that holds.
func (s *Service) ready(v *verify.Verdict, bare bool, who *Caller, more []func(*Caller) error) error {
	if bare && !v.Chain.Bare() {
		return refuse(api.CodeBareRootRequired, "this needs the device's own root token, not one narrowed from it")
	}
	if !strings.HasPrefix(v.Identity.User, token.UserPrefix) {
		return refuse(api.CodeForbidden, "this is for users")
	}
	if v.UsesUp() {
		for _, ask := range more {
			if err := ask(who); err != nil {
				return err
			}
		}
	}
	return nil
}

// refusalOf is a verdict that refuses, as an error.
func refusalOf(v *verify.Verdict) error {
	return &api.Refusal{Code: v.Code, Reason: v.Reason(), Policy: v.Worsened()}
}

// spared reports the actions that no policy is in the way of: those that do
// nothing but take the caller's own power away, and renewing, whose successor is
// under the same policies. Dropping other devices is none of them: a policy may
// be there because of who holds this one.
func spared(actions []string) bool {
	return len(actions) == 1 && (actions[0] == "logout" || actions[0] == "revoke" || actions[0] == "renew")
}

// Verify answers POST /v1/verify: asked by a service for an audience it serves,
// or (svc nil) by a user with a bare root about a token of the same user.
func (s *Service) Verify(ctx context.Context, in api.VerifyIn, svc *storage.Service, caller *Caller) (api.Decision, error) {
	facts, err := s.asked(in)
	if err != nil {
		return api.Decision{}, err
	}
	own := s.Settings().Audience
	if svc != nil {
		if err := s.mayJudge(*svc, facts.Audience); err != nil {
			return api.Decision{}, err
		}
	} else if facts.Audience == "" {
		facts.Audience = own
	}
	bare := svc == nil && facts.Audience == own || s.browser(&facts)
	v := new(verify.Verdict)
	q := verify.Question{Token: in.Token, Request: facts, AllowBare: bare}
	var shown *dpop.Presented
	if in.Request.DPoP != "" {
		shown = &dpop.Presented{Proofs: []string{in.Request.DPoP}, URL: in.Request.URL}
	}
	proof := q.Bind(s.proofs, shown)
	s.judge(&q, v)
	if svc == nil && v.Held && v.Identity.User != caller.User {
		v = &verify.Verdict{Code: api.CodeInvalid} // somebody else's token is no business of the asker's
	}
	if err := s.settle(ctx, v, proof); err != nil {
		return api.Decision{}, err
	}
	if v.Allowed() {
		s.saw(v.Chain, &v.Identity, facts.Time)
	}
	return s.decision(ctx, v), nil
}

// MayVerify finds out whether a service may ask this. It is for
// [Service.AuthorizeService], which must know before a one-time token is used up.
func (s *Service) MayVerify(in api.VerifyIn) func(storage.Service) error {
	return func(svc storage.Service) error {
		facts, err := s.asked(in)
		if err != nil {
			return err
		}
		return s.mayJudge(svc, facts.Audience)
	}
}

func (s *Service) mayJudge(svc storage.Service, audience string) error {
	if !s.serves(svc, audience) {
		return refuse(api.CodeForbidden, "the credential does not serve this audience: name one that it serves in request.audience")
	}
	return nil
}

// asked is what a verification is asked about.
func (s *Service) asked(in api.VerifyIn) (caveats.Request, error) {
	facts, err := s.facts(in.Request)
	if err == nil && in.Token == "" {
		err = badField("/token", "no token")
	}
	return facts, err
}

// facts turns what the asker says into the caveats' request.
func (s *Service) facts(in api.Request) (caveats.Request, error) {
	r := caveats.Request{
		Time: s.now(), Audience: in.Audience, Method: in.Method, Target: in.Path,
		Actions: in.Actions, BodySHA256: in.BodySHA256, Via: in.Via, Extra: in.Extra,
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
			if target, _, _ := strings.Cut(in.URL, "?"); strings.Contains(target, "#") {
				r.Target += "#" // a server may read on behind it: no canonical path
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

// Gateway judges a request that a gateway asks about. At a gateway, as at any
// resource server, a token must name the audience; but see browser. shown is nil
// for nothing.
func (s *Service) Gateway(ctx context.Context, text string, facts caveats.Request, shown *dpop.Presented) (*api.Pass, error) {
	facts.Time = s.now()
	if facts.Audience == "" {
		facts.Audience = s.Settings().GatewayAudience
	}
	v := verdicts.Get().(*verify.Verdict)
	defer verdicts.Put(v)
	defer v.Forget()
	q := verify.Question{Token: text, Request: facts, AllowBare: s.browser(&facts)}
	proof := q.Bind(s.proofs, shown)
	s.judge(&q, v)
	if err := s.settle(ctx, v, proof); err != nil {
		return nil, s.cannotKnow(err)
	}
	if !v.Allowed() {
		return nil, refusalOf(v)
	}
	who := v.Identity.Clone() // the verdict's own texts go with it
	s.saw(v.Chain, &who, facts.Time)
	info := s.nameOf(ctx, who.User)
	return &api.Pass{User: who.User, Username: info.name, Device: who.Device, Audience: facts.Audience, Role: info.role, Expires: v.Expires}, nil
}

// verdicts are used again by Gateway, which lets no text of one out.
var verdicts = sync.Pool{New: func() any { return new(verify.Verdict) }}
