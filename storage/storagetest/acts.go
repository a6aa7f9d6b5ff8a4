package storagetest

import (
	"fmt"
	"sync"
	"time"

	"macaroond/storage"
)

// act is what a device asks for without a proof, and may wait a day.
func (k *kit) act(d storage.Device, kind, target string, at time.Time) storage.Act {
	return storage.Act{
		UserID: d.UserID, DeviceID: d.ID, RootKeyID: d.RootKeyID, Kind: kind, Target: target, ID: fmt.Sprintf("act_%016d", k.next()),
		Delay: 24 * time.Hour, Keep: 7 * 24 * time.Hour, Max: 3, Begun: event("delayed", at),
	}
}

func (k *kit) remove(act storage.Act, target string, at time.Time) ([]storage.Revocation, *storage.Delayed, error) {
	return k.s.RemoveDevices(k.Context(), storage.RevokeDevices{UserID: act.UserID, DeviceID: target, Reason: "owner"}, act, event("removed", at))
}

func (k *kit) waiting(userID string, at time.Time) []storage.Delayed {
	k.Helper()
	list, err := k.s.Delayed(k.Context(), userID, at)
	k.must(err)
	return list
}

var acts = []clause{
	{"without a proof it is written down once, due once the delay is over, and not after", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		a, b := k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		first, d, err := k.remove(k.act(a, "remove", b.ID, T0), b.ID, T0)
		k.must(err)
		if d == nil || len(first) != 0 {
			k.Fatal("done at once")
		}
		k.equal("due", d.DueAt, T0.Add(24*time.Hour))
		k.equal("expires", d.ExpiresAt, T0.Add(8*24*time.Hour))
		k.equal("listed", k.waiting(u.ID, T0), []storage.Delayed{*d})
		at := d.DueAt.Add(-time.Millisecond)
		k.unchanged(func() {
			_, again, err := k.remove(k.act(a, "remove", b.ID, at), b.ID, at)
			k.must(err)
			k.equal("again", again, d)
		})
		revoked, d2, err := k.remove(k.act(a, "remove", b.ID, d.DueAt), b.ID, d.DueAt)
		k.must(err)
		if d2 != nil {
			k.Fatal("not done when due")
		}
		k.equal("revoked", k.keys(revoked), rootKeys(b))
		k.equal("listed", len(k.waiting(u.ID, d.DueAt)), 0)
		k.equal("audit", k.events()[4:], []string{"delayed", "removed"})

		c := k.device(u, e.Number, T0)
		_, d, err = k.remove(k.act(a, "remove", c.ID, T0), c.ID, T0)
		k.must(err)
		k.equal("past its time", len(k.waiting(u.ID, d.ExpiresAt)), 0)
		_, anew, err := k.remove(k.act(a, "remove", c.ID, d.ExpiresAt), c.ID, d.ExpiresAt)
		k.must(err)
		if anew == nil || anew.ID == d.ID {
			k.Fatalf("past its time: %+v", anew)
		}
	}},
	{"a proof is judged and consumed with the act", func(k *kit) {
		e := k.epoch()
		u := k.user("a", hash32(1), hash32(2))
		a, b := k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		code, wrong, other := hash32(1), hash32(9), "other"
		act := k.act(a, "remove", b.ID, T0)
		act.RecoveryCode = &wrong
		k.unchanged(func() {
			_, _, err := k.remove(act, b.ID, T0)
			k.wantErr(err, storage.ErrCodeUnknown)
			act.RecoveryCode, act.PasswordHash = nil, &other
			_, _, err = k.remove(act, b.ID, T0)
			k.wantErr(err, storage.ErrPasswordChanged)
			act.PasswordHash, act.Delay = nil, 0
			_, _, err = k.remove(act, b.ID, T0)
			k.wantErr(err, storage.ErrProofRequired)
			act.RecoveryCode = &code
			_, _, err = k.remove(act, "dev_of_nobody", T0)
			k.wantErr(err, storage.ErrNotFound)
			_, _, err = k.remove(k.act(storage.Device{UserID: "usr_nobody", ID: a.ID}, "remove", "", T0), "", T0)
			k.wantErr(err, storage.ErrNotFound)
		})
		revoked, d, err := k.remove(act, b.ID, T0)
		k.must(err)
		if d != nil || len(revoked) != 1 {
			k.Fatal("not done with a code")
		}
		n, err := k.s.RecoveryCodes(k.Context(), u.ID)
		k.must(err)
		k.equal("codes left", n, 1)
		c := k.device(u, e.Number, T0)
		act = k.act(a, "remove", c.ID, T0)
		act.PasswordHash = &u.PasswordHash
		_, d, err = k.remove(act, c.ID, T0)
		k.must(err)
		if d != nil {
			k.Fatal("not done with the password")
		}
	}},
	{"one code is one act, however many come at once", func(k *kit) {
		e := k.epoch()
		u := k.user("a", hash32(1))
		a := k.device(u, e.Number, T0)
		code := hash32(1)
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			b := k.device(u, e.Number, T0)
			act := k.act(a, "remove", b.ID, T0)
			act.RecoveryCode = &code
			wg.Go(func() { _, _, errs[i] = k.remove(act, b.ID, T0) })
		}
		wg.Wait()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
			} else {
				k.wantErr(err, storage.ErrCodeUnknown)
			}
		}
		k.equal("done", done, 1)
	}},
	{"a login with a proof is one, while it is fresh", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		b, c := k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		in := k.asking(u, e.Number, "install", T0)
		in.PasswordHash = &u.PasswordHash
		a, _ := k.issue(in)
		k.equal("proved", a.ProvedAt, T0)
		k.equal("not proved", b.ProvedAt, time.Time{})
		act := k.act(a, "remove", b.ID, T0)
		act.FreshSince, act.Delay = T0.Add(time.Millisecond), 0
		_, _, err := k.remove(act, b.ID, T0)
		k.wantErr(err, storage.ErrProofRequired)
		act.FreshSince = T0
		_, _, err = k.remove(act, b.ID, T0)
		k.must(err)
		// A login from the same install without one takes it back.
		again := k.asking(u, e.Number, "install", T0.Add(time.Second))
		a, _ = k.issue(again)
		k.equal("proved", a.ProvedAt, time.Time{})
		k.equal("started", a.StartedAt, T0.Add(time.Second))
		act = k.act(a, "remove", c.ID, T0)
		act.FreshSince, act.Delay = T0, 0
		_, _, err = k.remove(act, c.ID, T0)
		k.wantErr(err, storage.ErrProofRequired)
	}},
	{"what a login proved is nothing to the root that it replaced", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		b := k.device(u, e.Number, T0)
		before, _ := k.issue(k.asking(u, e.Number, "install", T0))
		in := k.asking(u, e.Number, "install", T0)
		in.PasswordHash = &u.PasswordHash
		after, _ := k.issue(in)
		k.equal("same device", after.ID, before.ID)
		act := k.act(before, "remove", b.ID, T0)
		act.FreshSince, act.RootKeyID = T0, [16]byte{1, 2, 3} // of a lost history: it is not on the list
		k.unchanged(func() {
			_, d, err := k.remove(act, b.ID, T0)
			k.wantErr(err, storage.ErrProofRequired)
			k.equal("written down", d, (*storage.Delayed)(nil))
		})
		act.RootKeyID = after.RootKeyID
		revoked, _, err := k.remove(act, b.ID, T0)
		k.must(err)
		k.equal("revoked", k.keys(revoked), rootKeys(b))
	}},
	{"the asking device itself needs nothing; a revoked one cannot ask", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		a, b := k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		act := k.act(a, "remove", b.ID, T0)
		_, d, err := k.remove(act, b.ID, T0)
		k.must(err)
		_, none, err := k.remove(k.act(a, "remove", a.ID, T0), a.ID, T0)
		k.must(err)
		if none != nil {
			k.Fatal("going oneself waits")
		}
		k.equal("what it asked for", len(k.waiting(u.ID, T0)), 0)
		_, _, err = k.remove(k.act(a, "remove", b.ID, T0), b.ID, d.DueAt)
		k.wantErr(err, storage.ErrRevoked)
	}},
	{"a root that has ended does nothing more, whatever proof its request has", func(k *kit) {
		e := k.epoch()
		u := k.user("a", hash32(1))
		b := k.device(u, e.Number, T0)
		before, _ := k.issue(k.asking(u, e.Number, "install", T0))
		after, _ := k.issue(k.asking(u, e.Number, "install", T0))
		k.equal("same device", after.ID, before.ID)
		ctx, ev, code := k.Context(), event("late", T0), hash32(1)
		all := func(d storage.Device) {
			k.Helper()
			k.unchanged(func() {
				for _, by := range []func(*storage.Act){
					func(act *storage.Act) { act.PasswordHash = &u.PasswordHash },
					func(act *storage.Act) { act.RecoveryCode = &code },
					func(act *storage.Act) { act.FreshSince = T0 },
				} {
					act := k.act(d, "any", "", T0)
					act.Epoch = e.Number
					by(&act)
					for _, target := range []string{d.ID, b.ID, ""} {
						_, _, err := k.remove(act, target, T0)
						k.wantErr(err, storage.ErrRevoked)
					}
					_, err := k.s.OpenLink(ctx, storage.Link{ID: "lnk_0000000000000001", UserID: u.ID, DeviceID: d.ID, CreatedAt: T0, ExpiresAt: T0.Add(time.Minute)}, act, ev)
					k.wantErr(err, storage.ErrRevoked)
					_, _, err = k.s.ChangePassword(ctx, storage.ChangePassword{Hash: "new"}, act, ev)
					k.wantErr(err, storage.ErrRevoked)
					_, err = k.s.ReplaceRecoveryCodes(ctx, u.ID, nil, &act, ev)
					k.wantErr(err, storage.ErrRevoked)
					_, err = k.s.DeleteUser(ctx, storage.DeleteUser{UserID: u.ID, Act: &act}, ev)
					k.wantErr(err, storage.ErrRevoked)
				}
			})
		}
		all(before) // replaced
		_, err := k.retire(e.Number, ev)
		k.must(err)
		all(after)
	}},
	{"only so many wait, and any is cancelled once", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		a := k.device(u, e.Number, T0)
		var first *storage.Delayed
		for i := range 4 {
			b := k.device(u, e.Number, T0)
			_, d, err := k.remove(k.act(a, "remove", b.ID, T0), b.ID, T0)
			if i == 3 {
				k.wantErr(err, storage.ErrTooManyActs)
				break
			}
			k.must(err)
			if first == nil {
				first = d
			}
		}
		k.wantErr(k.s.CancelDelayed(k.Context(), k.user("b").ID, first.ID, event("cancelled", T0)), storage.ErrNotFound)
		k.must(k.s.CancelDelayed(k.Context(), u.ID, first.ID, event("cancelled", T0)))
		k.wantErr(k.s.CancelDelayed(k.Context(), u.ID, first.ID, event("cancelled", T0)), storage.ErrNotFound)
		k.equal("left", len(k.waiting(u.ID, T0)), 2)
	}},
}
