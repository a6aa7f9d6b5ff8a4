package storagetest

import (
	"errors"
	"fmt"
	"slices"
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

func (k *kit) openLink(d storage.Device, at time.Time) storage.Link {
	k.Helper()
	l := storage.Link{
		ID: fmt.Sprintf("lnk_%016d", k.next()), UserID: d.UserID, DeviceID: d.ID, Code: hash32(k.next()), Tries: 2,
		CreatedAt: at, ExpiresAt: at.Add(time.Minute),
	}
	act := k.act(d, "link", "", at)
	u, err := k.s.User(k.Context(), d.UserID)
	k.must(err)
	act.PasswordHash = &u.PasswordHash
	later, err := k.s.OpenLink(k.Context(), l, act, event("opened", at))
	k.must(err)
	if later != nil {
		k.Fatal("waits with a password")
	}
	return l
}

func (k *kit) claim(l storage.Link, code [32]byte, at time.Time) bool {
	k.Helper()
	_, ok, err := k.s.ClaimLink(k.Context(), storage.ClaimLink{
		UserID: l.UserID, LinkID: l.ID, Code: code, Now: at,
		LinkClaim: storage.LinkClaim{Claim: hash32(77), Name: "tablet", InstallID: "i", ClientIP: "192.0.2.9"},
	}, event("claimed", at), event("failed", at))
	k.must(err)
	return ok
}

var links = []clause{
	{"a link goes with the epoch of the device that opened it", func(k *kit) {
		for _, renewed := range []bool{false, true} {
			e, u := k.epoch(), k.user(fmt.Sprint(renewed))
			asked := k.asking(u, e.Number, "", T0)
			asked.RootKey.ExpiresAt = seconds(asked.RootKey.ExpiresAt)
			d, _ := k.issue(asked)
			r := root{d, e.Number, asked.RootKey.ExpiresAt}
			if renewed {
				r = k.renew(r, 0)
			}
			next := k.epoch()
			last := e
			if renewed {
				_, err := k.present(asks(r, next.Number), T0)
				k.must(err)
				last = next
			}
			l := k.openLink(d, T0)
			k.equal("claimed", k.claim(l, l.Code, T0), true)
			k.must(k.s.ApproveLink(k.Context(), u.ID, d.ID, l.ID, event("approved", T0)))
			signing := k.epoch().Number
			in := k.asking(u, signing, "i", T0)
			in.LinkID = l.ID
			stays := k.user(fmt.Sprint("stays ", renewed))
			k.openLink(k.device(stays, signing, T0), T0)
			other := e.Number + next.Number - last.Number
			_, err := k.retire(other, event("epoch_retired", T0))
			k.must(err)
			_, err = k.s.Link(k.Context(), u.ID, T0)
			k.must(err)
			_, err = k.retire(last.Number, event("epoch_retired", T0))
			k.must(err)
			_, _, err = k.s.IssueDevice(k.Context(), in, event("linked", T0))
			k.wantErr(err, storage.ErrNotFound)
			_, err = k.s.Link(k.Context(), stays.ID, T0)
			k.must(err)
		}
	}},
	{"opened, claimed, approved, and traded once", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d, other := k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		l := k.openLink(d, T0)
		in := k.asking(u, e.Number, "i", T0)
		in.LinkID = l.ID
		k.unchanged(func() {
			k.wantErr(k.s.ApproveLink(k.Context(), u.ID, d.ID, l.ID, event("approved", T0)), storage.ErrNotFound)
			_, _, err := k.s.IssueDevice(k.Context(), in, event("login", T0))
			k.wantErr(err, storage.ErrNotFound)
		})
		k.equal("claimed", k.claim(l, l.Code, T0), true)
		k.equal("claimed again", k.claim(l, l.Code, T0), false)
		got, err := k.s.Link(k.Context(), u.ID, T0)
		k.must(err)
		k.equal("name", got.Name+got.ClientIP+got.InstallID, "tablet192.0.2.9i")
		k.equal("claim", got.Claim, hash32(77))
		k.unchanged(func() {
			_, _, err := k.s.IssueDevice(k.Context(), in, event("login", T0))
			k.wantErr(err, storage.ErrNotFound)
			k.wantErr(k.s.ApproveLink(k.Context(), u.ID, other.ID, l.ID, event("approved", T0)), storage.ErrNotFound)
		})
		k.must(k.s.ApproveLink(k.Context(), u.ID, d.ID, l.ID, event("approved", T0)))
		k.unchanged(func() { k.must(k.s.ApproveLink(k.Context(), u.ID, d.ID, l.ID, event("approved", T0))) })

		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			each := k.asking(u, e.Number, "", T0)
			each.LinkID = l.ID
			wg.Go(func() { _, _, errs[i] = k.s.IssueDevice(k.Context(), each, event("login", T0)) })
		}
		wg.Wait()
		if n := len(slices.DeleteFunc(errs, func(err error) bool { return err != nil })); n != 1 {
			k.Fatalf("traded %d times", n)
		}
	}},
	{"tries, time, a new link and the opener's end are its end", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		gone := func(at time.Time) {
			k.Helper()
			_, err := k.s.Link(k.Context(), u.ID, at)
			k.wantErr(err, storage.ErrNotFound)
		}
		l := k.openLink(d, T0)
		stranger := l
		stranger.ID = "lnk_of_nobody"
		for range 5 { // names no link: takes no try
			k.equal("claimed", k.claim(stranger, l.Code, T0), false)
		}
		k.equal("claimed", k.claim(l, hash32(999), T0), false)
		k.equal("claimed", k.claim(l, hash32(999), T0), false)
		gone(T0)
		k.equal("claimed", k.claim(l, l.Code, T0), false)

		l = k.openLink(d, T0)
		gone(l.ExpiresAt)
		k.equal("claimed late", k.claim(l, l.Code, l.ExpiresAt), false)
		second := k.openLink(d, T0)
		_, err := k.s.LinkByID(k.Context(), l.ID, T0)
		k.wantErr(err, storage.ErrNotFound)
		k.wantErr(k.s.CloseLink(k.Context(), "usr_nobody", second.ID, event("closed", T0)), storage.ErrNotFound)
		k.must(k.s.CloseLink(k.Context(), u.ID, second.ID, event("closed", T0)))
		gone(T0)

		k.openLink(d, T0)
		_, err = k.s.SuspendUser(k.Context(), u.ID, event("suspended", T0))
		k.must(err)
		gone(T0)
	}},
	{"without a proof none is opened, and the one that is there stays", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		l := k.openLink(d, T0)
		another := l
		another.ID = "lnk_another"
		act, wrong := k.act(d, "link", "", T0), "other"
		act.PasswordHash = &wrong
		k.unchanged(func() {
			_, err := k.s.OpenLink(k.Context(), another, act, event("opened", T0))
			k.wantErr(err, storage.ErrPasswordChanged)
		})
		act.PasswordHash = nil
		later, err := k.s.OpenLink(k.Context(), another, act, event("opened", T0))
		k.must(err)
		k.equal("waiting", k.waiting(u.ID, T0), []storage.Delayed{*later})
		got, err := k.s.Link(k.Context(), u.ID, T0)
		k.must(err)
		k.equal("link", got.ID, l.ID)
	}},
	{"a link is approved by its own name, and nothing comes of it after its time", func(k *kit) {
		e, u, other := k.epoch(), k.user("a"), k.user("b")
		d := k.device(u, e.Number, T0)
		l := k.openLink(d, T0)
		k.equal("guessed", k.claim(l, hash32(999), T0), false)
		k.equal("claimed, with a try left", k.claim(l, l.Code, T0), true)
		approve := func(id string, at time.Time) error {
			return k.s.ApproveLink(k.Context(), u.ID, d.ID, id, event("approved", at))
		}
		trade := func(u storage.User, id string, at time.Time) error {
			in := k.asking(u, e.Number, "", at)
			in.LinkID = id
			_, _, err := k.s.IssueDevice(k.Context(), in, event("login", at))
			return err
		}
		before := l.ExpiresAt.Add(-time.Millisecond)
		k.unchanged(func() {
			k.wantErr(approve("lnk_another", T0), storage.ErrNotFound)
			k.wantErr(k.s.CloseLink(k.Context(), u.ID, "lnk_another", event("closed", T0)), storage.ErrNotFound)
			k.wantErr(approve(l.ID, l.ExpiresAt), storage.ErrNotFound)
			_, err := k.s.LinkByID(k.Context(), l.ID, l.ExpiresAt)
			k.wantErr(err, storage.ErrNotFound)
			k.wantErr(k.s.CloseLink(k.Context(), u.ID, l.ID, event("closed", l.ExpiresAt)), storage.ErrNotFound)
		})
		k.must(approve(l.ID, before))
		k.unchanged(func() {
			k.wantErr(trade(u, "lnk_another", T0), storage.ErrNotFound)
			k.wantErr(trade(other, l.ID, T0), storage.ErrNotFound)
			k.wantErr(trade(u, l.ID, l.ExpiresAt), storage.ErrNotFound)
		})
		k.must(trade(u, l.ID, before))
	}},
	{"whoever is on the way in goes with all others, and stays when one goes", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d, other := k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		act := k.act(d, "", "", T0)
		act.PasswordHash = &u.PasswordHash
		others := storage.RevokeDevices{UserID: u.ID, Except: d.ID, Reason: "owner"}
		for _, row := range []struct {
			end  string
			gone bool
			do   func() error
		}{
			{"one device", false, func() error { _, _, err := k.remove(act, other.ID, T0); return err }},
			{"a password that keeps devices", false, func() error {
				_, _, err := k.s.ChangePassword(k.Context(), storage.ChangePassword{Hash: u.PasswordHash, KeepDevices: true}, act, event("password", T0))
				return err
			}},
			{"a password", true, func() error {
				_, _, err := k.s.ChangePassword(k.Context(), storage.ChangePassword{Hash: u.PasswordHash}, act, event("password", T0))
				return err
			}},
			{"all others", true, func() error {
				_, _, err := k.s.RemoveDevices(k.Context(), others, act, event("removed", T0))
				return err
			}},
			{"all others, by an operator", true, func() error { _, err := k.s.RevokeDevices(k.Context(), others, event("revoked", T0)); return err }},
		} {
			l := k.openLink(d, T0)
			k.equal("claimed", k.claim(l, l.Code, T0), true)
			k.must(k.s.ApproveLink(k.Context(), u.ID, d.ID, l.ID, event("approved", T0)))
			k.must(row.do())
			_, err := k.s.LinkByID(k.Context(), l.ID, T0)
			k.equal(row.end, errors.Is(err, storage.ErrNotFound), row.gone)
			in := k.asking(u, e.Number, "", T0)
			in.LinkID = l.ID
			if row.gone {
				_, _, err = k.s.IssueDevice(k.Context(), in, event("login", T0))
				k.wantErr(err, storage.ErrNotFound)
			}
		}
	}},
}

