package storagetest

import (
	"fmt"
	"time"

	"macaroond/storage"
)

func (k *kit) service(name string) storage.Service {
	n := k.next()
	return storage.Service{
		ID: fmt.Sprintf("svc_%016d", n), Name: name,
		Serves: []string{"photos", "a \"quoted\" one"}, Calls: []string{"mail"}, Actions: []string{"photos:*", "mail:send"}, Rights: []string{"mint"},
		CreatedAt: T0, Secrets: []storage.ServiceSecret{serviceSecret(2 * n), serviceSecret(2*n + 1)},
	}
}

func (k *kit) services() []storage.Service {
	k.Helper()
	all, err := k.s.Services(k.Context())
	k.must(err)
	return all
}

var services = []clause{
	{"services come back as stored, by name", func(k *kit) {
		b, a := k.service("b"), k.service("a")
		k.must(k.s.AddService(k.Context(), b, event("service_added", T0)))
		k.must(k.s.AddService(k.Context(), a, event("service_added", T0)))
		k.equal("services", k.services(), []storage.Service{a, b})
		k.equal("audit", k.events(), []string{"service_added", "service_added"})
	}},
	{"empty lists come back empty", func(k *kit) {
		s := storage.Service{ID: "svc_0000000000000001", Name: "a", Serves: []string{}, CreatedAt: T0}
		k.must(k.s.AddService(k.Context(), s, event("service_added", T0)))
		got := k.services()[0]
		k.equal("length", len(got.Serves)+len(got.Calls)+len(got.Actions)+len(got.Rights)+len(got.Secrets), 0)
	}},
	{"a name is taken while its service lives", func(k *kit) {
		s, other := k.service("a"), k.service("a")
		k.must(k.s.AddService(k.Context(), s, event("service_added", T0)))
		k.unchanged(func() {
			k.wantErr(k.s.AddService(k.Context(), other, event("service_added", T0)), storage.ErrNameTaken)
		})
		k.equal("services", k.services(), []storage.Service{s})
		k.removeService(s.ID)
		k.equal("after removal", len(k.services()), 0)
		k.must(k.s.AddService(k.Context(), other, event("service_added", T0)))
		k.equal("services", k.services(), []storage.Service{other})
	}},
	{"an unknown service is ErrNotFound", func(k *kit) {
		s := k.service("a")
		k.must(k.s.AddService(k.Context(), s, event("service_added", T0)))
		k.unchanged(func() {
			_, err := k.s.RemoveService(k.Context(), "svc_nobody", T0, event("service_removed", T0))
			k.wantErr(err, storage.ErrNotFound)
		})
		k.removeService(s.ID)
		k.unchanged(func() {
			_, err := k.s.RemoveService(k.Context(), s.ID, T0, event("service_removed", T0))
			k.wantErr(err, storage.ErrNotFound)
		})
	}},
	{"each change moves the revision", func(k *kit) {
		s, r0 := k.service("a"), k.state().Revision
		k.must(k.s.AddService(k.Context(), s, event("service_added", T0)))
		r1 := k.state().Revision
		k.removeService(s.ID)
		if r2 := k.state().Revision; !(r0 < r1 && r1 < r2) {
			k.Fatalf("revisions %d, %d, %d", r0, r1, r2)
		}
	}},
}

func serviceSecret(n uint64) storage.ServiceSecret {
	key := hash32(n + 5000)
	return storage.ServiceSecret{
		ID: fmt.Sprintf("sec_%016d", n), Hash: hash32(n), DeviceID: fmt.Sprintf("dev_svc%013d", n),
		RootKeyID: [16]byte(key[16:]), CreatedAt: T0.Add(time.Duration(n) * time.Second),
	}
}
