package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"macaroond/storage"
)

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
