package service

import (
	"context"
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

// userName gives the name as shown (NFC) and its key: NFKC, case-folded, so
// that two names that look the same to a hurried reader are one. A name has 1
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
	for _, p := range []string{token.UserPrefix, token.ServicePrefix, token.DevicePrefix} {
		if strings.HasPrefix(key, p) {
			return "", "", badField(field, "a name does not begin like an id")
		}
	}
	if self && reserved[key] {
		return "", "", badField(field, "the name is reserved")
	}
	return name, key, nil
}

// nameKey folds a name for comparison. Folding can undo the normal form, so it
// is normalised before and after; and it exchanges the two cases of Cherokee
// instead of merging them, so letters are lowered first.
func nameKey(name string) string {
	return norm.NFKC.String(cases.Fold().String(strings.ToLower(norm.NFKC.String(name))))
}

// soughtName is the key of a name that somebody gives to log in. What is too
// long to be anybody's is refused before any work is done on it.
func soughtName(name string) (string, error) {
	switch {
	case name == "":
		return "", badField("/username", "no name: send username and password, or HTTP Basic")
	case len(name) > 4*maxName*utf8.UTFMax:
		return "", badField("/username", "a name has 1 to %d characters", maxName)
	}
	return nameKey(name), nil
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
// headers. It is bounded; names never change, and a change of roles empties it.
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
