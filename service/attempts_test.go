package service

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

var limits = Limits{
	AccountAddress: Rate{3, 10 * time.Second},
	Account:        Rate{5, 2 * time.Second},
	Address:        Rate{4, time.Second},
	Signup:         Rate{2, time.Minute},
}

// Failures are counted in three buckets; an attempt that is not failed costs
// nothing, and each bucket fills up again by itself.
func TestAttempts(t *testing.T) {
	a := newAttempts(limits)
	now := time.Unix(1_800_000_000, 0)
	tries := func(account, ip string, n int) (allowed int) {
		for range n {
			fail, err := a.try(now, account, ip)
			if err != nil {
				break
			}
			fail()
			allowed++
		}
		return allowed
	}
	for range 100 {
		if _, err := a.try(now, "alice", "192.0.2.1"); err != nil {
			t.Fatal("an attempt that nobody failed was counted")
		}
	}
	for _, row := range []struct {
		account, ip string
		later       time.Duration
		want        int
	}{
		{"alice", "192.0.2.1", 0, 3},               // one account from one address
		{"alice", "192.0.2.1", 9 * time.Second, 0}, //
		{"bob", "192.0.2.1", 0, 3},                 // others from there
		{"alice", "192.0.2.2", 0, 3},               // the account from elsewhere
		{"alice", "192.0.2.3", 0, 2},               // all together
		{"alice", "192.0.2.4", 0, 0},               //
		{"carol", "2001:db8::1", time.Hour, 3},     //
		{"carol", "2001:db8::ffff:1", 0, 0},        // a subscriber's /64 is one address
		{"carol", "2001:db8:0:1::1", 0, 2},         //
		{"dave", "2001:db8::2", 0, 1},              //
		{"erin", "::ffff:192.0.2.1", 0, 3},         // mapped is not worse
		{"erin", "not an address", time.Minute, 3}, // what cannot be read is one address
		{"frank", "not an address", 0, 1},          //
		{"alice", "192.0.2.1", 0, 3},               // and time heals
	} {
		now = now.Add(row.later)
		if got := tries(row.account, row.ip, 10); got != row.want {
			t.Errorf("%s from %s: %d attempts, want %d", row.account, row.ip, got, row.want)
		}
	}
}

// What an attacker chooses does not fill the memory: names are as long as a
// body, and buckets are many.
func TestAttemptsTakeLittleMemory(t *testing.T) {
	a := newAttempts(DefaultLimits)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	long := strings.Repeat("x", 60<<10)
	for i := range 1000 {
		if fail, err := a.try(time.Unix(1_800_000_000, 0), fmt.Sprint(long, i), "192.0.2.1"); err == nil {
			fail()
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("1,000 attempts with names of 60 KiB keep %d MiB", grown>>20)
	}
	runtime.KeepAlive(a)
}