var accounts = []clause{
	{"a change of password needs a proof of its own, and keeps the asking device", func(k *kit) {
		e := k.epoch()
		u := k.user("a", hash32(1))
		in := k.asking(u, e.Number, "", T0)
		in.PasswordHash = &u.PasswordHash
		d, _ := k.issue(in)
		other := k.device(u, e.Number, T0)
		act := k.act(d, "password", "", T0)
		act.FreshSince = T0
		k.unchanged(func() {
			_, _, err := k.s.ChangePassword(k.Context(), storage.ChangePassword{Hash: "new"}, act, event("password", T0))
			k.wantErr(err, storage.ErrProofRequired)
		})
		code := hash32(1)
		act.RecoveryCode = &code
		revoked, _, err := k.s.ChangePassword(k.Context(), storage.ChangePassword{Hash: "new"}, act, event("password", T0))
		k.must(err)
		k.equal("revoked", k.keys(revoked), rootKeys(other))
		got, err := k.s.User(k.Context(), u.ID)
		k.must(err)
		k.equal("hash", got.PasswordHash, "new")
		kept, err := k.s.Device(k.Context(), u.ID, d.ID)
		k.must(err)
		k.equal("the asking device", kept.RevokedAt, time.Time{})
	}},
	{"recovery codes are replaced as a whole", func(k *kit) {
		u := k.user("a", hash32(1), hash32(2), hash32(3))
		_, err := k.s.ReplaceRecoveryCodes(k.Context(), u.ID, [][32]byte{hash32(8), hash32(9)}, nil, event("codes", T0))
		k.must(err)
		n, err := k.s.RecoveryCodes(k.Context(), u.ID)
		k.must(err)
		k.equal("left", n, 2)
		k.unchanged(func() {
			_, err = k.s.ReplaceRecoveryCodes(k.Context(), "usr_nobody", nil, nil, event("codes", T0))
			k.wantErr(err, storage.ErrNotFound)
		})
	}},
	{"an install is found by the user's name, also of a revoked device", func(k *kit) {
		e, u, other := k.epoch(), k.user("a"), k.user("b")
		d, _ := k.issue(k.asking(u, e.Number, "install", T0))
		k.device(u, e.Number, T0) // of no install
		own := func(key, install string) bool {
			k.Helper()
			yes, err := k.s.OwnInstall(k.Context(), key, install)
			k.must(err)
			return yes
		}
		for range 2 {
			k.equal("own", own(u.NameKey, "install"), true)
			k.equal("another's", own(other.NameKey, "install"), false)
			k.equal("nobody's", own("nobody", "install"), false)
			k.equal("none", own(u.NameKey, ""), false)
			_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, DeviceID: d.ID}, event("revoked", T0))
			k.must(err)
		}
	}},
	{"roles move the revision, and the last administrator stays", func(k *kit) {
		a, b := k.user("a"), k.user("b")
		role := func(u storage.User, role string, mayBeLast bool) error {
			return k.s.SetRole(k.Context(), storage.SetRole{UserID: u.ID, Role: role, MayBeLast: mayBeLast}, event("role", T0))
		}
		before := k.state().Revision
		k.must(role(a, "admin", false))
		if k.state().Revision <= before {
			k.Fatal("the revision stands still")
		}
		told := k.list(0)
		k.equal("entries", len(told), 1)
		k.equal("told", k.news(told[0]), storage.Revocation{Seq: 1, Grain: storage.GrainPolicy, Subject: a.ID, ExpiresAt: T0.Add(storage.PolicyNews + storage.ClockSkew)})
		k.unchanged(func() {
			k.must(role(a, "admin", false)) // as it was
			k.wantErr(role(a, "", false), storage.ErrLastAdmin)
			_, err := k.s.SuspendUser(k.Context(), a.ID, event("suspended", T0))
			k.wantErr(err, storage.ErrLastAdmin)
			_, err = k.s.DeleteUser(k.Context(), storage.DeleteUser{UserID: a.ID}, event("deleted", T0))
			k.wantErr(err, storage.ErrLastAdmin)
			k.wantErr(k.s.SetRole(k.Context(), storage.SetRole{UserID: "usr_nobody"}, event("role", T0)), storage.ErrNotFound)
		})
		k.must(role(b, "admin", false))
		_, err := k.s.SuspendUser(k.Context(), b.ID, event("suspended", T0))
		k.must(err)
		k.wantErr(role(a, "", false), storage.ErrLastAdmin) // a suspended one is none
		k.must(role(a, "", true))
		k.must(role(b, "", false)) // who is suspended is not the last
	}},
	{"a deleted user leaves root key IDs and opaque ids", func(k *kit) {
		e := k.epoch()
		u, other := k.user("a", hash32(1)), k.user("b")
		d, _ := k.issue(k.asking(u, e.Number, "install", T0))
		k.openLink(d, T0)
		kept := k.policy(other.ID, "method GET")
		for _, p := range []storage.Policy{k.policy(u.ID, "method GET"), kept, k.policy(d.ID, "method GET")} {
			k.addPolicy(p)
		}
		later := k.act(d, "codes", "", T0)
		_, err := k.s.ReplaceRecoveryCodes(k.Context(), u.ID, nil, &later, event("codes", T0))
		k.must(err)
		mine := func(actor, user string) storage.Event {
			ev := event("of", T0)
			ev.Actor, ev.UserID = actor, user
			return ev
		}
		events := []storage.Event{mine(u.ID, u.ID), mine("", u.ID), mine(other.ID, u.ID), mine(u.ID, other.ID), mine(other.ID, other.ID), mine("", "")}
		k.must(k.s.AppendAudit(k.Context(), events...))
		from := k.state().Audit - int64(len(events))
		revision := k.state().Revision

		revoked, err := k.s.DeleteUser(k.Context(), storage.DeleteUser{UserID: u.ID}, event("deleted", T0))
		k.must(err)
		k.equal("revoked", k.keys(revoked), rootKeys(d))
		_, err = k.s.User(k.Context(), u.ID)
		k.wantErr(err, storage.ErrNotFound)
		_, err = k.s.UserByNameKey(k.Context(), u.NameKey)
		k.wantErr(err, storage.ErrNotFound)
		_, err = k.s.Device(k.Context(), u.ID, d.ID)
		k.wantErr(err, storage.ErrNotFound)
		_, err = k.s.Link(k.Context(), u.ID, T0)
		k.wantErr(err, storage.ErrNotFound)
		k.equal("waiting", len(k.waiting(u.ID, T0)), 0)
		k.equal("policies", k.policies(), []storage.Policy{kept})
		if k.state().Revision <= revision {
			k.Fatal("the revision stands still: names stay in memory")
		}
		all := k.entries()
		var addresses []bool
		for _, e := range all[from : from+int64(len(events))] {
			addresses = append(addresses, e.ClientIP != "")
			k.equal("erased", e.Erased(), e.ClientIP == "")
		}
		k.equal("addresses kept", addresses, []bool{false, false, true, false, true, true})
		k.chained(all, [32]byte{})

		again := k.newUser("a")
		again.NameKey = u.NameKey
		_, err = k.s.CreateUser(k.Context(), again, nil, nil, event("signup", T0))
		k.must(err)
		k.unchanged(func() {
			_, err = k.s.DeleteUser(k.Context(), storage.DeleteUser{UserID: u.ID}, event("deleted", T0))
			k.wantErr(err, storage.ErrNotFound)
		})
	}},
	{"who deletes themselves with a root of a lost history has no root left", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		lost, until := [16]byte{1, 2, 3}, T0.Add(100*24*time.Hour)
		act := k.act(d, "delete", "", T0)
		act.PasswordHash = &u.PasswordHash
		in := storage.DeleteUser{UserID: u.ID, Act: &act, RootKeyID: &lost, ExpiresAt: until}
		wrong := "other"
		act.PasswordHash = &wrong
		k.unchanged(func() {
			_, err := k.s.DeleteUser(k.Context(), in, event("deleted", T0))
			k.wantErr(err, storage.ErrPasswordChanged)
		})
		act.PasswordHash = &u.PasswordHash
		revoked, err := k.s.DeleteUser(k.Context(), in, event("deleted", T0))
		k.must(err)
		k.equal("revoked", k.keys(revoked), sorted(append(rootKeys(d), lost)))
		k.equal("until", revoked[1].ExpiresAt, until.Add(storage.ClockSkew))
	}},
	{"an address is erased, or as it was", func(k *kit) {
		k.must(k.s.AppendAudit(k.Context(), event("a", T0)))
		e := k.entries()[0]
		k.equal("intact", e.Intact(), true)
		for _, change := range []func(*storage.AuditEntry){
			func(e *storage.AuditEntry) { e.ClientIP = "192.0.2.2" },
			func(e *storage.AuditEntry) { e.ClientIP = "" },
			func(e *storage.AuditEntry) { e.Address.Salt = nil },
			func(e *storage.AuditEntry) { e.Address = storage.SealAddress("192.0.2.2"); e.ClientIP = "192.0.2.2" },
			func(e *storage.AuditEntry) { e.Address = storage.AddressSeal{} },
			func(e *storage.AuditEntry) { e.Detail = "another" },
		} {
			changed := e
			change(&changed)
			k.equal("intact", changed.Intact(), false)
		}
		e.ClientIP, e.Address.Salt = "", nil
		k.equal("intact when erased", e.Intact(), true)
	}},
}
