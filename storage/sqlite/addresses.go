package sqlite

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"strings"

	"macaroond/storage"
)

// A user's address stands in an audit entry sealed (AES-256-GCM) under a key in the
// user's row: deleting the row erases all of them at once, however many there are
// and whatever copies of an entry a page may still have. What opens the entry's
// seal is in the same box.

const saltLength = 16 // as storage.SealAddress draws it

func newAddressKey() []byte {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return key
}

func addressBox(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// whose is the user whose address an entry has; empty for another's, such as a
// service's.
func whose(ev storage.Event) string {
	id := ev.Actor
	if id == "" {
		id = ev.UserID
	}
	if !strings.HasPrefix(id, "usr_") {
		return ""
	}
	return id
}

// addressKey is what an entry's address is to be sealed with: nothing when it is
// nobody's. The address of a user who is gone is taken out of the entry.
func (t *tx) addressKey(ev *storage.Event) ([]byte, error) {
	id := whose(*ev)
	if id == "" || ev.ClientIP == "" {
		return nil, nil
	}
	key, err := one(t, column[[]byte], `SELECT address_key FROM users WHERE id = ?`, id)
	if errors.Is(err, storage.ErrNotFound) {
		ev.ClientIP = ""
		return nil, nil
	}
	return key, err
}

// sealAddress empties what the box has.
func sealAddress(key []byte, address *storage.AddressSeal, clientIP *string) ([]byte, error) {
	if len(key) == 0 || *clientIP == "" { // a user made by a process of the former release has no key
		return noBytes, nil
	}
	aead, err := addressBox(key)
	if err != nil {
		return nil, err
	}
	box := aead.Seal(nil, nil, append(address.Salt, *clientIP...), nil)
	address.Salt, *clientIP = noBytes, ""
	return box, nil
}

// openAddress leaves the entry without an address when there is no key any more,
// and not intact when the box is not what was sealed, or not alone.
func openAddress(key, box []byte, e *storage.AuditEntry) {
	if len(box) == 0 || len(key) == 0 || len(e.Address.Salt) != 0 || e.ClientIP != "" {
		return
	}
	e.Address.Salt = box
	aead, err := addressBox(key)
	if err != nil {
		return
	}
	if text, err := aead.Open(nil, nil, box, nil); err == nil && len(text) >= saltLength {
		e.Address.Salt, e.ClientIP = text[:saltLength], string(text[saltLength:])
	}
}
