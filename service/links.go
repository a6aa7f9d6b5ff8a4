package service

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

const (
	linkPrefix = "lnk_"
	linkTTL    = 5 * time.Minute
	linkTries  = 5
)

// A code has eight characters. The first two only name the link (they follow
// from its id), so that a stranger who knows no more than a user's name uses up
// none of its tries: they would have to guess them first. The other six are 30
// random bits. Five tries at them, in five minutes, are one chance in two
// hundred million.
const leadLen, secretLen = 2, 6

func leadOf(id string) string {
	sum := sha256.Sum256([]byte("macaroond/link-lead/v1\x00" + id))
	return crockford.EncodeToString(sum[:5])[:leadLen]
}

func newLinkCode(id string) string {
	var b [4]byte
	rand.Read(b[:])
	c := leadOf(id) + crockford.EncodeToString(b[:])[:secretLen]
	return c[:4] + "-" + c[4:]
}

// OpenLink makes a code with which another device can ask to be let in. A
// former one is void.
func (s *Service) OpenLink(ctx context.Context, c *Caller, p api.Proof, src Source) (api.LinkCode, *api.Delayed, error) {
	act, settle, err := s.proved(ctx, c, actLink, "", p, src)
	if err != nil {
		return api.LinkCode{}, nil, unknownHere(err)
	}
	now := s.now()
	l := storage.Link{ID: token.NewID(linkPrefix), UserID: c.User, DeviceID: c.Device, Tries: linkTries, CreatedAt: now, ExpiresAt: now.Add(linkTTL)}
	code := newLinkCode(l.ID)
	l.Code = s.sealing.LinkCode(c.User, plainCode(code))
	d, err := s.store.OpenLink(ctx, l, act, s.eventBy(EventLinkOpened, c, src))
	return api.LinkCode{ID: l.ID, Code: code, ExpiresAt: api.At(l.ExpiresAt)}, delayedOut(d, c.Device), unknownHere(settle(err))
}

// ClaimLink is the new device giving the code. It gets a claim, and waits. One
// answer and one transaction for an unknown user, no link, and a wrong code.
//
// The tries are the link's own, so there is no limit by account: whoever used
// that up from elsewhere would keep the owner's device out.
func (s *Service) ClaimLink(ctx context.Context, in api.LinkIn, src Source) (api.LinkPending, error) {
	device, err := deviceOf(in.Device)
	if err != nil {
		return api.LinkPending{}, err
	}
	key, err := s.soughtName(ctx, in.Username)
	if err != nil {
		return api.LinkPending{}, err
	}
	attempt, err := s.attempts.near(key, src.address())
	if err != nil {
		return api.LinkPending{}, err
	}
	defer attempt.end()
	user, err := s.store.UserByNameKey(ctx, key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return api.LinkPending{}, err
	}
	open, err := s.store.Link(ctx, user.ID, s.now())
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return api.LinkPending{}, err
	}
	code := plainCode(in.Code)
	ask := storage.ClaimLink{UserID: user.ID, Code: s.sealing.LinkCode(user.ID, code), Now: s.now()}
	if strings.HasPrefix(code, leadOf(open.ID)) {
		ask.LinkID = open.ID
	}
	claim, hash := newClaim(open.ID)
	ask.LinkClaim = storage.LinkClaim{Claim: hash, Name: device.Name, InstallID: device.InstallID, ClientIP: src.address()}
	failed := s.eventAbout(EventLinkFailed, "", user.ID, src)
	l, ok, err := s.store.ClaimLink(ctx, ask, s.eventOf(EventLinkClaimed, user.ID, src), failed)
	if err != nil {
		return api.LinkPending{}, err
	}
	if !ok {
		attempt.fail()
		return api.LinkPending{}, refuse(api.CodeBadCredentials, "the name or the code is wrong")
	}
	return api.LinkPending{Claim: claim, ExpiresAt: api.At(l.ExpiresAt)}, nil
}

