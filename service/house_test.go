package service

import (
	"testing"
	"time"
)

// Nothing expires for a while after a start, while the wall clock has visibly
// jumped, and then again once it agrees or has stood by its new time for a day.
func TestExpiryClock(t *testing.T) {
	start := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	c := expiryClock{wall: start}
	for _, row := range []struct {
		elapsed, ahead time.Duration // of the monotonic clock; the wall clock's lead over it
		want, jumped   bool
	}{
		{0, 0, false, false},
		{settle - time.Second, 0, false, false},
		{settle, 0, true, false},
		{time.Hour, 10 * time.Minute, true, false}, // within the skew that is allowed for
		{time.Hour, 10*time.Minute + time.Second, false, true},
		{2 * time.Hour, 365 * 24 * time.Hour, false, true},
		{3 * time.Hour, 0, true, false}, // set right again
		{4 * time.Hour, -11 * time.Minute, false, true},
		{5 * time.Hour, 0, true, false},
		{6 * time.Hour, 8 * time.Hour, false, true}, // slept
		{29 * time.Hour, 8 * time.Hour, false, true},
		{30 * time.Hour, 8 * time.Hour, true, false}, // a day later
		{31 * time.Hour, 8 * time.Hour, true, false},
		{32 * time.Hour, 0, false, true},
	} {
		if got := c.trusted(start.Add(row.elapsed+row.ahead), row.elapsed); got != row.want || c.jumped != row.jumped {
			t.Errorf("after %v, %v ahead: %v, jumped %v; want %v, %v", row.elapsed, row.ahead, got, c.jumped, row.want, row.jumped)
		}
	}
}
