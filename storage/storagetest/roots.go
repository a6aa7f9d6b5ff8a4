package storagetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"macaroond/storage"
)

var knownRoots = []clause{
	{"the roots of a device that live are known, each with its epoch", func(k *kit) {
		r := k.login()
		k.roots(r, T0, true, r)
		k.roots(r, r.expires, true)
		second := k.renew(r, 10*minute)
		next := second
		next.epoch = k.epoch().Number
		got, err := k.present(asks(second, next.epoch), T0.Add(20*minute))
		k.must(err)
		next.expires = got.ExpiresAt
		first := r // of it nothing says the epoch any more
		first.epoch = next.epoch
		k.roots(r, T0, true, r, first, second, next)
		k.roots(r, r.expires.Add(-time.Second), true, r, first, second, next)
		k.roots(r, r.expires, true, second, next)
		k.roots(r, second.expires, true, next)
		k.roots(r, next.expires, true)
		_, err = k.retire(r.epoch, event("epoch_retired", T0))
		k.must(err)
		k.roots(r, T0, true, first, second, next)
		r.RootKeyID[0]++ // nothing is known of it
		k.roots(r, T0, false)
	}},
	{"of a device that is renewed too often not all roots are known, and it is said", func(k *kit) {
		first := k.login(func(in *storage.IssueDevice) { in.Device.TTL = 20 * time.Hour })
		all := []root{first}
		for i := range 4 * storage.KnownRoots {
			known, complete, err := k.s.Roots(k.Context(), first.RootKeyID, T0)
			k.must(err)
			if complete != (i < storage.KnownRoots) || len(known) != min(i, storage.KnownRoots)+1 {
				k.Fatalf("after %d renewals: %d, all %v", i, len(known), complete)
			}
			last := all[len(all)-1]
			all = append(all, k.renew(last, 2*minute*time.Duration(i)))
		}
		end := len(all)
		k.roots(first, T0, false, all[end-storage.KnownRoots-1:]...)
		// When the older ones are over, what is there is all again.
		k.roots(first, all[end-storage.KnownRoots-1].expires, true, all[end-storage.KnownRoots:]...)
	}},
	{"after a restore with tokens kept it is said of each root key that there may be more", func(k *kit) {
		r := k.login()
		next := k.renew(r, minute)
		in := k.asking(storage.User{ID: r.UserID}, r.epoch, "never renewed", T0)
		d, _ := k.issue(in)
		never := root{d, r.epoch, in.RootKey.ExpiresAt}
		_, err := k.s.Restored(k.Context(), true, event("restored", T0.Add(2*minute)))
		k.must(err)
		k.roots(never, T0, false, never)
		k.roots(r, T0, false, r, next)
		later := k.renew(next, 3*minute)
		k.roots(r, T0, false, r, next, later)
		k.roots(r, T0.Add(storage.MaxRootTTL), false)
		for i := range 4 * storage.KnownRoots { // some are forgotten, which says less
			later = k.renew(later, 4*minute+2*minute*time.Duration(i))
		}
		k.roots(r, T0.Add(storage.MaxRootTTL), false)
		in = k.asking(storage.User{ID: r.UserID}, r.epoch, "another", T0.Add(4*minute))
		d, _ = k.issue(in)
		after := root{d, r.epoch, in.RootKey.ExpiresAt}
		k.roots(after, T0, true, after)
	}},
	{"a root of a lost history says that there may be others", func(k *kit) {
		r := k.login()
		lost := r
		lost.expires = r.expires.Add(20 * minute)
		next := k.renew(lost, minute) // not before the lost one's expiry and a second
		k.roots(r, T0, false, r, lost, next)
		k.roots(r, lost.expires, true, next)
	}},
	{"that roots were forgotten is not forgotten with dead successors", func(k *kit) {
		r := k.login(func(in *storage.IssueDevice) { in.Device.TTL = 20 * time.Hour })
		renew := func(r root, signing uint32, at time.Duration) root {
			ask := asks(r, signing)
			ask.RootTTL, ask.Grace = 20*time.Hour, time.Hour
			got, err := k.present(ask, T0.Add(at))
			k.must(err)
			return root{r.Device, got.Epoch, got.ExpiresAt}
		}
		last := r
		for i := range 12 {
			last = renew(last, r.epoch, time.Duration(i)*minute)
		}
		second := k.epoch().Number
		next := last
		for i := range 7 {
			next = renew(next, second, 82*minute+time.Duration(i)*minute)
		}
		_, err := k.retire(second, event("epoch_retired", T0))
		k.must(err)
		third := k.epoch().Number
		renew(last, third, 90*minute) // its dead successors become one row
		_, all, err := k.s.Roots(k.Context(), r.RootKeyID, T0.Add(90*minute))
		k.must(err)
		k.equal("all", all, false)
	}},
	{"roots that are all known are all: in any history", func(k *kit) {
		for seed := range uint64(15) {
			k.rootsOf(rand.New(rand.NewPCG(9, seed)))
		}
	}},
}

