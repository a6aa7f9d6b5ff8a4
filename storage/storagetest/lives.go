package storagetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"macaroond/storage"
)

var lives = []clause{
	{"what ended is listed until it has expired, what lives is not, and nothing stays: in any history", func(k *kit) {
		for seed := range uint64(12) {
			k.live(rand.New(rand.NewPCG(11, seed)))
		}
	}},
}

// world is what a history has come to, as far as a model knows it.
type world struct {
	*kit
	r       *rand.Rand
	now     time.Time
	signing uint32
	users   []*person
	given   []root // every root macaroon that was given out
	dead    map[[16]byte]bool
	retired map[uint32]bool
}

type person struct {
	storage.User
	suspended bool
}

const maxLive = 3 // devices of a user

// live plays one history: people log in, renew, are suspended and deleted,
// epochs come and go, and the house is kept now and then.
func (k *kit) live(r *rand.Rand) {
	w := &world{kit: k, r: r, now: T0, signing: k.epoch().Number, dead: map[[16]byte]bool{}, retired: map[uint32]bool{}}
	for range 4 {
		w.users = append(w.users, &person{User: k.user(fmt.Sprint("person ", k.next()), w.code())})
	}
	for range 150 {
		w.now = w.now.Add(time.Duration(r.IntN(8)) * minute)
		w.step()
		w.check()
	}
	for _, u := range w.users {
		_, err := k.s.DeleteUser(k.Context(), storage.DeleteUser{UserID: u.ID}, event("deleted", w.now))
		k.must(err)
		w.end(u.ID, [16]byte{})
	}
	w.check()
	w.now = w.now.Add(24 * time.Hour)
	for range 400 {
		if k.expire(storage.Expire{Now: w.now.Add(storage.PolicyNews), Limit: 3}) == (storage.Expired{}) {
			break
		}
	}
	k.equal("list", k.list(0), []storage.Revocation(nil))
	k.equal("epochs", len(k.epochs()), 1)
	all, err := k.s.Policies(k.Context())
	k.must(err)
	k.equal("policies", len(all), 0)
}

func (w *world) code() [32]byte { return hash32(w.next()) }

// end marks what a user's device, or with no key all of them, had.
func (w *world) end(userID string, key [16]byte) {
	for _, g := range w.given {
		if g.UserID == userID && (key == [16]byte{} || key == g.RootKeyID) {
			w.dead[g.RootKeyID] = true
		}
	}
}

func (w *world) ended(list []storage.Revocation) {
	for _, e := range list {
		w.dead[e.RootKeyID] = true
	}
}

func (w *world) lives(g root) bool {
	return !w.dead[g.RootKeyID] && !w.retired[g.epoch] && w.now.Before(g.expires)
}

func (w *world) step() {
	k, r := w.kit, w.r
	u := w.users[r.IntN(len(w.users))]
	ctx, ev := k.Context(), event("step", w.now)
	switch n := r.IntN(100); {
	case n < 25:
		w.login(u)
	case n < 50:
		w.renew()
	case n < 54:
		devices, err := k.s.Devices(ctx, u.ID)
		k.must(err)
		if len(devices) > 0 {
			d := devices[r.IntN(len(devices))]
			_, err := k.s.RevokeDevices(ctx, storage.RevokeDevices{UserID: u.ID, DeviceID: d.ID, Reason: "owner"}, ev)
			k.must(err)
			w.end(u.ID, d.RootKeyID)
		}
	case n < 57:
		_, err := k.s.SuspendUser(ctx, u.ID, ev)
		k.must(err)
		w.end(u.ID, [16]byte{})
		u.suspended = true
	case n < 63:
		k.must(k.s.ResumeUser(ctx, u.ID, ev))
		u.suspended = false
	case n < 65:
		_, err := k.s.SetPassword(ctx, storage.SetPassword{UserID: u.ID, Hash: fmt.Sprint("hash ", k.next()), Revoke: true}, ev)
		k.must(err)
		w.end(u.ID, [16]byte{})
	case n < 67:
		_, err := k.s.DeleteUser(ctx, storage.DeleteUser{UserID: u.ID}, ev)
		k.must(err)
		w.end(u.ID, [16]byte{})
		*u = person{User: k.user(fmt.Sprint("person ", k.next()), w.code())}
	case n < 71:
		w.signing = k.epoch().Number
	case n < 73:
		if len(w.given) > 0 {
			old := w.given[r.IntN(len(w.given))].epoch
			if _, err := k.retire(old, ev); !errors.Is(err, storage.ErrNotFound) { // it went with its last root
				k.must(err)
			}
			w.retired[old] = true
			epochs := k.epochs()
			w.signing = epochs[len(epochs)-1].Number
		}
	case n < 76:
		p := storage.Policy{ID: fmt.Sprintf("pol_%016d", k.next()), Target: u.ID, Caveats: []string{"method GET"}, CreatedAt: w.now}
		_, err := k.s.AddPolicy(ctx, storage.AddPolicy{Policy: p, MaxOfTarget: 100, MaxAll: 1000}, ev)
		k.must(err)
	case n < 86:
		w.ask(u)
	default:
		k.expire(storage.Expire{Now: w.now, Limit: 1 + r.IntN(10)})
	}
}

