package storagetest

import (
	"context"
	"errors"
	"time"

	"macaroond/storage"
)

var revocations = []clause{
	{"a root key that no device has is listed once", func(k *kit) {
		id := [16]byte{7}
		ev := event("device_revoked", T0)
		got, err := k.s.RevokeRootKey(k.Context(), id, T0.Add(time.Hour), ev)
		k.must(err)
		k.equal("entries", got, []storage.Revocation{{Seq: 1, Grain: storage.GrainDevice, RootKeyID: id, ExpiresAt: T0.Add(time.Hour + storage.ClockSkew)}})
		entries := k.entries()
		k.equal("root key of the event", *entries[len(entries)-1].RootKeyID, id)
		k.unchanged(func() {
			again, err := k.s.RevokeRootKey(k.Context(), id, T0.Add(time.Hour), ev)
			k.must(err)
			k.equal("entries", len(again), 0)
		})
	}},
	{"an empty list has sequence 0", func(k *kit) {
		k.equal("sequence", k.state().Sequence, int64(0))
		k.equal("list", len(k.list(0)), 0)
	}},
	{"one device is revoked, and its event says which", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d, kept := k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		revoked, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, DeviceID: d.ID, Reason: "logout"}, event("device_revoked", T0.Add(time.Minute)))
		k.must(err)
		want := []storage.Revocation{{Seq: 1, Grain: storage.GrainDevice, RootKeyID: d.RootKeyID, ExpiresAt: d.ExpiresAt.Add(storage.ClockSkew)}}
		k.equal("returned", revoked, want)
		k.equal("list", k.list(0), want)
		k.equal("sequence", k.state().Sequence, int64(1))
		got, err := k.s.Device(k.Context(), u.ID, d.ID)
		k.must(err)
		d.RevokedAt, d.RevokedReason = T0.Add(time.Minute), "logout"
		k.equal("revoked device", got, d)
		got, err = k.s.Device(k.Context(), u.ID, kept.ID)
		k.must(err)
		k.equal("kept device", got, kept)
		all := k.entries()
		last := all[len(all)-1]
		k.equal("device of the event", last.DeviceID, d.ID)
		k.equal("root key of the event", *last.RootKeyID, d.RootKeyID)
	}},
	{"revoking twice adds nothing", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		in := storage.RevokeDevices{UserID: u.ID, DeviceID: d.ID, Reason: "logout"}
		_, err := k.s.RevokeDevices(k.Context(), in, event("device_revoked", T0))
		k.must(err)
		k.unchanged(func() {
			revoked, err := k.s.RevokeDevices(k.Context(), in, event("device_revoked", T0.Add(time.Hour)))
			k.must(err)
			k.equal("revoked", len(revoked), 0)
		})
		got, err := k.s.Device(k.Context(), u.ID, d.ID)
		k.must(err)
		k.equal("revoked at", got.RevokedAt, T0)
	}},
	{"an entry lives for as long as the root that was presented, whatever the table knows", func(k *kit) {
		u := k.user("a")
		d := k.device(u, k.epoch().Number, T0)
		later := d.ExpiresAt.Add(48 * time.Hour)
		in := storage.RevokeDevices{UserID: u.ID, DeviceID: d.ID, RootKeyID: &d.RootKeyID, ExpiresAt: later, Reason: "logout"}
		gone, err := k.s.RevokeDevices(k.Context(), in, event("revoked", T0))
		k.must(err)
		k.equal("entry", gone[0].ExpiresAt, later.Add(storage.ClockSkew))
	}},
	{"all but one, with an event each", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		a, b, c := k.device(u, e.Number, T0), k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		k.device(k.user("b"), e.Number, T0)
		revoked, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, Except: b.ID, Reason: "owner"}, event("device_revoked", T0))
		k.must(err)
		k.equal("revoked", k.keys(revoked), rootKeys(a, c))
		named := map[string][16]byte{}
		for _, e := range k.entries() {
			if e.Type == "device_revoked" {
				named[e.DeviceID] = *e.RootKeyID
			}
		}
		k.equal("named by events", named, map[string][16]byte{a.ID: a.RootKeyID, c.ID: c.RootKeyID})
	}},
	{"all of a user's", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		a, b := k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		revoked, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, Reason: "owner"}, event("device_revoked", T0))
		k.must(err)
		k.equal("revoked", k.keys(revoked), rootKeys(a, b))
	}},
	{"a key replaced before is on the list with the device's new one", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		old, _ := k.issue(k.asking(u, e.Number, "install", T0))
		d, _ := k.issue(k.asking(u, e.Number, "install", T0.Add(time.Minute)))
		_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, DeviceID: d.ID, Reason: "logout"}, event("device_revoked", T0))
		k.must(err)
		k.equal("list", k.keys(k.list(0)), rootKeys(old, d))
	}},
	{"the list is in order, after is exclusive, breaking off is fine", func(k *kit) {
		for n := range uint64(5) {
			_, added, err := k.s.RevokeBranch(k.Context(), storage.RevokeBranch{RootKeyID: key16(1), Fingerprint: key16(10 + n), ExpiresAt: T0}, event("branch_revoked", T0))
			k.must(err)
			k.equal("added", added, true)
		}
		for after := range int64(7) {
			var seqs []int64
			for _, r := range k.list(after) {
				seqs = append(seqs, r.Seq)
			}
			var want []int64
			for n := after + 1; n <= 5; n++ {
				want = append(want, n)
			}
			k.equal("sequences", seqs, want)
		}
		for r, err := range k.s.Revocations(k.Context(), 0) {
			k.must(err)
			k.equal("first", r.Seq, int64(1))
			break
		}
		k.equal("sequence", k.state().Sequence, int64(5))
	}},
	{"a reader may change the store while it reads", func(k *kit) {
		for n := range uint64(3) {
			_, _, err := k.s.RevokeBranch(k.Context(), storage.RevokeBranch{RootKeyID: key16(1), Fingerprint: key16(10 + n), ExpiresAt: T0}, event("branch_revoked", T0))
			k.must(err)
		}
		for _, err := range k.s.Revocations(k.Context(), 0) {
			k.must(err)
			k.must(k.s.AppendAudit(k.Context(), event("seen", T0)))
			k.state()
		}
	}},
	{"an ended context ends the reading with its error", func(k *kit) {
		ctx, cancel := context.WithCancel(k.Context())
		cancel()
		var last error
		for _, err := range k.s.Revocations(ctx, 0) {
			last = err
		}
		if !errors.Is(last, context.Canceled) {
			k.Fatalf("error %v", last)
		}
	}},
}

