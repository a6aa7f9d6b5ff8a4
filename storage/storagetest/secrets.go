package storagetest

import (
	"errors"
	"sync"
	"time"

	"macaroond/storage"
)

// removeService is the removal of a service that has minted nothing yet.
func (k *kit) removeService(id string) []storage.Revocation {
	k.Helper()
	out, err := k.s.RemoveService(k.Context(), id, T0, event("service_removed", T0))
	k.must(err)
	return out
}

// aService is stored.
func (k *kit) aService(name string) storage.Service {
	k.Helper()
	s := k.service(name)
	k.must(k.s.AddService(k.Context(), s, event("service_added", T0)))
	return s
}

func (k *kit) mintService(s storage.Service, secret int, epoch uint32, expires time.Time) error {
	return k.s.MintService(k.Context(), storage.MintService{
		ServiceID: s.ID, SecretID: s.Secrets[secret].ID, Epoch: epoch, ExpiresAt: expires,
	}, event("service_token", T0))
}

// dead is the entry that ends a secret's root key.
func dead(seq int64, v storage.ServiceSecret, expires time.Time) storage.Revocation {
	return storage.Revocation{Seq: seq, Grain: storage.GrainDevice, RootKeyID: v.RootKeyID, ExpiresAt: expires.Add(storage.ClockSkew)}
}

