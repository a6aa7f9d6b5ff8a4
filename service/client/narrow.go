package client

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"macaroond/caveats"
	"macaroond/service/token"
)

// Narrowing is what a holder takes away from a token before giving it to
// somebody. What is left zero is not restricted any further. Lists are "one of
// these".
type Narrowing struct {
	For       time.Duration  // valid for so long, cut to the whole second; at least a second, or 0
	Audience  string         // the one verifier that may take it
	Methods   []string       // upper case
	Paths     []string       // patterns, such as /photos/**
	Actions   []string       // the resource server's words, such as photos:read
	ClientIPs []netip.Prefix // networks of the client
	Origins   []string       // as browsers write them
	Extra     []string       // caveats as text; a resource server's own begin with x-
	Note      string         // a remark that anybody who has the token can read
	// ForSelf says that the token stays with this holder. Otherwise its note
	// ends in random characters, so that equal grants to two parties are two
	// branches, and one can be revoked without the other.
	ForSelf bool
}

// windowLeast is how much must be left of an hour for it to be the window.
const windowLeast = 10 * time.Minute

// Window is the end of the window that now lies in: of the current hour of
// UTC, or of the next one when less than ten minutes are left. A device's
// tokens then begin with the same bytes for that hour, so that an edge which
// knows one of them can check the others; and what it knows ends with the hour.
func Window(now time.Time) time.Time {
	end := now.UTC().Truncate(time.Hour).Add(time.Hour)
	if end.Sub(now) < windowLeast {
		end = end.Add(time.Hour)
	}
	return end
}

// Narrow makes the token that n describes from t, offline. The order of the
// new caveats is the one that all our clients use: the window, the audience,
// then the rest. There is no window when the asked expiry lies beyond it, when
// no expiry is asked, or when a holder has narrowed t to end within it already.
// An audience that t names is not named again: an edge verifies on its own only
// what names it once.
//
// Errors match [caveats.ErrSyntax] or [caveats.ErrUnknown] for an argument
// that makes no caveat, [token.ErrTooLarge] when there is no room left.
func Narrow(t *token.Token, n Narrowing, now time.Time) (*token.Token, error) {
	texts, err := n.Caveats(t, now)
	if err != nil {
		return nil, err
	}
	return token.Attenuate(t, texts...)
}

// Caveats is what [Narrow] appends to t. With a random note, each call gives
// another list.
func (n Narrowing) Caveats(t *token.Token, now time.Time) ([]string, error) {
	var l list
	var expiry time.Time
	if n.For != 0 {
		if n.For < time.Second {
			return nil, errors.New("a token must be valid for at least a second")
		}
		expiry = now.Add(n.For).UTC().Truncate(time.Second)
		if end := Window(now); !expiry.After(end) && !endsBy(t, end) {
			l.add(caveats.TimeBefore(end), nil)
		}
	}
	if n.Audience != "" && !slices.Contains(UnverifiedAudiences(t), n.Audience) {
		l.add(caveats.Audience(n.Audience))
	}
	if n.For != 0 {
		if c := caveats.TimeBefore(expiry); !slices.Contains(l.texts, c.String()) {
			l.add(c, nil)
		}
	}
	if len(n.Methods) > 0 {
		l.add(caveats.Method(n.Methods...))
	}
	if len(n.Paths) > 0 {
		l.add(caveats.Path(n.Paths...))
	}
	if len(n.Actions) > 0 {
		l.add(caveats.Allow(n.Actions...))
	}
	if len(n.ClientIPs) > 0 {
		l.add(caveats.ClientIP(n.ClientIPs...))
	}
	if len(n.Origins) > 0 {
		l.add(caveats.Origin(n.Origins...))
	}
	for _, text := range n.Extra {
		l.add(parse(text))
	}
	if note := n.note(); note != "" {
		l.add(caveats.Note(note))
	}
	return l.texts, l.err
}

// minLifetime is the least that a token made for one request is valid for. With
// less, clocks that count as equal (see deadBand) would be too far apart.
const minLifetime = 10 * time.Second

// PerRequest is n for tokens that are made from t, each for one request, by
// whoever sends it: valid for a minute unless n says otherwise, and without a
// random note, because nobody else gets them. It is what [Transport] and the
// package tokensource narrow by. The errors are a lifetime of less than 10
// seconds, and no audience in n or t, for no resource server takes such a token.
func (n Narrowing) PerRequest(t *token.Token) (Narrowing, error) {
	n.ForSelf = true
	if n.For == 0 {
		n.For = time.Minute
	}
	switch {
	case n.For < minLifetime:
		return Narrowing{}, fmt.Errorf("a request's token must be valid for at least %s", minLifetime)
	case n.Audience == "" && len(UnverifiedAudiences(t)) == 0:
		return Narrowing{}, errors.New("an audience is needed: no resource server takes a token without one")
	}
	return n, nil
}

// list gathers caveats up to the first error.
type list struct {
	texts []string
	err   error
}

func (l *list) add(c caveats.Caveat, err error) {
	if l.err == nil {
		l.err = err
	}
	l.texts = append(l.texts, c.String())
}

func (n Narrowing) note() string {
	if n.ForSelf {
		return n.Note
	}
	var b [9]byte // 12 characters
	rand.Read(b[:])
	nonce := base64.RawURLEncoding.EncodeToString(b[:])
	if n.Note == "" {
		return nonce
	}
	return n.Note + " " + nonce
}

// parse reads a caveat of the language, or one of a resource server's own,
// whose arguments are that server's business.
func parse(text string) (caveats.Caveat, error) {
	var own caveats.Language
	if name, _, _ := strings.Cut(text, " "); strings.HasPrefix(name, "x-") {
		var err error
		own, err = caveats.NewLanguage(caveats.Extension{Name: name, Check: unjudged})
		if err != nil {
			return caveats.Caveat{}, fmt.Errorf("%w: %w", caveats.ErrSyntax, err)
		}
	}
	return own.Parse(text)
}

func unjudged(string, *caveats.Request) error { return errors.New("not judged here") }

// endsBy reports a token that somebody narrowed to end by then: another window
// would say nothing. The mint caveats are not looked at, because where a root
// happens to end is not a window that its tokens share.
func endsBy(t *token.Token, end time.Time) bool {
	for i, text := range t.UnverifiedCaveats() {
		if at, ok := caveats.Before(text); ok && i >= token.MintCaveats && !at.After(end) {
			return true
		}
	}
	return false
}

// UnverifiedExpiry is the earliest time-before of a token; false when it has
// none. Like everything in a token whose chain nobody checked, it is only what
// the token says.
func UnverifiedExpiry(t *token.Token) (expiry time.Time, ok bool) {
	for _, text := range t.UnverifiedCaveats() {
		if at, is := caveats.Before(text); is && (!ok || at.Before(expiry)) {
			expiry, ok = at, true
		}
	}
	return expiry, ok
}

// UnverifiedAudiences are the audiences that a token names. More than one makes
// a token that nobody takes.
func UnverifiedAudiences(t *token.Token) (audiences []string) {
	for _, text := range t.UnverifiedCaveats() {
		if c, err := caveats.Parse(text); err == nil && c.Name() == "audience" {
			audiences = append(audiences, c.Argument())
		}
	}
	return audiences
}
