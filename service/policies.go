package service

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// A policy is caveats that an administrator puts on tokens which are out
// already: everybody's, a user's, a device's. Verification ANDs them after the
// token's own, so a policy can only refuse; removing it gives back what it took.

// Bounds of policies: each is judged with every token that it is for, and all
// of them are in memory.
const (
	maxPolicies       = 1024
	maxPoliciesEach   = 16 // of a target
	maxPolicyCaveats  = 16 // of a policy
	maxPolicyLifetime = 366 * 24 * time.Hour
	maxReasonLen      = 200 // bytes
)

// policyCaveats are those that a policy may have. once and sealed stand at a
// point of a chain, cnf is a key that a token's holder chose, body-sha256 is one
// request's, note and x- restrict nothing here.
var policyCaveats = map[string]bool{
	"time-before": true, "time-after": true, "user": true, "device": true, "audience": true, "method": true,
	"path": true, "allow": true, "client-ip": true, "origin": true, "via": true,
}

// policyTable is all policies by target; it never changes in place.
type policyTable map[string][]inForce

type inForce struct {
	caveats []string
	expires time.Time // zero: no end
}

func newPolicyTable(all []storage.Policy) policyTable {
	if len(all) == 0 {
		return nil
	}
	t := policyTable{}
	for _, p := range all {
		t[p.Target] = append(t[p.Target], inForce{p.Caveats, p.ExpiresAt})
	}
	return t
}

// Append implements [verify.Policies]: everybody's, the user's, the device's.
func (t policyTable) Append(room []string, who token.Identity, at time.Time) []string {
	if len(t) == 0 {
		return room
	}
	room, _ = t.of(room, who, at)
	return room
}

// of also gives the earliest end among those policies; zero for none.
func (t policyTable) of(room []string, who token.Identity, at time.Time) (texts []string, until time.Time) {
	for _, target := range [...]string{"", who.User, who.Device} {
		for _, p := range t[target] {
			if p.expires.IsZero() {
				room = append(room, p.caveats...)
			} else if at.Before(p.expires) {
				room = append(room, p.caveats...)
				if until.IsZero() || p.expires.Before(until) {
					until = p.expires
				}
			}
		}
	}
	return room, until
}

// AddPolicy puts caveats on tokens that are out. It is in force on this node
// when it returns.
func (s *Service) AddPolicy(ctx context.Context, in api.PolicyIn, actor string, src Source) (api.Policy, error) {
	p, err := newPolicy(in)
	if err != nil {
		return api.Policy{}, err
	}
	p.CreatedAt = s.now()
	if in.TTL > 0 {
		// Whole seconds, rounded up: it ends at the same moment wherever it is enforced.
		p.ExpiresAt = p.CreatedAt.Add(time.Duration(in.TTL)*time.Second + time.Second - 1).UTC().Truncate(time.Second)
	}
	ev := s.policyEvent(EventPolicyAdded, p, actor, src)
	if _, err := s.store.AddPolicy(ctx, storage.AddPolicy{Policy: p, MaxOfTarget: maxPoliciesEach, MaxAll: maxPolicies}, ev); err != nil {
		return api.Policy{}, err
	}
	return policyOut(p), s.changed(ctx)
}

// RemovePolicy gives back what a policy took.
func (s *Service) RemovePolicy(ctx context.Context, id, actor string, src Source) error {
	all, err := s.store.Policies(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.ID != id {
			continue
		}
		if _, err := s.store.RemovePolicy(ctx, id, s.policyEvent(EventPolicyRemoved, p, actor, src)); err != nil {
			return err
		}
		return s.changed(ctx)
	}
	return storage.ErrNotFound
}

// policyEvent names the policy and whom it is for; its reason is in the table.
func (s *Service) policyEvent(kind string, p storage.Policy, actor string, src Source) storage.Event {
	ev := s.event(kind, actor, src)
	ev.Detail = p.ID
	switch {
	case p.Target == "":
		ev.Detail += " for everybody"
	case strings.HasPrefix(p.Target, token.DevicePrefix):
		ev.DeviceID = p.Target
	default:
		ev.UserID = p.Target
	}
	return ev
}

// Policies lists those that are in force, the oldest first.
func (s *Service) Policies(ctx context.Context) (api.Policies, error) {
	all, err := s.store.Policies(ctx)
	if err != nil {
		return api.Policies{}, err
	}
	out, now := api.Policies{Policies: []api.Policy{}}, s.now()
	for _, p := range all {
		if p.ExpiresAt.IsZero() || now.Before(p.ExpiresAt) {
			out.Policies = append(out.Policies, policyOut(p))
		}
	}
	return out, nil
}

func policyOut(p storage.Policy) api.Policy {
	out := api.Policy{
		ID: p.ID, Target: api.PolicyTarget{Everyone: p.Target == ""}, Caveats: p.Caveats,
		Reason: p.Reason, CreatedAt: api.At(p.CreatedAt), ExpiresAt: apiTime(p.ExpiresAt),
	}
	if strings.HasPrefix(p.Target, token.DevicePrefix) {
		out.Target.Device = p.Target
	} else {
		out.Target.User = p.Target
	}
	return out
}

const policyPrefix = "pol_"

// newPolicy checks what is asked for.
func newPolicy(in api.PolicyIn) (storage.Policy, error) {
	p := storage.Policy{ID: token.NewID(policyPrefix), Caveats: in.Caveats, Reason: in.Reason}
	named := 0
	for _, given := range []bool{in.Target.User != "", in.Target.Device != "", in.Target.Everyone} {
		if given {
			named++
		}
	}
	switch p.Target = in.Target.User + in.Target.Device; {
	case named != 1:
		return p, badField("/target", "give one of user, device and everyone")
	case in.Target.User != "" && !token.IsID(p.Target, token.UserPrefix, token.ServicePrefix):
		return p, badField("/target/user", "not a user's or a service's id")
	case in.Target.Device != "" && !token.IsID(p.Target, token.DevicePrefix):
		return p, badField("/target/device", "not a device's id")
	case len(in.Caveats) < 1 || len(in.Caveats) > maxPolicyCaveats:
		return p, badField("/caveats", "1 to %d caveats", maxPolicyCaveats)
	case in.Reason == "" || len(in.Reason) > maxReasonLen || !utf8.ValidString(in.Reason) || strings.ContainsFunc(in.Reason, caveats.Hidden):
		return p, badField("/reason", "1 to %d bytes of text on one line", maxReasonLen)
	case in.TTL < 0 || in.TTL > int64(maxPolicyLifetime/time.Second):
		return p, badField("/ttl", "ttl is 1 to %d seconds", int64(maxPolicyLifetime/time.Second))
	}
	for i, text := range in.Caveats {
		c, err := caveats.Parse(text)
		if err != nil {
			return p, badField("/caveats", "number %d: %s", i+1, err)
		}
		if !policyCaveats[c.Name()] {
			return p, badField("/caveats", "number %d: a policy cannot have the caveat %s", i+1, c.Name())
		}
	}
	return p, nil
}
