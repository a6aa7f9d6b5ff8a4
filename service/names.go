package service

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/maypok86/otter/v2"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"macaroond/service/token"
	"macaroond/storage"
)

// reserved names cannot be signed up for: they read like the service's own.
// An operator may give them.
var reserved = map[string]bool{
	"admin": true, "administrator": true, "root": true, "system": true, "operator": true,
	"macaroond": true, "macaroon": true, "support": true, "security": true, "help": true,
	"me": true, "self": true, "anonymous": true, "nobody": true, "null": true, "undefined": true,
}

// userName gives the name as shown (NFC) and its key, so that two names that
// look the same to a hurried reader are one. A name has 1
// to 64 characters, no control, format or unusual space characters, no colon
// (HTTP Basic ends a name there), and does not look like an id of ours.
func userName(field, in string, self bool) (name, key string, err error) {
	name, err = shownName(field, in)
	if err != nil {
		return "", "", err
	}
	key = nameKey(name)
	switch {
	case strings.Contains(key, ":"):
		return "", "", badField(field, "a name has no colon")
	case name == "-", key == "", len(key) > 64*maxName:
		return "", "", badField(field, "not a name")
	}
	if err := likeNoID(field, key); err != nil {
		return "", "", err
	}
	if self && reserved[key] {
		return "", "", badField(field, "the name is reserved")
	}
	return name, key, nil
}

// likeNoID refuses a name that begins like an id of ours: where either may
// stand, it could be given for somebody else's.
func likeNoID(field, key string) error {
	for _, p := range []string{token.UserPrefix, token.ServicePrefix, token.DevicePrefix} {
		if strings.HasPrefix(key, p) {
			return badField(field, "a name does not begin like an id")
		}
	}
	return nil
}

// newName is userName for somebody who comes now, and so finds the name taken
// by whoever has it under a key of before.
func (s *Service) newName(ctx context.Context, field, in string, self bool) (name, key string, err error) {
	if name, _, err = userName(field, in, self); err != nil {
		return "", "", err
	}
	key, err = s.keptKey(ctx, name)
	return name, key, err
}

// nameKey folds a name for comparison: its case, and the dot above a letter that
// has one.
func nameKey(name string) string { return norm.NFKC.String(undot(foldCase(name))) }

// dottedKey is what the key of a name was before dots were folded.
func dottedKey(name string) string { return norm.NFKC.String(foldCase(name)) }

// foldCase is NFKC and case folding, which can undo the normal form. It exchanges
// the two cases of Cherokee instead of merging them, so letters are lowered first.
func foldCase(name string) string {
	return cases.Fold().String(strings.ToLower(norm.NFKC.String(name)))
}

// undot takes away the dot above a letter that has one and is drawn no other with
// it: i and U+0307, which is also the lower case of U+0130, are i.
func undot(name string) string {
	dotted := false
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\u0307' && dotted:
			return -1
		case !unicode.Is(unicode.Mn, r):
			dotted = unicode.Is(unicode.Soft_Dotted, r)
		}
		return r
	}, name)
}

// soughtName is the key of a name that somebody gives to log in. What is too
// long to be anybody's is refused before any work is done on it.
func (s *Service) soughtName(ctx context.Context, name string) (string, error) {
	switch {
	case name == "":
		return "", badField("/username", "no name: send username and code")
	case len(name) > 4*maxName*utf8.UTFMax:
		return "", badField("/username", "a name has 1 to %d characters", maxName)
	}
	return s.keptKey(ctx, name)
}

// keptKey is the key that the user of that name is kept under. One who came when
// dots were not folded has the key of then, whoever has come by the other since.
func (s *Service) keptKey(ctx context.Context, name string) (string, error) {
	key, dotted := nameKey(name), dottedKey(name)
	if key == dotted {
		return key, nil
	}
	switch _, err := s.store.UserByNameKey(ctx, dotted); {
	case err == nil:
		return dotted, nil
	case !errors.Is(err, storage.ErrNotFound):
		return "", err
	}
	return key, nil
}

// maxName is the greatest number of characters of a name.
const maxName = 64

// shownName is the rule for names that people give to users and devices.
func shownName(field, in string) (string, error) {
	if !utf8.ValidString(in) {
		return "", badField(field, "not UTF-8")
	}
	if len(in) > 4*maxName*utf8.UTFMax { // no work on what cannot be one
		return "", badField(field, "a name has 1 to %d characters", maxName)
	}
	name := norm.NFC.String(in)
	n := 0
	for _, r := range name {
		if n == 0 && unicode.Is(unicode.M, r) { // it would be drawn on whatever stands before the name
			return "", badField(field, "a name does not begin with a combining mark")
		}
		n++
		if r != ' ' && (!unicode.IsGraphic(r) || unicode.IsSpace(r)) || r == utf8.RuneError || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) || unicode.Is(unicode.Variation_Selector, r) || r == '\u2800' { // the last: Braille's blank
			return "", badField(field, "a name has letters, digits, marks, punctuation and single plain spaces only")
		}
	}
	switch {
	case n == 0 || n > maxName:
		return "", badField(field, "a name has 1 to %d characters", maxName)
	case name[0] == ' ' || name[len(name)-1] == ' ' || strings.Contains(name, "  "):
		return "", badField(field, "a name has no leading, trailing or double spaces")
	}
	return name, nil
}

// nameCache gives the name and role of a user id to decisions and gateway
// headers. It is bounded, and a change of roles, or of a name, empties it.
type nameCache struct {
	store storage.Store
	cache *otter.Cache[string, userInfo]

	mu      sync.Mutex
	cleared int // how often: what was read before does not come in after it
}

type userInfo struct{ name, role string }

// nameTimeout bounds what a verdict waits for a name, when the database is held
// by somebody else: it goes out without one.
const nameTimeout = 50 * time.Millisecond

func newNameCache(store storage.Store) (*nameCache, error) {
	cache, err := otter.New(&otter.Options[string, userInfo]{MaximumSize: 10_000})
	return &nameCache{store: store, cache: cache}, err
}

// get is called only with ids from a chain that held. When the store cannot
// say, the name and role are empty: they are shown, never a reason to allow.
func (c *nameCache) get(ctx context.Context, id string, wait time.Duration) userInfo {
	if info, ok := c.cache.GetIfPresent(id); ok {
		return info
	}
	c.mu.Lock()
	before := c.cleared
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	u, err := c.store.User(ctx, id)
	if err != nil {
		return userInfo{}
	}
	info := userInfo{u.Name, u.Role}
	if u.Owner != "" { // another backend's user has no role, whatever the row says
		info.role = ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cleared == before {
		c.cache.Set(id, info)
	}
	return info
}

func (c *nameCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleared++
	c.cache.InvalidateAll()
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
