package storage

import (
	"crypto/sha256"
	"encoding/binary"
)

// ChainHash is the hash that an audit entry carries: SHA-256 over a version
// label, the predecessor's hash and each field with its length before it, so
// that no two different entries are the same bytes. Changing, dropping or
// reordering a kept entry breaks every later one. Whoever can write the table
// can compute a whole new chain: compare the latest hash with one noted
// elsewhere.
func ChainHash(prev [32]byte, seq int64, ev Event) [32]byte {
	h := sha256.New()
	var n [8]byte
	num := func(v int64) {
		binary.BigEndian.PutUint64(n[:], uint64(v))
		h.Write(n[:])
	}
	field := func(s string) {
		num(int64(len(s)))
		h.Write([]byte(s))
	}
	field("macaroond/audit/v1")
	h.Write(prev[:])
	num(seq)
	num(ev.Time.UnixMilli())
	for _, s := range []string{ev.Type, ev.Actor, ev.UserID, ev.DeviceID} {
		field(s)
	}
	if ev.RootKeyID != nil {
		field(string(ev.RootKeyID[:]))
	} else {
		field("")
	}
	field(ev.ClientIP)
	field(ev.Detail)
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}
