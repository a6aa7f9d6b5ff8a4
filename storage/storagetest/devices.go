package storagetest

import (
	"time"

	"macaroond/storage"
)

var devices = []clause{
	{"a device comes back as returned", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		in := k.asking(u, e.Number, "install", T0)
		d, _ := k.issue(in)
		want := in.Device
		want.UserID, want.RootKeyID, want.LastSeenAt, want.ExpiresAt = u.ID, in.RootKey.ID, T0, in.RootKey.ExpiresAt
		want.StartedAt = T0
		k.equal("returned", d, want)
		got, err := k.s.Device(k.Context(), u.ID, d.ID)
		k.must(err)
		k.equal("stored", got, want)
	}},
	{"devices are listed newest first, revoked ones too", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		a, b := k.device(u, e.Number, T0), k.device(u, e.Number, T0.Add(time.Second))
		k.device(k.user("b"), e.Number, T0)
		_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, DeviceID: a.ID, Reason: "owner"}, event("device_revoked", T0.Add(time.Minute)))
		k.must(err)
		all, err := k.s.Devices(k.Context(), u.ID)
		k.must(err)
		k.equal("ids", ids(all), []string{b.ID, a.ID})
		k.equal("the live one", all[0], b)
		a.RevokedAt, a.RevokedReason = T0.Add(time.Minute), "owner"
		k.equal("the revoked one", all[1], a)
	}},
	{"a device is revoked only under the root key that was meant", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		other := [16]byte{1}
		in := storage.RevokeDevices{UserID: u.ID, DeviceID: d.ID, RootKeyID: &other, Reason: "token"}
		k.unchanged(func() {
			revoked, err := k.s.RevokeDevices(k.Context(), in, event("device_revoked", T0))
			k.must(err)
			k.equal("revoked", len(revoked), 0)
		})
		in.RootKeyID = &d.RootKeyID
		revoked, err := k.s.RevokeDevices(k.Context(), in, event("device_revoked", T0))
		k.must(err)
		k.equal("revoked", len(revoked), 1)
	}},
	{"nobody has no devices", func(k *kit) {
		all, err := k.s.Devices(k.Context(), "usr_nobody")
		k.must(err)
		k.equal("devices", len(all), 0)
	}},
	{"somebody else's device is ErrNotFound", func(k *kit) {
		e := k.epoch()
		d, other := k.device(k.user("a"), e.Number, T0), k.user("b")
		for _, id := range []string{d.ID, "dev_nobody"} {
			_, err := k.s.Device(k.Context(), other.ID, id)
			k.wantErr(err, storage.ErrNotFound)
			k.unchanged(func() {
				_, err = k.s.RenameDevice(k.Context(), other.ID, id, "mine", event("device_renamed", T0))
				k.wantErr(err, storage.ErrNotFound)
				_, err = k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: other.ID, DeviceID: id, Reason: "owner"}, event("device_revoked", T0))
				k.wantErr(err, storage.ErrNotFound)
			})
		}
		got, err := k.s.Device(k.Context(), d.UserID, d.ID)
		k.must(err)
		k.equal("device", got, d)
	}},
	{"a device is renamed, a revoked one is not", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d, other := k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		got, err := k.s.RenameDevice(k.Context(), u.ID, d.ID, "new name", event("device_renamed", T0))
		k.must(err)
		d.Name = "new name"
		k.equal("returned", got, d)
		got, err = k.s.Device(k.Context(), u.ID, other.ID)
		k.must(err)
		k.equal("the other", got, other)
		_, err = k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, Reason: "owner"}, event("device_revoked", T0))
		k.must(err)
		k.unchanged(func() {
			_, err = k.s.RenameDevice(k.Context(), u.ID, d.ID, "again", event("device_renamed", T0))
			k.wantErr(err, storage.ErrNotFound)
		})
	}},
	{"last seen moves forward only, and for live devices only", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d, gone := k.device(u, e.Number, T0), k.device(u, e.Number, T0)
		_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, DeviceID: gone.ID, Reason: "owner"}, event("device_revoked", T0))
		k.must(err)
		k.unchanged(func() {
			for _, step := range []struct{ at, want time.Time }{
				{T0.Add(time.Minute), T0.Add(time.Minute)},
				{T0.Add(time.Second), T0.Add(time.Minute)},
				{T0.Add(time.Hour), T0.Add(time.Hour)},
			} {
				k.must(k.s.TouchDevices(k.Context(), []storage.Sighting{{DeviceID: d.ID, Last: step.at}, {DeviceID: gone.ID, Last: step.at}, {DeviceID: "dev_nobody", Last: step.at}}))
				got, err := k.s.Device(k.Context(), u.ID, d.ID)
				k.must(err)
				k.equal("last seen", got.LastSeenAt, step.want)
			}
			k.must(k.s.TouchDevices(k.Context(), nil))
		})
		got, err := k.s.Device(k.Context(), u.ID, gone.ID)
		k.must(err)
		k.equal("last seen of the revoked one", got.LastSeenAt, T0)
	}},
}
