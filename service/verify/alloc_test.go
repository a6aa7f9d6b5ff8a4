//go:build !race

package verify_test

import (
	"testing"

	"macaroond/service/verify"
)

// Policies cost no allocation, there or not. (Under the race detector a
// sync.Pool drops some of what it is given, by chance.)
func TestPoliciesAllocateNothing(t *testing.T) {
	v, out := newVerifier(t), new(verify.Verdict)
	q := &verify.Question{Token: tokenWith(t, "audience photos"), Request: request()}
	for _, p := range []verify.Policies{nil, &put{}, &put{texts: []string{"audience photos", "time-before 2026-11-21T12:30:00Z", "path /photos/**"}}} {
		v.Policies = p
		if n := testing.AllocsPerRun(100, func() { v.Judge(q, out) }); n != 0 || !out.Allowed() {
			t.Errorf("%v: %v allocations, %s", p, n, out.Code)
		}
	}
}
