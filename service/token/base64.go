package token

import (
	"encoding/binary"
	"slices"
)

// sextets gives each character of the URL alphabet (RFC 4648 section 5) its six
// bits, at each of the four places that they can have in three bytes, and
// notSextet to everything else.
var sextets = func() (t [4][256]uint32) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for place := range t {
		for i := range t[place] {
			t[place][i] = notSextet
		}
		for i, c := range []byte(alphabet) {
			t[place][c] = uint32(i) << (18 - 6*place)
		}
	}
	return t
}()

const notSextet = 1 << 31

// sextet4 is the three bytes of four characters.
func sextet4(a, b, c, d byte) uint32 {
	return sextets[0][a] | sextets[1][b] | sextets[2][c] | sextets[3][d]
}

// appendBase64 takes the URL alphabet without padding, in the one spelling that
// any bytes have. The library's strict mode still skips CR and LF, which would
// give one token many, and takes twice the time.
func appendBase64(to []byte, text string) ([]byte, error) {
	var bad uint32
	n := len(to)
	to = slices.Grow(to, len(text)/4*3+8) // eight bytes are written at a time, and six count
	room := to[:cap(to)]
	for len(text) >= 8 {
		first := sextet4(text[0], text[1], text[2], text[3])
		second := sextet4(text[4], text[5], text[6], text[7])
		bad |= first | second
		binary.BigEndian.PutUint64(room[n:n+8], uint64(first)<<40|uint64(second)<<16)
		n, text = n+6, text[8:]
	}
	if len(text) >= 4 {
		three := sextet4(text[0], text[1], text[2], text[3])
		bad |= three
		room[n], room[n+1], room[n+2] = byte(three>>16), byte(three>>8), byte(three)
		n, text = n+3, text[4:]
	}
	to = room[:n]
	switch len(text) {
	case 1:
		bad = notSextet
	case 2:
		three := sextet4(text[0], text[1], 'A', 'A')
		if bad |= three; three&0xffff != 0 { // bits that no byte has
			bad = notSextet
		}
		to = append(to, byte(three>>16))
	case 3:
		three := sextet4(text[0], text[1], text[2], 'A')
		if bad |= three; three&0xff != 0 {
			bad = notSextet
		}
		to = append(to, byte(three>>16), byte(three>>8))
	}
	if bad&notSextet != 0 {
		return to[:0], malformed("not base64url without padding")
	}
	return to, nil
}
