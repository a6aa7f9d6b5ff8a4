package revocation

import (
	"encoding/binary"
	"testing"
	"time"

	"macaroond/storage"
)

// Where an id goes is each list's own secret: ids that were chosen to share a
// bucket of one list lie apart in the next, and knowing one process's list
// tells nothing about another's.
func TestBucketsAreEachListsOwn(t *testing.T) {
	one, two := New(), New()
	var id [16]byte
	const want = 32
	var chosen [][16]byte
	for n := uint64(0); len(chosen) < want; n++ {
		binary.BigEndian.PutUint64(id[8:], n)
		if one.hash(&id)%buckets == 7 {
			chosen = append(chosen, id)
		}
		if n > 100*want*buckets {
			t.Fatalf("of %d ids %d are in one bucket", n, len(chosen))
		}
	}
	apart := map[uint64]bool{}
	for _, id := range chosen {
		apart[two.hash(&id)%buckets] = true
		if one.hash(&id)%buckets != 7 {
			t.Error("an id is not where it was")
		}
	}
	if len(apart) < want-4 { // two of 32 meet by chance once in 132 runs, five never
		t.Errorf("%d ids that share a bucket of one list are in %d buckets of another", want, len(apart))
	}

	same := 0
	spread := map[uint64]bool{}
	for n := range uint64(1000) {
		binary.BigEndian.PutUint64(id[8:], n)
		spread[one.hash(&id)%buckets] = true
		if one.hash(&id)%buckets == two.hash(&id)%buckets {
			same++
		}
	}
	if same > 10 {
		t.Errorf("%d of 1,000 ids are in the same bucket of two lists", same)
	}
	if len(spread) < 950 {
		t.Errorf("1,000 ids are in %d buckets of one list", len(spread))
	}
}

// The mark of a root key goes with its last branch: nothing stays for ever.
func TestSweepForgetsMarks(t *testing.T) {
	l, key, now := New(), [16]byte{1}, time.Now()
	hash := l.hash(&key)
	for n := range byte(2) {
		l.Add(storage.Revocation{
			Grain: storage.GrainBranch, RootKeyID: key, Fingerprint: [16]byte{2 + n}, ExpiresAt: now.Add(time.Duration(n) * time.Minute),
		})
	}
	for _, c := range []struct {
		after  time.Duration
		marked bool
	}{{0, true}, {30 * time.Second, true}, {2 * time.Minute, false}} {
		l.Sweep(now.Add(c.after))
		if got := l.marked.has(hash, mark(hash)); got != c.marked {
			t.Errorf("marked after %s: %v", c.after, got)
		}
	}
}
