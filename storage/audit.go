package storage

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

// AddressSeal stands for an entry's client address in the chain: SHA-256 over
// a label, a salt and the address. While the salt is kept the address cannot
// be altered unnoticed; once both are erased (see [Accounts].DeleteUser) the seal tells
// nothing, and the chain is whole. The salt is random because there are few
// enough addresses to try them all.
type AddressSeal struct {
	Salt []byte   // 16 bytes; empty when the address was erased
	Seal [32]byte // zero in entries of the first form, whose hash covers the address itself
}

// SealAddress draws a salt and seals an address, which may be empty.
func SealAddress(clientIP string) AddressSeal {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	return AddressSeal{salt, sealOf(salt, clientIP)}
}

func sealOf(salt []byte, clientIP string) [32]byte {
	return sha256.Sum256(append(append([]byte("macaroond/audit-address/v1\x00"), salt...), clientIP...))
}

// Erased reports whether the address has been erased.
func (e *AuditEntry) Erased() bool {
	return e.Address.Seal != [32]byte{} && len(e.Address.Salt) == 0 && e.ClientIP == ""
}

// Intact reports whether the entry is what its hash says. The two forms have
// different labels, so an entry of one is never one of the other.
func (e *AuditEntry) Intact() bool {
	if e.Address.Seal == [32]byte{} {
		return e.Hash == chainHash(e.Prev, e.Seq, e.Event, "macaroond/audit/v1", e.ClientIP)
	}
	return e.Hash == ChainHash(e.Prev, e.Seq, e.Event, e.Address) &&
		(e.Erased() || sealOf(e.Address.Salt, e.ClientIP) == e.Address.Seal)
}

// ChainHash is the hash that an audit entry carries: SHA-256 over a version
// label, the predecessor's hash and each field with its length before it, so
// that no two different entries are the same bytes. The client address is
// covered by its seal. Changing, dropping or
// reordering a kept entry breaks every later one. Whoever can write the table
// can compute a whole new chain: compare the latest hash with one noted
// elsewhere.
func ChainHash(prev [32]byte, seq int64, ev Event, address AddressSeal) [32]byte {
	return chainHash(prev, seq, ev, "macaroond/audit/v2", string(address.Seal[:]))
}

func chainHash(prev [32]byte, seq int64, ev Event, label, address string) [32]byte {
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
	field(label)
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
	field(address)
	field(ev.Detail)
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}
