package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"macaroond/storage"
)

// A service with very many users does not hold everything else up: they go a few
// at a time, and each for good, whatever is minted meanwhile. Interrupted, it can
// be removed again.
func TestRemoveServiceInSmallSteps(t *testing.T) {
	s, ctx, now := openTest(t, filepath.Join(t.TempDir(), "db"), Options{}), t.Context(), time.Now().UTC().Truncate(time.Second)
	event := func(kind string) storage.Event { return storage.Event{Time: now, Type: kind} }
	epoch, err := s.CreateEpoch(ctx, true, func(uint32) ([]byte, error) { return []byte{1}, nil }, event("epoch_created"))
	must(t, err)
	const id = "svc_AAAAAAAAAAAAAAAA"
	secret := storage.ServiceSecret{ID: "sec_a", DeviceID: "dev_secret", RootKeyID: [16]byte{0: 0xff}, CreatedAt: now}
	must(t, s.AddService(ctx, storage.Service{ID: id, Name: "shop", CreatedAt: now, Secrets: []storage.ServiceSecret{secret}}, event("service_added")))
	issued := 0
	mint := func(user int) storage.Device {
		t.Helper()
		issued++
		name := fmt.Sprintf("usr_%016d", user)
		in := storage.IssueDevice{
			Device: storage.Device{ID: fmt.Sprintf("dev_%016d", issued), CreatedAt: now}, MaxDevices: 1000,
			RootKey: storage.RootKey{Epoch: epoch.Number, ExpiresAt: now.Add(time.Hour)},
		}
		binary.BigEndian.PutUint64(in.RootKey.ID[8:], uint64(issued))
		d, _, err := s.IssueSubject(ctx, storage.User{ID: name, NameKey: "S:" + name, Owner: id, Subject: name, CreatedAt: now}, in, event("minted"))
		must(t, err)
		return d
	}
	const users = 3*ownedPage + 1
	for i := range users {
		mint(i)
	}
	for range 2 * revokedAtOnce {
		mint(users - 1)
	}

	// Interrupted when it has begun.
	begun, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer stop()
		for {
			if state, err := s.State(ctx); err != nil || state.Sequence > 1 {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	s.rest = time.Hour
	revoked, err := s.RemoveService(begun, id, now, event("service_removed"))
	s.rest = 0
	again := mint(0) // it has gone by
	if !errors.Is(err, context.Canceled) || len(revoked) < 2 || len(revoked) >= users {
		t.Fatalf("interrupted: %d are revoked, %v", len(revoked), err)
	}
	services, err := s.Services(ctx)
	must(t, err)
	if len(services) != 1 || len(services[0].Secrets) != 0 {
		t.Errorf("interrupted: %+v", services)
	}

	rest, err := s.RemoveService(ctx, id, now, event("service_removed"))
	must(t, err)
	if n := len(revoked) + len(rest); n != issued+1 {
		t.Errorf("%d root keys are revoked, of %d and a secret's", n, issued)
	}
	live, err := one(s.reader(ctx), column[int], `SELECT COUNT(*) FROM devices WHERE revoked_at = 0`)
	must(t, err)
	d, err := s.Device(ctx, again.UserID, again.ID)
	must(t, err)
	if live != 0 || d.RevokedReason != "service removed" {
		t.Errorf("%d devices live, and what was minted meanwhile is %+v", live, d)
	}
	if services, err = s.Services(ctx); err != nil || len(services) != 0 {
		t.Errorf("%+v, %v", services, err)
	}
}

// One transaction revokes some users, and each of them whole.
func TestRevokeSome(t *testing.T) {
	s, ctx, now := openTest(t, filepath.Join(t.TempDir(), "db"), Options{}), t.Context(), time.Now().UTC().Truncate(time.Second)
	event := storage.Event{Time: now, Type: "test"}
	epoch, err := s.CreateEpoch(ctx, true, func(uint32) ([]byte, error) { return []byte{1}, nil }, event)
	must(t, err)
	var users []storage.User
	const devices = 100
	for u := range 5 {
		user := storage.User{ID: fmt.Sprintf("usr_%016d", u), NameKey: fmt.Sprint(u), CreatedAt: now}
		_, err := s.CreateUser(ctx, user, nil, nil, event)
		must(t, err)
		users = append(users, user)
		for d := range devices {
			in := storage.IssueDevice{
				UserID: user.ID, Device: storage.Device{ID: fmt.Sprintf("dev_%d_%d", u, d), CreatedAt: now}, MaxDevices: devices,
				RootKey: storage.RootKey{ID: [16]byte{byte(u), byte(d), 1}, Epoch: epoch.Number, ExpiresAt: now.Add(time.Hour)},
			}
			_, _, err := s.IssueDevice(ctx, in, event)
			must(t, err)
		}
	}
	for _, want := range []int{2, 2, 1} {
		must(t, s.w.do(ctx, func(t *tx) error {
			revoked, done, err := t.revokeSome(users, "test", now)
			if err == nil && (done != want || len(revoked) != want*devices) {
				err = fmt.Errorf("%d users and %d entries, want %d users", done, len(revoked), want)
			}
			users = users[done:]
			return err
		}))
	}
}
