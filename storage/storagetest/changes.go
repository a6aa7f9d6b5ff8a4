package storagetest

import (
	"fmt"
	"time"

	"macaroond/storage"
)

// member is a user with one of everything that a user can have.
type member struct {
	storage.User
	first, other storage.Device
	proof        storage.Act // with the password, by the first device
	waits        *storage.Delayed
	link         storage.Link
	policy       storage.Policy
}

func (k *kit) member(name string, epoch uint32) *member {
	k.Helper()
	m := &member{User: k.user(name, hash32(k.next()), hash32(k.next()))}
	in := k.asking(m.User, epoch, "install", T0)
	in.RootKey.ExpiresAt = seconds(in.RootKey.ExpiresAt)
	m.first, _ = k.issue(in)
	m.other = k.device(m.User, epoch, T0)
	gone := k.device(m.User, epoch, T0)
	_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: m.ID, DeviceID: gone.ID}, event("revoked", T0))
	k.must(err)
	renewed, err := k.present(asks(root{m.first, epoch, in.RootKey.ExpiresAt}, epoch), T0.Add(minute))
	k.must(err)
	m.first.ExpiresAt = renewed.ExpiresAt
	m.proof = k.act(m.first, "", "", T0)
	m.proof.PasswordHash = &m.PasswordHash
	_, m.waits, err = k.remove(k.act(m.first, "remove", m.other.ID, T0), m.other.ID, T0)
	k.must(err)
	m.link = k.openLink(m.first, T0)
	m.policy = k.policy(m.ID, "method GET")
	k.addPolicy(m.policy)
	k.addPolicy(k.policy(m.first.ID, "audience photos"))
	return m
}

// belongings are what a store has of a user, and what nobody's change moves.
type belongings struct {
	user     storage.User
	codes    int
	devices  []storage.Device
	roots    []storage.Root
	waiting  []storage.Delayed
	link     storage.Link
	policies []storage.Policy
	epoch    storage.Epoch // the first, which does not sign
}

func (k *kit) belongings(m *member) belongings {
	k.Helper()
	var b belongings
	var err error
	b.user, err = k.s.User(k.Context(), m.ID)
	k.must(err)
	b.codes, err = k.s.RecoveryCodes(k.Context(), m.ID)
	k.must(err)
	b.devices, err = k.s.Devices(k.Context(), m.ID)
	k.must(err)
	b.roots, _, err = k.s.Roots(k.Context(), m.first.RootKeyID, T0)
	k.must(err)
	b.waiting = k.waiting(m.ID, T0)
	b.link, err = k.s.Link(k.Context(), m.ID, T0)
	k.must(err)
	for _, p := range k.policies() {
		if p.Target == m.ID || p.Target == m.first.ID {
			b.policies = append(b.policies, p)
		}
	}
	b.epoch = k.epochs()[0]
	return b
}

// change is what is done to a member, and the types of its audit entries.
type change struct {
	name   string
	events []string
	do     func(k *kit, m *member, epoch uint32) error
}

var done = []string{"done"}

func (k *kit) done() storage.Event { return event("done", T0) }

