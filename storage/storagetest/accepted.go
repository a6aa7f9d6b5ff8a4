package storagetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"macaroond/storage"
)

func points(until time.Time, numbers ...uint64) []storage.AcceptedPoint {
	var out []storage.AcceptedPoint
	for _, n := range numbers {
		out = append(out, storage.AcceptedPoint{Point: hash32(n), ExpiresAt: until})
	}
	return out
}

// replayed asserts that a call was refused for these of its points.
func (k *kit) replayed(err error, which ...int) {
	k.Helper()
	k.wantErr(err, storage.ErrReplayed)
	if r, ok := errors.AsType[*storage.ReplayedError](err); ok {
		k.equal("points", r.Points, which)
		return
	}
	k.Fatalf("%v does not say which", err)
}

var accepted = []clause{
	{"a point is accepted once", func(k *kit) {
		k.must(k.s.Accept(k.Context(), points(T0, 1)))
		for range 2 {
			k.replayed(k.s.Accept(k.Context(), points(T0, 1)), 0)
		}
		k.replayed(k.s.Accept(k.Context(), points(T0.Add(time.Hour), 1)), 0)
		k.must(k.s.Accept(k.Context(), points(T0, 2)))
	}},
	{"all or none: what came with a used point is not used", func(k *kit) {
		k.must(k.s.Accept(k.Context(), points(T0, 1, 2)))
		k.replayed(k.s.Accept(k.Context(), points(T0, 3, 2, 4, 1)), 1, 3)
		k.must(k.s.Accept(k.Context(), points(T0, 3, 4)))
	}},
	{"one point twice in a call is used before it is used", func(k *kit) {
		k.replayed(k.s.Accept(k.Context(), points(T0, 1, 1)), 1)
		k.must(k.s.Accept(k.Context(), points(T0, 1)))
	}},
	{"an acceptance is in neither audit nor state", func(k *kit) {
		k.unchanged(func() { k.must(k.s.Accept(k.Context(), points(T0, 1))) })
	}},
	{"a point goes when the last verifier refuses without it", func(k *kit) {
		k.must(k.s.Accept(k.Context(), points(T0, 1)))
		k.must(k.s.Accept(k.Context(), points(T0.Add(time.Hour), 2)))
		end := T0.Add(storage.ClockSkew)
		k.equal("at the end", k.expire(storage.Expire{Now: end, Limit: 10}), storage.Expired{})
		k.replayed(k.s.Accept(k.Context(), points(T0, 1)), 0)
		k.equal("after it", k.expire(storage.Expire{Now: end.Add(time.Millisecond), Limit: 10}), storage.Expired{Accepted: 1})
		k.must(k.s.Accept(k.Context(), points(T0, 1)))
		k.replayed(k.s.Accept(k.Context(), points(T0, 2)), 0)
	}},
	{"points go oldest first, so many a call", func(k *kit) {
		for n := range uint64(5) {
			k.must(k.s.Accept(k.Context(), points(T0.Add(-time.Duration(n)*time.Minute), n)))
		}
		in := storage.Expire{Now: T0.Add(24 * time.Hour), Limit: 2}
		k.equal("first call", k.expire(in).Accepted, 2)
		k.replayed(k.s.Accept(k.Context(), points(T0, 0, 1, 2)), 0, 1, 2)
		k.equal("second call", k.expire(in).Accepted, 2)
		k.equal("third call", k.expire(in).Accepted, 1)
		k.equal("fourth call", k.expire(in).Accepted, 0)
	}},
	{"of 64 who accept one point at once, one does", func(k *kit) {
		var used atomic.Int32
		for round := range uint64(4) {
			var wg sync.WaitGroup
			var got atomic.Int32
			for n := range uint64(64) {
				// Most have a point of their own besides, before or behind the shared one.
				list := points(T0, round, 1000+round*64+n)
				switch n % 3 {
				case 0:
					list = list[:1]
				case 1:
					list[0], list[1] = list[1], list[0]
				}
				wg.Go(func() {
					switch err := k.s.Accept(k.Context(), list); {
					case err == nil:
						got.Add(1)
						used.Add(int32(len(list) - 1))
					case !errors.Is(err, storage.ErrReplayed):
						k.Error(err)
					}
				})
			}
			wg.Wait()
			k.equal("did", got.Load(), int32(1))
		}
		// And of what the others brought nothing is used.
		left := int32(0)
		for n := range uint64(256) {
			if k.s.Accept(k.Context(), points(T0, 1000+n)) == nil {
				left++
			}
		}
		k.equal("not used", left, 256-used.Load())
	}},
}
