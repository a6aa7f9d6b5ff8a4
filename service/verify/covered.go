package verify

import (
	"strings"
	"time"

	"macaroond/caveats"
	"macaroond/service/token"
)

// Covered is what the caveats that an anchor covers come to at one audience. All
// tokens that go on from the anchor have them in the very same bytes, so they
// are read once: whose the tokens are, until when, and which of the caveats hold
// for every request until then. It does not change, and its texts stay.
type Covered struct {
	identity token.Identity
	audience string
	until    time.Time // the earliest time-before of them
	held     uint64    // bit i: caveat i holds at that audience until then
	named    bool      // one of them names the audience
}

// Cover reads the first n caveats of a chain. n is at least MintCaveats.
func Cover(chain token.Chain, n int, audience string) (c *Covered, ok bool) {
	id, ok := chain.Identity()
	if !ok || n < token.MintCaveats || n > chain.Len() {
		return nil, false
	}
	c = &Covered{identity: id.Clone(), audience: audience, until: id.Expires}
	c.held = 1<<token.ExpiryPosition | 1<<token.UserPosition | 1<<token.DevicePosition
	for i := token.MintCaveats; i < n; i++ {
		text, thirdParty := chain.Caveat(i)
		if thirdParty {
			continue
		}
		if t, ok := caveats.Before(text); ok {
			c.held |= 1 << i
			if t.Before(c.until) {
				c.until = t
			}
		} else if name, ok := strings.CutPrefix(text, "audience "); ok && name == audience && audience != "" {
			c.held |= 1 << i
			c.named = true
		}
	}
	return c, true
}

// Identity is whose the tokens are.
func (c *Covered) Identity() token.Identity { return c.identity }

// Expires is the earliest time-before.
func (c *Covered) Expires() time.Time { return c.until }

// holds gives the caveats that need no look for this request: nearly always
// all of them. Otherwise each is judged by itself, which also says why not.
func (c *Covered) holds(r *caveats.Request) uint64 {
	if c == nil || r.Audience != c.audience || r.Time.IsZero() || !r.Time.Before(c.until) {
		return 0
	}
	return c.held
}
