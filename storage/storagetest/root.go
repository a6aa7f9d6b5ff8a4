package storagetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"macaroond/storage"
)

// root is a root macaroon of a device: whose, and when it expires.
type root struct {
	storage.Device
	epoch   uint32
	expires time.Time
}

// login is the root macaroon of a fresh login; it lives until T0 and an hour.
func (k *kit) login(change ...func(*storage.IssueDevice)) root {
	k.Helper()
	e, u := k.epoch(), k.user("a")
	in := k.asking(u, e.Number, "install", T0)
	in.RootKey.ExpiresAt = seconds(T0.Add(time.Hour))
	for _, f := range change {
		f(&in)
	}
	d, _ := k.issue(in)
	return root{d, e.Number, in.RootKey.ExpiresAt}
}

// seconds is what a root macaroon's expiry is in: whole ones.
func seconds(t time.Time) time.Time { return t.Truncate(time.Second) }

func asks(r root, signing uint32) storage.RenewDevice {
	return storage.RenewDevice{
		UserID: r.UserID, DeviceID: r.ID, RootKeyID: r.RootKeyID, Epoch: r.epoch, ExpiresAt: r.expires,
		Signing: signing, RootTTL: time.Hour, Grace: time.Minute,
	}
}

func (k *kit) present(in storage.RenewDevice, at time.Time) (storage.Renewed, error) {
	return k.s.RenewDevice(k.Context(), in, "renewal_theft", event("renewed", at))
}

// renew presents a root macaroon a while after T0 and gives its successor.
func (k *kit) renew(r root, after time.Duration) root {
	k.Helper()
	got, err := k.present(asks(r, r.epoch), T0.Add(after))
	k.must(err)
	if got.Theft {
		k.Fatal("it is taken for theft")
	}
	return root{r.Device, got.Epoch, got.ExpiresAt}
}

// theft presents it and checks that this ends the device.
func (k *kit) theft(r root, after time.Duration) {
	k.Helper()
	at := T0.Add(after)
	listed := len(k.list(0))
	got, err := k.present(asks(r, r.epoch), at)
	k.must(err)
	if !got.Theft || len(got.Revoked) != 1 || got.Revoked[0].RootKeyID != r.RootKeyID || got.New {
		k.Fatalf("no theft: %+v", got)
	}
	k.equal("entries on the list", len(k.list(0)), listed+1)
	d, err := k.s.Device(k.Context(), r.UserID, r.ID)
	k.must(err)
	k.equal("revoked at", d.RevokedAt, at)
	k.equal("reason", d.RevokedReason, "theft")
	if got.Revoked[0].ExpiresAt.Before(d.ExpiresAt.Add(storage.ClockSkew)) {
		k.Fatalf("the entry goes at %s, before the last token of %s", got.Revoked[0].ExpiresAt, d.ExpiresAt)
	}
	all := k.entries()
	last := all[len(all)-1]
	k.equal("audit", last.Type+" "+last.DeviceID, "renewal_theft "+r.ID)
	k.equal("audit's root key", *last.RootKeyID, r.RootKeyID)
	_, err = k.present(asks(r, r.epoch), at)
	k.wantErr(err, storage.ErrRevoked)
}

// used says that a token of the root was accepted.
func (k *kit) used(r root, after time.Duration) {
	k.Helper()
	k.must(k.s.TouchDevices(k.Context(), []storage.Sighting{r.sighting(after)}))
}

func (r root) sighting(after time.Duration) storage.Sighting {
	at := T0.Add(after)
	return storage.Sighting{DeviceID: r.ID, RootKeyID: r.RootKeyID, ExpiresAt: r.expires, First: at, Last: at}
}

// honest plays three processes that share a store for a root, keep a successor
// before they use it, and read the store less than the grace before they renew.
// Answers are lost, processes die, uses are written late and epochs rotate.
func (k *kit) honest(r *rand.Rand) {
	k.Helper()
	e, u := k.epoch(), k.user(fmt.Sprint("honest ", k.next()))
	in := k.asking(u, e.Number, "", T0)
	in.RootKey.ExpiresAt = seconds(in.RootKey.ExpiresAt)
	d, _ := k.issue(in)
	type process struct{ holds, read root }
	stored := root{d, e.Number, in.RootKey.ExpiresAt}
	var all [3]process
	for i := range all {
		all[i] = process{stored, stored}
	}
	var late []storage.Sighting
	made := 0
	for after := time.Duration(0); after < 2*time.Hour; after += time.Duration(r.IntN(25)) * time.Second {
		p := &all[r.IntN(len(all))]
		switch r.IntN(6) {
		case 0: // it dies, or takes what is stored
			p.holds = stored
		case 1, 2: // a request, seen at once or written later
			if r.IntN(2) == 0 {
				k.used(p.holds, after)
			} else {
				late = append(late, p.holds.sighting(after))
			}
		case 3, 4: // two read the store and present what they read, one after the other
			other := &all[r.IntN(len(all))]
			p.read, other.read = stored, stored
			for _, q := range []*process{p, other} {
				ask := asks(q.read, e.Number)
				ask.Seen = late
				got, err := k.present(ask, T0.Add(after))
				k.must(err)
				if got.Theft {
					k.Fatalf("after %s a holder is taken for a thief", after)
				}
				if got.New {
					made++
				}
				next := root{d, got.Epoch, got.ExpiresAt}
				if r.IntN(3) > 0 { // else the answer is lost
					if next.expires.After(stored.expires) {
						stored = next
					}
					q.holds = stored
				}
				after += time.Duration(r.IntN(50)) * time.Second
			}
		case 5:
			if r.IntN(4) == 0 {
				e = k.epoch()
			} else {
				k.must(k.s.TouchDevices(k.Context(), late))
				late = nil
			}
		}
	}
	if made < 20 {
		k.Fatalf("only %d renewals: this shows nothing", made)
	}
}
