package storagetest

import (
	"time"

	"macaroond/storage"
)

// chained checks that entries are numbered and chained without a gap, the first
// to prev.
func (k *kit) chained(all []storage.AuditEntry, prev [32]byte) {
	k.Helper()
	for i, e := range all {
		if i > 0 && e.Seq != all[i-1].Seq+1 {
			k.Fatalf("entry %d follows %d", e.Seq, all[i-1].Seq)
		}
		k.equal("prev", e.Prev, prev)
		k.equal("hash", e.Hash, storage.ChainHash(prev, e.Seq, e.Event, e.Address))
		k.equal("intact", e.Intact(), true)
		prev = e.Hash
	}
}

var audit = []clause{
	{"an event comes back as given", func(k *kit) {
		u, key := k.user("a"), key16(7)
		full := storage.Event{
			Time: T0, Type: "login", Actor: u.ID, UserID: "usr_0000000000000002",
			DeviceID: "dev_0000000000000003", RootKeyID: &key, ClientIP: "2001:db8::1", Detail: "line",
		}
		bare := storage.Event{Time: T0, Type: "login_failed"}
		k.must(k.s.AppendAudit(k.Context(), full, bare))
		all := k.entries()
		k.equal("full", all[1].Event, full)
		k.equal("bare", all[2].Event, bare)
		k.equal("number", all[1].Seq, int64(2))
		k.chained(all, [32]byte{})
	}},
	{"an event that comes after its user was deleted has no address", func(k *kit) {
		u, other := k.user("a"), k.user("b")
		_, err := k.s.DeleteUser(k.Context(), storage.DeleteUser{UserID: u.ID}, event("deleted", T0))
		k.must(err)
		before := len(k.entries())
		var wanted []string
		for _, e := range []struct{ actor, user, address string }{
			{"", u.ID, ""},
			{u.ID, u.ID, ""},
			{u.ID, other.ID, ""},
			{"operator", u.ID, "192.0.2.1"},
			{other.ID, u.ID, "192.0.2.1"},
			{"", other.ID, "192.0.2.1"},
			{"", "svc_0000000000000001", "192.0.2.1"},
			{"", "", "192.0.2.1"},
		} {
			ev := event("late", T0)
			ev.Actor, ev.UserID = e.actor, e.user
			k.must(k.s.AppendAudit(k.Context(), ev))
			wanted = append(wanted, e.address)
		}
		failed := event("link_failed", T0)
		failed.Actor, failed.UserID = "", u.ID
		_, _, err = k.s.ClaimLink(k.Context(), storage.ClaimLink{UserID: u.ID, Now: T0}, event("x", T0), failed)
		k.must(err)
		wanted = append(wanted, "")
		var got []string
		all := k.entries()
		for _, e := range all[before:] {
			got = append(got, e.ClientIP)
		}
		k.equal("addresses", got, wanted)
		k.chained(all, [32]byte{})
	}},
	{"no events are no change", func(k *kit) {
		k.unchanged(func() { k.must(k.s.AppendAudit(k.Context())) })
	}},
	{"the hash is of the time as kept", func(k *kit) {
		k.must(k.s.AppendAudit(k.Context(), event("a", T0.Add(time.Microsecond).In(time.FixedZone("", 3600)))))
		all := k.entries()
		k.equal("time", all[0].Time, T0)
		k.chained(all, [32]byte{})
	}},
	{"pages: after is exclusive, limit is kept", func(k *kit) {
		for range 5 {
			k.must(k.s.AppendAudit(k.Context(), event("a", T0)))
		}
		all := k.entries()
		page, err := k.s.Audit(k.Context(), 2, 2)
		k.must(err)
		k.equal("page", page, all[2:4])
		page, err = k.s.Audit(k.Context(), 5, 2)
		k.must(err)
		k.equal("beyond the end", len(page), 0)
	}},
	{"every kind of change is in one chain", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		_, err := k.s.RenameDevice(k.Context(), u.ID, d.ID, "n", event("device_renamed", T0))
		k.must(err)
		_, err = k.s.SetPassword(k.Context(), storage.SetPassword{UserID: u.ID, Hash: "h"}, event("password", T0))
		k.must(err)
		_, err = k.s.SuspendUser(k.Context(), u.ID, event("suspended", T0))
		k.must(err)
		k.must(k.s.ResumeUser(k.Context(), u.ID, event("resumed", T0)))
		_, _, err = k.revokeBranch(10, 0, T0)
		k.must(err)
		s := k.service("a")
		k.must(k.s.AddService(k.Context(), s, event("service_added", T0)))
		k.removeService(s.ID)
		_, err = k.retire(e.Number, event("epoch_retired", T0))
		k.must(err)
		_, err = k.s.Restored(k.Context(), true, event("restored", T0))
		k.must(err)
		k.equal("audit", k.events(), []string{
			"epoch_created", "signup", "login", "device_renamed", "password", "suspended", "resumed",
			"branch_revoked", "service_added", "service_removed", "epoch_created", "epoch_retired", "restored",
		})
		k.chained(k.entries(), [32]byte{})
	}},
}
