// Package revocation is the list in memory: what every verdict asks.
//
// Why it can be trusted: an entry, once added, refuses from the next check on,
// and only [List.Sweep] takes it away, after the last token it could concern
// has expired. A check takes no lock, touches no disk and allocates nothing.
//
// The layout is for millions of entries. Ids are random or keyed-hashed into
// 65,536 buckets, each a slice whose entries never change in place: with a
// million entries a bucket holds fifteen, which is a few cache lines to scan.
// A revoked device costs 24 bytes, a revoked branch 20 more; see
// BenchmarkMillion for what that comes to.
//
// What it leaves to others: durability and order (storage), who tells it (the
// follower in service), and when to refuse for staleness (verify).
package revocation

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"macaroond/service/token"
	"macaroond/storage"
)

const buckets = 1 << 16

// root is what is known of one root key ID.
type root struct {
	id       [16]byte
	dead     uint32 // the device's entry lives until this Unix second; 0: not revoked
	branches uint32 // some branch's entry lives until this Unix second; 0: none has one
}

// branch is one revoked fingerprint. A fingerprint is 128 bits of SHA-256 over
// a secret MAC, so it needs no root key ID beside it.
type branch struct {
	fingerprint [16]byte
	until       uint32
}

// List is the revocation list. The zero value is not usable; see [New].
type List struct {
	seed     maphash.Seed // so that nobody can choose ids that share a bucket
	roots    [buckets]atomic.Pointer[[]root]
	branches [buckets]atomic.Pointer[[]branch]
	epochs   atomic.Pointer[map[uint32]uint32]

	mu   sync.Mutex // writers
	live atomic.Int64
	asOf atomic.Pointer[time.Time]
}

// New makes an empty list.
func New() *List {
	l := &List{seed: maphash.MakeSeed()}
	l.epochs.Store(&map[uint32]uint32{})
	return l
}

func (l *List) bucket(id *[16]byte) int { return int(maphash.Bytes(l.seed, id[:]) % buckets) }

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
		switch e.Grain {
		case storage.GrainDevice:
			l.setRoot(e.RootKeyID, root{dead: until})
		case storage.GrainBranch:
			// The branch before its root's mark: a reader that sees the mark finds the branch.
			l.setBranch(branch{e.Fingerprint, until})
			l.setRoot(e.RootKeyID, root{branches: until})
		case storage.GrainEpoch:
			epochs := make(map[uint32]uint32, len(*l.epochs.Load())+1)
			for k, v := range *l.epochs.Load() {
				epochs[k] = v
			}
			if _, there := epochs[e.Epoch]; !there {
				l.live.Add(1)
			}
			epochs[e.Epoch] = max(epochs[e.Epoch], until)
			l.epochs.Store(&epochs)
		default:
			known = false
		}
	}
	return known
}

func (l *List) setRoot(id [16]byte, r root) {
	b := &l.roots[l.bucket(&id)]
	old := load(b)
	i := slices.IndexFunc(old, func(x root) bool { return x.id == id })
	if i < 0 {
		r.id = id
		if r.dead > 0 {
			l.live.Add(1)
		}
		next := with(old, r)
		b.Store(&next)
		return
	}
	if old[i].dead == 0 && r.dead > 0 {
		l.live.Add(1)
	}
	next := slices.Clone(old) // readers have the old one in hand
	next[i].dead = max(next[i].dead, r.dead)
	next[i].branches = max(next[i].branches, r.branches)
	b.Store(&next)
}

func (l *List) setBranch(x branch) {
	b := &l.branches[l.bucket(&x.fingerprint)]
	old := load(b)
	i := slices.IndexFunc(old, func(y branch) bool { return x.fingerprint == y.fingerprint })
	if i < 0 {
		l.live.Add(1)
		next := with(old, x)
		b.Store(&next)
		return
	}
	next := slices.Clone(old)
	next[i].until = max(next[i].until, x.until)
	b.Store(&next)
}

// with appends. Room beyond the end is used in place: readers look no further
// than the length that they loaded, and see a longer one only once it is
// stored. It grows by a quarter, so that little of a million entries is room.
func with[T any](old []T, x T) []T {
	if len(old) == cap(old) {
		room := make([]T, len(old), len(old)+max(2, len(old)/4))
		copy(room, old)
		old = room
	}
	return append(old, x)
}

func load[T any](p *atomic.Pointer[[]T]) []T {
	if s := p.Load(); s != nil {
		return *s
	}
	return nil
}

// Revoked reports whether the chain is dead: its epoch, its root key, or any
// point of it. Fingerprints are computed only under a root key that has
// revoked branches.
func (l *List) Revoked(c token.Chain) bool {
	id := c.Identifier()
	if _, dead := (*l.epochs.Load())[id.Epoch]; dead {
		return true
	}
	key := [16]byte(id.RootKeyID)
	for _, r := range load(&l.roots[l.bucket(&key)]) {
		if r.id == key {
			return r.dead > 0 || r.branches > 0 && l.branchRevoked(c)
		}
	}
	return false
}

func (l *List) branchRevoked(c token.Chain) bool {
	for n := token.MintCaveats + 1; n <= c.Len(); n++ {
		f := [16]byte(c.Signature(n).Fingerprint())
		for _, b := range load(&l.branches[l.bucket(&f)]) {
			if b.fingerprint == f {
				return true
			}
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
	gone := func(until uint32) bool { return until > 0 && until < s }
	for i := range buckets {
		if old := load(&l.roots[i]); slices.ContainsFunc(old, func(r root) bool { return gone(r.dead) || gone(r.branches) }) {
			next := make([]root, 0, len(old))
			for _, r := range old {
				if gone(r.dead) {
					r.dead = 0
					l.live.Add(-1)
				}
				if gone(r.branches) {
					r.branches = 0
				}
				if r.dead > 0 || r.branches > 0 {
					next = append(next, r)
				}
			}
			l.roots[i].Store(&next)
		}
		if old := load(&l.branches[i]); slices.ContainsFunc(old, func(b branch) bool { return gone(b.until) }) {
			next := make([]branch, 0, len(old))
			for _, b := range old {
				if !gone(b.until) {
					next = append(next, b)
				}
			}
			l.live.Add(int64(len(next) - len(old)))
			l.branches[i].Store(&next)
		}
	}
	epochs := map[uint32]uint32{}
	for k, v := range *l.epochs.Load() {
		if gone(v) {
			l.live.Add(-1)
		} else {
			epochs[k] = v
		}
	}
	l.epochs.Store(&epochs)
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
