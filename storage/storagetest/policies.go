package storagetest

import (
	"fmt"
	"time"

	"macaroond/storage"
)

func (k *kit) policy(target string, caveats ...string) storage.Policy {
	n := k.next()
	return storage.Policy{
		ID: fmt.Sprintf("pol_%016d", n), Target: target, Caveats: caveats, Reason: "an incident",
		CreatedAt: T0.Add(time.Duration(n) * time.Second),
	}
}

// addPolicy adds within limits that are not in the way.
func (k *kit) addPolicy(p storage.Policy) storage.Revocation {
	k.Helper()
	r, err := k.s.AddPolicy(k.Context(), storage.AddPolicy{Policy: p, MaxOfTarget: 100, MaxAll: 100}, event("policy_added", T0))
	k.must(err)
	return r
}

func (k *kit) policies() []storage.Policy {
	k.Helper()
	all, err := k.s.Policies(k.Context())
	k.must(err)
	return all
}

// news is an entry without its fingerprint, which nobody can foretell.
func (k *kit) news(r storage.Revocation) storage.Revocation {
	k.Helper()
	if r.Fingerprint == ([16]byte{}) {
		k.Fatalf("%+v has no fingerprint", r)
	}
	r.Fingerprint = [16]byte{}
	return r
}

var policies = []clause{
	{"a policy goes with whom it was for", func(k *kit) {
		s, u := k.aService("s"), k.user("a")
		k.aService("that stays")
		e := k.epoch().Number
		d := k.device(u, e, T0)
		k.device(k.user("b"), e, T0.Add(time.Hour)) // stays
		for _, target := range []string{s.ID, s.Secrets[0].DeviceID, d.ID} {
			k.addPolicy(k.policy(target, "audience photos"))
		}
		want := []storage.Policy{k.policy("", "method GET"), k.policy(u.ID, "method GET")}
		for _, p := range want {
			k.addPolicy(p)
		}
		k.equal("all are there", k.expire(storage.Expire{Now: T0, Limit: 10}), storage.Expired{})
		k.removeService(s.ID)
		revision := k.state().Revision
		gone := k.expire(storage.Expire{Now: d.ExpiresAt.Add(storage.ClockSkew + time.Second), Limit: 10})
		k.equal("gone", gone, storage.Expired{RootKeys: 1, Devices: 1, Revocations: gone.Revocations, Policies: 3})
		k.equal("policies", k.policies(), want)
		if k.state().Revision <= revision {
			k.Fatal("the revision stands still")
		}
	}},
	{"policies come back as stored, the oldest first", func(k *kit) {
		u, s := k.user("a"), k.service("s")
		d := k.device(u, k.epoch().Number, T0)
		k.must(k.s.AddService(k.Context(), s, event("service_added", T0)))
		var want []storage.Policy
		for _, target := range []string{"", u.ID, d.ID, s.ID, s.Secrets[1].DeviceID, ""} {
			p := k.policy(target, "audience photos", `x-q "quoted"`)
			want = append(want, p)
		}
		want[2].ExpiresAt = T0.Add(time.Hour)
		for i := range want { // stored the other way round
			k.addPolicy(want[len(want)-1-i])
		}
		k.equal("policies", k.policies(), want)
	}},
	{"each change is an entry of its own, with its event, and moves the revision", func(k *kit) {
		u := k.user("a")
		until := T0.Add(storage.PolicyNews + storage.ClockSkew)
		r0 := k.state().Revision
		p, everyone := k.policy(u.ID, "audience photos"), k.policy("", "method GET")
		added := k.addPolicy(p)
		r1 := k.state().Revision
		also := k.addPolicy(everyone)
		removed, err := k.s.RemovePolicy(k.Context(), p.ID, event("policy_removed", T0))
		k.must(err)
		r3 := k.state().Revision
		if !(r0 < r1 && r1+1 < r3) {
			k.Fatalf("revisions %d, %d, %d", r0, r1, r3)
		}
		k.equal("list", k.list(0), []storage.Revocation{added, also, removed})
		k.equal("added", k.news(added), storage.Revocation{Seq: 1, Grain: storage.GrainPolicy, Subject: u.ID, ExpiresAt: until})
		k.equal("for everybody", k.news(also), storage.Revocation{Seq: 2, Grain: storage.GrainPolicy, ExpiresAt: until})
		k.equal("removed", k.news(removed), storage.Revocation{Seq: 3, Grain: storage.GrainPolicy, Subject: u.ID, ExpiresAt: until})
		k.equal("sequence", k.state().Sequence, int64(3))
		k.equal("audit", k.events(), []string{"signup", "policy_added", "policy_added", "policy_removed"})
		k.equal("policies", k.policies(), []storage.Policy{everyone})
	}},
	{"who is not there has no policy, and what is not there is not removed", func(k *kit) {
		u := k.user("a")
		k.device(u, k.epoch().Number, T0)
		k.aService("s")
		k.addPolicy(k.policy(u.ID, "method GET"))
		k.unchanged(func() {
			for _, target := range []string{"usr_nobody0000000000", "dev_nobody0000000000", "svc_nobody0000000000"} {
				_, err := k.s.AddPolicy(k.Context(), storage.AddPolicy{Policy: k.policy(target, "method GET"), MaxOfTarget: 9, MaxAll: 9}, event("policy_added", T0))
				k.wantErr(err, storage.ErrNotFound)
			}
			_, err := k.s.RemovePolicy(k.Context(), "pol_nobody0000000000", event("policy_removed", T0))
			k.wantErr(err, storage.ErrNotFound)
		})
		k.equal("policies", len(k.policies()), 1)
	}},
	{"limits of a target and of all, for which one that is over does not count", func(k *kit) {
		a, b := k.user("a"), k.user("b")
		try := func(target string, at time.Time) error {
			_, err := k.s.AddPolicy(k.Context(), storage.AddPolicy{Policy: k.policy(target, "method GET"), MaxOfTarget: 2, MaxAll: 4}, event("policy_added", at))
			return err
		}
		short := k.policy(a.ID, "method GET")
		short.ExpiresAt = T0.Add(time.Hour)
		k.addPolicy(short)
		k.must(try(a.ID, T0))
		k.unchanged(func() { k.wantErr(try(a.ID, T0.Add(time.Hour-time.Millisecond)), storage.ErrPolicyLimit) })
		k.must(try(b.ID, T0))
		k.must(try("", T0))
		k.unchanged(func() { k.wantErr(try("", T0), storage.ErrPolicyLimit) })
		k.must(try(a.ID, T0.Add(time.Hour)))
		k.unchanged(func() { k.wantErr(try(b.ID, T0.Add(time.Hour)), storage.ErrPolicyLimit) })
	}},
	{"what is over goes by Expire, what is not to end stays, and the entries go by themselves", func(k *kit) {
		short, long := k.policy("", "method GET"), k.policy("", "audience photos")
		short.ExpiresAt = T0.Add(time.Hour)
		k.addPolicy(short)
		k.addPolicy(long)
		end := short.ExpiresAt.Add(storage.ClockSkew)
		k.equal("at the end", k.expire(storage.Expire{Now: end, Limit: 10}), storage.Expired{})
		r := k.state().Revision
		k.equal("after it", k.expire(storage.Expire{Now: end.Add(time.Millisecond), Limit: 10}), storage.Expired{Policies: 1})
		if k.state().Revision == r {
			k.Fatal("the revision has not moved")
		}
		k.equal("policies", k.policies(), []storage.Policy{long})
		news := T0.Add(storage.PolicyNews + storage.ClockSkew)
		k.equal("the news at its end", k.expire(storage.Expire{Now: news, Limit: 10}), storage.Expired{})
		k.equal("the news after it", k.expire(storage.Expire{Now: news.Add(time.Millisecond), Limit: 10}), storage.Expired{Revocations: 2})
		k.equal("policies, long after", k.policies(), []storage.Policy{long})
	}},
}
