package token

import "fmt"

// Fields of the version 2 binary form (libmacaroons doc/format.txt).
const (
	fieldEnd        = 0
	fieldLocation   = 1
	fieldIdentifier = 2
	fieldVID        = 4
	fieldSignature  = 6
)

// reader takes the binary form apart. Every length is at most MaxTextLen, so a
// minimal varint has one byte or two, and a position fits 16 bits.
type reader struct {
	data []byte
	at   int
}

const (
	early   = "it ends too early"
	unknown = "a field is missing, unknown, twice there or out of order"
)

// next takes the field's data if the next field is of that type.
func (r *reader) next(field byte) (s span, present bool, err error) {
	rest := r.data[r.at:]
	if len(rest) < 2 {
		return s, false, malformed(early)
	}
	if rest[0] != field {
		return s, false, nil
	}
	n, head := int(rest[1]), 2
	if n >= 0x80 {
		if len(rest) < 3 || rest[2] == 0 || rest[2] >= 0x80 { // over-long, or beyond any limit
			return s, false, malformed("a length is not a minimal varint")
		}
		n, head = n&0x7f|int(rest[2])<<7, 3
	}
	if len(rest) < head+n {
		return s, false, malformed(early)
	}
	from := r.at + head
	r.at = from + n
	return span{uint16(from), uint16(r.at)}, true, nil
}

// must is next for a field that has to be there.
func (r *reader) must(field byte) (span, error) {
	s, ok, err := r.next(field)
	if err == nil && !ok {
		err = malformed(unknown)
	}
	return s, err
}

// end takes the end of a section, if it is there.
func (r *reader) end() (bool, error) {
	if r.at == len(r.data) {
		return false, malformed(early)
	}
	if r.data[r.at] != fieldEnd {
		return false, nil
	}
	r.at++
	return true, nil
}

func (r *reader) mustEnd() error {
	ok, err := r.end()
	if err == nil && !ok {
		err = malformed(unknown)
	}
	return err
}

// decodeBinary finds the pieces of the data.
func (t *Token) decodeBinary() (err error) {
	r := reader{t.data, 1}
	if t.location, _, err = r.next(fieldLocation); err != nil {
		return err
	}
	if t.identifier, err = r.must(fieldIdentifier); err != nil {
		return err
	}
	if err = r.mustEnd(); err != nil {
		return err
	}
	for {
		done, err := r.end()
		if err != nil {
			return err
		}
		if done {
			break
		}
		if err = t.nextCaveat(&r); err != nil {
			return err
		}
	}
	sig, err := r.must(fieldSignature)
	if err != nil {
		return err
	}
	if r.at != len(r.data) {
		return malformed("bytes after its end")
	}
	if int(sig.to-sig.from) != len(t.sig) {
		return malformed("the signature is not 32 bytes")
	}
	copy(t.sig[:], t.data[sig.from:])
	return nil
}

// nextCaveat takes a caveat within the limits.
func (t *Token) nextCaveat(r *reader) error {
	if len(t.caveats) == MaxCaveats {
		return fmt.Errorf("%w: more than %d caveats", ErrTooLarge, MaxCaveats)
	}
	c, ok := r.short()
	if !ok {
		var err error
		if c, err = r.caveat(); err != nil {
			return err
		}
	}
	if t.caveats == nil {
		t.caveats = make([]caveat, 0, 8)
	}
	t.caveats = append(t.caveats, c)
	return nil
}

// short is caveat for what nearly all are: first-party ones of less than 128
// bytes. It takes nothing when the next one is not.
func (r *reader) short() (c caveat, ok bool) {
	rest := r.data[r.at:]
	if len(rest) < 2 || rest[0] != fieldIdentifier || rest[1] >= 0x80 {
		return c, false
	}
	end := 2 + int(rest[1])
	if end >= len(rest) || rest[end] != fieldEnd {
		return c, false
	}
	c.id = span{uint16(r.at + 2), uint16(r.at + end)}
	r.at += end + 1
	c.end = uint16(r.at)
	return c, true
}

// caveat takes a caveat. A first-party caveat has no location: it would be
// unsigned bytes that mean nothing.
func (r *reader) caveat() (c caveat, err error) {
	location, located, err := r.next(fieldLocation)
	if err != nil {
		return c, err
	}
	if c.id, err = r.must(fieldIdentifier); err != nil {
		return c, err
	}
	identified := false
	if c.vid, identified, err = r.next(fieldVID); err != nil {
		return c, err
	}
	if located && location.from == location.to || identified && !c.thirdParty() {
		return c, malformed("a caveat has an empty field")
	}
	if err = r.mustEnd(); err != nil {
		return c, err
	}
	if max(c.id.to-c.id.from, c.vid.to-c.vid.from, location.to-location.from) > MaxCaveatLen {
		return c, fmt.Errorf("%w: a caveat has more than %d bytes", ErrTooLarge, MaxCaveatLen)
	}
	if located && !identified {
		return c, malformed("a first-party caveat has a location")
	}
	c.end = uint16(r.at)
	return c, nil
}

// appendField appends one field of the binary form.
func appendField(b []byte, field byte, data string) []byte {
	b = append(b, field)
	if n := len(data); n < 0x80 {
		b = append(b, byte(n))
	} else {
		b = append(b, byte(n)|0x80, byte(n>>7))
	}
	return append(b, data...)
}
