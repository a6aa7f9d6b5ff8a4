package service

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/token"
	"macaroond/storage"
)

// between is a store in which something happens right after the state was read.
type between struct {
	storage.Store
	then func()
}

func (b *between) State(ctx context.Context) (storage.State, error) {
	st, err := b.Store.State(ctx)
	if then := b.then; then != nil {
		b.then = nil
		then()
	}
	return st, err
}

// A place in the feed is told only with every policy up to it in force. Another
// process makes one between this node's reading of the state and of the list:
// an introspection that told the new place without the policy would have edges
// keep it.
func TestPlaceInTheFeedHasItsPolicies(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	who := token.Identity{User: "usr_AliceAliceAlice1", Device: "dev_PhonePhonePhone1"}
	var entry storage.Revocation
	k.Service.store = &between{Store: k.store, then: func() {
		var err error
		p := storage.Policy{ID: token.NewID(policyPrefix), Caveats: []string{"audience photos"}, Reason: "r", CreatedAt: time.Now()}
		entry, err = k.store.AddPolicy(t.Context(), storage.AddPolicy{Policy: p, MaxOfTarget: 1, MaxAll: 1}, storage.Event{Time: time.Now(), Type: "test"})
		if err != nil {
			t.Error(err)
		}
	}}
	// Something else to read, so that the list is.
	k.revoke(1)
	for range 3 {
		k.catchUp()
		texts := k.policies.Load().Append(nil, who, time.Now())
		if at := k.FeedPosition().Sequence; at >= entry.Seq && len(texts) != 1 {
			t.Fatalf("at %d of %d with policies %q", at, entry.Seq, texts)
		}
		// What was on the list early is told when its place is, and once.
		if a, got, err := k.read(FeedQuestion{}); err != nil || !slices.Equal(got, through(1, a.Next)) {
			t.Errorf("%v, %v", got, err)
		}
	}
	if at := k.FeedPosition().Sequence; at != entry.Seq || entry.Seq != 2 {
		t.Errorf("at %d, the policy is %d", at, entry.Seq)
	}
}

// Policies are found by target, in their order, while their time lasts.
func TestPolicyTable(t *testing.T) {
	now := time.Now()
	who := token.Identity{User: "usr_AliceAliceAlice1", Device: "dev_PhonePhonePhone1"}
	table := newPolicyTable([]storage.Policy{
		{Target: who.Device, Caveats: []string{"d1", "d2"}},
		{Target: "", Caveats: []string{"e"}, ExpiresAt: now.Add(2 * time.Hour)},
		{Target: who.User, Caveats: []string{"u1"}},
		{Target: "usr_MalloryMallory12", Caveats: []string{"m"}},
		{Target: who.User, Caveats: []string{"u2"}, ExpiresAt: now.Add(time.Hour)},
	})
	for _, row := range []struct {
		who   token.Identity
		at    time.Duration
		texts string
		until time.Duration // 0: never
	}{
		{who, 0, "[e u1 u2 d1 d2]", time.Hour},
		{who, time.Hour - 1, "[e u1 u2 d1 d2]", time.Hour},
		{who, time.Hour, "[e u1 d1 d2]", 2 * time.Hour},
		{who, 2 * time.Hour, "[u1 d1 d2]", 0},
		{token.Identity{User: "usr_MalloryMallory12", Device: "dev_other"}, 0, "[e m]", 2 * time.Hour},
		{token.Identity{User: "usr_Bob", Device: who.Device}, 3 * time.Hour, "[d1 d2]", 0},
		{token.Identity{User: "usr_Bob", Device: "dev_other"}, 3 * time.Hour, "[]", 0},
	} {
		texts, until := table.of(nil, row.who, now.Add(row.at))
		want := time.Time{}
		if row.until > 0 {
			want = now.Add(row.until)
		}
		if fmt.Sprint(texts) != row.texts || !until.Equal(want) {
			t.Errorf("%s after %v: %v until %v, want %s until %v", row.who.User, row.at, texts, until, row.texts, want)
		}
	}
}

// What a command adds is for the running servers to find: a service that follows
// nothing reads nothing, and has no keys.
func TestPolicyByCommand(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	command, err := Open(Config{Store: k.store, Now: time.Now, Hashing: Hashing{MemoryKiB: 8, Time: 1, Threads: 1, Pool: 1, Queue: 1}})
	if err != nil {
		t.Fatal(err)
	}
	in := api.PolicyIn{Target: api.PolicyTarget{Everyone: true}, Caveats: []string{"audience photos"}, Reason: "r"}
	p, err := command.AddPolicy(t.Context(), in, ActorOperator, Source{})
	if err != nil {
		t.Fatal(err)
	}
	here := func() int {
		return len(k.policies.Load().Append(nil, token.Identity{User: "usr_AliceAliceAlice1", Device: "dev_PhonePhonePhone1"}, time.Now()))
	}
	k.catchUp()
	if n := here(); n != 1 {
		t.Errorf("%d policies", n)
	}
	if err := command.RemovePolicy(t.Context(), p.ID, ActorOperator, Source{}); err != nil {
		t.Fatal(err)
	}
	k.catchUp()
	if n := here(); n != 0 {
		t.Errorf("%d policies after the removal", n)
	}
}
