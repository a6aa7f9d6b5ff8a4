package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"macaroond/storage"
)

// restored begins a new history with the tokens of the former.
func (k *kit) restored(at time.Time) {
	k.Helper()
	_, err := k.s.Restored(k.Context(), true, event("restored", at))
	k.must(err)
}

// lostEnd is when the last token of the history that was lost at a time may expire.
func lostEnd(at time.Time) time.Time { return at.Add(storage.MaxRootTTL + storage.ClockSkew) }

var restore = []clause{
	{"a new history has a new name and keeps its list", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		_, err := k.s.RevokeDevices(k.Context(), storage.RevokeDevices{UserID: u.ID, Reason: "owner"}, event("device_revoked", T0))
		k.must(err)
		before, list := k.state(), k.list(0)
		st, err := k.s.Restored(k.Context(), true, event("restored", T0))
		k.must(err)
		k.equal("state", k.state(), st)
		if st.Generation == before.Generation || st.Revision <= before.Revision {
			k.Fatalf("state %+v after %+v", st, before)
		}
		k.equal("list", k.list(0), list)
		k.equal("epochs", k.epochs()[0].State, storage.EpochSigning)
		k.equal("device", d.RootKeyID, list[0].RootKeyID)
		all := k.events()
		k.equal("event", all[len(all)-1], "restored")
	}},
	{"where there are no more epoch numbers none is given again", func(k *kit) {
		k.epoch()
		_, err := k.s.Restored(k.Context(), true, event("restored", time.Unix(1<<33, 0)))
		k.must(err)
		k.unchanged(func() {
			_, err := k.s.CreateEpoch(k.Context(), false, sealed, event("epoch_created", T0))
			if _, ok := errors.AsType[*storage.UnavailableError](err); !ok {
				k.Fatalf("error %v", err)
			}
		})
	}},
	{"without the tokens every epoch is retired", func(k *kit) {
		k.epoch()
		retired := k.epoch()
		_, err := k.retire(retired.Number, event("epoch_retired", T0))
		k.must(err)
		k.epoch()
		before := k.state()
		st, err := k.s.Restored(k.Context(), false, event("restored", T0))
		k.must(err)
		k.equal("sequence", st.Sequence, before.Sequence+3)
		listed := map[uint32]bool{}
		for _, r := range k.list(0) {
			k.equal("grain", r.Grain, storage.GrainEpoch)
			listed[r.Epoch] = true
		}
		for _, e := range k.epochs() {
			if e.State != storage.EpochRetired || len(e.Sealed) != 0 || !listed[e.Number] {
				k.Fatalf("epoch %+v, listed: %v", e, listed[e.Number])
			}
		}
	}},
	{"no number is given out before its second, by which the next restore goes", func(k *kit) {
		k.epoch()
		_, err := k.s.Restored(k.Context(), true, event("restored", T0))
		k.must(err)
		for _, how := range []string{"rotated", "retired", "all retired"} {
			before := k.signing()
			switch how {
			case "rotated":
				k.epoch()
			case "retired":
				_, err = k.retire(before.Number, event("epoch_retired", before.CreatedAt))
			default:
				_, err = k.s.RetireEpochs(k.Context(), storage.RetireEpochs{All: true, Seal: sealed, Begun: event("epoch_created", before.CreatedAt)}, event("epoch_retired", before.CreatedAt))
			}
			k.must(err)
			next := k.signing()
			if next.Number <= before.Number || next.CreatedAt.Unix() < int64(next.Number) {
				k.Fatalf("%s: number %d at %d, after %d", how, next.Number, next.CreatedAt.Unix(), before.Number)
			}
			all := k.entries()
			k.equal("in the audit", all[len(all)-1].Time.Before(next.CreatedAt), false)
		}
		ctx, cancel := context.WithTimeout(k.Context(), 50*time.Millisecond)
		defer cancel()
		k.unchanged(func() {
			_, err = k.s.CreateEpoch(ctx, false, sealed, event("epoch_created", k.signing().CreatedAt))
			k.wantErr(err, context.DeadlineExceeded)
		})
	}},
	{"numbers given out later are above the time in seconds", func(k *kit) {
		k.epoch()
		_, err := k.s.Restored(k.Context(), false, event("restored", T0))
		k.must(err)
		first := k.epoch().Number
		if int64(first) <= T0.Unix() {
			k.Fatalf("number %d, time %d", first, T0.Unix())
		}
		// Clock set back: numbers still grow.
		_, err = k.s.Restored(k.Context(), false, event("restored", T0.Add(-time.Hour)))
		k.must(err)
		if next := k.epoch().Number; next <= first {
			k.Fatalf("number %d after %d", next, first)
		}
	}},
	{"with the tokens, whatever ends a root key ends what was renewed in the lost history", func(k *kit) {
		e, s := k.epoch(), k.aService("s")
		at := T0.Add(20 * minute)
		revoke := storage.RevokeDevices{Reason: "owner"}
		for _, w := range []struct {
			how string
			end func(u storage.User, d storage.Device) ([]storage.Revocation, error)
		}{
			{"one", func(u storage.User, d storage.Device) ([]storage.Revocation, error) {
				in := revoke
				in.UserID, in.DeviceID = u.ID, d.ID
				return k.s.RevokeDevices(k.Context(), in, event("revoked", at))
			}},
			{"by the root that was presented", func(u storage.User, d storage.Device) ([]storage.Revocation, error) {
				in := revoke
				in.UserID, in.DeviceID, in.RootKeyID, in.ExpiresAt = u.ID, d.ID, &d.RootKeyID, d.ExpiresAt.Add(time.Hour)
				return k.s.RevokeDevices(k.Context(), in, event("revoked", at))
			}},
			{"by its root key", func(_ storage.User, d storage.Device) ([]storage.Revocation, error) {
				return k.s.RevokeRootKey(k.Context(), d.RootKeyID, at, event("revoked", at))
			}},
			{"with a proof", func(u storage.User, d storage.Device) ([]storage.Revocation, error) {
				act := k.act(d, "remove", "", at)
				act.DeviceID, act.PasswordHash = "", &u.PasswordHash
				gone, _, err := k.remove(act, "", at)
				return gone, err
			}},
			{"a replacement", func(u storage.User, _ storage.Device) ([]storage.Revocation, error) {
				_, gone := k.issue(k.asking(u, e.Number, "install", at))
				return gone, nil
			}},
			{"an eviction", func(u storage.User, _ storage.Device) ([]storage.Revocation, error) {
				in := k.asking(u, e.Number, "", at)
				in.MaxDevices = 1
				_, gone := k.issue(in)
				return gone, nil
			}},
			{"theft", func(_ storage.User, d storage.Device) ([]storage.Revocation, error) {
				stolen := root{d, e.Number, d.ExpiresAt.Add(-time.Second)}
				got, err := k.present(asks(stolen, e.Number), at)
				return got.Revoked, err
			}},
			{"a password", func(u storage.User, _ storage.Device) ([]storage.Revocation, error) {
				return k.s.SetPassword(k.Context(), storage.SetPassword{UserID: u.ID, Hash: "x", Revoke: true}, event("password_set", at))
			}},
			{"a suspension", func(u storage.User, _ storage.Device) ([]storage.Revocation, error) {
				return k.s.SuspendUser(k.Context(), u.ID, event("suspended", at))
			}},
			{"a deletion", func(u storage.User, _ storage.Device) ([]storage.Revocation, error) {
				return k.s.DeleteUser(k.Context(), storage.DeleteUser{UserID: u.ID}, event("deleted", at))
			}},
		} {
			u := k.user(w.how)
			d, _ := k.issue(k.asking(u, e.Number, "install", T0))
			k.restored(T0.Add(minute))
			gone, err := w.end(u, d)
			k.must(err)
			want := storage.Revocation{Grain: storage.GrainDevice, RootKeyID: d.RootKeyID, ExpiresAt: lostEnd(T0.Add(minute)).Add(storage.ClockSkew)}
			if len(gone) != 1 || gone[0].Seq == 0 {
				k.Fatalf("%s: %+v", w.how, gone)
			}
			want.Seq = gone[0].Seq
			k.equal(w.how, gone[0], want)
		}
		// A service's, though it had minted nothing.
		k.restored(T0)
		revoked := k.removeService(s.ID)
		k.equal("secrets", len(revoked), 2)
		for _, r := range revoked {
			k.equal("a secret's entry", r.ExpiresAt, lostEnd(T0.Add(minute)).Add(storage.ClockSkew))
		}
	}},
	{"with the tokens, a device stays while one of them may live, and with it what holds for it", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		k.addPolicy(k.policy(d.ID, "method GET"))
		k.restored(T0)
		now := k.epoch()
		last := lostEnd(T0).Add(storage.ClockSkew)
		for _, at := range []time.Time{d.ExpiresAt.Add(storage.ClockSkew + time.Second), last} {
			gone := k.expire(storage.Expire{Now: at, Limit: 10})
			k.equal("gone", gone, storage.Expired{Revocations: gone.Revocations}) // the news of the policy
		}
		revoked, err := k.s.SuspendUser(k.Context(), u.ID, event("suspended", last))
		k.must(err)
		k.equal("a suspension reaches", k.keys(revoked), rootKeys(d))
		k.equal("after it", k.expire(storage.Expire{Now: last.Add(time.Millisecond), Limit: 10}),
			storage.Expired{RootKeys: 1, Devices: 1, Epochs: 1, Policies: 1, Revocations: 1})
		k.equal("epochs", k.epochs(), []storage.Epoch{now})
	}},
	{"with the tokens, the epoch that signed lives for as long, and so does the entry that ends it", func(k *kit) {
		former, u := k.epoch(), k.user("a")
		d := k.device(u, former.Number, T0)
		signing := k.epoch()
		k.restored(T0)
		k.epoch()
		for number, want := range map[uint32]time.Time{former.Number: d.ExpiresAt, signing.Number: lostEnd(T0)} {
			r, err := k.retire(number, event("epoch_retired", T0))
			k.must(err)
			k.equal("entry", r.ExpiresAt, want.Add(storage.ClockSkew))
		}
	}},
	{"with the tokens again, by a clock that went back, nothing is forgotten", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		k.restored(T0)
		k.restored(T0.Add(-24 * time.Hour))
		gone, err := k.s.RevokeRootKey(k.Context(), d.RootKeyID, T0, event("revoked", T0))
		k.must(err)
		k.equal("entry", gone[0].ExpiresAt, lostEnd(T0).Add(storage.ClockSkew))
	}},
	{"with the tokens, what is ended stays ended and what is bound stays bound: in any history", func(k *kit) {
		for seed := range uint64(6) {
			k.lost(rand.New(rand.NewPCG(11, seed)))
		}
	}},
}

