package service

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

var limits = Limits{
	AccountAddress: Rate{3, 10 * time.Second},
	Account:        Rate{5, 2 * time.Second},
	Address:        Rate{4, time.Second},
	Signup:         Rate{2, time.Minute},
}

// testTime is a clock that stands still until it is moved.
type testTime struct{ time.Time }

func (c *testTime) now() time.Time { return c.Time }

func (c *testTime) pass(d time.Duration) { c.Time = c.Add(d) }

func attemptsAt() (*attempts, *testTime) {
	c := &testTime{time.Unix(1_800_000_000, 0)}
	return newAttempts(limits, c.now), c
}

// Failures are counted in three buckets; an attempt that is not failed costs
// nothing, and each bucket fills up again by itself.
func TestAttempts(t *testing.T) {
	a, clock := attemptsAt()
	tries := func(account, ip string, n int) (allowed int) {
		for range n {
			try, err := a.try(account, ip)
			if err != nil {
				break
			}
			try.fail()
			try.end()
			allowed++
		}
		return allowed
	}
	for range 100 {
		try, err := a.try("alice", "192.0.2.1")
		if err != nil {
			t.Fatal("an attempt that nobody failed was counted")
		}
		try.end()
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
		clock.pass(row.later)
		if got := tries(row.account, row.ip, 10); got != row.want {
			t.Errorf("%s from %s: %d attempts, want %d", row.account, row.ip, got, row.want)
		}
	}
}

// As many are judged at once as may fail. What comes to nothing gives its tokens
// back, once, and to no more than all; what never ends counts as failed.
func TestAttemptsInTheAir(t *testing.T) {
	a, clock := attemptsAt()
	begin := func(n int) (begun []*attempt) {
		for range n {
			if try, err := a.near("alice", "192.0.2.1"); err == nil {
				begun = append(begun, try)
			}
		}
		return begun
	}
	want := func(what string, got []*attempt, n int) []*attempt {
		t.Helper()
		if len(got) != n {
			t.Errorf("%s: %d attempts, want %d", what, len(got), n)
		}
		return got
	}
	air := want("at once", begin(10), 3)
	want("while they are judged", begin(1), 0)
	air[0].end()
	air[0].end()
	air[1].fail()
	air[1].end()
	air = append(want("one succeeded, one failed", begin(10), 1), air[2])
	for _, try := range air {
		try.end()
	}
	clock.pass(5 * time.Second)
	air = want("the failure counts", begin(10), 2)
	clock.pass(time.Hour)
	for _, try := range air {
		try.end()
	}
	want("no more than the burst comes back", begin(10), 3)
	clock.pass(10 * time.Second)
	want("those never ended", begin(10), 1)
}

// An attempt is counted in all of its buckets or in none, and what is refused
// makes no bucket.
func TestAttemptsAreTakenTogether(t *testing.T) {
	a, clock := attemptsAt()
	for i := range 5 { // alice, from everywhere
		if _, err := a.try("alice", fmt.Sprintf("192.0.2.%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		if _, err := a.try("alice", "198.51.100.1"); err == nil {
			t.Fatal("alice was not limited")
		}
	}
	for i := range 4 { // the refused ones took nothing of the address
		if _, err := a.try(fmt.Sprint("user ", i), "198.51.100.1"); err != nil {
			t.Error(err)
		}
	}
	before := a.buckets.EstimatedSize()
	for i := range 1000 {
		if _, err := a.try(fmt.Sprint("another ", i), "198.51.100.1"); err == nil {
			t.Fatal("the address was not limited")
		}
	}
	if after := a.buckets.EstimatedSize(); after != before {
		t.Errorf("%d buckets of attempts that were refused", after-before)
	}
	clock.pass(2 * time.Second)
	if _, err := a.try("alice", "198.51.100.1"); err != nil {
		t.Error(err)
	}
}

// While those that are being judged may give a token back, one too many is told
// to come back soon, and else when there is one. A clock that was set back makes
// nobody wait longer.
func TestAttemptsSayWhen(t *testing.T) {
	a, clock := attemptsAt()
	again := func(code string, want time.Duration) {
		t.Helper()
		_, err := a.near("alice", "192.0.2.1")
		if err == nil {
			t.Fatal("allowed")
		}
		if e := AsError(err); e.Code != code || e.RetryAfter != want {
			t.Errorf("%s, again after %v, want %s, %v", e.Code, e.RetryAfter, code, want)
		}
	}
	var air []*attempt
	for range 3 {
		try, err := a.near("alice", "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		air = append(air, try)
	}
	again(api.CodeBusy, time.Second)
	for _, try := range air {
		again(api.CodeBusy, time.Second)
		try.fail()
		try.end()
	}
	again(api.CodeRateLimited, 10*time.Second)
	clock.pass(9*time.Second + time.Millisecond)
	again(api.CodeRateLimited, 999*time.Millisecond)
	clock.pass(-24 * time.Hour)
	again(api.CodeRateLimited, time.Second) // the address's
	clock.pass(time.Second)
	again(api.CodeRateLimited, 10*time.Second)
	clock.pass(10 * time.Second)
	try, err := a.near("alice", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	again(api.CodeBusy, time.Second)
	try.end()
	if _, err := a.near("alice", "192.0.2.1"); err != nil {
		t.Error(err)
	}
}

// What an attacker chooses does not fill the memory: names are as long as a
// body, and buckets are many.
func TestAttemptsTakeLittleMemory(t *testing.T) {
	a := newAttempts(DefaultLimits, time.Now)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	long := strings.Repeat("x", 60<<10)
	for i := range 1000 {
		if try, err := a.try(fmt.Sprint(long, i), fmt.Sprintf("192.0.2.%d", i%250)); err == nil {
			try.fail()
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("1,000 attempts with names of 60 KiB keep %d MiB", grown>>20)
	}
	runtime.KeepAlive(a)
}