// revokeBranch is one under root key 1, an hour to live.
func (k *kit) revokeBranch(fingerprint uint64, maxLive int, at time.Time, ancestors ...uint64) (storage.Revocation, bool, error) {
	in := storage.RevokeBranch{RootKeyID: key16(1), Fingerprint: key16(fingerprint), ExpiresAt: at.Add(time.Hour), MaxLive: maxLive}
	for _, a := range ancestors {
		in.Ancestors = append(in.Ancestors, key16(a))
	}
	return k.s.RevokeBranch(k.Context(), in, event("branch_revoked", at))
}

func (k *kit) covered(fingerprint uint64, ancestors ...uint64) {
	k.Helper()
	k.unchanged(func() {
		k.Helper()
		r, added, err := k.revokeBranch(fingerprint, 0, T0, ancestors...)
		k.must(err)
		k.equal("added", added, false)
		k.equal("entry", r, storage.Revocation{})
	})
}

var branches = []clause{
	{"a branch is listed until its expiry and the skew", func(k *kit) {
		r, added, err := k.revokeBranch(10, 0, T0, 11, 12)
		k.must(err)
		k.equal("added", added, true)
		want := storage.Revocation{Seq: 1, Grain: storage.GrainBranch, RootKeyID: key16(1), Fingerprint: key16(10), ExpiresAt: T0.Add(time.Hour + storage.ClockSkew)}
		k.equal("returned", r, want)
		k.equal("list", k.list(0), []storage.Revocation{want})
		k.equal("audit", k.events(), []string{"branch_revoked"})
	}},
	{"a branch on the list, or under one, stores nothing", func(k *kit) {
		_, _, err := k.revokeBranch(10, 0, T0)
		k.must(err)
		k.covered(10)
		k.covered(20, 15, 10)
		k.covered(20, 10, 15)
		k.covered(10, 15)
		_, added, err := k.revokeBranch(5, 0, T0) // the parent of a revoked one is another matter
		k.must(err)
		k.equal("parent added", added, true)
	}},
	{"the same fingerprint under another root key is another branch", func(k *kit) {
		_, _, err := k.revokeBranch(10, 0, T0)
		k.must(err)
		_, added, err := k.s.RevokeBranch(k.Context(), storage.RevokeBranch{RootKeyID: key16(2), Fingerprint: key16(10), ExpiresAt: T0}, event("branch_revoked", T0))
		k.must(err)
		k.equal("added", added, true)
	}},
	{"a branch of a revoked device stores nothing", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, Reason: "owner"}, event("device_revoked", T0))
		k.must(err)
		k.unchanged(func() {
			_, added, err := k.s.RevokeBranch(k.Context(), storage.RevokeBranch{RootKeyID: d.RootKeyID, Fingerprint: key16(10), ExpiresAt: T0}, event("branch_revoked", T0))
			k.must(err)
			k.equal("added", added, false)
		})
	}},
	{"the limit counts live branches of the root key; the owner has none", func(k *kit) {
		for n := range uint64(3) {
			_, added, err := k.revokeBranch(10+n, 3, T0)
			k.must(err)
			k.equal("added", added, true)
		}
		k.unchanged(func() {
			_, _, err := k.revokeBranch(20, 3, T0)
			k.wantErr(err, storage.ErrBranchLimit)
		})
		k.covered(11) // what is there already is no matter of limits
		_, added, err := k.revokeBranch(21, 0, T0)
		k.must(err)
		k.equal("the owner's", added, true)
		_, added, err = k.s.RevokeBranch(k.Context(), storage.RevokeBranch{RootKeyID: key16(2), Fingerprint: key16(10), ExpiresAt: T0, MaxLive: 3}, event("branch_revoked", T0))
		k.must(err)
		k.equal("another root key's", added, true)
		// All of them have gone at this time, expired or not by Expire.
		_, added, err = k.revokeBranch(22, 3, T0.Add(time.Hour+storage.ClockSkew+time.Second))
		k.must(err)
		k.equal("after the others' time", added, true)
	}},
}