// lost has the devices of some users renew, some of it in a history that is lost:
// there nothing is told to the store. Afterwards they renew on, are ended in any
// way, and the house is kept. At any time a token that was given out and has not
// expired by a verifier's clock is dead for good once its root key was ended; and
// before that its device's row and policy are there.
func (k *kit) lost(r *rand.Rand) {
	k.Helper()
	const ttl = 30 * 24 * time.Hour
	type device struct {
		storage.Device
		latest time.Time // of its root macaroons, known or not
		ended  bool
	}
	e := k.epoch()
	var users []storage.User
	var all []*device
	now := T0
	for range 3 {
		u := k.user(fmt.Sprint("lost ", k.next()))
		users = append(users, u)
		for range 2 {
			in := k.asking(u, e.Number, "", now)
			in.RootKey.ExpiresAt = seconds(now.Add(ttl))
			d, _ := k.issue(in)
			k.addPolicy(k.policy(d.ID, "method GET"))
			all = append(all, &device{Device: d, latest: in.RootKey.ExpiresAt})
		}
	}
	for range 4 { // what the backup does not have
		now = now.Add(time.Duration(r.IntN(12*24)) * time.Hour)
		for _, d := range all {
			if r.IntN(2) == 0 && now.Before(d.latest) {
				d.latest = seconds(now.Add(ttl))
			}
		}
	}
	k.restored(now)
	for range 60 {
		now = now.Add(time.Duration(r.IntN(3*24)) * time.Hour)
		d := all[r.IntN(len(all))]
		ends := func(which func(*device) bool) {
			for _, d := range all {
				d.ended = d.ended || which(d)
			}
		}
		switch r.IntN(10) {
		case 0:
			in := storage.RevokeDevices{UserID: d.UserID, DeviceID: d.ID, Reason: "owner"}
			if _, err := k.s.RevokeDevices(k.Context(), in, event("revoked", now)); !errors.Is(err, storage.ErrNotFound) {
				k.must(err)
			}
			ends(func(o *device) bool { return o == d })
		case 1:
			u := users[r.IntN(len(users))]
			_, err := k.s.SuspendUser(k.Context(), u.ID, event("suspended", now))
			k.must(err)
			k.must(k.s.ResumeUser(k.Context(), u.ID, event("resumed", now)))
			ends(func(o *device) bool { return o.UserID == u.ID })
		case 2, 3, 4:
			_, err := k.s.Expire(k.Context(), storage.Expire{Now: now, Limit: 3})
			k.must(err)
		default:
			if d.ended || !now.Before(d.latest) {
				continue
			}
			ask := asks(root{d.Device, e.Number, d.latest}, e.Number)
			ask.RootTTL = ttl
			got, err := k.present(ask, now)
			k.must(err)
			d.latest = got.ExpiresAt
		}
		listed, bound := map[[16]byte]bool{}, map[string]bool{}
		for _, v := range k.list(0) {
			listed[v.RootKeyID] = true
		}
		for _, p := range k.policies() {
			bound[p.Target] = true
		}
		for _, d := range all {
			_, err := k.s.Device(k.Context(), d.UserID, d.ID)
			switch {
			case now.After(d.latest.Add(storage.ClockSkew)):
			case d.ended && !listed[d.RootKeyID]:
				k.Fatalf("at %s a root that was ended is good again, until %s", now, d.latest)
			case !d.ended && (err != nil || !bound[d.ID]):
				k.Fatalf("at %s a root is good until %s, its device is there: %v, its policy: %v", now, d.latest, err, bound[d.ID])
			}
		}
	}
}
