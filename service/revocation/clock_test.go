package revocation

import (
	"testing"
	"time"
)

// The wall clock is not believed while it has visibly jumped, and then again once
// it agrees or has stood by its new time for a day. What is over is so by the
// earlier of the two.
func TestClock(t *testing.T) {
	start := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	c := Clock{start: start, wall: start}
	for _, row := range []struct {
		elapsed, ahead time.Duration // of the monotonic clock; the wall clock's lead over it
		jumped         bool
	}{
		{0, 0, false},
		{time.Hour, 10 * time.Minute, false}, // within the skew that is allowed for
		{time.Hour, 10*time.Minute + time.Second, true},
		{2 * time.Hour, 365 * 24 * time.Hour, true},
		{3 * time.Hour, 0, false}, // set right again
		{4 * time.Hour, -11 * time.Minute, true},
		{5 * time.Hour, 0, false},
		{6 * time.Hour, 8 * time.Hour, true}, // slept
		{29 * time.Hour, 8 * time.Hour, true},
		{30 * time.Hour, 8 * time.Hour, false}, // a day later
		{31 * time.Hour, 8 * time.Hour, false},
		{32 * time.Hour, 0, true},
	} {
		if c.look(start.Add(row.elapsed+row.ahead), row.elapsed); c.jumped != row.jumped {
			t.Errorf("after %v, %v ahead: jumped %v", row.elapsed, row.ahead, c.jumped)
		}
	}
}

func TestEarliest(t *testing.T) {
	// No time has one reading moved and the other not, so the start is moved: it
	// was an hour ago by the monotonic clock, and as the row says by the wall's.
	now := time.Now()
	for _, row := range []struct{ wall, want time.Duration }{
		{time.Hour, 0},
		{time.Hour + 10*time.Minute, 0},
		{3 * time.Hour, -2 * time.Hour}, // set ahead by two hours
		{-time.Hour, 0},                 // set back by two: the wall is the earlier one
	} {
		var c Clock
		c.Start(now.Add(-time.Hour), now.Add(-row.wall))
		if got := c.Earliest(now); !got.Equal(now.Add(row.want)) {
			t.Errorf("the start was %v ago by the wall clock: %v", row.wall, got.Sub(now))
		}
	}
	var none Clock
	if got := none.Earliest(now); !got.Equal(now) {
		t.Errorf("without a start: %v", got.Sub(now))
	}
	none.Start(now, now)
	if jumped, elapsed := none.Jumped(now.Add(time.Hour)); jumped || elapsed != time.Hour {
		t.Errorf("both clocks an hour on: jumped %v, after %v", jumped, elapsed)
	}
}
