package storagetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"macaroond/storage"
)

var concurrency = []clause{
	{"16 revoke: a reader who polls sees every sequence, in order", func(k *kit) {
		const writers, each = 16, 20
		ctx, cancel := context.WithTimeout(k.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		var answered atomic.Int64
		for w := range uint64(writers) {
			wg.Go(func() {
				for n := range uint64(each) {
					in := storage.RevokeBranch{RootKeyID: key16(w), Fingerprint: key16(n), ExpiresAt: T0}
					r, added, err := k.s.RevokeBranch(ctx, in, event("branch_revoked", T0))
					if err != nil || !added {
						k.Errorf("added %v, %v", added, err)
						return
					}
					answered.Add(1)
					if st, err := k.s.State(ctx); err != nil || st.Sequence < r.Seq {
						k.Errorf("state %+v, %v after the answer for %d", st, err, r.Seq)
					}
				}
			})
		}
		var last int64
		for last < writers*each && ctx.Err() == nil && !k.Failed() {
			before := answered.Load()
			for r, err := range k.s.Revocations(ctx, last) {
				k.must(err)
				if r.Seq != last+1 {
					k.Fatalf("sequence %d after %d", r.Seq, last)
				}
				last = r.Seq
			}
			if last < before {
				k.Fatalf("%d entries are visible and %d were answered before", last, before)
			}
		}
		wg.Wait()
		k.equal("sequence", k.state().Sequence, int64(writers*each))
		k.chained(k.entries(), [32]byte{})
	}},
	{"a login racing a suspension fails or is on the list", func(k *kit) {
		e := k.epoch()
		for range 20 {
			u := k.user(fmt.Sprint("user ", k.next()))
			in := k.asking(u, e.Number, "", T0)
			var wg sync.WaitGroup
			var login, suspend error
			wg.Go(func() { _, _, login = k.s.IssueDevice(k.Context(), in, event("login", T0)) })
			wg.Go(func() { _, suspend = k.s.SuspendUser(k.Context(), u.ID, event("suspended", T0)) })
			wg.Wait()
			k.must(suspend)
			if errors.Is(login, storage.ErrSuspended) {
				continue
			}
			k.must(login)
			listed := false
			for _, r := range k.list(0) {
				listed = listed || r.RootKeyID == in.RootKey.ID
			}
			k.equal("listed", listed, true)
		}
	}},
	{"a login racing a rotation mints in the signing epoch or fails", func(k *kit) {
		u, e := k.user("a"), k.epoch()
		for range 10 {
			in := k.asking(u, e.Number, "", T0)
			in.MaxDevices = 100
			var wg sync.WaitGroup
			var login, rotate error
			var next storage.Epoch
			wg.Go(func() { _, _, login = k.s.IssueDevice(k.Context(), in, event("login", T0)) })
			wg.Go(func() {
				next, rotate = k.s.CreateEpoch(k.Context(), false, sealed, event("epoch_created", T0))
			})
			wg.Wait()
			k.must(rotate)
			old := k.epochs()[e.Number-1]
			if login == nil {
				k.equal("the old epoch's expiry", old.ExpiresAt, in.RootKey.ExpiresAt)
			} else {
				k.wantErr(login, storage.ErrEpochNotSigning)
				k.equal("the old epoch's expiry", old.ExpiresAt, time.Time{})
			}
			e = next
		}
	}},
	{"of 16 who want one name, one gets it", func(k *kit) {
		var wg sync.WaitGroup
		var got atomic.Int32
		for range 16 {
			u := k.newUser("same")
			wg.Go(func() {
				switch _, err := k.s.CreateUser(k.Context(), u, nil, nil, event("signup", T0)); {
				case err == nil:
					got.Add(1)
				case !errors.Is(err, storage.ErrNameTaken):
					k.Error(err)
				}
			})
		}
		wg.Wait()
		k.equal("got it", got.Load(), int32(1))
		k.equal("audit", k.events(), []string{"signup"})
	}},
	{"of 16 who create the first epoch, one does", func(k *kit) {
		var wg sync.WaitGroup
		var got atomic.Int32
		for range 16 {
			wg.Go(func() {
				switch _, err := k.s.CreateEpoch(k.Context(), true, sealed, event("epoch_created", T0)); {
				case err == nil:
					got.Add(1)
				case !errors.Is(err, storage.ErrEpochExists):
					k.Error(err)
				}
			})
		}
		wg.Wait()
		k.equal("did", got.Load(), int32(1))
		k.equal("epochs", len(k.epochs()), 1)
	}},
	{"a failing change leaves those beside it alone", func(k *kit) {
		u := k.user("a")
		var wg sync.WaitGroup
		for n := range uint64(16) {
			wg.Go(func() {
				if n%2 == 0 {
					if _, err := k.s.CreateUser(k.Context(), u, nil, nil, event("signup", T0)); !errors.Is(err, storage.ErrNameTaken) {
						k.Error(err)
					}
					return
				}
				if _, added, err := k.s.RevokeBranch(k.Context(), storage.RevokeBranch{RootKeyID: key16(1), Fingerprint: key16(n), ExpiresAt: T0}, event("branch_revoked", T0)); err != nil || !added {
					k.Errorf("added %v, %v", added, err)
				}
			})
		}
		wg.Wait()
		k.equal("sequence", k.state().Sequence, int64(8))
		k.equal("entries", len(k.entries()), 9)
		k.chained(k.entries(), [32]byte{})
	}},
	{"callers who give up get their context's error or their result", func(k *kit) {
		var wg sync.WaitGroup
		var did atomic.Int64
		for n := range uint64(32) {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(k.Context())
				go cancel()
				_, added, err := k.s.RevokeBranch(ctx, storage.RevokeBranch{RootKeyID: key16(1), Fingerprint: key16(n), ExpiresAt: T0}, event("branch_revoked", T0))
				switch {
				case err == nil && added:
					did.Add(1)
				case !errors.Is(err, context.Canceled):
					k.Errorf("added %v, %v", added, err)
				}
			})
		}
		wg.Wait()
		k.equal("sequence is of those that were answered", k.state().Sequence, did.Load())
		k.equal("list", len(k.list(0)), int(did.Load()))
	}},
}
