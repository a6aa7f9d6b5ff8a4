package storagetest

import (
	"errors"
	"time"

	"macaroond/storage"
)

func (k *kit) epochs() []storage.Epoch {
	k.Helper()
	all, err := k.s.Epochs(k.Context())
	k.must(err)
	return all
}

// retire ends one, and begins another when it signs.
func (k *kit) retire(number uint32, ev storage.Event) (storage.Revocation, error) {
	list, err := k.s.RetireEpochs(k.Context(), storage.RetireEpochs{Number: number, Seal: sealed, Begun: event("epoch_created", ev.Time)}, ev)
	if err != nil {
		return storage.Revocation{}, err
	}
	k.equal("entries", len(list), 1)
	return list[0], nil
}

func (k *kit) signing() storage.Epoch {
	k.Helper()
	for _, e := range k.epochs() {
		if e.State == storage.EpochSigning {
			return e
		}
	}
	k.Fatalf("none signs")
	return storage.Epoch{}
}

func (k *kit) states() (out []storage.EpochState) {
	k.Helper()
	for _, e := range k.epochs() {
		out = append(out, e.State)
	}
	return out
}

var epochs = []clause{
	{"the first epoch is 1, signs, and is sealed for its number", func(k *kit) {
		var asked []uint32
		e, err := k.s.CreateEpoch(k.Context(), true, func(n uint32) ([]byte, error) {
			asked = append(asked, n)
			return sealed(n)
		}, event("epoch_created", T0))
		k.must(err)
		k.equal("returned", e, storage.Epoch{Number: 1, Sealed: []byte("sealed 1"), State: storage.EpochSigning, CreatedAt: T0})
		k.equal("stored", k.epochs(), []storage.Epoch{e})
		k.equal("asked to seal", asked, []uint32{1})
		k.equal("audit", k.events(), []string{"epoch_created"})
	}},
	{"a new epoch makes the former verify only", func(k *kit) {
		a, b := k.epoch(), k.epoch()
		a.State = storage.EpochVerifying
		k.equal("epochs", k.epochs(), []storage.Epoch{a, b})
	}},
	{"only the first is refused when any is there, retired ones too", func(k *kit) {
		e := k.epoch()
		again := func() {
			_, err := k.s.CreateEpoch(k.Context(), true, sealed, event("epoch_created", T0))
			k.wantErr(err, storage.ErrEpochExists)
		}
		k.unchanged(again)
		_, err := k.retire(e.Number, event("epoch_retired", T0))
		k.must(err)
		k.unchanged(again)
	}},
	{"an error of seal comes back as it is and changes nothing", func(k *kit) {
		e := k.epoch()
		failed := errors.New("no key")
		k.unchanged(func() {
			_, err := k.s.CreateEpoch(k.Context(), false, func(uint32) ([]byte, error) { return nil, failed }, event("epoch_created", T0))
			if err != failed {
				k.Fatalf("error %v", err)
			}
		})
		k.equal("epochs", k.epochs(), []storage.Epoch{e})
		k.equal("next number", k.epoch().Number, uint32(2))
	}},
	{"a panic in seal reaches its caller and changes nothing", func(k *kit) {
		e := k.epoch()
		k.unchanged(func() {
			defer func() {
				if recover() == nil {
					k.Fatal("no panic")
				}
			}()
			_, err := k.s.CreateEpoch(k.Context(), false, func(uint32) ([]byte, error) { panic("no key") }, event("epoch_created", T0))
			k.Fatalf("returned %v", err)
		})
		k.equal("epochs", k.epochs(), []storage.Epoch{e})
	}},
	{"retiring erases the secret and lists the epoch", func(k *kit) {
		e, u := k.epoch(), k.user("a")
		d := k.device(u, e.Number, T0)
		r, err := k.retire(e.Number, event("epoch_retired", T0.Add(time.Minute)))
		k.must(err)
		k.equal("entry", r, storage.Revocation{Seq: 1, Grain: storage.GrainEpoch, Epoch: 1, ExpiresAt: d.ExpiresAt.Add(storage.ClockSkew)})
		k.equal("list", k.list(0), []storage.Revocation{r})
		got := k.epochs()[0]
		k.equal("state", got.State, storage.EpochRetired)
		k.equal("bytes of the secret", len(got.Sealed), 0)
		k.equal("expires at", got.ExpiresAt, d.ExpiresAt)
	}},
	{"an epoch without tokens is listed for the skew", func(k *kit) {
		e := k.epoch()
		r, err := k.retire(e.Number, event("epoch_retired", T0))
		k.must(err)
		k.equal("expires at", r.ExpiresAt, T0.Add(storage.ClockSkew))
	}},
	{"retiring twice gives the same entry and changes nothing", func(k *kit) {
		before, e := k.epoch(), k.epoch()
		_, err := k.retire(before.Number, event("epoch_retired", T0))
		k.must(err)
		_, err = k.s.RevokeRootKey(k.Context(), key16(1), T0, event("revoked", T0))
		k.must(err)
		k.addPolicy(k.policy("", "method GET"))
		first, err := k.retire(e.Number, event("epoch_retired", T0))
		k.must(err)
		k.unchanged(func() {
			again, err := k.retire(e.Number, event("epoch_retired", T0.Add(time.Hour)))
			k.must(err)
			k.equal("entry", again, first)
		})
	}},
	{"resealing replaces every secret but those of retired epochs", func(k *kit) {
		a, b, c := k.epoch(), k.epoch(), k.epoch()
		_, err := k.retire(b.Number, event("epoch_retired", T0))
		k.must(err)
		revision := k.state().Revision
		n, err := k.s.ResealEpochs(k.Context(), func(n uint32, sealed []byte) ([]byte, error) {
			return append([]byte("again "), sealed...), nil
		}, event("keys_resealed", T0))
		k.must(err)
		k.equal("resealed", n, 2)
		k.equal("audit", k.events()[4:], []string{"keys_resealed"})
		all := k.epochs()
		k.equal("the first", all[0].Sealed, append([]byte("again "), a.Sealed...))
		k.equal("bytes of the retired one", len(all[1].Sealed), 0)
		k.equal("the third", all[2].Sealed, append([]byte("again "), c.Sealed...))
		k.equal("states", []storage.EpochState{all[0].State, all[1].State, all[2].State}, []storage.EpochState{storage.EpochVerifying, storage.EpochRetired, storage.EpochSigning})
		if k.state().Revision == revision {
			k.Error("the revision has not moved")
		}
	}},
	{"an error of reseal comes back as it is and changes nothing", func(k *kit) {
		k.epoch()
		k.epoch()
		failed := errors.New("no key")
		k.unchanged(func() {
			_, err := k.s.ResealEpochs(k.Context(), func(n uint32, _ []byte) ([]byte, error) {
				if n == 2 {
					return nil, failed
				}
				return []byte("again"), nil
			}, event("keys_resealed", T0))
			if err != failed {
				k.Fatalf("error %v", err)
			}
		})
	}},
	{"an unknown epoch is ErrNotFound", func(k *kit) {
		k.epoch()
		k.unchanged(func() {
			_, err := k.retire(2, event("epoch_retired", T0))
			k.wantErr(err, storage.ErrNotFound)
		})
	}},
	{"numbers are not used twice, though the epochs are gone", func(k *kit) {
		k.epoch()
		for n := range uint32(2) {
			_, err := k.retire(n+1, event("epoch_retired", T0))
			k.must(err)
		}
		gone, err := k.s.Expire(k.Context(), storage.Expire{Now: T0.Add(24 * time.Hour), Limit: 10})
		k.must(err)
		k.equal("gone", gone.Epochs, 2)
		k.equal("next number", k.epoch().Number, uint32(4))
	}},
	{"where the one that signs is retired another begins, all or nothing", func(k *kit) {
		k.epoch()
		signing := k.epoch()
		failed := errors.New("no key")
		in := storage.RetireEpochs{
			Number: signing.Number, Begun: event("epoch_created", T0),
			Seal: func(uint32) ([]byte, error) { return nil, failed },
		}
		for range 2 {
			k.unchanged(func() {
				_, err := k.s.RetireEpochs(k.Context(), in, event("epoch_retired", T0))
				k.wantErr(err, failed)
			})
			in.Number, in.All = 0, true
		}
		r, err := k.retire(signing.Number, event("epoch_retired", T0))
		k.must(err)
		k.equal("entry", r.Epoch, signing.Number)
		k.equal("states", k.states(), []storage.EpochState{storage.EpochVerifying, storage.EpochRetired, storage.EpochSigning})
		k.equal("audit", k.events()[2:], []string{"epoch_created", "epoch_retired"})
		k.equal("detail", k.entries()[3].Detail, "epoch 2")
		_, err = k.retire(1, event("epoch_retired", T0))
		k.must(err)
		k.equal("of one that verifies", k.states(), []storage.EpochState{storage.EpochRetired, storage.EpochRetired, storage.EpochSigning})
	}},
	{"all of them end at once, and another signs", func(k *kit) {
		k.epoch()
		_, err := k.retire(1, event("epoch_retired", T0))
		k.must(err)
		k.epoch()
		before := k.state()
		list, err := k.s.RetireEpochs(k.Context(), storage.RetireEpochs{All: true, Seal: sealed, Begun: event("epoch_created", T0)}, event("epoch_retired", T0))
		k.must(err)
		k.equal("list", k.list(before.Sequence), list)
		k.equal("entries", []uint32{list[0].Epoch, list[1].Epoch}, []uint32{2, 3})
		k.equal("states", k.states(), []storage.EpochState{storage.EpochRetired, storage.EpochRetired, storage.EpochRetired, storage.EpochSigning})
	}},
	{"each change moves the revision", func(k *kit) {
		last := k.state().Revision
		moved := func(what string) {
			k.Helper()
			now := k.state().Revision
			if now <= last {
				k.Fatalf("%s: revision %d after %d", what, now, last)
			}
			last = now
		}
		e := k.epoch()
		moved("create")
		k.epoch()
		moved("rotate")
		_, err := k.retire(e.Number, event("epoch_retired", T0))
		k.must(err)
		moved("retire")
		_, err = k.s.Expire(k.Context(), storage.Expire{Now: T0.Add(24 * time.Hour), Limit: 10})
		k.must(err)
		moved("expire")
	}},
}
