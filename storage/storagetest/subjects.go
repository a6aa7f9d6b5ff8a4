package storagetest

import (
	"fmt"
	"time"

	"macaroond/storage"
)

// newSubject is a service's user that is not stored yet.
func (k *kit) newSubject(s storage.Service, subject string) storage.User {
	n := k.next()
	return storage.User{
		ID: fmt.Sprintf("usr_%016d", n), Name: s.Name + ":" + subject, NameKey: fmt.Sprintf("KEY %d", n),
		CreatedAt: T0, Owner: s.ID, Subject: subject,
	}
}

func (k *kit) issueFor(u storage.User, epoch uint32, install string) (storage.Device, []storage.Revocation, error) {
	in := k.asking(u, epoch, install, T0)
	in.UserID = "usr_nobody" // the device is u's, whoever is named here
	return k.s.IssueSubject(k.Context(), u, in, event("minted", T0))
}

func (k *kit) issueSubject(s storage.Service, subject string, epoch uint32) storage.Device {
	k.Helper()
	d, _, err := k.issueFor(k.newSubject(s, subject), epoch, "")
	k.must(err)
	return d
}

func (k *kit) notIssued(u storage.User, epoch uint32, want error) {
	k.Helper()
	k.unchanged(func() {
		k.Helper()
		_, _, err := k.issueFor(u, epoch, "")
		k.wantErr(err, want)
	})
}

