package storagetest

import (
	"time"

	"macaroond/storage"
)

func (k *kit) expire(in storage.Expire) storage.Expired {
	k.Helper()
	gone, err := k.s.Expire(k.Context(), in)
	k.must(err)
	return gone
}

var expire = []clause{
	{"a revoked device, its key and its entry go when the last verifier refuses without them", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, Reason: "owner"}, event("device_revoked", T0))
		k.must(err)
		end := d.ExpiresAt.Add(storage.ClockSkew)
		k.equal("at the end", k.expire(storage.Expire{Now: end, Limit: 10}), storage.Expired{})
		k.equal("listed", len(k.list(0)), 1)
		k.equal("after it", k.expire(storage.Expire{Now: end.Add(time.Millisecond), Limit: 10}), storage.Expired{Revocations: 1, RootKeys: 1, Devices: 1})
		k.equal("list", len(k.list(0)), 0)
		k.equal("sequence", k.state().Sequence, int64(1))
		all, err := k.s.Devices(k.Context(), u.ID)
		k.must(err)
		k.equal("devices", len(all), 0)
	}},
	{"an expired device goes though it was never revoked", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		old, young := k.device(u, e.Number, T0), k.device(u, e.Number, T0.Add(time.Hour))
		gone := k.expire(storage.Expire{Now: old.ExpiresAt.Add(storage.ClockSkew + time.Second), Limit: 10})
		k.equal("gone", gone, storage.Expired{RootKeys: 1, Devices: 1})
		all, err := k.s.Devices(k.Context(), u.ID)
		k.must(err)
		k.equal("left", all, []storage.Device{young})
		_, err = k.s.User(k.Context(), u.ID)
		k.must(err)
	}},
	{"a replaced key goes, its device stays", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		old, _ := k.issue(k.asking(u, e.Number, "install", T0))
		d, _ := k.issue(k.asking(u, e.Number, "install", T0.Add(time.Hour)))
		gone := k.expire(storage.Expire{Now: old.ExpiresAt.Add(storage.ClockSkew + time.Second), Limit: 10})
		k.equal("gone", gone, storage.Expired{Revocations: 1, RootKeys: 1})
		got, err := k.s.Device(k.Context(), u.ID, d.ID)
		k.must(err)
		k.equal("device", got, d)
	}},
	{"an epoch goes after its last key, the signing one never", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		end := d.ExpiresAt.Add(storage.ClockSkew + time.Second)
		k.equal("signing", k.expire(storage.Expire{Now: end.Add(-2 * time.Second), Limit: 10}).Epochs, 0)
		now := k.epoch()
		k.equal("verifying", k.expire(storage.Expire{Now: end.Add(-2 * time.Second), Limit: 10}).Epochs, 0)
		k.equal("after its time", k.expire(storage.Expire{Now: end, Limit: 10}), storage.Expired{RootKeys: 1, Devices: 1, Epochs: 1})
		k.equal("left", k.epochs(), []storage.Epoch{now})
		k.equal("the signing one", k.expire(storage.Expire{Now: end.Add(1000 * time.Hour), Limit: 10}), storage.Expired{})
	}},
	{"an epoch waits for keys that the limit left", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		for range 3 {
			k.device(u, e.Number, T0)
		}
		k.epoch()
		in := storage.Expire{Now: T0.Add(24 * time.Hour), Limit: 2}
		k.equal("first call", k.expire(in), storage.Expired{RootKeys: 2, Devices: 2})
		k.equal("second call", k.expire(in), storage.Expired{RootKeys: 1, Devices: 1, Epochs: 1})
		k.equal("third call", k.expire(in), storage.Expired{})
	}},
	{"the limit holds for each table, oldest first", func(k *kit) {
		for n := range uint64(5) {
			_, _, err := k.revokeBranch(10+n, 0, T0.Add(-time.Duration(n)*time.Minute))
			k.must(err)
		}
		in := storage.Expire{Now: T0.Add(24 * time.Hour), Limit: 2}
		k.equal("first call", k.expire(in).Revocations, 2)
		k.equal("left", []int64{k.list(0)[0].Seq, k.list(0)[2].Seq}, []int64{1, 3})
		k.equal("second call", k.expire(in).Revocations, 2)
		k.equal("third call", k.expire(in).Revocations, 1)
		k.equal("fourth call", k.expire(in).Revocations, 0)
	}},
	{"sequences go on after all entries are gone", func(k *kit) {
		_, _, err := k.revokeBranch(10, 0, T0)
		k.must(err)
		k.expire(storage.Expire{Now: T0.Add(24 * time.Hour), Limit: 10})
		r, _, err := k.revokeBranch(11, 0, T0)
		k.must(err)
		k.equal("sequence", r.Seq, int64(2))
	}},
	{"a branch that is gone may be listed again", func(k *kit) {
		_, _, err := k.revokeBranch(10, 0, T0)
		k.must(err)
		k.expire(storage.Expire{Now: T0.Add(24 * time.Hour), Limit: 10})
		_, added, err := k.revokeBranch(10, 0, T0.Add(48*time.Hour))
		k.must(err)
		k.equal("added", added, true)
	}},
	{"links and acts that wait go at their time, and not before", func(k *kit) {
		u := k.user("a")
		in := k.asking(u, k.epoch().Number, "", T0)
		in.RootKey.ExpiresAt = T0.Add(30 * 24 * time.Hour)
		d, _ := k.issue(in)
		l := k.openLink(d, T0)
		codes := k.act(d, "codes", "", T0)
		later, err := k.s.ReplaceRecoveryCodes(k.Context(), u.ID, nil, &codes, event("codes", T0))
		k.must(err)
		left := func(now time.Time) (n int) {
			k.Helper()
			k.expire(storage.Expire{Now: now, Limit: 10})
			if _, err := k.s.LinkByID(k.Context(), l.ID, T0); err == nil {
				n++
			}
			return n + len(k.waiting(u.ID, T0))
		}
		k.equal("before the link's time", left(l.ExpiresAt.Add(-time.Millisecond)), 2)
		k.equal("at it", left(l.ExpiresAt), 1)
		k.equal("before the act's time", left(later.ExpiresAt.Add(-time.Millisecond)), 1)
		k.equal("at it", left(later.ExpiresAt), 0)
	}},
	{"old audit entries go; the first that stays anchors the chain", func(k *kit) {
		for i := range 5 {
			k.must(k.s.AppendAudit(k.Context(), event("a", T0.Add(time.Duration(i)*time.Minute))))
		}
		all := k.entries()
		k.equal("zero keeps all", k.expire(storage.Expire{Now: T0, Limit: 10}).Audit, 0)
		in := storage.Expire{Now: T0, AuditBefore: T0.Add(3 * time.Minute), Limit: 2}
		k.equal("first call", k.expire(in).Audit, 2)
		k.equal("second call", k.expire(in).Audit, 1)
		k.equal("third call", k.expire(in).Audit, 0)
		left := k.entries()
		k.equal("left", left, all[3:])
		k.chained(left, all[2].Hash)
	}},
	{"a clock that went back cuts no hole into the audit", func(k *kit) {
		for _, at := range []time.Duration{time.Minute, time.Hour, 2 * time.Minute} {
			k.must(k.s.AppendAudit(k.Context(), event("a", T0.Add(at))))
		}
		k.equal("gone", k.expire(storage.Expire{Now: T0, AuditBefore: T0.Add(30 * time.Minute), Limit: 10}).Audit, 1)
		left := k.entries()
		k.equal("left", len(left), 2)
		k.chained(left, left[0].Prev)
	}},
	{"the chain goes on after all entries are gone", func(k *kit) {
		k.must(k.s.AppendAudit(k.Context(), event("a", T0)))
		last := k.entries()[0]
		k.equal("gone", k.expire(storage.Expire{Now: T0, AuditBefore: T0.Add(time.Hour), Limit: 10}).Audit, 1)
		k.must(k.s.AppendAudit(k.Context(), event("b", T0)))
		all := k.entries()
		k.equal("number", all[0].Seq, last.Seq+1)
		k.chained(all, last.Hash)
	}},
}
