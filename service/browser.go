package service

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// Browser mode. The root macaroon stands in a cookie that scripts cannot read,
// and carries "via cookie", so that one that leaks out of the cookie (from a log
// of headers, say) is no bearer token. What a cookie costs is that a browser
// sends it along with whatever page makes it: so each request that comes with
// it is held against httpapi's same-origin checks and, if it can change
// anything, against a synchronizer token, which only a page of the same origin
// can have read.

// maxCookie is the longest Set-Cookie that every browser takes, in bytes with
// its attributes (RFC 6265 section 6.1).
const maxCookie = 4096

// checkMode refuses a mode that is unknown, and the cookie when it would not be
// taken: before anything is stored.
func (s *Service) checkMode(mode string) error {
	switch mode {
	case "", api.ModeToken:
		return nil
	case api.ModeCookie:
	default:
		return badField("/mode", "mode is %q or %q", api.ModeToken, api.ModeCookie)
	}
	// As long as any that will be minted: ids and times have one length.
	who := token.Identity{
		User: token.NewID(token.UserPrefix), Device: token.NewID(token.DevicePrefix),
		Expires: s.now().Add(s.Settings().RootTTL),
	}
	id := token.Identifier{Epoch: 1<<32 - 1, RootKeyID: token.NewRootKeyID()}
	t, err := token.Mint(new(token.RootKey), s.Settings().Issuer, id, who, caveats.ViaCookie())
	if err == nil && len(SetCookie(t.Text(), s.Settings().RootTTL)) > maxCookie {
		err = fmt.Errorf("a cookie would have more than %d bytes: the issuer is too long", maxCookie)
	}
	if err != nil {
		return &Error{Code: api.CodeInternal, Detail: "no cookie can be made here", Err: err}
	}
	return nil
}

// SetCookie is the Set-Cookie that keeps a token for so long; an empty token
// takes the cookie away.
func SetCookie(text string, keep time.Duration) string {
	age := int64(keep / time.Second)
	if text == "" {
		age = 0
	}
	// SameSite=Lax, not Strict: a link from elsewhere into the application would
	// otherwise arrive without it. No request that changes anything is a link.
	return api.Cookie + "=" + text + "; Path=/; Max-Age=" + strconv.FormatInt(age, 10) + "; Secure; HttpOnly; SameSite=Lax"
}

// intoCookie turns a grant of a root that was just minted into one for the
// cookie: the same root with "via cookie". The token still stands in it, for the
// wire to put into the cookie; that CSRFToken is there says so.
func (s *Service) intoCookie(g *api.Grant) error {
	root, err := token.Parse(g.Token)
	if err != nil {
		return err
	}
	t, err := token.Attenuate(root, caveats.ViaCookie().String())
	if err != nil {
		return err
	}
	g.Token, g.TokenType = t.Text(), ""
	g.CSRFToken = s.csrf(t.UnverifiedIdentifier(), g.User.ID, g.Device.ID)
	return nil
}

// csrf is the synchronizer token of a session: the epoch that it is derived in,
// and the derived bytes. With the epoch in it, a page that has one goes on after
// a renewal into the next epoch, for as long as the former one verifies.
func (s *Service) csrf(id token.Identifier, user, device string) string {
	sum, _ := s.keyring.CSRF(id, user, device)
	return strconv.FormatUint(uint64(id.Epoch), 10) + "." + base64.RawURLEncoding.EncodeToString(sum[:])
}

// CheckCSRF holds a synchronizer token against the session that a cookie's token
// is of. Whether that session is alive is not its business: of a token that is
// none of ours it says nothing, and the verdict that follows refuses it.
func (s *Service) CheckCSRF(text, csrf string) error {
	ver := s.verifier()
	chain, who, code := ver.Authenticate(text)
	if code != "" {
		return nil
	}
	id := chain.Identifier()
	epoch, _, _ := strings.Cut(csrf, ".")
	if n, err := strconv.ParseUint(epoch, 10, 32); err == nil {
		id.Epoch = uint32(n)
	}
	want, known := s.keyring.CSRF(id, who.User, who.Device)
	text = strconv.FormatUint(uint64(id.Epoch), 10) + "." + base64.RawURLEncoding.EncodeToString(want[:])
	// In constant time: it is a secret of the page's, and guessed byte by byte it
	// would let a foreign page act.
	if subtle.ConstantTimeCompare([]byte(csrf), []byte(text)) != 1 || !known {
		return refuse(api.CodeCSRF, "the cookie came without this session's token in "+api.CSRFHeader+": GET /v1/session has it")
	}
	return nil
}

// browser reports whether a request came with the cookie to an audience that
// the cookie's bare root is good for, though it does not name it.
func (s *Service) browser(facts *caveats.Request) bool {
	if facts.Via != caveats.Cookie {
		return false
	}
	set := s.Settings()
	return facts.Audience == set.Audience || slices.Contains(set.Browser, facts.Audience)
}

// Session tells a page whose session it is in. cookie: it came with the cookie,
// and may have its synchronizer token.
func (s *Service) Session(ctx context.Context, c *Caller, cookie bool) (api.Session, error) {
	// After a backup was restored with its tokens kept, the database does not
	// know every device that can still speak: then it has no name.
	device, err := s.store.Device(ctx, c.User, c.Device)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return api.Session{}, err
	}
	out := api.Session{
		User:      api.UserRef{ID: c.User, Username: s.nameOf(ctx, c.User).name},
		Device:    api.DeviceRef{ID: c.Device, Name: device.Name},
		ExpiresAt: api.At(c.Expires),
	}
	if cookie {
		out.CSRFToken = s.csrf(c.Chain.Identifier(), c.User, c.Device)
	}
	return out, nil
}

// ticketTTL is how long a ticket is good.
const ticketTTL = 30 * time.Second

// Ticket narrows the caller's root to one use, for a page that has no token to
// narrow: for a WebSocket, whose handshake takes no header of a script's. It
// goes on from the mint caveats and without "via cookie", for it is sent
// otherwise than in the cookie; whatever ends the device ends it.
func (s *Service) Ticket(c *Caller, in api.TicketIn) (api.Ticket, error) {
	set := s.Settings()
	if in.Audience != set.Audience && !slices.Contains(set.Browser, in.Audience) {
		return api.Ticket{}, badField("/audience", "a ticket is for the authority or one of its browser_audiences")
	}
	audience, err := caveats.Audience(in.Audience)
	if err != nil {
		return api.Ticket{}, badField("/audience", "not an audience")
	}
	id := c.Chain.Identifier()
	key, known := s.keyring.RootKey(id)
	if !known {
		return api.Ticket{}, &api.Refusal{Code: api.CodeInvalid, Reason: "the epoch has just been retired"}
	}
	root, err := token.Mint(&key, set.Issuer, id, c.Identity)
	if err != nil {
		return api.Ticket{}, err
	}
	expires := s.soon(ticketTTL, c.Expires)
	texts := []string{caveats.TimeBefore(expires).String(), audience.String()}
	if in.Path != "" {
		path, err := caveats.Path(in.Path)
		if err != nil {
			return api.Ticket{}, badField("/path", "not one pattern of a path")
		}
		texts = append(texts, path.String())
	}
	t, err := token.Attenuate(root, append(texts, "once "+rand.Text())...)
	if err != nil {
		return api.Ticket{}, err
	}
	return api.Ticket{Ticket: t.Text(), ExpiresAt: api.At(expires)}, nil
}
