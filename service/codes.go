package service

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

const recoveryCodes = 10

// crockford's base32 has no letters that are read for one another.
var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// newRecoveryCodes draws codes of 80 random bits, and what is stored of them.
func newRecoveryCodes(userID string) (codes []string, hashes [][32]byte) {
	for range recoveryCodes {
		var b [10]byte
		rand.Read(b[:])
		c := crockford.EncodeToString(b[:])
		code := c[:4] + "-" + c[4:8] + "-" + c[8:12] + "-" + c[12:]
		codes = append(codes, code)
		hashes = append(hashes, recoveryHash(userID, code))
	}
	return codes, hashes
}

// recoveryHash is fast because the code is 80 random bits, which no dictionary
// has; it is bound to the user so that a table of hashes serves for one only.
func recoveryHash(userID, code string) [32]byte {
	return sha256.Sum256([]byte("macaroond/recovery-code/v1\x00" + userID + "\x00" + plainCode(code)))
}

// plainCode takes a code as people write it.
func plainCode(code string) string {
	return strings.NewReplacer("-", "", " ", "", "o", "0", "i", "1", "l", "1").Replace(strings.ToLower(code))
}
