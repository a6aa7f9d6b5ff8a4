package service

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"macaroond/service/api"
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
