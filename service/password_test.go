package service

import (
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"

	"macaroond/service/api"
	"macaroond/storage"
)

func TestHasher(t *testing.T) {
	h := newHasher(Hashing{MemoryKiB: 8, Time: 1, Threads: 1, Pool: 2, Queue: 8})
	phc, err := h.hash(t.Context(), "correct horse")
	if err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=8,t=1,p=1$") {
		t.Fatal(phc, err)
	}
	if other, _ := h.hash(t.Context(), "correct horse"); other == phc {
		t.Error("two hashes have one salt")
	}
	dearer := newHasher(Hashing{MemoryKiB: 16, Time: 1, Threads: 1, Pool: 1})
	for _, row := range []struct {
		name          string
		h             *hasher
		password, phc string
		ok, current   bool
	}{
		{"right", h, "correct horse", phc, true, true},
		{"wrong", h, "correct horse ", phc, false, true},
		{"empty", h, "", phc, false, true},
		{"too long", h, strings.Repeat("p", maxPassword+1), phc, false, true},
		{"nobody's", h, "correct horse", "", false, true},
		{"nobody's, empty", h, "", "", false, true},
		{"right, at former costs", dearer, "correct horse", phc, true, false},
	} {
		ok, current, err := row.h.verify(t.Context(), row.password, row.phc)
		if err != nil || ok != row.ok || current != row.current {
			t.Errorf("%s: %v, %v, %v", row.name, ok, current, err)
		}
	}
	for _, bad := range []string{"x", "$argon2i$v=19$m=8,t=1,p=1$AAAA$AAAA", "$argon2id$v=16$m=8,t=1,p=1$AAAA$AAAA", "$argon2id$v=19$m=8$AAAA$AAAA", "$argon2id$v=19$m=8,t=1,p=1$!$AAAA", "$argon2id$v=19$m=8,t=1,p=1$AAAA$"} {
		if ok, _, err := h.verify(t.Context(), "correct horse", bad); ok || err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v, %v", bad, ok, err)
		}
	}
}

// A password is what was typed, not how a keyboard spelt it: its length is that of
// its one form (NFC), when it is set and when it is shown.
func TestPasswordLength(t *testing.T) {
	composed, apart := "é", "e\u0301"
	for _, row := range []struct {
		name, password string
		good           bool
	}{
		{"eight characters", "üñ7é3ßåx", true},
		{"eight characters, spelt apart", norm.NFD.String("üñ7é3ßåx"), true},
		{"seven", "üñ7é3ßå", false},
		{"seven, spelt apart", norm.NFD.String("üñ7é3ßå"), false},
		{"1,024 bytes", random(1022) + composed, true},
		{"1,024 bytes, spelt apart", random(1022) + apart, true},
		{"1,025 bytes", random(1023) + composed, false},
	} {
		if err := checkPassword(row.password, "ann"); (err == nil) != row.good {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	h := newHasher(Hashing{MemoryKiB: 8, Time: 1, Threads: 1, Pool: 1})
	long := random(1022)
	phc, err := h.hash(t.Context(), long+composed)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := h.verify(t.Context(), long+apart, phc); !ok || err != nil {
		t.Errorf("the longest password, spelt apart: %v, %v", ok, err)
	}
}

// random is a text of so many letters.
func random(n int) string { return strings.Repeat(rand.Text(), n/26+1)[:n] }

// The pool is as large as it says: who comes when it is full is told so, and
// one who waits goes when their request does.
func TestHashingPool(t *testing.T) {
	h := newHasher(Hashing{MemoryKiB: 8, Time: 1, Threads: 1, Pool: 2, Queue: 1})
	h.slots <- struct{}{} // two hashes in progress
	h.slots <- struct{}{}
	h.queue <- struct{}{}
	h.queue <- struct{}{}
	ctx, leave := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := h.hash(ctx, "waits"); !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left: %v", err)
		}
	})
	for len(h.queue) < cap(h.queue) { // until the third is inside
		runtime.Gosched()
	}
	var e *Error
	if _, err := h.hash(t.Context(), "a fourth"); !errors.As(err, &e) || e.Code != api.CodeBusy || e.RetryAfter <= 0 {
		t.Errorf("the fourth: %v", err)
	}
	leave()
	waiting.Wait()
	if len(h.queue) != 2 {
		t.Errorf("%d in the queue", len(h.queue))
	}
}

