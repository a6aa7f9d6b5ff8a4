// Package revocation is the list in memory: what every verdict asks.
//
// Why it can be trusted: an entry, once added, refuses from the next check on,
// and only [List.Sweep] takes it away, after the last token it could concern
// has expired. A check takes no lock, touches no disk and allocates nothing.
//
// The layout is for millions of entries: three sets of hashed buckets (see
// set). A revoked device takes 20 bytes, a revoked branch 20 and its root key's
// mark 12; BenchmarkMillion says what that comes to with the room between.
//
// What it leaves to others: durability and order (storage), who tells it (the
// followers in service and guard), and when to refuse for staleness (verify).
package revocation

import (
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"macaroond/service/token"
	"macaroond/storage"
)

// List is the revocation list. The zero value is not usable; see [New].
type List struct {
	seed     maphash.Seed  // so that nobody can choose ids that share a bucket
	devices  set[[16]byte] // root key IDs
	branches set[[16]byte] // fingerprints: 128 bits of SHA-256 over a secret MAC need no root key ID beside them
	// marked has the hashes of root key IDs with some branch on the list, so that
	// fingerprints are computed for their tokens only. Two that share all 64 bits
	// cost time and nothing else.
	marked set[[2]uint32]
	epochs atomic.Pointer[map[uint32]uint32] // nil when there is none, which is nearly always

	mu   sync.Mutex // writers
	live atomic.Int64
	asOf atomic.Pointer[time.Time]
}

// New makes an empty list.
func New() *List { return &List{seed: maphash.MakeSeed()} }

func (l *List) hash(key *[16]byte) uint64 { return maphash.Bytes(l.seed, key[:]) }

// mark is a root key's place in marked.
func mark(hash uint64) [2]uint32 { return [2]uint32{uint32(hash), uint32(hash >> 32)} }

// seconds rounds up: an entry never goes early. What does not fit in 32 bits
// of Unix seconds (the year 2106) stays for good.
func seconds(t time.Time) uint32 {
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return uint32(min(max(s, 1), 1<<32-1))
}

// Add puts entries on the list; adding one again is harmless, and an entry
// never shortens another. Entries of an unknown grain are refused by returning
// false: the caller cannot honour a list that it does not understand.
func (l *List) Add(entries ...storage.Revocation) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := true
	for i := range entries {
		e := &entries[i]
		until := seconds(e.ExpiresAt)
		added := false
		switch e.Grain {
		case storage.GrainDevice:
			added = l.devices.add(l.hash(&e.RootKeyID), e.RootKeyID, until)
		case storage.GrainBranch:
			// The branch before its root's mark: a reader that sees the mark finds the branch.
			added = l.branches.add(l.hash(&e.Fingerprint), e.Fingerprint, until)
			hash := l.hash(&e.RootKeyID)
			l.marked.add(hash, mark(hash), until)
		case storage.GrainEpoch:
			added = l.addEpoch(e.Epoch, until)
		case storage.GrainPolicy: // kills nothing: a follower of policies makes something of it
		default:
			known = false
		}
		if added {
			l.live.Add(1)
		}
	}
	return known
}

func (l *List) addEpoch(epoch, until uint32) (added bool) {
	next := map[uint32]uint32{}
	if old := l.epochs.Load(); old != nil {
		next = maps.Clone(*old)
	}
	_, there := next[epoch]
	next[epoch] = max(next[epoch], until)
	l.epochs.Store(&next)
	return !there
}

// Revoked reports whether the chain is dead: its epoch, its root key, or any
// point of it.
func (l *List) Revoked(c token.Chain) bool {
	id := c.Identifier()
	if epochs := l.epochs.Load(); epochs != nil {
		if _, dead := (*epochs)[id.Epoch]; dead {
			return true
		}
	}
	key := [16]byte(id.RootKeyID)
	hash := l.hash(&key)
	return l.devices.has(hash, key) || l.marked.has(hash, mark(hash)) && l.branchRevoked(c)
}

func (l *List) branchRevoked(c token.Chain) bool {
	for n := token.MintCaveats + 1; n <= c.Len(); n++ {
		f := [16]byte(c.Fingerprint(n))
		if l.branches.has(l.hash(&f), f) {
			return true
		}
	}
	return false
}

// Sweep drops entries whose time was before now. The caller stops sweeping
// while its clock cannot be believed.
func (l *List) Sweep(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := uint32(min(max(now.Unix(), 0), 1<<32-1))
	gone := l.devices.sweep(s) + l.branches.sweep(s)
	l.marked.sweep(s)
	if epochs := l.epochs.Load(); epochs != nil {
		next := maps.Clone(*epochs)
		maps.DeleteFunc(next, func(_, until uint32) bool { return until < s })
		gone += len(*epochs) - len(next)
		if l.epochs.Store(&next); len(next) == 0 {
			l.epochs.Store(nil)
		}
	}
	l.live.Add(int64(-gone))
}

// Len is how many entries are live.
func (l *List) Len() int { return int(l.live.Load()) }

// SetAsOf says when the source of the list was last read to its end.
func (l *List) SetAsOf(t time.Time) { l.asOf.Store(&t) }

// AsOf is the time of the last SetAsOf, with its monotonic reading, so that
// setting the clock back hides no staleness; zero when the list has never been
// complete.
func (l *List) AsOf() time.Time {
	if t := l.asOf.Load(); t != nil {
		return *t
	}
	return time.Time{}
}