var secrets = []clause{
	{"a secret is added to those that are there, oldest first, and moves the revision", func(k *kit) {
		s, other := k.aService("a"), k.aService("b") // whose secrets count for itself
		before := k.state().Revision
		v := serviceSecret(900)
		k.must(k.s.AddServiceSecret(k.Context(), storage.AddServiceSecret{ServiceID: s.ID, Secret: v, Max: 3}, event("service_secret_added", T0)))
		k.equal("secrets", k.services()[0].Secrets, append(s.Secrets, v))
		k.equal("the other's", k.services()[1], other)
		if k.state().Revision <= before {
			k.Error("the revision did not move")
		}
		k.equal("audit", k.events(), []string{"service_added", "service_added", "service_secret_added"})
	}},
	{"no more secrets than Max, and none for nobody", func(k *kit) {
		s := k.aService("a")
		k.unchanged(func() {
			k.wantErr(k.s.AddServiceSecret(k.Context(), storage.AddServiceSecret{ServiceID: s.ID, Secret: serviceSecret(900), Max: 2}, event("x", T0)), storage.ErrTooMany)
			k.wantErr(k.s.AddServiceSecret(k.Context(), storage.AddServiceSecret{ServiceID: "svc_nobody", Secret: serviceSecret(900), Max: 2}, event("x", T0)), storage.ErrNotFound)
		})
		k.equal("secrets", k.services()[0].Secrets, s.Secrets)
	}},
	{"a secret that is removed takes its root key with it, and no other's, and moves the revision", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		k.must(k.mintService(s, 0, e.Number, T0.Add(time.Hour)))
		k.must(k.mintService(s, 1, e.Number, T0.Add(time.Hour)))
		before := k.state().Revision
		revoked, err := k.s.RemoveServiceSecret(k.Context(), s.ID, s.Secrets[0].ID, T0.Add(time.Minute), event("service_secret_removed", T0))
		k.must(err)
		if k.state().Revision <= before {
			k.Error("the revision did not move")
		}
		k.equal("revoked", revoked, []storage.Revocation{dead(1, s.Secrets[0], T0.Add(time.Hour))})
		k.equal("list", k.list(0), revoked)
		k.equal("secrets", k.services()[0].Secrets, s.Secrets[1:])
		last := k.entries()[len(k.entries())-1]
		k.equal("event's device", last.DeviceID, s.Secrets[0].DeviceID)
		k.equal("event's root key", *last.RootKeyID, s.Secrets[0].RootKeyID)
		// The last one may go, too.
		_, err = k.s.RemoveServiceSecret(k.Context(), s.ID, s.Secrets[1].ID, T0, event("service_secret_removed", T0))
		k.must(err)
		k.equal("secrets", len(k.services()[0].Secrets), 0)
	}},
	{"a root key whose row is missing is listed until the time that is given", func(k *kit) {
		s := k.aService("a")
		revoked, err := k.s.RemoveServiceSecret(k.Context(), s.ID, s.Secrets[0].ID, T0.Add(time.Minute), event("service_secret_removed", T0))
		k.must(err)
		k.equal("revoked", revoked, []storage.Revocation{dead(1, s.Secrets[0], T0.Add(time.Minute))})
	}},
	{"somebody else's secret is ErrNotFound", func(k *kit) {
		a, b := k.aService("a"), k.aService("b")
		k.unchanged(func() {
			for service, secret := range map[string]string{a.ID: b.Secrets[0].ID, b.ID: "sec_nobody", "svc_nobody": a.Secrets[0].ID} {
				_, err := k.s.RemoveServiceSecret(k.Context(), service, secret, T0, event("x", T0))
				k.wantErr(err, storage.ErrNotFound)
			}
		})
	}},
	{"minting stores the root key with its greatest expiry, and its epoch's", func(k *kit) {
		s, old := k.aService("a"), k.epoch()
		k.must(k.mintService(s, 0, old.Number, T0.Add(2*time.Hour)))
		k.must(k.mintService(s, 0, old.Number, T0.Add(time.Hour)))
		e := k.epoch()
		k.must(k.mintService(s, 1, e.Number, T0.Add(3*time.Hour)))
		k.must(k.mintService(s, 0, e.Number, T0.Add(time.Minute)))
		all, err := k.s.Epochs(k.Context())
		k.must(err)
		k.equal("the first epoch's", all[0].ExpiresAt, T0.Add(2*time.Hour))
		k.equal("the second epoch's", all[1].ExpiresAt, T0.Add(3*time.Hour))
		last := k.entries()[len(k.entries())-1]
		k.equal("event's root key", *last.RootKeyID, s.Secrets[0].RootKeyID)
		k.equal("event's device", last.DeviceID, s.Secrets[0].DeviceID)
		revoked, err := k.s.RemoveServiceSecret(k.Context(), s.ID, s.Secrets[0].ID, T0, event("service_secret_removed", T0))
		k.must(err)
		k.equal("revoked", revoked, []storage.Revocation{dead(1, s.Secrets[0], T0.Add(2*time.Hour))})
	}},
	{"a root key that has had its time comes back when its secret mints again", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		k.must(k.mintService(s, 0, e.Number, T0))
		later := T0.Add(24 * time.Hour)
		gone, err := k.s.Expire(k.Context(), storage.Expire{Now: later, Limit: 10})
		k.must(err)
		k.equal("root keys that went", gone.RootKeys, 1)
		k.must(k.mintService(s, 0, e.Number, later.Add(time.Hour)))
		revoked := func() []storage.Revocation {
			out, err := k.s.RemoveService(k.Context(), s.ID, later, event("service_removed", later))
			k.must(err)
			return out
		}()
		k.equal("keys", k.keys(revoked), sorted([][16]byte{s.Secrets[0].RootKeyID, s.Secrets[1].RootKeyID}))
	}},
	{"nothing is minted with what was removed, or in an epoch that does not sign", func(k *kit) {
		s, other, old, e := k.aService("a"), k.aService("b"), k.epoch(), k.epoch()
		k.unchanged(func() {
			k.wantErr(k.mintService(s, 0, old.Number, T0.Add(time.Hour)), storage.ErrEpochNotSigning)
			k.wantErr(k.mintService(s, 0, e.Number+1, T0.Add(time.Hour)), storage.ErrEpochNotSigning)
			k.wantErr(k.mintService(storage.Service{ID: other.ID, Secrets: s.Secrets}, 0, e.Number, T0.Add(time.Hour)), storage.ErrServiceGone)
		})
		_, err := k.s.RemoveServiceSecret(k.Context(), s.ID, s.Secrets[0].ID, T0, event("service_secret_removed", T0))
		k.must(err)
		k.removeService(other.ID)
		k.unchanged(func() {
			k.wantErr(k.mintService(s, 0, e.Number, T0.Add(time.Hour)), storage.ErrServiceGone)
			k.wantErr(k.mintService(other, 0, e.Number, T0.Add(time.Hour)), storage.ErrServiceGone)
		})
		k.must(k.mintService(s, 1, e.Number, T0.Add(time.Hour)))
	}},
	{"a token is minted before its secret goes and ends with it, or not at all", func(k *kit) {
		s, e := k.aService("a"), k.epoch()
		var minting sync.WaitGroup
		var mu sync.Mutex
		latest, begun := T0, make(chan struct{})
		for i := range 8 {
			minting.Go(func() {
				for n := range 50 {
					expires := T0.Add(time.Duration(50*i+n+1) * time.Minute)
					err := k.mintService(s, 0, e.Number, expires)
					if i == 0 && n == 3 {
						close(begun)
					}
					if errors.Is(err, storage.ErrServiceGone) {
						return
					}
					if err != nil {
						k.Errorf("minting: %v", err)
						return
					}
					mu.Lock()
					if expires.After(latest) {
						latest = expires
					}
					mu.Unlock()
				}
			})
		}
		<-begun
		revoked, err := k.s.RemoveServiceSecret(k.Context(), s.ID, s.Secrets[0].ID, T0, event("service_secret_removed", T0))
		k.must(err)
		k.wantErr(k.mintService(s, 0, e.Number, T0.Add(time.Hour)), storage.ErrServiceGone)
		minting.Wait()
		if len(revoked) != 1 || revoked[0].ExpiresAt.Before(latest.Add(storage.ClockSkew)) {
			k.Fatalf("revoked %+v, and a token lives until %v", revoked, latest)
		}
	}},
	{"a service that is removed takes all its root keys and its users' with it", func(k *kit) {
		s, other, e := k.aService("a"), k.aService("b"), k.epoch()
		k.must(k.mintService(s, 0, e.Number, T0.Add(time.Hour)))
		mine := k.issueSubject(s, "1", e.Number)
		theirs := k.issueSubject(other, "1", e.Number)
		local := k.device(k.user("local"), e.Number, T0)
		revoked, err := k.s.RemoveService(k.Context(), s.ID, T0, event("service_removed", T0))
		k.must(err)
		k.equal("keys", k.keys(revoked), sorted([][16]byte{s.Secrets[0].RootKeyID, s.Secrets[1].RootKeyID, mine.RootKeyID}))
		k.equal("list", k.list(0), revoked)
		for _, d := range []struct {
			storage.Device
			reason string
		}{{mine, "service removed"}, {theirs, ""}, {local, ""}} {
			got, err := k.s.Device(k.Context(), d.UserID, d.ID)
			k.must(err)
			k.equal("reason", got.RevokedReason, d.reason)
		}
	}},
}
