// Package storagetest is the suite that every backend of [storage.Store] runs:
// each MUST and each error of the contract is a clause, by noun. A bug found in
// a backend becomes a clause here.
package storagetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"macaroond/storage"
)

// T0 is when the suite's stories begin: nothing here reads the clock.
var T0 = time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)

type clause struct {
	name string
	run  func(k *kit)
}

// Run checks a backend. open gives an empty store that the test owns: Run closes
// none but where a clause says so, so closing must be repeatable.
func Run(t *testing.T, open func(t *testing.T) storage.Store) {
	for _, noun := range []struct {
		name    string
		clauses []clause
	}{
		{"users", users},
		{"devices", devices},
		{"acts", acts},
		{"links", links},
		{"accounts", accounts},
		{"changes", changes},
		{"issue", issuing},
		{"renew", renewing},
		{"roots", knownRoots},
		{"revocations", revocations},
		{"branches", branches},
		{"epochs", epochs},
		{"services", services},
		{"policies", policies},
		{"secrets", secrets},
		{"subjects", subjects},
		{"audit", audit},
		{"accepted", accepted},
		{"expire", expire},
		{"restore", restore},
		{"lives", lives},
		{"store", store},
		{"concurrency", concurrency},
	} {
		t.Run(noun.name, func(t *testing.T) {
			for _, c := range noun.clauses {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(&kit{T: t, s: open(t)})
				})
			}
		})
	}
}

// kit is one clause's store and the shortest way to fill it.
type kit struct {
	*testing.T
	s storage.Store
	n uint64
}

func (k *kit) next() uint64 { k.n++; return k.n }

func (k *kit) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *kit) wantErr(err, want error) {
	k.Helper()
	if !errors.Is(err, want) {
		k.Fatalf("error %v, want %v", err, want)
	}
}

func (k *kit) equal(what string, got, want any) {
	k.Helper()
	if !reflect.DeepEqual(got, want) {
		k.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// key16 is the n-th root key ID or fingerprint.
func key16(n uint64) (id [16]byte) {
	id[0] = 0xA5
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

func hash32(n uint64) (h [32]byte) {
	h[0] = 0x5A
	binary.BigEndian.PutUint64(h[24:], n)
	return h
}

func event(typ string, at time.Time) storage.Event {
	return storage.Event{Time: at, Type: typ, Actor: "operator", ClientIP: "192.0.2.1", Detail: "of " + typ}
}

func (k *kit) newUser(name string) storage.User {
	return storage.User{
		ID: fmt.Sprintf("usr_%016d", k.next()), Name: name, NameKey: "key " + name,
		PasswordHash: "$argon2id$" + name, CreatedAt: T0,
	}
}

// user is stored, with the hashes of codes.
func (k *kit) user(name string, codes ...[32]byte) storage.User {
	k.Helper()
	u := k.newUser(name)
	_, err := k.s.CreateUser(k.Context(), u, codes, nil, event("signup", T0))
	k.must(err)
	return u
}

// epoch is a new signing one.
func (k *kit) epoch() storage.Epoch {
	k.Helper()
	e, err := k.s.CreateEpoch(k.Context(), false, sealed, event("epoch_created", T0))
	k.must(err)
	return e
}

func sealed(number uint32) ([]byte, error) { return fmt.Appendf(nil, "sealed %d", number), nil }

// asking is a request for a new device of a user, good for an hour after at.
func (k *kit) asking(u storage.User, epoch uint32, install string, at time.Time) storage.IssueDevice {
	n := k.next()
	return storage.IssueDevice{
		UserID:     u.ID,
		Device:     storage.Device{ID: fmt.Sprintf("dev_%016d", n), Name: fmt.Sprintf("device %d", n), InstallID: install, CreatedAt: at},
		RootKey:    storage.RootKey{ID: key16(n), Epoch: epoch, ExpiresAt: at.Add(time.Hour)},
		MaxDevices: 10,
	}
}

func (k *kit) issue(in storage.IssueDevice) (storage.Device, []storage.Revocation) {
	k.Helper()
	d, revoked, err := k.s.IssueDevice(k.Context(), in, event("login", in.Device.CreatedAt))
	k.must(err)
	return d, revoked
}

// device is a new one without install ID.
func (k *kit) device(u storage.User, epoch uint32, at time.Time) storage.Device {
	k.Helper()
	d, revoked := k.issue(k.asking(u, epoch, "", at))
	if len(revoked) != 0 {
		k.Fatalf("a new device revoked %v", revoked)
	}
	return d
}

func (k *kit) state() storage.State {
	k.Helper()
	st, err := k.s.State(k.Context())
	k.must(err)
	return st
}

func (k *kit) list(after int64) []storage.Revocation {
	k.Helper()
	var all []storage.Revocation
	for r, err := range k.s.Revocations(k.Context(), after) {
		k.must(err)
		all = append(all, r)
	}
	return all
}

func (k *kit) entries() []storage.AuditEntry {
	k.Helper()
	all, err := k.s.Audit(k.Context(), 0, 10_000)
	k.must(err)
	return all
}

// events are the types of the audit's entries, in order.
func (k *kit) events() []string {
	k.Helper()
	types := []string{}
	for _, e := range k.entries() {
		types = append(types, e.Type)
	}
	return types
}

// unchanged runs fn and checks that neither the audit nor the state moved.
func (k *kit) unchanged(fn func()) {
	k.Helper()
	st, n := k.state(), len(k.entries())
	fn()
	k.equal("state", k.state(), st)
	k.equal("number of audit entries", len(k.entries()), n)
}

func ids(devices []storage.Device) []string {
	out := []string{}
	for _, d := range devices {
		out = append(out, d.ID)
	}
	return out
}

// keys are the root key IDs of entries, sorted (the contract orders entries by
// Seq only), each checked to be of the device grain.
func (k *kit) keys(list []storage.Revocation) [][16]byte {
	k.Helper()
	out := [][16]byte{}
	for _, r := range list {
		if r.Grain != storage.GrainDevice {
			k.Fatalf("%+v is not of the device grain", r)
		}
		out = append(out, r.RootKeyID)
	}
	return sorted(out)
}

func rootKeys(devices ...storage.Device) [][16]byte {
	out := [][16]byte{}
	for _, d := range devices {
		out = append(out, d.RootKeyID)
	}
	return sorted(out)
}

func sorted(keys [][16]byte) [][16]byte {
	slices.SortFunc(keys, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	return keys
}
