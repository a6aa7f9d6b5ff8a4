package service

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Nothing expires until a clock that was wrong at the start has been set.
func TestNothingExpiresAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := expiryClock{start: time.Now()}
		for _, row := range []struct {
			wait time.Duration // synctest's: nobody waits
			want bool
		}{{0, false}, {settle - time.Second, false}, {time.Second, true}, {24 * time.Hour, true}} {
			time.Sleep(row.wait)
			if got := c.trusted(time.Now()); got != row.want || c.jumped {
				t.Errorf("after %v more: %v, jumped %v", row.wait, got, c.jumped)
			}
		}
	})
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
