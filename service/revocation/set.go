package revocation

import (
	"slices"
	"sync/atomic"
)

const buckets = 1 << 16

// set keeps keys, each until a Unix second, in hashed buckets whose entries
// never change in place: with a million entries a bucket holds fifteen, which
// is a few cache lines to scan. Readers take no lock; there is one writer at a
// time.
type set[K comparable] struct {
	buckets [buckets]atomic.Pointer[[]entry[K]]
}

type entry[K comparable] struct {
	key   K
	until uint32
}

func (s *set[K]) at(hash uint64) (b *atomic.Pointer[[]entry[K]], entries []entry[K]) {
	b = &s.buckets[hash%buckets]
	if p := b.Load(); p != nil {
		entries = *p
	}
	return b, entries
}

func (s *set[K]) has(hash uint64, key K) bool {
	_, entries := s.at(hash)
	for i := range entries {
		if entries[i].key == key {
			return true
		}
	}
	return false
}

// add says whether the key is new; one that is there stays until the later of
// both times.
func (s *set[K]) add(hash uint64, key K, until uint32) bool {
	b, old := s.at(hash)
	i := slices.IndexFunc(old, func(e entry[K]) bool { return e.key == key })
	if i < 0 {
		next := with(old, entry[K]{key, until})
		b.Store(&next)
		return true
	}
	if until > old[i].until {
		next := slices.Clone(old) // readers have the old one in hand
		next[i].until = until
		b.Store(&next)
	}
	return false
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

// sweep drops what is kept until before now, and counts it.
func (s *set[K]) sweep(now uint32) (gone int) {
	due := func(e entry[K]) bool { return e.until < now }
	for i := range s.buckets {
		b, old := s.at(uint64(i))
		if !slices.ContainsFunc(old, due) {
			continue
		}
		next := slices.DeleteFunc(slices.Clone(old), due)
		gone += len(old) - len(next)
		b.Store(&next)
	}
	return gone
}