var subjects = []clause{
	{"a subject is made once, and found by its owner only", func(k *kit) {
		s, other, e := k.aService("a"), k.aService("b"), k.epoch()
		u := k.newSubject(s, "1")
		d, revoked, err := k.issueFor(u, e.Number, "install")
		k.must(err)
		k.equal("revoked", len(revoked), 0)
		got, err := k.s.Subject(k.Context(), s.ID, "1")
		k.must(err)
		k.equal("user", got, u)
		k.equal("device's user", d.UserID, u.ID)
		again, revoked, err := k.issueFor(u, e.Number, "install")
		k.must(err)
		k.equal("same install, same device", again.ID, d.ID)
		k.equal("replaced", k.keys(revoked), rootKeys(d))
		k.equal("audit", k.events()[3:], []string{"minted", "minted"})
		k.user("local") // of no owner, and no subject
		for owner, subject := range map[string]string{other.ID: "1", s.ID: "2", "": ""} {
			_, err := k.s.Subject(k.Context(), owner, subject)
			k.wantErr(err, storage.ErrNotFound)
		}
	}},
	{"the same subject of two services is two users", func(k *kit) {
		s, other, e := k.aService("a"), k.aService("b"), k.epoch()
		k.issueSubject(s, "1", e.Number)
		k.issueSubject(other, "1", e.Number)
		for _, owner := range []string{s.ID, other.ID} {
			all, err := k.s.Subjects(k.Context(), owner, "", 10)
			k.must(err)
			k.equal("subjects", len(all), 1)
		}
	}},
	{"a subject that another id has is ErrNameTaken, and nobody's id is taken over", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		k.issueSubject(s, "1", e.Number)
		k.notIssued(k.newSubject(s, "1"), e.Number, storage.ErrNameTaken)
		local := k.user("local")
		u := k.newSubject(s, "2")
		u.ID = local.ID
		k.unchanged(func() {
			if _, _, err := k.issueFor(u, e.Number, ""); err == nil {
				k.Error("a local user's id was issued for")
			}
		})
	}},
	{"one with a role or a password is ErrPrivileged, however it came to it", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		admin, login := k.newSubject(s, "1"), k.newSubject(s, "2")
		admin.Role, login.PasswordHash = "admin", "$argon2id$"
		for _, u := range []storage.User{admin, login} {
			_, err := k.s.CreateUser(k.Context(), u, nil, nil, event("user_added", T0))
			k.must(err)
			k.notIssued(u, e.Number, storage.ErrPrivileged)
		}
	}},
	{"no service, no subject", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		u := k.newSubject(s, "1")
		k.notIssued(k.newSubject(storage.Service{}, ""), e.Number, storage.ErrServiceGone)
		k.removeService(s.ID)
		k.notIssued(u, e.Number, storage.ErrServiceGone)
	}},
	{"a refused device leaves no user behind", func(k *kit) {
		s := k.aService("a")
		old := k.epoch()
		k.epoch()
		k.notIssued(k.newSubject(s, "1"), old.Number, storage.ErrEpochNotSigning)
		_, err := k.s.Subject(k.Context(), s.ID, "1")
		k.wantErr(err, storage.ErrNotFound)
	}},
	{"a name that is given replaces the former, and moves the revision", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		u, local := k.newSubject(s, "1"), k.user("local")
		_, _, err := k.issueFor(u, e.Number, "")
		k.must(err)
		before := k.state().Revision
		for _, name := range []string{"", u.Name} {
			u.Name = name
			_, _, err = k.issueFor(u, e.Number, "")
			k.must(err)
			k.equal("revision", k.state().Revision, before)
		}
		u.Name = "a:another"
		_, _, err = k.issueFor(u, e.Number, "")
		k.must(err)
		got, err := k.s.Subject(k.Context(), s.ID, "1")
		k.must(err)
		k.equal("user", got, u)
		other, err := k.s.User(k.Context(), local.ID)
		k.must(err)
		k.equal("somebody else", other, local)
		if k.state().Revision <= before {
			k.Error("the revision did not move")
		}
	}},
	{"subjects are listed in order, a page at a time", func(k *kit) {
		s, other, e := k.aService("a"), k.aService("b"), k.epoch()
		for _, subject := range []string{"c", "a", "B", "b"} {
			k.issueSubject(s, subject, e.Number)
		}
		k.issueSubject(other, "d", e.Number)
		k.user("local")
		var got []string
		for after := ""; ; {
			page, err := k.s.Subjects(k.Context(), s.ID, after, 3)
			k.must(err)
			for _, u := range page {
				got = append(got, u.Subject)
			}
			if len(page) < 3 {
				break
			}
			after = page[2].Subject
		}
		k.equal("subjects", got, []string{"B", "a", "b", "c"})
		local, err := k.s.Subjects(k.Context(), "", "", 10)
		k.must(err)
		k.equal("of nobody", len(local), 0)
	}},
	{"a subject that was deleted is somebody else when it comes again", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		u := k.newSubject(s, "1")
		_, _, err := k.issueFor(u, e.Number, "")
		k.must(err)
		_, err = k.s.DeleteUser(k.Context(), storage.DeleteUser{UserID: u.ID}, event("deleted", T0))
		k.must(err)
		k.notIssued(u, e.Number, storage.ErrNameTaken) // by a mint that had looked it up before
		_, _, err = k.issueFor(k.newSubject(s, "1"), e.Number, "")
		k.must(err)
	}},
	{"a subject never has recovery codes", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		d := k.issueSubject(s, "1", e.Number)
		k.unchanged(func() {
			_, err := k.s.ReplaceRecoveryCodes(k.Context(), d.UserID, [][32]byte{hash32(1)}, nil, event("codes_replaced", T0))
			k.wantErr(err, storage.ErrOwned)
		})
	}},
	{"a subject never has a password", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		d := k.issueSubject(s, "1", e.Number)
		k.unchanged(func() {
			_, err := k.s.SetPassword(k.Context(), storage.SetPassword{UserID: d.UserID, Hash: "h"}, event("password_set", T0))
			k.wantErr(err, storage.ErrOwned)
		})
	}},
	{"the owner suspends and resumes", func(k *kit) {
		s, other, e := k.aService("a"), k.aService("b"), k.epoch()
		u := k.newSubject(s, "1")
		d, _, err := k.issueFor(u, e.Number, "")
		k.must(err)
		k.unchanged(func() {
			_, err := k.s.SuspendSubject(k.Context(), other.ID, "1", event("user_suspended", T0))
			k.wantErr(err, storage.ErrNotFound)
			k.wantErr(k.s.ResumeSubject(k.Context(), other.ID, "1", event("user_resumed", T0)), storage.ErrNotFound)
			k.must(k.s.ResumeSubject(k.Context(), s.ID, "1", event("user_resumed", T0)))
		})
		revoked, err := k.s.SuspendSubject(k.Context(), s.ID, "1", event("user_suspended", T0))
		k.must(err)
		k.equal("revoked", k.keys(revoked), rootKeys(d))
		k.equal("event's user", k.entries()[len(k.entries())-1].UserID, u.ID)
		k.unchanged(func() {
			_, err := k.s.SuspendSubject(k.Context(), s.ID, "1", event("user_suspended", T0))
			k.must(err)
		})
		u.Name = "a:renamed"
		k.notIssued(u, e.Number, storage.ErrSuspended)
		k.must(k.s.ResumeSubject(k.Context(), s.ID, "1", event("user_resumed", T0)))
		k.equal("event's user", k.entries()[len(k.entries())-1].UserID, u.ID)
		_, _, err = k.issueFor(u, e.Number, "")
		k.must(err)
	}},
	{"what a token asks for ends with the token's epoch", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		u := k.newSubject(s, "1")
		in := k.asking(u, k.epoch().Number, "", T0)
		in.AskedIn = e.Number
		_, _, err := k.s.IssueSubject(k.Context(), u, in, event("minted", T0))
		k.must(err)
		_, err = k.retire(e.Number, event("retired", T0))
		k.must(err)
		in = k.asking(u, in.RootKey.Epoch, "", T0)
		in.AskedIn = e.Number
		k.unchanged(func() {
			_, _, err := k.s.IssueSubject(k.Context(), u, in, event("minted", T0))
			k.wantErr(err, storage.ErrRevoked)
		})
	}},
	{"the owner does not undo what an administrator did", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		u := k.newSubject(s, "1")
		_, _, err := k.issueFor(u, e.Number, "")
		k.must(err)
		k.issueSubject(s, "2", e.Number)
		_, err = k.s.SuspendSubject(k.Context(), s.ID, "2", event("user_suspended", T0))
		k.must(err)
		resume := func() error {
			return k.s.ResumeSubject(k.Context(), s.ID, "1", event("user_resumed", T0.Add(time.Second)))
		}
		for range 2 { // first of a user that is well, then of one that the owner suspended
			entries := len(k.entries())
			_, err = k.s.SuspendUser(k.Context(), u.ID, event("user_suspended", T0))
			k.must(err)
			k.equal("audit", k.events()[entries:], []string{"user_suspended"})
			k.unchanged(func() { k.wantErr(resume(), storage.ErrSuspended) })
			k.unchanged(func() {
				_, err := k.s.SuspendSubject(k.Context(), s.ID, "1", event("user_suspended", T0))
				k.must(err)
			})
			k.unchanged(func() { k.wantErr(resume(), storage.ErrSuspended) })
			k.must(k.s.ResumeUser(k.Context(), u.ID, event("user_resumed", T0)))
			_, err = k.s.SuspendSubject(k.Context(), s.ID, "1", event("user_suspended", T0))
			k.must(err)
		}
		k.must(resume())
		k.must(k.s.ResumeSubject(k.Context(), s.ID, "2", event("user_resumed", T0))) // which is the owner's own still
	}},
}
