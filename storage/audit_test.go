package storage

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"
)

// The salt is another one each time: nobody who has a seal whose address is erased
// finds it again by trying all addresses.
func TestAddressesAreSaltedAnew(t *testing.T) {
	a, b := SealAddress("192.0.2.1"), SealAddress("192.0.2.1")
	if len(a.Salt) != 16 || bytes.Equal(a.Salt, b.Salt) || a.Seal == b.Seal {
		t.Errorf("%x and %x", a, b)
	}
}

// An entry as an earlier release wrote it verifies still, and not as one of the
// present form.
func TestFirstFormOfTheAudit(t *testing.T) {
	// SHA-256 as of the release before, over the first form's bytes.
	const hash = "168425d95955c5e691c36ceb59948686f1e7f198fd5a074449b6ab6ec461c265"
	e := AuditEntry{Seq: 7, Event: Event{
		Time: time.UnixMilli(1767323045678).UTC(), Type: "login", Actor: "usr_0000000000000001", UserID: "usr_0000000000000001", ClientIP: "192.0.2.1", Detail: "line",
	}}
	b, _ := hex.DecodeString(hash)
	copy(e.Hash[:], b)
	if !e.Intact() {
		t.Error("it does not verify")
	}
	for name, change := range map[string]func(*AuditEntry){
		"another address":           func(e *AuditEntry) { e.ClientIP = "192.0.2.2" },
		"an erased one":             func(e *AuditEntry) { e.ClientIP = "" },
		"the present form":          func(e *AuditEntry) { e.Address = SealAddress(e.ClientIP) },
		"the present form, erased":  func(e *AuditEntry) { e.Address = SealAddress(e.ClientIP); e.Address.Salt, e.ClientIP = nil, "" },
		"a salt that nothing seals": func(e *AuditEntry) { e.ClientIP = "192.0.2.1\x00"; e.Address.Salt = []byte{0} },
	} {
		changed := e
		change(&changed)
		if changed.Intact() {
			t.Errorf("%s: it verifies", name)
		}
	}
}
