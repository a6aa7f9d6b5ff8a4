package service

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A clock that was set makes nothing expire, until it agrees again.
func TestExpiryClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := expiryClock{start: time.Now()}
		at := func(wall time.Duration) time.Time { return shifted(time.Now(), wall) }
		for _, row := range []struct {
			wait, shift     time.Duration
			trusted, jumped bool
		}{
			{0, 0, false, false},                        // just started
			{9 * time.Minute, 0, false, false},          // not settled
			{time.Minute, 0, true, false},               //
			{time.Minute, 9 * time.Minute, true, false}, // skew is allowed for
			{0, time.Hour, false, true},                 // set ahead
			{0, -time.Hour, false, true},                // set back
			{24 * time.Hour, time.Hour, false, true},    // and it stays wrong
			{0, 0, true, false},                         // set right
		} {
			time.Sleep(row.wait) // synctest's
			if got := c.trusted(at(row.shift)); got != row.trusted || c.jumped != row.jumped {
				t.Errorf("%+v: %v, jumped %v", row, got, c.jumped)
			}
		}
	})
}

// shifted is now as a clock shows it whose wall was set by d and whose
// monotonic reading, as ever, was not.
func shifted(now time.Time, d time.Duration) time.Time {
	if d == 0 {
		return now
	}
	// There is no way to set the wall part alone but from the other side: the
	// same wall, with the difference in the monotonic part, is the same drift.
	return now.Add(0).Round(0).Add(d)
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
