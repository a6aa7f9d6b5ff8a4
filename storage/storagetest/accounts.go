package storagetest

import (
	"time"

	"macaroond/storage"
)

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
