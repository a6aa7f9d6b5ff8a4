package guard_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/guard"
	"macaroond/storage"
)

// Where on a chain a branch was revoked, and whether the guard knew the prefix
// by then: what stands at or behind that point is dead, what stands before it or
// beside it lives.
func TestBranches(t *testing.T) {
	a := start(t)
	alice := a.device("alice")
	chain := []string{"W", "note delegated", "path /photos/*", "audience photos", "method GET", "note last"}
	for i, point := range []struct {
		name string
		at   int // the branch is the token with the first so many of chain
	}{
		{"at the window", 1},
		{"inside the prefix", 2},
		{"right before the audience", 3},
		{"at the audience", 4},
		{"behind the audience", 5},
		{"the very token", 6},
	} {
		for _, warm := range []bool{false, true} {
			g := a.guard(nil)
			with := []string{fmt.Sprint("note root ", i, warm)} // of this row alone
			for _, c := range chain {
				if c == "W" {
					c = window()
				}
				with = append(with, c)
			}
			up := func(n int) string { return narrow(t, alice.Token, with[:n+1]...) }
			text, beside := up(6), narrow(t, up(4), "note beside")
			name := fmt.Sprintf("%s, prefix known: %v: ", point.name, warm)
			dead, questions := api.CodeInvalid, int64(1)
			if warm {
				a.want(name+"before", g, text, "ok", 1)
				dead, questions = api.CodeRevoked, 0
			}
			a.revoke(g, up(point.at))
			// A sibling that lives brings the prefix, which then shows the dead ones as
			// what they are.
			if point.at > 4 {
				if !warm {
					a.want(name+"the token first", g, text, api.CodeInvalid, 1)
				}
				a.want(name+"beside", g, beside, "ok", 1-b2i(warm))
				a.want(name+"the audience alone", g, up(4), "ok", 0)
				a.want(name+"a child", g, narrow(t, text, "note child"), api.CodeRevoked, 0)
				a.want(name+"a child that forged", g, forge(narrow(t, text, "note child")), api.CodeInvalid, 0)
				continue
			}
			a.want(name+"the token", g, text, dead, questions)
			a.want(name+"a child", g, narrow(t, text, "note child"), dead, questions)
			a.want(name+"beside", g, beside, dead, questions)
			// What stands beside the revoked point lives.
			a.want(name+"another branch of the root", g, narrow(t, alice.Token, fmt.Sprint("note other ", i, warm), window(), "audience photos"), "ok", 1)
			if point.at > 1 {
				a.want(name+"another branch of the window", g, narrow(t, up(1), "note other", "audience photos"), "ok", 1)
			}
		}
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Everything by which a device ends, with its prefix known and without.
func TestDevicesEnd(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(t *testing.T, a *authority, root *api.Grant)
	}{
		{"logged out", func(t *testing.T, a *authority, root *api.Grant) {
			ok(t, a.c.Logout(t.Context(), client.Bearer(root.Token)))
		}},
		{"the root is presented", func(t *testing.T, a *authority, root *api.Grant) {
			_, err := a.c.Revoke(t.Context(), client.Credential{}, root.Token)
			ok(t, err)
		}},
		{"removed", func(t *testing.T, a *authority, root *api.Grant) {
			ok(t, a.c.RevokeDevice(t.Context(), client.Bearer(root.Token), root.Device.ID))
		}},
		{"all are removed", func(t *testing.T, a *authority, root *api.Grant) {
			ok(t, a.c.RevokeAllDevices(t.Context(), client.Bearer(root.Token)))
		}},
		{"the user is suspended", func(t *testing.T, a *authority, root *api.Grant) {
			ok(t, a.svc.SuspendUser(t.Context(), root.User.ID, service.ActorOperator, service.Source{}))
		}},
		{"suspended and resumed", func(t *testing.T, a *authority, root *api.Grant) {
			ok(t, a.svc.SuspendUser(t.Context(), root.User.ID, service.ActorOperator, service.Source{}))
			ok(t, a.svc.ResumeUser(t.Context(), root.User.ID, service.ActorOperator, service.Source{}))
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := start(t)
			alice, bob := a.device("alice"), a.device("bob")
			g := a.guard(nil)
			known := narrow(t, alice.Token, window(), "audience photos")
			whole := narrow(t, alice.Token, "audience photos")
			his := narrow(t, bob.Token, window(), "audience photos")
			for _, text := range []string{known, whole, his} {
				a.want("before", g, text, "ok", 1)
			}
			n := g.Revocations()
			row.end(t, a, alice)
			eventually(t, "the guard hears of it", func() bool { return g.Revocations() > n })
			a.want("a known prefix", g, narrow(t, known, "note x"), "revoked", 0)
			a.want("a known token", g, whole, "revoked", 0)
			a.want("one that is not known", g, narrow(t, alice.Token, "note new", window(), "audience photos"), "invalid", 1)
			a.want("somebody else's", g, his, "ok", 0)
		})
	}
}

// Time is the guard's own. What a prefix covers runs out like everything else,
// and nobody is asked about it.
func TestExpiry(t *testing.T) {
	a := start(t)
	var ahead atomic.Int64
	g := a.guard(func(o *guard.Options) {
		o.MaxStaleness = 100 * time.Hour // the clock moves, and the list with it
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	alice := a.device("alice")
	begin := narrow(t, alice.Token, window(), "audience photos")
	short := narrow(t, begin, soon())
	after := narrow(t, begin, "time-after "+strings.TrimPrefix(soon(), "time-before "))
	whole := narrow(t, alice.Token, "audience photos")
	for _, row := range []struct {
		at                               time.Duration
		begin, short, after, whole, fake string
	}{
		{0, "ok", "ok", "not_yet_valid", "ok", "invalid"},
		{2 * time.Minute, "ok", "expired", "ok", "ok", "invalid"},
		{2 * time.Hour, "expired", "expired", "expired", "ok", "invalid"},
		{25 * time.Hour, "expired", "expired", "expired", "expired", "invalid"},
		{-2 * time.Hour, "ok", "ok", "not_yet_valid", "ok", "invalid"},
	} {
		ahead.Store(int64(row.at))
		first := b2i(row.at == 0)
		a.want(fmt.Sprint(row.at, ": the prefix"), g, begin, row.begin, first)
		a.want(fmt.Sprint(row.at, ": a short one"), g, short, row.short, 0)
		a.want(fmt.Sprint(row.at, ": a later one"), g, after, row.after, 0)
		a.want(fmt.Sprint(row.at, ": a whole one"), g, whole, row.whole, first)
		a.want(fmt.Sprint(row.at, ": a forged tail"), g, forge(short), row.fake, 0)
	}
}

// A token of a retired epoch is dead, prefix or not; so is everything when the
// authority's database was restored from a backup, and what was learned of the
// former history counts no more.
func TestEpochsAndRestores(t *testing.T) {
	for _, row := range []struct {
		name   string
		happen func(t *testing.T, a *authority)
		// of what was minted before: known, and not known
		known, unknown string
	}{
		{"an epoch is retired", func(t *testing.T, a *authority) {
			epochs, err := a.store.Epochs(t.Context())
			ok(t, err)
			_, err = a.store.RetireEpochs(t.Context(), storage.RetireEpochs{Number: epochs[0].Number, Seal: a.seal, Begun: event()}, event())
			ok(t, err)
		}, "revoked", "invalid"},
		{"restored", func(t *testing.T, a *authority) {
			_, err := a.store.Restored(t.Context(), false, event())
			ok(t, err)
		}, "invalid", "invalid"},
		{"restored, tokens are kept", func(t *testing.T, a *authority) {
			_, err := a.store.Restored(t.Context(), true, event())
			ok(t, err)
		}, "ok", "ok"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := start(t)
			g := a.guard(nil)
			alice := a.device("alice")
			known := narrow(t, alice.Token, window(), "audience photos")
			unknown := narrow(t, alice.Token, "note x", window(), "audience photos")
			a.want("before", g, known, "ok", 1)
			before, err := a.store.State(t.Context())
			ok(t, err)
			row.happen(t, a)
			eventually(t, "the authority has read it", func() bool {
				return a.svc.FeedPosition().Sequence > before.Sequence || a.svc.FeedPosition().Generation != before.Generation
			})
			state, err := a.store.State(t.Context())
			ok(t, err)
			if state.Generation != before.Generation {
				eventually(t, "the prefixes are dropped", func() bool { return g.Prefixes() == 0 })
				eventually(t, "the new list is there", func() bool { return g.Staleness() < time.Minute })
				a.want("known before", g, known, row.known, 1)
			} else {
				eventually(t, "the guard hears of it", func() bool { return g.Revocations() > 0 })
				a.want("known", g, narrow(t, known, "note x"), row.known, 0)
			}
			a.want("not known", g, unknown, row.unknown, 1)
			// A new epoch's tokens are good.
			if row.known != "ok" {
				_, err = a.store.CreateEpoch(t.Context(), false, a.seal, event())
				ok(t, err)
				ok(t, a.svc.CatchUp(t.Context()))
			}
			a.want("minted since", g, narrow(t, a.device("bob").Token, window(), "audience photos"), "ok", 1)
		})
	}
}

func event() storage.Event {
	return storage.Event{Time: time.Now(), Type: "test", Actor: service.ActorOperator}
}