func (w *world) login(u *person) {
	in := w.asking(u.User, w.signing, []string{"", "", "phone", "tablet"}[w.r.IntN(4)], w.now)
	in.RootKey.ExpiresAt, in.MaxDevices = seconds(in.RootKey.ExpiresAt), maxLive
	d, revoked, err := w.s.IssueDevice(w.Context(), in, event("login", w.now))
	if u.suspended {
		w.wantErr(err, storage.ErrSuspended)
		return
	}
	w.must(err)
	w.ended(revoked)
	w.given = append(w.given, root{d, w.signing, in.RootKey.ExpiresAt})
}

// ask is some device of the user's, dead ones too, that wants the others removed
// without a proof.
func (w *world) ask(u *person) {
	devices, err := w.s.Devices(w.Context(), u.ID)
	w.must(err)
	if len(devices) == 0 {
		return
	}
	asking := devices[w.r.IntN(len(devices))]
	act := w.act(asking, "remove", "others", w.now)
	act.Delay = time.Hour
	revoked, _, err := w.s.RemoveDevices(w.Context(), storage.RevokeDevices{UserID: u.ID, Except: asking.ID, Reason: "owner"}, act, event("removed", w.now))
	if !errors.Is(err, storage.ErrRevoked) && !errors.Is(err, storage.ErrProofRequired) && !errors.Is(err, storage.ErrTooManyActs) {
		w.must(err)
	}
	w.ended(revoked)
}

func (w *world) renew() {
	if len(w.given) == 0 {
		return
	}
	g := w.given[w.r.IntN(len(w.given))]
	if !w.now.Before(g.expires) { // the verdict comes first
		return
	}
	got, err := w.present(asks(g, w.signing), w.now)
	switch {
	case !w.lives(g):
		if err == nil || !errors.Is(err, storage.ErrRevoked) && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrSuspended) {
			w.Fatalf("a dead root was renewed: %+v, %v", got, err)
		}
	case errors.Is(err, storage.ErrRenewalLimit):
	case err != nil:
		w.Fatal(err)
	case got.Theft:
		w.ended(got.Revoked)
	case got.New:
		w.given = append(w.given, root{g.Device, got.Epoch, got.ExpiresAt})
	}
}

// check holds the list and the epochs against the model.
func (w *world) check() {
	w.Helper()
	listed, retired := map[[16]byte]time.Time{}, map[uint32]time.Time{}
	for _, e := range w.list(0) {
		switch e.Grain {
		case storage.GrainDevice:
			listed[e.RootKeyID] = e.ExpiresAt
		case storage.GrainEpoch:
			retired[e.Epoch] = e.ExpiresAt
		}
	}
	verifies := map[uint32]bool{}
	for _, e := range w.epochs() {
		verifies[e.Number] = e.State != storage.EpochRetired
	}
	live := map[string]map[[16]byte]bool{}
	for _, g := range w.given {
		end := g.expires.Add(storage.ClockSkew)
		if !w.now.Before(end) {
			continue
		}
		byKey, byEpoch := listed[g.RootKeyID], retired[g.epoch]
		switch refused := !byKey.IsZero() || !byEpoch.IsZero(); {
		case w.dead[g.RootKeyID] || w.retired[g.epoch]:
			if byKey.Before(end) && byEpoch.Before(end) {
				w.Fatalf("at %s: a dead root of epoch %d until %s is listed until %s, its epoch until %s", w.now, g.epoch, g.expires, byKey, byEpoch)
			}
		case refused || !verifies[g.epoch]:
			w.Fatalf("at %s: a live root of epoch %d until %s is refused: %s, %s, %v", w.now, g.epoch, g.expires, byKey, byEpoch, verifies[g.epoch])
		case w.lives(g):
			if live[g.UserID] == nil {
				live[g.UserID] = map[[16]byte]bool{}
			}
			live[g.UserID][g.RootKeyID] = true
		}
	}
	for _, u := range w.users {
		if len(live[u.ID]) > maxLive || u.suspended && len(live[u.ID]) > 0 {
			w.Fatalf("%d live devices of %+v", len(live[u.ID]), u)
		}
		for _, d := range w.waiting(u.ID, w.now) {
			if asking, err := w.s.Device(w.Context(), u.ID, d.DeviceID); err != nil || !asking.RevokedAt.IsZero() {
				w.Fatalf("%+v waits, and its device does not live: %+v, %v", d, asking, err)
			}
		}
	}
}