var changesOfUsers = []change{
	{"a password is changed", done, func(k *kit, m *member, _ uint32) error {
		_, _, err := k.s.ChangePassword(k.Context(), storage.ChangePassword{Hash: "new"}, m.proof, k.done())
		return err
	}},
	{"a password is set", done, func(k *kit, m *member, _ uint32) error {
		_, err := k.s.SetPassword(k.Context(), storage.SetPassword{UserID: m.ID, Hash: "new", Revoke: true}, k.done())
		return err
	}},
	{"codes are replaced", done, func(k *kit, m *member, _ uint32) error {
		_, err := k.s.ReplaceRecoveryCodes(k.Context(), m.ID, nil, &m.proof, k.done())
		return err
	}},
	{"a role is given", done, func(k *kit, m *member, _ uint32) error {
		return k.s.SetRole(k.Context(), storage.SetRole{UserID: m.ID, Role: "auditor"}, k.done())
	}},
	{"suspended", done, func(k *kit, m *member, _ uint32) error {
		_, err := k.s.SuspendUser(k.Context(), m.ID, k.done())
		return err
	}},
	{"suspended and resumed", []string{"done", "done"}, func(k *kit, m *member, _ uint32) error {
		if _, err := k.s.SuspendUser(k.Context(), m.ID, k.done()); err != nil {
			return err
		}
		return k.s.ResumeUser(k.Context(), m.ID, k.done())
	}},
	{"deleted", done, func(k *kit, m *member, _ uint32) error {
		_, err := k.s.DeleteUser(k.Context(), storage.DeleteUser{UserID: m.ID}, k.done())
		return err
	}},
	{"a device is renamed", done, func(k *kit, m *member, _ uint32) error {
		_, err := k.s.RenameDevice(k.Context(), m.ID, m.first.ID, "another name", k.done())
		return err
	}},
	{"a login", done, func(k *kit, m *member, epoch uint32) error {
		in := k.asking(m.User, epoch, "", T0)
		in.RootKey.ExpiresAt = T0.Add(30 * 24 * time.Hour)
		_, _, err := k.s.IssueDevice(k.Context(), in, k.done())
		return err
	}},
	{"a login from the same install", done, func(k *kit, m *member, epoch uint32) error {
		_, _, err := k.s.IssueDevice(k.Context(), k.asking(m.User, epoch, "install", T0), k.done())
		return err
	}},
	{"a login for which another device has to go, and is forgotten", done, func(k *kit, m *member, epoch uint32) error {
		in := k.asking(m.User, epoch, "", T0)
		in.MaxDevices = 1
		_, _, err := k.s.IssueDevice(k.Context(), in, k.done())
		return err
	}},
	{"all devices are revoked", []string{"done", "done"}, func(k *kit, m *member, _ uint32) error {
		_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: m.ID}, k.done())
		return err
	}},
	{"a device is removed", done, func(k *kit, m *member, _ uint32) error {
		_, _, err := k.s.RemoveDevices(k.Context(), storage.RevokeDevices{UserID: m.ID, DeviceID: m.other.ID}, m.proof, k.done())
		return err
	}},
	{"what waits is done", done, func(k *kit, m *member, _ uint32) error {
		act := k.act(m.first, "remove", m.other.ID, T0)
		_, _, err := k.s.RemoveDevices(k.Context(), storage.RevokeDevices{UserID: m.ID, DeviceID: m.other.ID}, act, event("done", m.waits.DueAt))
		return err
	}},
	{"what waits is cancelled", done, func(k *kit, m *member, _ uint32) error {
		return k.s.CancelDelayed(k.Context(), m.ID, m.waits.ID, k.done())
	}},
	{"something else is asked for", []string{"delayed"}, func(k *kit, m *member, _ uint32) error {
		act := k.act(m.first, "codes", "", T0)
		_, err := k.s.ReplaceRecoveryCodes(k.Context(), m.ID, nil, &act, k.done())
		return err
	}},
	{"a link is opened", []string{"opened"}, func(k *kit, m *member, _ uint32) error {
		k.openLink(m.first, T0)
		return nil
	}},
	{"a link is guessed until it is gone", []string{"failed", "failed"}, func(k *kit, m *member, _ uint32) error {
		k.claim(m.link, hash32(999), T0)
		k.claim(m.link, hash32(999), T0)
		return nil
	}},
	{"a link is claimed, approved and traded", []string{"claimed", "done", "done"}, func(k *kit, m *member, epoch uint32) error {
		k.claim(m.link, m.link.Code, T0)
		if err := k.s.ApproveLink(k.Context(), m.ID, m.first.ID, m.link.ID, k.done()); err != nil {
			return err
		}
		in := k.asking(m.User, epoch, "", T0)
		in.LinkID = m.link.ID
		_, _, err := k.s.IssueDevice(k.Context(), in, k.done())
		return err
	}},
	{"a link is closed", done, func(k *kit, m *member, _ uint32) error {
		return k.s.CloseLink(k.Context(), m.ID, m.link.ID, k.done())
	}},
	{"a policy is removed", done, func(k *kit, m *member, _ uint32) error {
		_, err := k.s.RemovePolicy(k.Context(), m.policy.ID, k.done())
		return err
	}},
	{"a root is renewed", done, func(k *kit, m *member, epoch uint32) error {
		_, err := k.s.RenewDevice(k.Context(), asks(root{m.first, epoch, m.first.ExpiresAt}, epoch), "theft", k.done())
		return err
	}},
	{"a device is seen", nil, func(k *kit, m *member, _ uint32) error {
		return k.s.TouchDevices(k.Context(), []storage.Sighting{{
			DeviceID: m.first.ID, RootKeyID: m.first.RootKeyID, ExpiresAt: m.first.ExpiresAt, First: T0.Add(minute), Last: T0.Add(minute),
		}})
	}},
}

