package service

import (
	"fmt"
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

// What was seen is bounded between two writes; what does not fit is dropped,
// and a write asked for.
func TestSeenDevicesAreBounded(t *testing.T) {
	d := newSeenDevices()
	for i := range maxSeen + 10 {
		d.mark(fmt.Sprint(i), time.Unix(int64(i), 0))
	}
	if len(d.at) != maxSeen {
		t.Errorf("%d are kept", len(d.at))
	}
	select {
	case <-d.full:
	default:
		t.Error("no write was asked for")
	}
	if d.mark("7", time.Unix(99, 0)); !d.at["7"].Equal(time.Unix(99, 0)) {
		t.Error("one that is there already was not moved on")
	}
}
