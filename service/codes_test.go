package service

import (
	"slices"
	"strings"
	"testing"
)

// A recovery code is the same however it is read back, and another user's or
// any other code is not.
func TestRecoveryCodes(t *testing.T) {
	codes, hashes := newRecoveryCodes("usr_a")
	if len(codes) != recoveryCodes || len(hashes) != recoveryCodes {
		t.Fatalf("%d codes, %d hashes", len(codes), len(hashes))
	}
	for i, code := range codes {
		for _, read := range []string{
			code, strings.ToUpper(code), strings.ReplaceAll(code, "-", ""), strings.ReplaceAll(code, "-", " "),
			strings.ReplaceAll(code, "0", "O"), strings.ReplaceAll(code, "0", "o"), strings.ReplaceAll(code, "1", "l"), strings.ReplaceAll(code, "1", "I"),
		} {
			if recoveryHash("usr_a", read) != hashes[i] {
				t.Errorf("%q is not %q", read, code)
			}
		}
		if recoveryHash("usr_b", code) == hashes[i] || slices.Index(codes, code) != i {
			t.Errorf("%q is somebody else's too", code)
		}
		plain := strings.ReplaceAll(code, "-", "")
		for j := range plain { // every character counts
			other := byte('2')
			if plain[j] == '2' {
				other = '3'
			}
			if recoveryHash("usr_a", plain[:j]+string(other)+plain[j+1:]) == hashes[i] {
				t.Errorf("character %d of %q does not count", j, code)
			}
		}
	}
}
