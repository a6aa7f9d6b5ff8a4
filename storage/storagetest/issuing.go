package storagetest

import (
	"time"

	"macaroond/storage"
)

// refused checks that a request for a device fails and leaves nothing behind.
func (k *kit) refused(in storage.IssueDevice, want error) {
	k.Helper()
	k.unchanged(func() {
		k.Helper()
		before, err := k.s.Devices(k.Context(), in.UserID)
		k.must(err)
		_, _, err = k.s.IssueDevice(k.Context(), in, event("login", T0))
		k.wantErr(err, want)
		after, err := k.s.Devices(k.Context(), in.UserID)
		k.must(err)
		k.equal("devices", after, before)
	})
}

var issuing = []clause{
	{"an unknown user is ErrNotFound", func(k *kit) {
		e := k.epoch()
		k.refused(k.asking(storage.User{ID: "usr_nobody"}, e.Number, "", T0), storage.ErrNotFound)
	}},
	{"only the signing epoch mints", func(k *kit) {
		old, e, u := k.epoch(), k.epoch(), k.user("a")
		k.refused(k.asking(u, old.Number, "", T0), storage.ErrEpochNotSigning)
		k.refused(k.asking(u, e.Number+1, "", T0), storage.ErrEpochNotSigning)
		_, err := k.retire(e.Number, event("epoch_retired", T0))
		k.must(err)
		k.refused(k.asking(u, e.Number, "", T0), storage.ErrEpochNotSigning)
	}},
	{"only a right code learns that the user is suspended, and is not spent", func(k *kit) {
		e := k.epoch()
		u := k.newUser("a")
		code, wrong := [32]byte{1}, [32]byte{2}
		_, err := k.s.CreateUser(k.Context(), u, [][32]byte{code}, nil, event("signup", T0))
		k.must(err)
		_, err = k.s.SuspendUser(k.Context(), u.ID, event("user_suspended", T0))
		k.must(err)
		in := k.asking(u, e.Number, "", T0)
		in.RecoveryCode = &wrong
		k.refused(in, storage.ErrCodeUnknown)
		in.RecoveryCode = &code
		k.refused(in, storage.ErrSuspended)
		k.must(k.s.ResumeUser(k.Context(), u.ID, event("user_resumed", T0)))
		k.issue(in)
	}},
	{"a password that was changed meanwhile logs nobody in", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		in := k.asking(u, e.Number, "", T0)
		in.PasswordHash = &u.PasswordHash
		k.issue(in)
		_, err := k.s.SetPassword(k.Context(), storage.SetPassword{UserID: u.ID, Hash: "another hash"}, event("password_set", T0))
		k.must(err)
		again := k.asking(u, e.Number, "", T0)
		again.PasswordHash = &u.PasswordHash
		k.refused(again, storage.ErrPasswordChanged)
	}},
	{"the event gets the device and the root key", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		last := k.entries()[2]
		k.equal("type", last.Type, "login")
		k.equal("device", last.DeviceID, d.ID)
		k.equal("root key", *last.RootKeyID, d.RootKeyID)
		k.equal("user is the caller's to fill in", last.UserID, "")
	}},
	{"the epoch knows its latest expiry", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		if !e.ExpiresAt.IsZero() {
			k.Fatal("a new epoch has an expiry")
		}
		k.device(u, e.Number, T0.Add(time.Hour))
		k.device(u, e.Number, T0)
		all, err := k.s.Epochs(k.Context())
		k.must(err)
		k.equal("expires at", all[0].ExpiresAt, T0.Add(2*time.Hour))
	}},
	{"the same install keeps its device and replaces its key", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d, _ := k.issue(k.asking(u, e.Number, "install", T0))
		again := k.asking(u, e.Number, "install", T0.Add(time.Minute))
		got, revoked := k.issue(again)
		k.equal("id", got.ID, d.ID)
		k.equal("name", got.Name, again.Device.Name)
		k.equal("root key", got.RootKeyID, again.RootKey.ID)
		k.equal("expires at", got.ExpiresAt, again.RootKey.ExpiresAt)
		k.equal("created at", got.CreatedAt, T0)
		k.equal("last seen at", got.LastSeenAt, T0.Add(time.Minute))
		k.equal("revoked at", got.RevokedAt, time.Time{})
		k.equal("revoked", revoked, []storage.Revocation{{Seq: 1, Grain: storage.GrainDevice, RootKeyID: d.RootKeyID, ExpiresAt: d.ExpiresAt.Add(storage.ClockSkew)}})
		all, err := k.s.Devices(k.Context(), u.ID)
		k.must(err)
		k.equal("devices", all, []storage.Device{got})
		last := k.entries()[3]
		k.equal("device of the event", last.DeviceID, d.ID)
		k.equal("root key of the event", *last.RootKeyID, again.RootKey.ID)
	}},
	{"an install is its user's own", func(k *kit) {
		e := k.epoch()
		k.issue(k.asking(k.user("a"), e.Number, "install", T0))
		_, revoked := k.issue(k.asking(k.user("b"), e.Number, "install", T0))
		k.equal("revoked", len(revoked), 0)
	}},
	{"a revoked device's install begins a new device", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d, _ := k.issue(k.asking(u, e.Number, "install", T0))
		_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, Reason: "owner"}, event("device_revoked", T0))
		k.must(err)
		got, revoked := k.issue(k.asking(u, e.Number, "install", T0.Add(time.Minute)))
		if got.ID == d.ID || len(revoked) != 0 {
			k.Fatalf("device %+v, revoked %v", got, revoked)
		}
	}},
	{"above the limit go those without install, idle longest first", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		installed, _ := k.issue(k.asking(u, e.Number, "install", T0))
		busy := k.device(u, e.Number, T0.Add(time.Second))
		idle := k.device(u, e.Number, T0.Add(2*time.Second))
		k.must(k.s.TouchDevices(k.Context(), []storage.Sighting{{DeviceID: busy.ID, Last: T0.Add(time.Minute)}}))
		for _, want := range []storage.Device{idle, busy, installed} {
			in := k.asking(u, e.Number, want.Name, T0.Add(2*time.Minute)) // with an install each
			in.MaxDevices = 3
			d, revoked := k.issue(in)
			k.equal("evicted", k.keys(revoked), rootKeys(want))
			got, err := k.s.Device(k.Context(), u.ID, want.ID)
			k.must(err)
			k.equal("reason", got.RevokedReason, "evicted")
			k.equal("the new one", d.RevokedAt, time.Time{})
		}
	}},
	{"a login from an install that is there evicts nobody", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		for i, install := range []string{"one", "two", "one", "two"} {
			in := k.asking(u, e.Number, install, T0)
			in.MaxDevices = []int{2, 2, 1, 1}[i] // it was lowered meanwhile
			k.issue(in)
		}
		all, err := k.s.Devices(k.Context(), u.ID)
		k.must(err)
		k.equal("devices", len(all), 2)
		for _, d := range all {
			k.equal("revoked at", d.RevokedAt, time.Time{})
		}
	}},
	{"a lowered limit evicts as many as it takes, never the new one", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		a, b := k.device(u, e.Number, T0), k.device(u, e.Number, T0.Add(time.Second))
		in := k.asking(u, e.Number, "", T0.Add(-time.Hour))
		in.MaxDevices = 1
		d, revoked, err := k.s.IssueDevice(k.Context(), in, event("login", T0))
		k.must(err)
		k.equal("evicted", k.keys(revoked), rootKeys(a, b))
		k.equal("the new one", d.RevokedAt, time.Time{})
	}},
	{"no more revoked devices are listed than may live, the latest", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		var all []storage.Device
		for i := range 5 {
			at := T0.Add(time.Duration(i) * time.Minute)
			in := k.asking(u, e.Number, "", at)
			in.MaxDevices = 2
			d, _ := k.issue(in)
			all = append(all, d)
		}
		got, err := k.s.Devices(k.Context(), u.ID)
		k.must(err)
		k.equal("listed", ids(got), []string{all[4].ID, all[3].ID, all[2].ID, all[1].ID})
		k.equal("list", k.keys(k.list(0)), rootKeys(all[:3]...))
	}},
	{"a recovery code works once, for its user, and revokes all others", func(k *kit) {
		e, u, other := k.epoch(), k.user("a", hash32(1), hash32(2)), k.user("b", hash32(3))
		a, b := k.device(u, e.Number, T0), k.device(u, e.Number, T0.Add(time.Second))
		with := func(n uint64) storage.IssueDevice {
			in := k.asking(u, e.Number, "", T0.Add(time.Minute))
			code := hash32(n)
			in.RecoveryCode = &code
			return in
		}
		k.refused(with(3), storage.ErrCodeUnknown)
		d, revoked := k.issue(with(1))
		k.equal("revoked", k.keys(revoked), rootKeys(a, b))
		got, err := k.s.Device(k.Context(), u.ID, a.ID)
		k.must(err)
		k.equal("reason", got.RevokedReason, "recovery")
		k.refused(with(1), storage.ErrCodeUnknown)
		_, revoked = k.issue(with(2))
		k.equal("revoked by the second", k.keys(revoked), rootKeys(d))
		in := with(3)
		in.UserID = other.ID
		k.issue(in)
	}},
	{"recovery from the same install keeps the device and revokes the others", func(k *kit) {
		e, u := k.epoch(), k.user("a", hash32(1))
		mine, _ := k.issue(k.asking(u, e.Number, "install", T0))
		other := k.device(u, e.Number, T0)
		in := k.asking(u, e.Number, "install", T0.Add(time.Minute))
		code := hash32(1)
		in.RecoveryCode = &code
		d, revoked := k.issue(in)
		k.equal("id", d.ID, mine.ID)
		k.equal("live", d.RevokedAt, time.Time{})
		k.equal("revoked", k.keys(revoked), rootKeys(mine, other))
	}},
	{"a failed login keeps the recovery code", func(k *kit) {
		e, u := k.epoch(), k.user("a", hash32(1))
		in := k.asking(u, e.Number+1, "", T0)
		code := hash32(1)
		in.RecoveryCode = &code
		k.refused(in, storage.ErrEpochNotSigning)
		in.RootKey.Epoch = e.Number
		k.issue(in)
	}},
}
