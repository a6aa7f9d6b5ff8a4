package caveats

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrPath is the error of a request target whose path is not canonical.
var ErrPath = errors.New("path is not canonical")

// CanonicalPath returns the decoded segments of a request target's path: two for
// "/photos/1", two for "/photos/" (the last is empty), one empty one for "/".
//
// The target is cut at the first '?'. What is left must begin with '/', and each
// segment is percent-decoded once (RFC 3986, section 2.1). So that no server,
// proxy or file system behind the verifier can read another path than the one
// that was judged, it is refused, with [ErrPath], when an escape is bad, or when
// a decoded segment is empty (but the last), is "." or "..", or holds one of
// / \ % ; ? #, a control character (Cc) or bad UTF-8. Hence no merged slashes,
// no dot segments, no second decoding, no path parameters. The asterisk and
// absolute forms of a target (RFC 9112, section 3.2) are refused as well.
func CanonicalPath(target string) ([]string, error) {
	path := pathOf(target)
	if !canonical(path) {
		return nil, ErrPath
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		if strings.IndexByte(s, '%') >= 0 {
			segments[i] = decoded(s)
		}
	}
	return segments, nil
}

// pathOf cuts the query off a target.
func pathOf(target string) string {
	path, _, _ := cut(target, '?')
	return path
}

// canonical reports whether a path, still encoded, is canonical. It is the form
// of CanonicalPath that does not allocate.
func canonical(path string) bool {
	rest, ok := strings.CutPrefix(path, "/")
	for more := true; ok && more; {
		var segment string
		segment, rest, more = cut(rest, '/')
		ok = canonicalSegment(segment) && (segment != "" || !more)
	}
	return ok
}

// canonicalSegment reports whether a segment, still encoded, may stand in a
// canonical path. An empty one may, at the end.
func canonicalSegment(s string) bool {
	if literal(s) {
		return s != "." && s != ".."
	}
	length, dots := 0, 0
	for s != "" {
		r, size, ok := nextRune(s)
		if !ok || unicode.IsControl(r) {
			return false
		}
		switch r {
		case '/', '\\', '%', ';', '?', '#':
			return false
		case '.':
			dots++
		}
		length++
		s = s[size:]
	}
	return dots != length || dots > 2
}

// literal reports whether every byte of s is printable ASCII that stands for
// itself in a path and in a pattern, as nearly every segment's are.
func literal(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 || literals[s[i]>>6]&(1<<(s[i]&63)) == 0 {
			return false
		}
	}
	return true
}

// literals has a bit for each such byte: from '!' to '~' without %, *, /, ;, ?, #
// and the backslash.
var literals = func() (bits [2]uint64) {
	for c := '!'; c <= '~'; c++ {
		switch c {
		case '%', '*', '/', ';', '?', '#', '\\':
		default:
			bits[c>>6] |= 1 << (c & 63)
		}
	}
	return bits
}()

// nextRune decodes the first character of a non-empty segment, escaped or not,
// and says how many bytes of the segment it took. Bytes of one character may be
// escaped or not in any mixture, as any decoder has it.
func nextRune(s string) (r rune, size int, ok bool) {
	var room [utf8.UTFMax]byte
	for n := range len(room) {
		b, took, ok := nextByte(s[size:])
		if !ok {
			return 0, 0, false
		}
		size += took
		room[n] = b
		if got := room[:n+1]; utf8.FullRune(got) {
			r, width := utf8.DecodeRune(got)
			return r, size, r != utf8.RuneError || width > 1
		}
	}
	return 0, 0, false
}

// nextByte decodes one byte, or one escape in either case of hexadecimal.
func nextByte(s string) (b byte, size int, ok bool) {
	if s == "" {
		return 0, 0, false
	}
	if s[0] != '%' {
		return s[0], 1, true
	}
	if len(s) < 3 {
		return 0, 0, false
	}
	high, ok1 := unhex(s[1])
	low, ok2 := unhex(s[2])
	return high<<4 | low, 3, ok1 && ok2
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// decoded undoes the escapes of a segment that is known to be canonical.
func decoded(s string) string {
	out := make([]byte, 0, len(s))
	for s != "" {
		b, size, _ := nextByte(s)
		out = append(out, b)
		s = s[size:]
	}
	return string(out)
}
