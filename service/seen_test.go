package service

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	"macaroond/service/token"
	"macaroond/storage"
)

func keyNumber(n int) (id token.RootKeyID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

// What was seen is bounded between two writes. Of devices, what does not fit is
// dropped, and a write asked for; of one device's roots, the latest are kept.
func TestSightingsAreBounded(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	asked := func(d *sightings) bool {
		select {
		case <-d.full:
			return true
		default:
			return false
		}
	}
	d := newSightings()
	who := token.Identity{Device: "dev_a", Expires: at(1000)}
	for i := range maxSeen {
		d.mark(keyNumber(i), &who, at(i))
	}
	if asked(d) {
		t.Error("a write was asked for before it was full")
	}
	d.mark(keyNumber(maxSeen), &who, at(1))
	if len(d.now) != maxSeen || !asked(d) {
		t.Errorf("%d are kept, or no write was asked for", len(d.now))
	}
	d.mark(keyNumber(7), &who, at(99))
	if got := d.of(keyNumber(7)); len(got) != 1 || !got[0].First.Equal(at(7)) || !got[0].Last.Equal(at(99)) || got[0].DeviceID != "dev_a" {
		t.Errorf("one that is there already: %+v", got)
	}
	for _, expires := range []int{2004, 2001, 2003, 2002, 2000} {
		d.mark(keyNumber(7), &token.Identity{Device: "dev_a", Expires: at(expires)}, at(100))
	}
	got := d.of(keyNumber(7))
	if len(got) != maxRoots || asked(d) {
		t.Errorf("%d roots of one device, or a write was asked for", len(got))
	}
	for _, v := range got {
		if v.ExpiresAt.Unix() <= 2000 || !v.First.Equal(at(100)) {
			t.Errorf("kept: %+v", v)
		}
	}
}

// A sighting on its way to the table is still seen by who looks for it here.
func TestSightingsOnTheirWayCount(t *testing.T) {
	d := newSightings()
	d.mark(keyNumber(1), &token.Identity{Device: "dev_a", Expires: time.Unix(1000, 0)}, time.Unix(1, 0))
	batch, done := d.take()
	if len(batch) != 1 || len(d.of(keyNumber(1))) != 1 {
		t.Fatalf("taken %+v, and known %+v", batch, d.of(keyNumber(1)))
	}
	d.mark(keyNumber(1), &token.Identity{Device: "dev_a", Expires: time.Unix(1000, 0)}, time.Unix(2, 0))
	if got := d.of(keyNumber(1)); len(got) != 2 || !got[0].First.Equal(time.Unix(1, 0)) {
		t.Errorf("%+v", got)
	}
	done()
	if got := d.of(keyNumber(1)); len(got) != 1 || !got[0].First.Equal(time.Unix(2, 0)) {
		t.Errorf("after the write: %+v", got)
	}
}

// touches is what was written at a time.
type touches struct {
	storage.Store
	most, all int
}

func (s *touches) TouchDevices(ctx context.Context, seen []storage.Sighting) error {
	s.most, s.all = max(s.most, len(seen)), s.all+len(seen)
	return s.Store.TouchDevices(ctx, seen)
}

// A login that comes while very many were seen waits for a few of them.
func TestSightingsAreWrittenInSmallSteps(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	steps := &touches{Store: k.store}
	k.Service.store = steps
	const n = 1000
	who := token.Identity{Device: "dev_a", Expires: time.Unix(1000, 0)}
	for i := range n {
		k.seen.mark(keyNumber(i), &who, time.Unix(1, 0))
	}
	k.flushSeen(t.Context())
	if steps.all != n || steps.most > 256 {
		t.Errorf("%d of %d, and %d in one transaction", steps.all, n, steps.most)
	}
}

// Every accepted token is marked: that allocates nothing but for the first.
func TestMarkingAllocatesNothing(t *testing.T) {
	d := newSightings()
	who := token.Identity{Device: "dev_a", Expires: time.Unix(1000, 0)}
	now := time.Unix(1, 0)
	if n := testing.AllocsPerRun(100, func() { d.mark(keyNumber(1), &who, now) }); n != 0 {
		t.Errorf("%.0f allocations", n)
	}
}
