package service

import (
	"slices"
	"strings"
	"testing"
)

// What is secret is drawn anew each time, and of a link's code all but the part
// that names the link.
func TestSecretsAreDrawn(t *testing.T) {
	for name, draw := range map[string]func() string{
		"service secret": func() string { secret, _ := newSecret(); return secret },
		"claim":          func() string { claim, _ := newClaim("lnk_a"); return claim },
		"link code": func() string {
			code := newLinkCode("lnk_a")
			if !strings.HasPrefix(code, leadOf("lnk_a")) || len(plainCode(code)) != leadLen+secretLen {
				t.Errorf("link code %q", code)
			}
			return code
		},
	} {
		if a, b, c := draw(), draw(), draw(); a == b || b == c || a == c {
			t.Errorf("%s: %q, %q, %q", name, a, b, c)
		}
	}
}

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
