package revocation

import (
	"sync"
	"time"

	"macaroond/storage"
)

// Clock decides whether the wall clock may make entries expire, and tokens be
// taken for over when they are to be revoked. A wall clock set wrongly ahead would
// otherwise delete live entries, and setting it right again would bring revoked
// tokens back. The wall clock is believed while it agrees with the monotonic one,
// counted from the start; and again when it has stood by its new time for a day (a
// machine that slept has a monotonic clock that did not run).
//
// The zero value has no start, and believes. It is safe for concurrent use.
type Clock struct {
	mu     sync.Mutex
	start  time.Time     // by the monotonic clock
	wall   time.Time     // at the start, or when a jump came to be believed
	at     time.Duration // the monotonic clock then, since the start
	since  time.Duration // of the jump
	jumped bool
}

const believeAfter = 24 * time.Hour

// Start begins to count, at one moment by both clocks: steady is read by its
// monotonic reading, which now has below, too.
func (c *Clock) Start(steady, wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.start, c.wall, c.at, c.jumped = steady, wall.Round(0), 0, false
}

// Jumped reports whether the wall clock is not to be believed now, and how long
// ago the start was.
func (c *Clock) Jumped(now time.Time) (jumped bool, elapsed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.start.IsZero() {
		return false, 0
	}
	elapsed = now.Sub(c.start)
	c.look(now.Round(0), elapsed)
	return c.jumped, elapsed
}

// Earliest is now, or what it would be without the jump if that is earlier: what
// is over by then is over whichever clock is right.
func (c *Clock) Earliest(now time.Time) time.Time {
	jumped, elapsed := c.Jumped(now)
	if !jumped {
		return now
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if steady := c.wall.Add(elapsed - c.at); steady.Before(now.Round(0)) {
		return steady
	}
	return now
}

// look takes both clocks: the wall's, and the monotonic one since the start.
func (c *Clock) look(wall time.Time, elapsed time.Duration) {
	drift := (wall.Sub(c.wall) - (elapsed - c.at)).Abs()
	switch {
	case drift <= storage.ClockSkew:
		c.jumped = false
	case !c.jumped:
		c.jumped, c.since = true, elapsed
	case elapsed-c.since >= believeAfter:
		c.wall, c.at, c.jumped = wall, elapsed, false
	}
}