var changes = []clause{
	{"what is done to somebody is done to nobody else, and has its entry in the audit", func(k *kit) {
		k.epoch()
		e := k.epoch().Number
		for i, c := range changesOfUsers {
			other, m := k.member(fmt.Sprint(i, "a"), e), k.member(fmt.Sprint(i, "b"), e)
			before, from := k.belongings(other), len(k.events())
			if err := c.do(k, m, e); err != nil {
				k.Fatalf("%s: %v", c.name, err)
			}
			k.equal(c.name+": the other's", k.belongings(other), before)
			k.equal(c.name+": audit", append([]string(nil), k.events()[from:]...), c.events)
		}
	}},
	{"what was done waits no more, and all else waits on", func(k *kit) {
		e := k.epoch()
		for i, how := range []struct {
			name string
			at   time.Duration
			by   func(*storage.Act)
		}{
			{"password", 0, func(a *storage.Act) { hash := "$argon2id$0"; a.PasswordHash = &hash }},
			{"code", 0, func(a *storage.Act) { code := hash32(1); a.RecoveryCode = &code }},
			{"fresh login", 0, func(a *storage.Act) { a.FreshSince = T0 }},
			{"due", 24 * time.Hour, func(*storage.Act) {}},
		} {
			u := k.user(fmt.Sprint(i), hash32(1))
			u.PasswordHash = "$argon2id$0"
			_, err := k.s.SetPassword(k.Context(), storage.SetPassword{UserID: u.ID, Hash: u.PasswordHash}, event("password", T0))
			k.must(err)
			in := k.asking(u, e.Number, "", T0)
			in.PasswordHash = &u.PasswordHash
			a, _ := k.issue(in)
			b := k.device(u, e.Number, T0)
			ask := func(d storage.Device, kind, target string, at time.Duration, by func(*storage.Act)) *storage.Delayed {
				k.Helper()
				act := k.act(d, kind, target, T0.Add(at))
				act.Max = 10
				by(&act)
				later, err := k.s.ReplaceRecoveryCodes(k.Context(), u.ID, [][32]byte{hash32(1)}, &act, event("done", T0.Add(at)))
				k.must(err)
				return later
			}
			nothing := func(*storage.Act) {}
			ask(a, "x", "1", 0, nothing)
			ask(a, "x", "2", time.Hour, nothing)
			ask(a, "y", "1", time.Hour, nothing)
			ask(b, "x", "1", time.Hour, nothing)
			all := k.waiting(u.ID, T0)
			k.equal(how.name+": waiting", len(all), 4)
			if later := ask(a, "x", "1", how.at, how.by); later != nil {
				k.Fatalf("%s: %+v", how.name, later)
			}
			k.equal(how.name+": waits on", k.waiting(u.ID, T0), all[1:])
			// What is due for one device, of one kind or to one target, is not for others.
			k.equal(how.name+": again", ask(a, "x", "1", 24*time.Hour, nothing) != nil, true)
			for _, d := range all[1:] {
				got := ask(storage.Device{ID: d.DeviceID, UserID: u.ID, RootKeyID: map[string][16]byte{a.ID: a.RootKeyID, b.ID: b.RootKeyID}[d.DeviceID]}, d.Kind, d.Target, 24*time.Hour, nothing)
				k.equal(how.name+": its own", got, &d)
			}
		}
	}},
	{"what a device asked for and let in goes with it, and not what another did", func(k *kit) {
		e := k.epoch()
		for i, end := range []func(u storage.User, d storage.Device) error{
			func(u storage.User, d storage.Device) error {
				_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, DeviceID: d.ID}, event("revoked", T0))
				return err
			},
			func(u storage.User, _ storage.Device) error {
				_, _, err := k.s.IssueDevice(k.Context(), k.asking(u, e.Number, "install", T0), event("login", T0))
				return err
			},
		} {
			u := k.user(fmt.Sprint(i))
			a, _ := k.issue(k.asking(u, e.Number, "install", T0))
			b := k.device(u, e.Number, T0)
			l := k.openLink(a, T0)
			for _, d := range []storage.Device{a, b} {
				_, _, err := k.remove(k.act(d, "remove", "others", T0), "", T0)
				k.must(err)
			}
			k.must(end(u, a))
			_, err := k.s.LinkByID(k.Context(), l.ID, T0)
			k.wantErr(err, storage.ErrNotFound)
			left := k.waiting(u.ID, T0)
			if len(left) != 1 || left[0].DeviceID != b.ID {
				k.Fatalf("waiting: %+v", left)
			}
		}
	}},
	{"neither what others wait for nor what is over is in the way", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		fill := func(d storage.Device, at time.Time) {
			k.Helper()
			for i := range 3 {
				_, later, err := k.remove(k.act(d, "remove", fmt.Sprint(at, i), at), "", at)
				k.must(err)
				if later == nil {
					k.Fatal("done")
				}
			}
		}
		other := k.user("b")
		d := k.device(u, e.Number, T0)
		k.device(u, e.Number, T0)
		stranger := k.device(other, e.Number, T0)
		k.device(other, e.Number, T0)
		fill(stranger, T0)
		fill(d, T0)
		end := k.waiting(u.ID, T0)[0].ExpiresAt
		k.unchanged(func() {
			_, _, err := k.remove(k.act(d, "remove", "one more", end), "", end.Add(-time.Millisecond))
			k.wantErr(err, storage.ErrTooManyActs)
			over := k.waiting(u.ID, T0)[0]
			k.wantErr(k.s.CancelDelayed(k.Context(), u.ID, over.ID, event("cancelled", end)), storage.ErrNotFound)
		})
		fill(d, end)
	}},
	{"the suspended do nothing, with whatever proof; who is another service's nothing local", func(k *kit) {
		e, s := k.epoch(), k.aService("s")
		m := k.member("a", e.Number)
		_, err := k.s.SuspendUser(k.Context(), m.ID, event("suspended", T0))
		k.must(err)
		proof := m.proof
		proof.RootKeyID = [16]byte{1, 2, 3} // of a lost history: it is not on the list
		k.unchanged(func() {
			_, _, err := k.s.ChangePassword(k.Context(), storage.ChangePassword{Hash: "new"}, proof, k.done())
			k.wantErr(err, storage.ErrSuspended)
			_, err = k.s.OpenLink(k.Context(), m.link, proof, k.done())
			k.wantErr(err, storage.ErrSuspended)
		})
		u := k.newSubject(s, "1")
		d, _, err := k.issueFor(u, e.Number, "")
		k.must(err)
		_, _, err = k.issueFor(u, e.Number, "")
		k.must(err)
		act := k.act(d, "remove", "others", T0)
		act.Local = true
		k.unchanged(func() {
			_, _, err := k.s.ChangePassword(k.Context(), storage.ChangePassword{Hash: "new"}, act, k.done())
			k.wantErr(err, storage.ErrOwned)
			k.wantErr(k.s.SetRole(k.Context(), storage.SetRole{UserID: d.UserID, Role: "admin"}, k.done()), storage.ErrOwned)
		})
		act.Local = false
		_, later, err := k.remove(act, "", T0)
		k.must(err)
		if later == nil {
			k.Fatal("done without a proof")
		}
	}},
	{"a first password comes with a fresh login, or when it has waited; codes too", func(k *kit) {
		e := k.epoch()
		u := k.newUser("a")
		u.PasswordHash = ""
		code := hash32(1)
		_, err := k.s.CreateUser(k.Context(), u, [][32]byte{code}, nil, event("signup", T0))
		k.must(err)
		in := k.asking(u, e.Number, "", T0)
		in.RecoveryCode = &code
		d, _ := k.issue(in)
		set := func(act storage.Act, at time.Time) *storage.Delayed {
			k.Helper()
			_, later, err := k.s.ChangePassword(k.Context(), storage.ChangePassword{Hash: "first", KeepDevices: true}, act, event("password", at))
			k.must(err)
			return later
		}
		hash := func() string {
			k.Helper()
			got, err := k.s.User(k.Context(), u.ID)
			k.must(err)
			return got.PasswordHash
		}
		act := k.act(d, "password", "", T0)
		later := set(act, T0)
		if later == nil || hash() != "" {
			k.Fatalf("%+v, hash %q", later, hash())
		}
		codes := k.act(d, "codes", "", T0)
		waits, err := k.s.ReplaceRecoveryCodes(k.Context(), u.ID, [][32]byte{hash32(2), hash32(3)}, &codes, event("codes", T0))
		k.must(err)
		n, err := k.s.RecoveryCodes(k.Context(), u.ID)
		k.must(err)
		if waits == nil || n != 0 {
			k.Fatalf("%+v, %d codes", waits, n)
		}
		act.FreshSince = T0
		if later := set(act, T0); later != nil || hash() != "first" {
			k.Fatalf("%+v, hash %q", later, hash())
		}
		act.FreshSince = time.Time{}
		k.unchanged(func() {
			_, _, err := k.s.ChangePassword(k.Context(), storage.ChangePassword{Hash: "second"}, act, event("password", T0))
			k.wantErr(err, storage.ErrProofRequired)
		})
	}},
}
