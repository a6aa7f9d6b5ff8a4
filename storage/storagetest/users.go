package storagetest

import (
	"time"

	"macaroond/storage"
)

var users = []clause{
	{"a user comes back as stored", func(k *kit) {
		u := k.newUser("Zoë")
		u.Role = "admin"
		_, err := k.s.CreateUser(k.Context(), u, nil, nil, event("signup", T0))
		k.must(err)
		byID, err := k.s.User(k.Context(), u.ID)
		k.must(err)
		k.equal("by id", byID, u)
		byName, err := k.s.UserByNameKey(k.Context(), u.NameKey)
		k.must(err)
		k.equal("by name", byName, u)
		k.equal("audit", k.events(), []string{"signup"})
	}},
	{"times are whole milliseconds in UTC", func(k *kit) {
		u := k.newUser("a")
		u.CreatedAt = T0.Add(999 * time.Microsecond).In(time.FixedZone("", 3600))
		_, err := k.s.CreateUser(k.Context(), u, nil, nil, event("signup", T0))
		k.must(err)
		got, err := k.s.User(k.Context(), u.ID)
		k.must(err)
		k.equal("created at", got.CreatedAt, T0)
	}},
	{"unknown users are ErrNotFound", func(k *kit) {
		_, err := k.s.User(k.Context(), "usr_nobody")
		k.wantErr(err, storage.ErrNotFound)
		_, err = k.s.UserByNameKey(k.Context(), "nobody")
		k.wantErr(err, storage.ErrNotFound)
		k.unchanged(func() {
			_, err = k.s.SetPassword(k.Context(), storage.SetPassword{UserID: "usr_nobody", Hash: "h", Revoke: true}, event("password", T0))
			k.wantErr(err, storage.ErrNotFound)
			_, err = k.s.SuspendUser(k.Context(), "usr_nobody", event("suspended", T0))
			k.wantErr(err, storage.ErrNotFound)
			k.wantErr(k.s.ResumeUser(k.Context(), "usr_nobody", event("resumed", T0)), storage.ErrNotFound)
		})
	}},
	{"from an id on there is somebody with a password, if anybody has one", func(k *kit) {
		_, err := k.s.PasswordFrom(k.Context(), "usr_A")
		k.wantErr(err, storage.ErrNotFound)
		add := func(id, hash string) {
			u := k.newUser(id)
			u.ID, u.PasswordHash = id, hash
			_, err := k.s.CreateUser(k.Context(), u, nil, nil, event("signup", T0))
			k.must(err)
		}
		add("usr_BAAAAAAAAAAAAAAA", "")
		_, err = k.s.PasswordFrom(k.Context(), "usr_A")
		k.wantErr(err, storage.ErrNotFound)
		add("usr_CAAAAAAAAAAAAAAA", "c")
		add("usr_EAAAAAAAAAAAAAAA", "e")
		for _, row := range [][2]string{
			{"", "c"}, {"usr_B", "c"}, {"usr_CAAAAAAAAAAAAAAA", "c"}, {"usr_CAAAAAAAAAAAAAAB", "e"}, {"usr_D", "e"}, {"usr_F", "c"},
		} {
			got, err := k.s.PasswordFrom(k.Context(), row[0])
			k.must(err)
			k.equal("from "+row[0], got, row[1])
		}
	}},
	{"a name key is taken once", func(k *kit) {
		u := k.user("a")
		other := k.newUser("A")
		other.NameKey = u.NameKey
		k.unchanged(func() {
			_, err := k.s.CreateUser(k.Context(), other, [][32]byte{hash32(1)}, nil, event("signup", T0))
			k.wantErr(err, storage.ErrNameTaken)
		})
		_, err := k.s.User(k.Context(), other.ID)
		k.wantErr(err, storage.ErrNotFound)
	}},
	{"users are listed by name key in pages", func(k *kit) {
		c, a, b := k.user("c"), k.user("a"), k.user("b")
		first, err := k.s.Users(k.Context(), "", 2)
		k.must(err)
		k.equal("first page", first, []storage.User{a, b})
		rest, err := k.s.Users(k.Context(), b.NameKey, 2)
		k.must(err)
		k.equal("second page", rest, []storage.User{c})
	}},
	{"a user is created with the first device, all or nothing", func(k *kit) {
		e := k.epoch()
		u := k.newUser("a")
		in := k.asking(storage.User{}, e.Number, "install", T0)
		d, err := k.s.CreateUser(k.Context(), u, nil, &in, event("signup", T0))
		k.must(err)
		got, err := k.s.Device(k.Context(), u.ID, in.Device.ID)
		k.must(err)
		k.equal("device", got, d)
		k.equal("owner", d.UserID, u.ID)
		last := k.entries()[1]
		k.equal("device of the event", last.DeviceID, d.ID)
		k.equal("root key of the event", *last.RootKeyID, d.RootKeyID)

		u2 := k.newUser("b")
		in2 := k.asking(u2, e.Number+1, "", T0)
		k.unchanged(func() {
			_, err = k.s.CreateUser(k.Context(), u2, nil, &in2, event("signup", T0))
			k.wantErr(err, storage.ErrEpochNotSigning)
		})
		_, err = k.s.User(k.Context(), u2.ID)
		k.wantErr(err, storage.ErrNotFound)
	}},
	{"without a first device none is returned", func(k *kit) {
		d, err := k.s.CreateUser(k.Context(), k.newUser("a"), nil, nil, event("signup", T0))
		k.must(err)
		k.equal("device", d, storage.Device{})
	}},
	{"a user with a role moves the revision, one without does not", func(k *kit) {
		before := k.state().Revision
		k.user("a")
		k.equal("revision", k.state().Revision, before)
		u := k.newUser("b")
		u.Role = "admin"
		_, err := k.s.CreateUser(k.Context(), u, nil, nil, event("signup", T0))
		k.must(err)
		if k.state().Revision <= before {
			k.Fatal("the revision stands still")
		}
	}},
	{"a password is replaced and nothing else", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		k.device(u, e.Number, T0)
		other := "other"
		k.unchanged(func() {
			_, err := k.s.SetPassword(k.Context(), storage.SetPassword{UserID: u.ID, Hash: "new", Was: &other}, event("password", T0))
			k.wantErr(err, storage.ErrPasswordChanged)
		})
		revoked, err := k.s.SetPassword(k.Context(), storage.SetPassword{UserID: u.ID, Hash: "new", Was: &u.PasswordHash}, event("password", T0))
		k.must(err)
		k.equal("revoked", len(revoked), 0)
		u.PasswordHash = "new"
		got, err := k.s.User(k.Context(), u.ID)
		k.must(err)
		k.equal("user", got, u)
		k.equal("list", len(k.list(0)), 0)
		k.equal("audit", k.events(), []string{"epoch_created", "signup", "login", "password"})
	}},
	{"a password change revokes all devices when asked", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		a, b := k.device(u, e.Number, T0), k.device(u, e.Number, T0.Add(time.Second))
		other := k.device(k.user("b"), e.Number, T0)
		revoked, err := k.s.SetPassword(k.Context(), storage.SetPassword{UserID: u.ID, Hash: "new", Revoke: true}, event("password", T0.Add(time.Minute)))
		k.must(err)
		k.equal("revoked", k.keys(revoked), rootKeys(a, b))
		k.equal("list", k.list(0), revoked)
		got, err := k.s.Device(k.Context(), u.ID, a.ID)
		k.must(err)
		k.equal("reason", got.RevokedReason, "password changed")
		k.equal("revoked at", got.RevokedAt, T0.Add(time.Minute))
		got, err = k.s.Device(k.Context(), other.UserID, other.ID)
		k.must(err)
		k.equal("another user's device", got, other)
	}},
	{"a suspension revokes everything and refuses login", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		revoked, err := k.s.SuspendUser(k.Context(), u.ID, event("suspended", T0.Add(time.Minute)))
		k.must(err)
		k.equal("revoked", k.keys(revoked), rootKeys(d))
		k.equal("list", k.list(0), revoked)
		got, err := k.s.User(k.Context(), u.ID)
		k.must(err)
		k.equal("suspended at", got.SuspendedAt, T0.Add(time.Minute))
		k.unchanged(func() {
			_, _, err := k.s.IssueDevice(k.Context(), k.asking(u, e.Number, "", T0), event("login", T0))
			k.wantErr(err, storage.ErrSuspended)
		})
	}},
	{"suspending a suspended user changes nothing", func(k *kit) {
		u := k.user("a")
		_, err := k.s.SuspendUser(k.Context(), u.ID, event("suspended", T0))
		k.must(err)
		k.unchanged(func() {
			revoked, err := k.s.SuspendUser(k.Context(), u.ID, event("suspended", T0.Add(time.Hour)))
			k.must(err)
			k.equal("revoked", len(revoked), 0)
		})
		got, err := k.s.User(k.Context(), u.ID)
		k.must(err)
		k.equal("suspended at", got.SuspendedAt, T0)
	}},
	{"resuming lets log in again and brings no device back", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		_, err := k.s.SuspendUser(k.Context(), u.ID, event("suspended", T0))
		k.must(err)
		k.must(k.s.ResumeUser(k.Context(), u.ID, event("resumed", T0)))
		got, err := k.s.User(k.Context(), u.ID)
		k.must(err)
		k.equal("user", got, u)
		old, err := k.s.Device(k.Context(), u.ID, d.ID)
		k.must(err)
		if old.RevokedAt.IsZero() {
			k.Fatal("the device is live again")
		}
		k.equal("list", k.keys(k.list(0)), rootKeys(d))
		k.device(u, e.Number, T0.Add(time.Minute))
	}},
	{"resuming a user who is not suspended changes nothing", func(k *kit) {
		u := k.user("a")
		k.unchanged(func() { k.must(k.s.ResumeUser(k.Context(), u.ID, event("resumed", T0))) })
	}},
}
