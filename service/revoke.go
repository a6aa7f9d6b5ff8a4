package service

import (
	"context"
	"errors"
	"slices"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// maxBranches is how many live branches under one root key strangers may put
// on the list. The owner is never refused.
const maxBranches = 256

// Revoke kills what is presented: a bare root drops its device, anything else
// the branch that it is the top of. The chain must hold; its caveats need not.
// Whoever holds a token may end it, and nothing above it. owner is who asks
// with a bare root of their own, if anybody: the token's own user is never
// refused, strangers only so many branches.
func (s *Service) Revoke(ctx context.Context, text string, owner *Caller, src Source) (api.RevokeOut, error) {
	return s.revoke(ctx, text, src, func(id token.Identity) (actor string, limit int) {
		switch {
		case owner == nil:
			return id.User, maxBranches
		case owner.Chain.Bare() && owner.User == id.User:
			return owner.User, 0
		}
		return owner.User, maxBranches
	})
}

// RevokeAsService is Revoke by a service that has proved itself. It is the owner
// of its own tokens: it takes back as many as it handed out.
func (s *Service) RevokeAsService(ctx context.Context, text string, svc storage.Service, src Source) (api.RevokeOut, error) {
	return s.revoke(ctx, text, src, func(id token.Identity) (string, int) {
		if id.User == svc.ID {
			return svc.ID, 0
		}
		return svc.ID, maxBranches
	})
}

// RevokeAsOperator is Revoke by a command on the server.
func (s *Service) RevokeAsOperator(ctx context.Context, text string) (api.RevokeOut, error) {
	return s.revoke(ctx, text, Source{}, func(token.Identity) (string, int) { return ActorOperator, 0 })
}

func (s *Service) revoke(ctx context.Context, text string, src Source, by func(token.Identity) (actor string, limit int)) (api.RevokeOut, error) {
	ver := s.verifier()
	chain, id, code := ver.Authenticate(text)
	if code != "" {
		return api.RevokeOut{}, &api.Refusal{Code: code, Reason: "the token to be revoked is not one of this authority's"}
	}
	out := api.RevokeOut{Grain: api.GrainBranch}
	if chain.Bare() {
		out.Grain = api.GrainDevice
	}
	if s.list.Revoked(chain) || s.over(id.Expires) {
		return out, nil // dead already: nothing to store
	}
	actor, limit := by(id)
	if chain.Bare() {
		return out, s.drop(ctx, chain, id, ReasonToken, actor, src)
	}
	texts := make([]string, 0, chain.Len())
	sigs := make([]token.Signature, 0, chain.Len())
	for i := range chain.Len() {
		if text, thirdParty := chain.Caveat(i); !thirdParty {
			texts = append(texts, text)
		}
		if i >= token.MintCaveats {
			sigs = append(sigs, *chain.Signature(i + 1))
		}
	}
	return out, s.revokeBranch(ctx, chain, id, texts, sigs, limit, actor, src)
}

// over reports that a token with that expiry is dead everywhere, so that revoking
// it stores nothing. While the wall clock has jumped ahead the token may be good
// again in a moment, and whoever was told that it is revoked relies on it.
func (s *Service) over(expires time.Time) bool {
	return !expires.Add(storage.ClockSkew).After(s.clock.Earliest(s.now()))
}

// drop ends the device of a bare root. The root key goes on the list even when
// no device has it any more: after a backup was restored with its tokens kept,
// the database does not know every device that can still speak.
func (s *Service) drop(ctx context.Context, root token.Chain, id token.Identity, reason, actor string, src Source) error {
	key := [16]byte(root.Identifier().RootKeyID)
	in := storage.RevokeDevices{UserID: id.User, DeviceID: id.Device, RootKeyID: &key, ExpiresAt: id.Expires, Reason: reason}
	err := s.RevokeDevices(ctx, in, actor, src)
	if err != nil && !errors.Is(err, storage.ErrNotFound) || s.list.Revoked(root) {
		return err
	}
	return s.dropKey(ctx, key, id, reason, actor, src)
}

// dropKey lists a root key, if it is not on the list, and asks no table whose it is.
func (s *Service) dropKey(ctx context.Context, key [16]byte, id token.Identity, reason, actor string, src Source) error {
	ev := s.event(EventDeviceRevoked, actor, src)
	ev.UserID, ev.DeviceID, ev.Detail = id.User, id.Device, reason
	entries, err := s.store.RevokeRootKey(ctx, key, s.longestRoot(), ev)
	return s.ended(ctx, entries, err)
}

// longestRoot is a time that no root macaroon outlives under a root key that the
// database does not know: nor does it know every successor of the one that is
// shown, nor what root_ttl was then.
func (s *Service) longestRoot() time.Time { return s.now().Add(storage.MaxRootTTL) }

// RevokeByCaveats kills a branch of the caller's device that the caller names by
// its holder caveats, without having the token: the authority walks the chain on,
// from every root of the device that is still good. When there may be one that
// it does not know it says so, after it has ended what it can.
func (s *Service) RevokeByCaveats(ctx context.Context, c *Caller, holder []string, src Source) (api.RevokeOut, error) {
	if len(holder) == 0 {
		return api.RevokeOut{}, badField("/caveats", "no caveats: to drop the device itself, log out")
	}
	if len(holder) > token.MaxCaveats-token.MintCaveats {
		return api.RevokeOut{}, badField("/caveats", "at most %d caveats", token.MaxCaveats-token.MintCaveats)
	}
	if len(holder) == 1 && holder[0] == caveats.ViaCookie().String() {
		return api.RevokeOut{}, badField("/caveats", "that is the cookie's own root: to drop the device itself, log out")
	}
	for _, text := range holder {
		if text == "" || len(text) > token.MaxCaveatLen {
			return api.RevokeOut{}, badField("/caveats", "a caveat has 1 to %d bytes", token.MaxCaveatLen)
		}
	}
	id := c.Chain.Identifier()
	// What is over by this clock may still be good by a verifier's.
	roots, all, err := s.store.Roots(ctx, id.RootKeyID, s.clock.Earliest(s.now()).Add(-storage.ClockSkew))
	if err != nil {
		return api.RevokeOut{}, err
	}
	presented := storage.Root{Epoch: id.Epoch, ExpiresAt: c.Identity.Expires.UTC()}
	if !slices.Contains(roots, presented) { // the table is of a time before this root
		roots, all = append(roots, presented), false
	}
	listed := false
	for _, r := range roots {
		before, err := s.revokeNamed(ctx, c, r, holder, src)
		if err != nil {
			return api.RevokeOut{}, err
		}
		listed = listed || before
	}
	if listed {
		if err := s.ended(ctx, nil, nil); err != nil {
			return api.RevokeOut{}, err
		}
	}
	if !all {
		return api.RevokeOut{}, refuse(api.CodeTooMany, "the branch is ended under every root of this device that is known, and there may be others that are still good: to be sure revoke the token itself, or the device")
	}
	return api.RevokeOut{Grain: api.GrainBranch}, nil
}

// revokeNamed is RevokeByCaveats under one of the device's roots; listed as
// listBranch says it.
func (s *Service) revokeNamed(ctx context.Context, c *Caller, r storage.Root, holder []string, src Source) (listed bool, err error) {
	id := c.Chain.Identifier()
	id.Epoch = r.Epoch
	key, known, err := s.rootKey(ctx, id)
	if err != nil || !known { // its epoch is retired, and it is dead
		return false, err
	}
	who := token.Identity{User: c.User, Device: c.Device, Expires: r.ExpiresAt}
	root, err := token.Mint(&key, s.Settings().Issuer, id, who)
	if err != nil {
		return false, err
	}
	sig := root.UnverifiedSignature()
	sigs := make([]token.Signature, 0, len(holder))
	for _, text := range holder {
		sig = sig.Next(text)
		sigs = append(sigs, sig)
	}
	return s.listBranch(ctx, c.Chain, who, holder, sigs, 0, c.User, src)
}

func (s *Service) revokeBranch(ctx context.Context, chain token.Chain, id token.Identity, texts []string, sigs []token.Signature, limit int, actor string, src Source) error {
	listed, err := s.listBranch(ctx, chain, id, texts, sigs, limit, actor, src)
	if listed {
		return s.ended(ctx, nil, err)
	}
	return err
}

// listBranch stores the last of sigs, the signatures from the first holder
// caveat on. A token that has expired already, or that stands under a revoked
// one, stores nothing; listed says the latter, and then it is perhaps not in
// memory yet.
func (s *Service) listBranch(ctx context.Context, chain token.Chain, id token.Identity, texts []string, sigs []token.Signature, limit int, actor string, src Source) (listed bool, err error) {
	expires := earliest(id.Expires, texts)
	if s.over(expires) {
		return false, nil
	}
	in := storage.RevokeBranch{RootKeyID: chain.Identifier().RootKeyID, ExpiresAt: expires, MaxLive: limit}
	for i := range sigs {
		f := [16]byte(sigs[i].Fingerprint())
		if i < len(sigs)-1 {
			in.Ancestors = append(in.Ancestors, f)
		} else {
			in.Fingerprint = f
		}
	}
	ev := s.event(EventBranchRevoked, actor, src)
	ev.UserID, ev.DeviceID, ev.RootKeyID = id.User, id.Device, &in.RootKeyID
	entry, added, err := s.store.RevokeBranch(ctx, in, ev)
	if added {
		s.revoked(entry)
	}
	return !added && err == nil, err
}

// earliest is the effective expiry: the earliest time-before.
func earliest(t time.Time, texts []string) time.Time {
	for _, text := range texts {
		if at, ok := caveats.Before(text); ok && at.Before(t) {
			t = at
		}
	}
	return t
}

// ended is the end of whatever ends tokens: when it returns nil, all of them are
// refused here. stored is what is new on the list. What somebody else put there
// a moment ago, another request or another process, is not stored again, and is
// perhaps not in memory yet: so the table is read. (No more than that: CatchUp
// fails for reasons that no revocation has, such as a key file that is behind.)
func (s *Service) ended(ctx context.Context, stored []storage.Revocation, err error) error {
	s.revoked(stored...)
	if err != nil || s.list.AsOf().IsZero() { // a command's, which accepts nothing (see Open)
		return err
	}
	s.follow.Lock()
	after := s.follow.state.Sequence
	s.follow.Unlock()
	return s.readRevocations(ctx, after, new(tail)) // the follower reads it again, for those who follow us
}

// revoked puts what was just stored into memory, without waiting for the
// follower to read it again. The follower is told, for those who follow us.
func (s *Service) revoked(entries ...storage.Revocation) {
	if len(entries) == 0 {
		return
	}
	s.list.Add(entries...)
	select {
	case s.kick <- struct{}{}:
	default: // it will look anyway
	}
	for _, e := range entries {
		grain := api.GrainDevice
		switch e.Grain {
		case storage.GrainBranch:
			grain = api.GrainBranch
		case storage.GrainEpoch:
			grain = api.GrainEpoch
		}
		s.metrics.revocations.WithLabelValues(grain).Inc()
	}
}