// newClaim is 256 random bits behind the link's id, by which it is found.
func newClaim(id string) (claim string, hash [32]byte) {
	var b [32]byte
	rand.Read(b[:])
	claim = id + "." + base64.RawURLEncoding.EncodeToString(b[:])
	return claim, claimHash(claim)
}

// claimHash is fast because of the 256 bits.
func claimHash(claim string) [32]byte {
	return sha256.Sum256([]byte("macaroond/link-claim/v1\x00" + claim))
}

// TradeClaim gives the new device its grant once the first one has approved,
// exactly once. Until then it gives none and says how long there is.
func (s *Service) TradeClaim(ctx context.Context, in api.ClaimIn, src Source) (*api.Grant, api.LinkPending, error) {
	var none api.LinkPending
	if err := s.checkMode(in.Mode); err != nil {
		return nil, none, err
	}
	if in.Claim == "" {
		return nil, none, badField("/claim", "no claim")
	}
	attempt, err := s.attempts.address(src.address())
	if err != nil {
		return nil, none, err
	}
	defer attempt.end()
	refused := func() (*api.Grant, api.LinkPending, error) {
		attempt.fail()
		return nil, none, refuse(api.CodeBadCredentials, "the claim is wrong, refused, used, or too late: ask for another code")
	}
	id, _, _ := strings.Cut(in.Claim, ".")
	l, err := s.store.LinkByID(ctx, id, s.now())
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, none, err
	}
	hash := claimHash(in.Claim)
	if subtle.ConstantTimeCompare(hash[:], l.Claim[:]) != 1 {
		return refused()
	}
	if l.ApprovedAt.IsZero() {
		return nil, api.LinkPending{ExpiresAt: api.At(l.ExpiresAt)}, nil
	}
	user, err := s.store.User(ctx, l.UserID)
	if errors.Is(err, storage.ErrNotFound) {
		return refused()
	}
	if err != nil {
		return nil, none, err
	}
	device := storage.Device{ID: token.NewID(token.DevicePrefix), Name: l.Name, InstallID: l.InstallID}
	grant, err := s.issue(ctx, user, storage.IssueDevice{Device: device, LinkID: l.ID}, 0, s.eventOf(EventLinked, user.ID, src))
	if errors.Is(err, storage.ErrNotFound) { // another request was first, or it was closed this moment
		return refused()
	}
	if err == nil && in.Mode == api.ModeCookie {
		err = s.intoCookie(&grant)
	}
	if err != nil {
		return nil, none, err
	}
	s.metrics.logins.WithLabelValues("link").Inc()
	return &grant, none, nil
}

// Links is the caller's user's link, if there is one. All devices see it.
func (s *Service) Links(ctx context.Context, c *Caller) (api.Links, error) {
	out := api.Links{Links: []api.Link{}}
	l, err := s.store.Link(ctx, c.User, s.now())
	if errors.Is(err, storage.ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Links = append(out.Links, api.Link{
		ID: l.ID, Device: l.DeviceID, CreatedAt: api.At(l.CreatedAt), ExpiresAt: api.At(l.ExpiresAt),
		Waiting: l.Claimed() && l.ApprovedAt.IsZero(), Approved: !l.ApprovedAt.IsZero(), Name: l.Name, ClientIP: l.ClientIP,
	})
	return out, nil
}

// ApproveLink lets the new device in, by the device that opened the link.
func (s *Service) ApproveLink(ctx context.Context, c *Caller, id string, src Source) error {
	ev := s.eventBy(EventLinkApproved, c, src)
	ev.Detail = id
	return s.store.ApproveLink(ctx, c.User, c.Device, id, ev)
}

// CloseLink refuses it, by any device of the user.
func (s *Service) CloseLink(ctx context.Context, c *Caller, id string, src Source) error {
	ev := s.eventBy(EventLinkClosed, c, src)
	ev.Detail = id
	return s.store.CloseLink(ctx, c.User, id, ev)
}