// roots holds what is known of a root's device against what should be.
func (k *kit) roots(r root, now time.Time, all bool, want ...root) {
	k.Helper()
	got, complete, err := k.s.Roots(k.Context(), r.RootKeyID, now)
	k.must(err)
	var known, wanted []string
	for _, v := range got {
		known = append(known, fmt.Sprint(v.ExpiresAt.UTC(), " epoch ", v.Epoch))
	}
	for _, v := range want {
		wanted = append(wanted, fmt.Sprint(v.expires.UTC(), " epoch ", v.epoch))
	}
	slices.Sort(known)
	slices.Sort(wanted)
	k.equal("roots", strings.Join(known, ", "), strings.Join(wanted, ", "))
	k.equal("all of them", complete, all)
}

// rootsOf has a few processes of a device renew, epochs come and go, and the
// house be kept: whenever all roots are said to be known, each that was given
// out and lives is among them.
func (k *kit) rootsOf(r *rand.Rand) {
	k.Helper()
	signing, u := k.epoch(), k.user(fmt.Sprint("roots ", k.next()))
	in := k.asking(u, signing.Number, "", T0)
	in.RootKey.ExpiresAt = seconds(in.RootKey.ExpiresAt)
	d, _ := k.issue(in)
	issued := []root{{d, signing.Number, in.RootKey.ExpiresAt}}
	retired := map[uint32]bool{}
	holds := [3]root{issued[0], issued[0], issued[0]}
	for now := T0; now.Before(T0.Add(6 * time.Hour)); now = now.Add(time.Duration(r.IntN(240)) * time.Second) {
		switch p := &holds[r.IntN(len(holds))]; r.IntN(24) {
		case 0:
			signing = k.epoch()
		case 1:
			if old := issued[r.IntN(len(issued))].epoch; old != signing.Number && !retired[old] {
				if _, err := k.retire(old, event("epoch_retired", now)); !errors.Is(err, storage.ErrNotFound) { // it went with its last root
					k.must(err)
				}
				retired[old] = true
			}
		case 2:
			_, err := k.s.Expire(k.Context(), storage.Expire{Now: now, Limit: 100})
			k.must(err)
		case 3, 4:
			*p = issued[len(issued)-1]
		case 5, 6: // a pause
			now = now.Add(time.Duration(r.IntN(40)) * minute)
		default:
			if retired[p.epoch] || !now.Before(p.expires) {
				*p = issued[len(issued)-1]
				continue
			}
			ask := asks(*p, signing.Number)
			ask.Grace, ask.RootTTL = 2*time.Hour, time.Hour
			got, err := k.present(ask, now)
			switch {
			case errors.Is(err, storage.ErrRenewalLimit):
				continue
			case errors.Is(err, storage.ErrNotFound): // it was not renewed for long, and the house was kept
				return
			}
			k.must(err)
			if got.Theft {
				return
			}
			*p = root{d, got.Epoch, got.ExpiresAt}
			if got.New {
				issued = append(issued, *p)
			}
		}
		known, all, err := k.s.Roots(k.Context(), d.RootKeyID, now)
		k.must(err)
		if !all {
			continue
		}
		for _, v := range issued {
			if v.expires.After(now) && !retired[v.epoch] && !slices.Contains(known, storage.Root{Epoch: v.epoch, ExpiresAt: v.expires.UTC()}) {
				k.Fatalf("at %s the root of epoch %d until %s is not known: %v", now, v.epoch, v.expires, known)
			}
		}
	}
}
