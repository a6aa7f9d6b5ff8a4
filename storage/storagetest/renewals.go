package storagetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"macaroond/storage"
)

const minute = time.Minute

var renewing = []clause{
	{"a login begins a session", func(k *kit) {
		hash := ""
		r := k.login(func(in *storage.IssueDevice) { in.Device.TTL = 90 * time.Second })
		k.equal("ttl", r.TTL, 90*time.Second)
		k.equal("started", r.StartedAt, T0)
		k.equal("proved", r.ProvedAt, time.Time{})
		k.equal("root", r.ExpiresAt, r.expires)
		again := k.asking(storage.User{ID: r.UserID}, r.epoch, "install", T0.Add(time.Hour))
		hash = "$argon2id$a"
		again.PasswordHash = &hash
		d, _ := k.issue(again)
		k.equal("same device", d.ID, r.ID)
		k.equal("ttl", d.TTL, time.Duration(0))
		k.equal("started", d.StartedAt, T0.Add(time.Hour))
		k.equal("proved", d.ProvedAt, T0.Add(time.Hour))
		k.equal("root", d.ExpiresAt, again.RootKey.ExpiresAt)
	}},
	{"the successor lives as long as the login asked for, from now, in whole seconds", func(k *kit) {
		r := k.login(func(in *storage.IssueDevice) {
			in.Device.TTL, in.RootKey.ExpiresAt = 10*minute, seconds(T0.Add(10*minute))
		})
		next := k.renew(r, 9*minute)
		k.equal("expiry", next.expires, seconds(T0.Add(19*minute+time.Second)))
		d, err := k.s.Device(k.Context(), r.UserID, r.ID)
		k.must(err)
		k.equal("device", d.ExpiresAt, next.expires)
		k.equal("started", d.StartedAt, T0)
		k.equal("epoch's expiry", k.epochs()[0].ExpiresAt, next.expires)
		events := k.entries()
		last := events[len(events)-1]
		k.equal("audit", last.Type+" "+last.DeviceID, "renewed "+r.ID)
		k.equal("audit's root key", *last.RootKeyID, r.RootKeyID)
		k.equal("list", len(k.list(0)), 0)
	}},
	{"a wish beyond root_ttl is cut", func(k *kit) {
		r := k.login(func(in *storage.IssueDevice) { in.Device.TTL = 10 * time.Hour })
		k.equal("expiry", k.renew(r, 10*minute).expires, seconds(T0.Add(70*minute+time.Second)))
	}},
	{"each successor expires later, by a second at least", func(k *kit) {
		r := k.login()
		for range 5 {
			next := k.renew(r, 0)
			if next.expires.Sub(r.expires) < time.Second {
				k.Fatalf("%s after %s", next.expires, r.expires)
			}
			r = next
		}
	}},
	{"a predecessor gets the same successor, and nothing is written", func(k *kit) {
		r := k.login()
		next := k.renew(r, minute)
		k.unchanged(func() {
			for after := range 50 {
				k.equal("again", k.renew(r, time.Duration(after)*minute), next)
			}
		})
	}},
	{"fifty at once get one successor", func(k *kit) {
		r := k.login()
		var wg sync.WaitGroup
		var got [50]storage.Renewed
		for i := range got {
			wg.Go(func() {
				var err error
				if got[i], err = k.present(asks(r, r.epoch), T0.Add(minute)); err != nil || got[i].Theft {
					k.Errorf("%+v, %v", got[i], err)
				}
			})
		}
		wg.Wait()
		made := 0
		for _, g := range got {
			k.equal("expiry", g.ExpiresAt, got[0].ExpiresAt)
			if g.New {
				made++
			}
		}
		k.equal("made", made, 1)
		k.equal("audit", k.events(), []string{"epoch_created", "signup", "login", "renewed"})
	}},
	{"theft begins when the successor was seen and the grace has passed", func(k *kit) {
		r := k.login()
		next := k.renew(r, minute)
		k.used(next, 2*minute)
		k.used(next, 5*minute) // the first use counts
		k.equal("in the grace", k.renew(r, 3*minute-time.Millisecond), next)
		k.theft(r, 3*minute)
	}},
	{"the grace can be none", func(k *kit) {
		r := k.login()
		next := k.renew(r, minute)
		in := asks(r, r.epoch)
		in.Grace = 0
		got, err := k.present(in, T0.Add(10*minute))
		k.must(err)
		k.equal("before any use", got.ExpiresAt, next.expires)
		k.used(next, 10*minute)
		got, err = k.present(in, T0.Add(10*minute))
		k.must(err)
		k.equal("theft", got.Theft, true)
	}},
	{"presenting the successor is using it", func(k *kit) {
		r := k.login()
		next := k.renew(r, minute)
		k.renew(next, 2*minute)
		k.equal("in the grace", k.renew(r, 3*minute-time.Millisecond), next)
		k.theft(r, 3*minute)
	}},
	{"a use that is not in the table yet counts, the earliest one", func(k *kit) {
		r := k.login()
		next := k.renew(r, minute)
		k.used(next, 10*minute)
		in := asks(r, r.epoch)
		in.Seen = []storage.Sighting{r.sighting(0), next.sighting(2 * minute)}
		got, err := k.present(in, T0.Add(3*minute-time.Millisecond))
		k.must(err)
		k.equal("in the grace", got.ExpiresAt, next.expires)
		got, err = k.present(in, T0.Add(3*minute))
		k.must(err)
		k.equal("theft", got.Theft, true)
	}},
	{"of many uses the first counts, in whatever order they come", func(k *kit) {
		for _, order := range [][]time.Duration{{2, 10}, {10, 2}} {
			inTable := k.login()
			next := k.renew(inTable, minute)
			for _, at := range order {
				k.used(next, at*minute)
			}
			k.must(k.s.TouchDevices(k.Context(), []storage.Sighting{{
				DeviceID: next.ID, RootKeyID: next.RootKeyID, ExpiresAt: next.expires, Last: T0.Add(20 * minute),
			}})) // of which no first use is told
			k.equal("in the grace", k.renew(inTable, 3*minute-time.Millisecond), next)
			k.theft(inTable, 3*minute)
			_, err := k.s.DeleteUser(k.Context(), storage.DeleteUser{UserID: inTable.UserID}, event("deleted", T0))
			k.must(err)

			told := k.login()
			next = k.renew(told, minute)
			in := asks(told, told.epoch)
			for _, at := range order {
				in.Seen = append(in.Seen, next.sighting(at*minute))
			}
			got, err := k.present(in, T0.Add(3*minute))
			k.must(err)
			k.equal("theft", got.Theft, true)
			_, err = k.s.DeleteUser(k.Context(), storage.DeleteUser{UserID: told.UserID}, event("deleted", T0))
			k.must(err)
		}
	}},
	{"a use that a renewal was told of is kept", func(k *kit) {
		r := k.login()
		next := k.renew(r, minute)
		in := asks(r, r.epoch)
		in.Seen = []storage.Sighting{r.sighting(0), next.sighting(2 * minute)}
		got, err := k.present(in, T0.Add(2*minute+time.Second))
		k.must(err)
		k.equal("in the grace", got.ExpiresAt, next.expires)
		k.theft(r, 3*minute) // whoever knew of it has died meanwhile
	}},
	{"the predecessor's own use is nothing", func(k *kit) {
		r := k.login()
		next := k.renew(r, minute)
		k.used(r, 2*minute)
		k.equal("long after", k.renew(r, 50*minute), next)
	}},
	{"somebody else's use is nothing", func(k *kit) {
		r := k.login()
		next := k.renew(r, minute)
		other := next
		other.RootKeyID = key16(999)
		k.used(other, 2*minute)
		in := asks(r, r.epoch)
		in.Seen = []storage.Sighting{other.sighting(2 * minute)}
		got, err := k.present(in, T0.Add(50*minute))
		k.must(err)
		k.equal("long after", got.ExpiresAt, next.expires)
	}},
	{"predecessors that the table has forgotten are theft", func(k *kit) {
		r := k.login()
		last := r
		for i := range 5 {
			last = k.renew(last, time.Duration(i)*10*minute)
		}
		k.theft(r, 41*minute)
	}},
	{"within the grace every predecessor gets its own successor", func(k *kit) {
		a := k.login()
		b := k.renew(a, minute)
		c := k.renew(b, minute+10*time.Second)
		d := k.renew(c, minute+20*time.Second)
		k.unchanged(func() {
			k.equal("a", k.renew(a, minute+30*time.Second), b)
			k.equal("b", k.renew(b, minute+30*time.Second), c)
			k.equal("c", k.renew(c, minute+30*time.Second), d)
		})
	}},
	{"no more than so many successors within the grace", func(k *kit) {
		r := k.login()
		ask := func(grace, after time.Duration) error {
			in := asks(r, r.epoch)
			in.Grace = grace
			got, err := k.present(in, T0.Add(after))
			if err == nil {
				r = root{r.Device, got.Epoch, got.ExpiresAt}
			}
			return err
		}
		for i, row := range []struct{ grace, wait time.Duration }{{minute, minute}, {minute, minute}, {time.Hour, minute}, {10 * time.Second, 10 * time.Second}} {
			at := time.Duration(10*(i+1)) * minute
			for range storage.MaxRenewals {
				k.must(ask(row.grace, at))
			}
			k.unchanged(func() { k.wantErr(ask(row.grace, at+row.wait-time.Millisecond), storage.ErrRenewalLimit) })
			k.must(ask(row.grace, at+row.wait))
		}
	}},
	{"the session has an end, which the last successor reaches", func(k *kit) {
		r := k.login()
		in := asks(r, r.epoch)
		in.SessionMax = 90*minute + 500*time.Millisecond
		got, err := k.present(in, T0.Add(50*minute))
		k.must(err)
		k.equal("the last one", got.ExpiresAt, seconds(T0.Add(in.SessionMax)))
		in.ExpiresAt = got.ExpiresAt
		k.unchanged(func() {
			_, err = k.present(in, T0.Add(80*minute))
			k.wantErr(err, storage.ErrSessionOver)
		})
		in.ExpiresAt = r.expires
		again, err := k.present(in, T0.Add(50*minute+time.Second))
		k.must(err)
		k.equal("a lost answer", again.ExpiresAt, got.ExpiresAt)
	}},
	{"a session's end that is far does not make a root live longer", func(k *kit) {
		r := k.login()
		in := asks(r, r.epoch)
		in.SessionMax = 24 * time.Hour
		got, err := k.present(in, T0.Add(minute))
		k.must(err)
		k.equal("expiry", got.ExpiresAt, seconds(T0.Add(61*minute+time.Second)))
	}},
	{"an epoch's expiry is that of its last root, not of the one that was renewed last", func(k *kit) {
		r := k.login()
		long := k.asking(storage.User{ID: r.UserID}, r.epoch, "", T0)
		long.RootKey.ExpiresAt = T0.Add(30 * 24 * time.Hour)
		k.issue(long)
		k.renew(r, minute)
		k.equal("epoch's expiry", k.epochs()[0].ExpiresAt, long.RootKey.ExpiresAt)
	}},
	{"what others renew, and what ends with them, is nothing to a device", func(k *kit) {
		r := k.login()
		device := func(until time.Time) root {
			in := k.asking(storage.User{ID: r.UserID}, r.epoch, "", T0)
			in.RootKey.ExpiresAt = until
			d, _ := k.issue(in)
			return root{d, r.epoch, until}
		}
		other := device(r.expires.Add(10 * time.Second))
		late := device(seconds(T0.Add(30 * 24 * time.Hour)))
		next, others, lates := k.renew(r, 5*minute), k.renew(other, minute), k.renew(late, minute)
		lost := r
		lost.expires = r.expires.Add(30 * time.Second) // between the two, of a history that was lost
		k.equal("the successor", k.renew(lost, 5*minute), next)

		busy := device(r.expires.Add(minute))
		for i := range 2 * storage.MaxRenewals {
			busy = k.renew(busy, time.Duration(10+2*i)*minute)
		}
		k.equal("the successor, after many renewals of another", k.renew(other, 2*minute), others)

		second := k.epoch().Number
		got, err := k.present(asks(busy, second), T0.Add(20*time.Hour))
		k.must(err)
		_, err = k.retire(second, event("epoch_retired", T0))
		k.must(err)
		third := k.epochs()[2].Number
		again, err := k.present(asks(busy, third), T0.Add(20*time.Hour))
		k.must(err)
		k.equal("a new one for what died", []any{got.New, again.New, again.Epoch}, []any{true, true, third})
		k.equal("the successor, after others' died", k.renew(other, 2*minute), others)
		k.equal("a later one's", k.renew(late, 2*minute), lates)
	}},
	{"a new one for what died leaves those before it their successors", func(k *kit) {
		a := k.login()
		b := k.renew(a, minute)
		second := k.epoch().Number
		_, err := k.present(asks(b, second), T0.Add(minute))
		k.must(err)
		_, err = k.retire(second, event("epoch_retired", T0))
		k.must(err)
		again, err := k.present(asks(b, k.epochs()[2].Number), T0.Add(minute))
		k.must(err)
		k.equal("new", again.New, true)
		k.equal("the first one's", k.renew(a, minute), b)
	}},
	{"a branch that is revoked is not its root", func(k *kit) {
		r := k.login()
		_, _, err := k.s.RevokeBranch(k.Context(), storage.RevokeBranch{RootKeyID: r.RootKeyID, Fingerprint: key16(10), ExpiresAt: r.expires}, event("branch_revoked", T0))
		k.must(err)
		gone := asks(r, r.epoch)
		gone.RootKeyID = key16(999)
		_, _, err = k.s.RevokeBranch(k.Context(), storage.RevokeBranch{RootKeyID: gone.RootKeyID, Fingerprint: key16(10), ExpiresAt: r.expires}, event("branch_revoked", T0))
		k.must(err)
		_, err = k.s.RevokeRootKey(k.Context(), key16(998), T0, event("revoked", T0))
		k.must(err)
		_, err = k.present(gone, T0.Add(minute))
		k.wantErr(err, storage.ErrNotFound)
		k.renew(r, minute)
	}},
	{"whoever may not have a token gets none", func(k *kit) {
		r := k.login()
		refused := func(in storage.RenewDevice, want error) {
			k.Helper()
			k.unchanged(func() {
				k.Helper()
				_, err := k.present(in, T0.Add(minute))
				k.wantErr(err, want)
			})
		}
		in := asks(r, r.epoch)
		in.DeviceID = "dev_nobody"
		refused(in, storage.ErrNotFound)
		in = asks(r, r.epoch)
		in.UserID = k.user("b").ID
		refused(in, storage.ErrNotFound)
		in = asks(r, r.epoch)
		in.RootKeyID = key16(999)
		refused(in, storage.ErrNotFound)
		refused(asks(r, r.epoch+1), storage.ErrEpochNotSigning)

		replaced, _ := k.issue(k.asking(storage.User{ID: r.UserID}, r.epoch, "install", T0))
		refused(asks(r, r.epoch), storage.ErrRevoked)
		next := k.renew(root{replaced, r.epoch, replaced.ExpiresAt}, minute)
		_, err := k.s.SuspendUser(k.Context(), r.UserID, event("user_suspended", T0))
		k.must(err)
		refused(asks(next, r.epoch), storage.ErrRevoked)
	}},
	{"a root key that no device is known to have lost is refused when it is on the list", func(k *kit) {
		r := k.login()
		_, err := k.s.RevokeRootKey(k.Context(), r.RootKeyID, r.expires, event("device_revoked", T0))
		k.must(err)
		_, err = k.present(asks(r, r.epoch), T0.Add(minute))
		k.wantErr(err, storage.ErrRevoked)
	}},
	{"after a rotation the successor is of the new epoch, and stays what it was after the next", func(k *kit) {
		r := k.login()
		second := k.epoch()
		_, err := k.present(asks(r, r.epoch), T0.Add(minute))
		k.wantErr(err, storage.ErrEpochNotSigning)
		got, err := k.present(asks(r, second.Number), T0.Add(minute))
		k.must(err)
		k.equal("epoch", got.Epoch, second.Number)
		third := k.epoch()
		again, err := k.present(asks(r, third.Number), T0.Add(2*minute))
		k.must(err)
		k.equal("again", root{r.Device, again.Epoch, again.ExpiresAt}, root{r.Device, second.Number, got.ExpiresAt})
		k.equal("new", again.New, false)
	}},
	{"what ended with its epoch is not renewed into the next", func(k *kit) {
		r := k.login()
		next := k.renew(r, minute)
		_, err := k.retire(r.epoch, event("epoch_retired", T0.Add(minute)))
		k.must(err)
		for _, dead := range []root{r, next, {next.Device, r.epoch, next.expires.Add(minute)}} {
			k.unchanged(func() {
				_, err := k.present(asks(dead, r.epoch+1), T0.Add(minute))
				k.wantErr(err, storage.ErrRevoked)
			})
		}
	}},
	{"a successor of a retired epoch has died: the next living one, or a new one, takes its place", func(k *kit) {
		r := k.login()
		second := k.epoch()
		dead, err := k.present(asks(r, second.Number), T0.Add(minute))
		k.must(err)
		_, err = k.retire(second.Number, event("epoch_retired", T0))
		k.must(err)
		third := k.epoch()
		got, err := k.present(asks(r, third.Number), T0.Add(2*minute))
		k.must(err)
		if !got.New || got.Epoch != third.Number || !got.ExpiresAt.After(dead.ExpiresAt) {
			k.Fatalf("%+v after %+v", got, dead)
		}
		again, err := k.present(asks(r, third.Number), T0.Add(3*minute))
		k.must(err)
		k.equal("again", root{r.Device, again.Epoch, again.ExpiresAt}, root{r.Device, got.Epoch, got.ExpiresAt})
		k.used(root{r.Device, got.Epoch, got.ExpiresAt}, 4*minute)
		k.theft(r, 5*minute)
	}},
	{"however many successors have died, the next living one, or a new one, takes their place", func(k *kit) {
		for _, dead := range []int{2, 3, 4, 5, 9} {
			for _, living := range []int{0, 1} {
				u := k.user(fmt.Sprint(dead, living))
				signing := k.epoch()
				in := k.asking(u, signing.Number, "", T0)
				in.RootKey.ExpiresAt = seconds(in.RootKey.ExpiresAt)
				d, _ := k.issue(in)
				first := root{d, signing.Number, in.RootKey.ExpiresAt}
				doomed := k.epoch()
				last := first
				give := func(signing uint32) {
					got, err := k.present(asks(last, signing), T0.Add(minute))
					k.must(err)
					last = root{d, got.Epoch, got.ExpiresAt}
				}
				for range dead {
					give(doomed.Number)
				}
				third := k.epoch()
				for range living {
					give(third.Number)
				}
				_, err := k.retire(doomed.Number, event("epoch_retired", T0))
				k.must(err)
				for n := range 2 {
					got, err := k.present(asks(first, third.Number), T0.Add(minute+time.Second))
					k.must(err)
					if got.Theft || got.Epoch != third.Number || got.New != (living == 0 && n == 0) ||
						living == 1 && !got.ExpiresAt.Equal(last.expires) || living == 0 && n == 0 && !got.ExpiresAt.After(last.expires) {
						k.Fatalf("%d dead, %d living, %d: %+v", dead, living, n, got)
					}
				}
			}
		}
	}},
	{"a new one in the place of a dead successor gives nobody a new grace", func(k *kit) {
		first := k.login()
		r := k.renew(first, minute)
		second := k.epoch()
		_, err := k.present(asks(r, second.Number), T0.Add(2*minute)) // r is used
		k.must(err)
		third := k.epoch()
		_, err = k.retire(second.Number, event("epoch_retired", T0))
		k.must(err)
		got, err := k.present(asks(r, third.Number), T0.Add(3*minute-time.Second))
		k.must(err)
		k.equal("new", got.New, true)
		k.theft(first, 3*minute+30*time.Second)
	}},
	{"a token later than the table is the latest: a backup was restored", func(k *kit) {
		known := k.login()
		lost := root{known.Device, known.epoch, known.expires.Add(10 * minute)}
		between := root{known.Device, known.epoch, known.expires.Add(5 * minute)}
		next := k.renew(lost, 30*minute)
		if !next.expires.After(lost.expires) {
			k.Fatalf("%s after %s", next.expires, lost.expires)
		}
		d, err := k.s.Device(k.Context(), known.UserID, known.ID)
		k.must(err)
		k.equal("device", d.ExpiresAt, next.expires)
		k.equal("what the table knew as the latest", k.renew(known, 30*minute), lost)
		k.equal("what was lost between the two", k.renew(between, 31*minute-time.Millisecond), lost)
		k.theft(between, 31*minute)
	}},
	{"what a lost history has renewed was in use there", func(k *kit) {
		known := k.login()
		next := k.renew(known, minute)
		lost := root{known.Device, known.epoch, next.expires.Add(5 * minute)}
		k.renew(lost, 10*minute)
		k.equal("in the grace", k.renew(known, 11*minute-time.Millisecond), next)
		k.theft(known, 11*minute)
	}},
	{"honest holders are never taken for thieves, whatever is lost", func(k *kit) {
		for seed := range uint64(8) {
			k.honest(rand.New(rand.NewPCG(seed, 7)))
		}
	}},
	{"what was given goes with its root key", func(k *kit) {
		r := k.login()
		next := k.renew(r, 30*minute)
		late := k.renew(next, 80*minute)
		k.equal("early", k.expire(storage.Expire{Now: next.expires.Add(storage.ClockSkew + time.Second), Limit: 10}), storage.Expired{})
		k.equal("late", k.expire(storage.Expire{Now: late.expires.Add(storage.ClockSkew + time.Second), Limit: 10}), storage.Expired{RootKeys: 1, Devices: 1})
	}},
	{"of many that were renewed none goes, however few a call looks at", func(k *kit) {
		e := k.epoch()
		var live []root
		for n := range 5 {
			u := k.user(fmt.Sprint("user ", n))
			in := k.asking(u, e.Number, "", T0)
			in.RootKey.ExpiresAt = seconds(T0.Add(time.Duration(n+1) * minute))
			d, _ := k.issue(in)
			live = append(live, k.renew(root{d, e.Number, in.RootKey.ExpiresAt}, time.Duration(n+1)*minute-time.Second))
		}
		in := storage.Expire{Now: T0.Add(30 * minute), Limit: 2} // after the first root macaroons, before the second
		for range 5 {
			k.equal("expired", k.expire(in), storage.Expired{})
		}
		for _, r := range live {
			d, err := k.s.Device(k.Context(), r.UserID, r.ID)
			k.must(err)
			k.equal("expiry", d.ExpiresAt, r.expires)
			k.renew(r, 31*minute)
		}
	}},
	{"all of many that were renewed go, a few a call, and their epochs after them", func(k *kit) {
		e := k.epoch()
		var all []root
		for n := range 5 {
			in := k.asking(k.user(fmt.Sprint("user ", n)), e.Number, "", T0)
			in.RootKey.ExpiresAt = seconds(T0.Add(time.Duration(n)*2*time.Hour + minute)) // after the end of the ones before
			d, _ := k.issue(in)
			all = append(all, root{d, e.Number, in.RootKey.ExpiresAt})
		}
		second := k.epoch()
		for n, r := range all {
			_, err := k.present(asks(r, second.Number), T0.Add(time.Duration(n)*2*time.Hour))
			k.must(err)
		}
		k.epoch()
		var gone storage.Expired
		for range 20 {
			some := k.expire(storage.Expire{Now: T0.Add(24 * time.Hour), Limit: 1})
			gone.Devices, gone.RootKeys, gone.Epochs = gone.Devices+some.Devices, gone.RootKeys+some.RootKeys, gone.Epochs+some.Epochs
		}
		k.equal("expired", gone, storage.Expired{Devices: 5, RootKeys: 5, Epochs: 2})
	}},
	{"suspending finds a root key whose first root macaroon has expired", func(k *kit) {
		r := k.login()
		next := k.renew(r, 50*minute)
		replaced, _ := k.issue(k.asking(storage.User{ID: r.UserID}, r.epoch, "install", T0.Add(51*minute)))
		gone, err := k.s.SuspendUser(k.Context(), r.UserID, event("user_suspended", T0.Add(70*minute)))
		k.must(err)
		k.equal("entries", len(gone), 1)
		k.equal("the live device's", gone[0].RootKeyID, replaced.RootKeyID)
		for _, entry := range k.list(0) {
			if entry.RootKeyID == r.RootKeyID && entry.ExpiresAt.Before(next.expires.Add(storage.ClockSkew)) {
				k.Fatalf("the entry goes at %s, before the last token of %s", entry.ExpiresAt, next.expires)
			}
		}
	}},
	{"an epoch stays while a root macaroon of it may live", func(k *kit) {
		r := k.login()
		second := k.epoch()
		_, err := k.present(asks(r, second.Number), T0.Add(minute))
		k.must(err)
		k.equal("early", k.expire(storage.Expire{Now: r.expires.Add(storage.ClockSkew), Limit: 10}).Epochs, 0)
		k.equal("late", k.expire(storage.Expire{Now: r.expires.Add(storage.ClockSkew + time.Second), Limit: 10}).Epochs, 1)
	}},
}