// meanwhileStore has something happen right after a user was read.
type meanwhileStore struct {
	storage.Store
	happens func(storage.User)
}

func (s meanwhileStore) User(ctx context.Context, id string) (storage.User, error) {
	u, err := s.Store.User(ctx, id)
	if err == nil {
		s.happens(u)
	}
	return u, err
}

func (s meanwhileStore) UserByNameKey(ctx context.Context, key string) (storage.User, error) {
	u, err := s.Store.UserByNameKey(ctx, key)
	if err == nil {
		s.happens(u)
	}
	return u, err
}

// A password that was changed while it was judged is wrong. One that another
// login has just hashed anew is not.
func TestPasswordSetDuringLogin(t *testing.T) {
	const right, other = "correct horse battery", "three quiet otters"
	for _, row := range []struct {
		name  string
		sets  []string // one each time that the user is read
		admit bool
	}{
		{"hashed anew", []string{right}, true},
		{"changed", []string{other}, false},
		{"changed and back", []string{other, right}, false},
	} {
		k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
		k.SetSettings(Settings{Issuer: "https://auth.example", Audience: "macaroond", RootTTL: time.Hour, MaxStaleness: time.Minute, MaxDevices: 10})
		if _, err := k.AddUser(t.Context(), api.UserIn{Username: "alice", Password: right}, "", Source{}); err != nil {
			t.Fatal(err)
		}
		read := 0
		k.Service.store = meanwhileStore{k.store, func(u storage.User) {
			if read++; read > len(row.sets) {
				return
			}
			phc, err := k.hasher.hash(t.Context(), row.sets[read-1])
			if err != nil {
				t.Fatal(err)
			}
			ev := storage.Event{Time: time.Now(), Type: EventPasswordSet}
			if _, err := k.store.SetPassword(t.Context(), storage.SetPassword{UserID: u.ID, Hash: phc}, ev); err != nil {
				t.Fatal(err)
			}
		}}
		_, err := k.Login(t.Context(), api.LoginIn{Username: "alice", Password: right}, Source{})
		if row.admit && err != nil || !row.admit && AsError(err).Code != api.CodeBadCredentials {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// Nor is a proof wrong, or counted as one, because a login has just hashed the
// password anew. Asked again, it is judged by what is there.
func TestPasswordSetDuringAnAct(t *testing.T) {
	const right = "correct horse battery"
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.SetSettings(Settings{Issuer: "https://auth.example", Audience: "macaroond", RootTTL: time.Hour, MaxStaleness: time.Minute, MaxDevices: 10})
	k.attempts.limits.AccountAddress = Rate{1, time.Hour}
	if _, err := k.AddUser(t.Context(), api.UserIn{Username: "alice", Password: right}, "", Source{}); err != nil {
		t.Fatal(err)
	}
	g, err := k.Login(t.Context(), api.LoginIn{Username: "alice", Password: right}, Source{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.Authorize(t.Context(), Shown{Token: g.Token, Bare: true})
	if err != nil {
		t.Fatal(err)
	}
	k.Service.store = meanwhileStore{k.store, func(u storage.User) {
		phc, err := k.hasher.hash(t.Context(), right)
		if err != nil {
			t.Fatal(err)
		}
		ev := storage.Event{Time: time.Now(), Type: EventRehashed}
		if _, err := k.store.SetPassword(t.Context(), storage.SetPassword{UserID: u.ID, Hash: phc, Was: &u.PasswordHash}, ev); err != nil {
			t.Fatal(err)
		}
	}}
	for range 2 {
		_, _, err := k.OpenLink(t.Context(), c, api.Proof{Password: right}, Source{})
		if AsError(err).Code != api.CodeBusy {
			t.Errorf("hashed anew meanwhile: %v", err)
		}
	}
	k.Service.store = k.store
	if _, _, err := k.OpenLink(t.Context(), c, api.Proof{Password: right}, Source{}); err != nil {
		t.Errorf("asked again: %v", err)
	}
}
