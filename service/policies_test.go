package service

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
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

// Who is asked afterwards says for whom a policy was, which one, and by whom; the
// list has it for as long as it is in force.
func TestPoliciesAreRecorded(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.SetSettings(Settings{Issuer: "https://auth.example", Signup: "device", RootTTL: time.Hour, MaxStaleness: time.Minute, MaxDevices: 10})
	g, err := k.Signup(t.Context(), api.SignupIn{Username: "ann", Device: api.DeviceIn{Name: "d"}}, Source{})
	if err != nil {
		t.Fatal(err)
	}
	before, err := k.store.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var added []api.Policy
	for _, target := range []api.PolicyTarget{{Everyone: true}, {User: g.User.ID}, {Device: g.Device.ID}} {
		p, err := k.AddPolicy(t.Context(), api.PolicyIn{Target: target, Caveats: []string{"method GET"}, Reason: "r", TTL: 60}, ActorOperator, Source{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Target != target {
			t.Errorf("for %+v, asked for %+v", p.Target, target)
		}
		added = append(added, p)
	}
	listed := func(want []api.Policy) {
		t.Helper()
		got, err := k.Policies(t.Context())
		if err != nil || fmt.Sprint(got.Policies) != fmt.Sprint(want) {
			t.Errorf("listed: %+v, %v", got.Policies, err)
		}
	}
	listed(added)
	for i := len(added) - 1; i > 0; i-- {
		if err := k.RemovePolicy(t.Context(), added[i].ID, ActorOperator, Source{}); err != nil {
			t.Fatal(err)
		}
	}
	listed(added[:1])
	k.now = func() time.Time { return added[0].ExpiresAt.Time }
	listed([]api.Policy{})

	entries, err := k.store.Audit(t.Context(), before.Audit, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprint(e.Type, e.Actor, e.UserID, e.DeviceID, e.Detail))
	}
	all, user, device := added[0].ID+" for everybody", added[1].ID, added[2].ID
	want := []string{
		fmt.Sprint(EventPolicyAdded, ActorOperator, all), fmt.Sprint(EventPolicyAdded, ActorOperator, g.User.ID, user),
		fmt.Sprint(EventPolicyAdded, ActorOperator, g.Device.ID, device),
		fmt.Sprint(EventPolicyRemoved, ActorOperator, g.Device.ID, device), fmt.Sprint(EventPolicyRemoved, ActorOperator, g.User.ID, user),
	}
	if !slices.Equal(got, want) {
		t.Errorf("audit:\n%q, want\n%q", got, want)
	}
}

// The bounds of a policy are in what may be asked for.
func TestNewPolicy(t *testing.T) {
	ok := api.PolicyIn{Target: api.PolicyTarget{Everyone: true}, Caveats: []string{"method GET"}, Reason: "an incident"}
	for name, row := range map[string]struct {
		change func(*api.PolicyIn)
		field  string // empty: it is taken
	}{
		"as it is":              {func(*api.PolicyIn) {}, ""},
		"16 caveats":            {func(p *api.PolicyIn) { p.Caveats = slices.Repeat(p.Caveats, 16) }, ""},
		"17 caveats":            {func(p *api.PolicyIn) { p.Caveats = slices.Repeat(p.Caveats, 17) }, "/caveats"},
		"200 bytes":             {func(p *api.PolicyIn) { p.Reason = strings.Repeat("é", 100) }, ""},
		"201 bytes":             {func(p *api.PolicyIn) { p.Reason = "r" + strings.Repeat("é", 100) }, "/reason"},
		"two lines":             {func(p *api.PolicyIn) { p.Reason = "a\nb" }, "/reason"},
		"a terminal's sequence": {func(p *api.PolicyIn) { p.Reason = "a\x1bb" }, "/reason"},
		"a deletion":            {func(p *api.PolicyIn) { p.Reason = "a\x7fb" }, "/reason"},
		"no UTF-8":              {func(p *api.PolicyIn) { p.Reason = "a\xff" }, "/reason"},
		"366 days":              {func(p *api.PolicyIn) { p.TTL = 366 * 24 * 3600 }, ""},
		"a second more":         {func(p *api.PolicyIn) { p.TTL = 366*24*3600 + 1 }, "/ttl"},
	} {
		in := ok
		row.change(&in)
		_, err := newPolicy(in)
		if field := AsError(errors.Join(err)).Field; (err == nil) != (row.field == "") || field != row.field {
			t.Errorf("%s: %v", name, err)
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
