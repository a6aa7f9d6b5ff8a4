package caveats

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLen is the length limit of a caveat's text in bytes.
const MaxLen = 512

// maxWord is the length limit of an identity, an audience or an action, in bytes.
const maxWord = 128

// Why a text is no caveat. To a bearer both are the code unknown_caveat; a
// developer is told which.
var (
	// ErrUnknown: nothing here is known under this name.
	ErrUnknown = errors.New("unknown caveat")
	// ErrSyntax: the text is not written as a caveat is, or the name is known
	// and its argument is wrong.
	ErrSyntax = errors.New("malformed caveat")
)

// flaw is what is wrong with a text. It is an [ErrSyntax]. A constant flaw
// costs no allocation, so refusing rubbish is as cheap as accepting.
type flaw string

func (f flaw) Error() string        { return string(f) }
func (f flaw) Is(target error) bool { return target == ErrSyntax }

// cut is [strings.Cut] at a byte, without the search for a string: it is on the
// way of every verdict.
func cut(s string, at byte) (before, after string, found bool) {
	if i := strings.IndexByte(s, at); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// plain accepts what any caveat's text is made of: valid UTF-8 that shows all
// of itself, with single spaces between words and none at the ends.
func plain(s string) error {
	if shown(s) && s[0] != ' ' && s[len(s)-1] != ' ' && !strings.Contains(s, "  ") {
		return nil // nearly always; what is left is for the rest and for saying why
	}
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return flaw("control character")
			}
			if c == ' ' && (i == 0 || i == len(s)-1 || s[i-1] == ' ') {
				return flaw("leading, trailing or double space")
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			return flaw("not UTF-8")
		}
		if Hidden(r) {
			return flaw("control character, line separator or bidirectional control")
		}
		i += size
	}
	return nil
}

// shown reports whether s, which is not empty, is of printable ASCII and spaces.
// It looks at eight bytes at a time: this is on the way of every verdict.
func shown(s string) bool {
	const ones = 0x0101010101010101
	for len(s) >= 8 {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		// Below a space a byte borrows; DEL becomes 0x80 when one is added, and
		// what is not ASCII has that bit already.
		if ((w-ones*' ')|(w+ones)|w)&(ones<<7) != 0 {
			return false
		}
		s = s[8:]
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// Hidden reports a character that would let a line of text read as something it
// is not: controls (general category Cc), the line and paragraph separators, and
// the twelve characters with Unicode's Bidi_Control property.
func Hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// printable reports whether s is printable ASCII without space.
func printable(s string) bool { return shown(s) && strings.IndexByte(s, ' ') < 0 }
