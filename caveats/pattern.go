package caveats

import (
	"strings"
	"unicode/utf8"
)

// A pattern is written as a canonical path is, decoded: /photos/für Elise would
// be it, were there not three things that a caveat's text cannot say as they
// are. So exactly these are percent-encoded, byte by byte, in upper case: the
// space (%20, for a space separates arguments), the star (%2A, for a bare one is
// a wildcard) and hidden characters (U+2028 as %E2%80%A8). Everything else
// stands for itself, and must: one pattern, one spelling.

// mustEscape reports the characters that a pattern cannot have as they are.
func mustEscape(r rune) bool {
	return r == ' ' || r == '*' || Hidden(r)
}

// pathPattern accepts one pattern of a path caveat.
func pathPattern(s string) error {
	rest, ok := strings.CutPrefix(s, "/")
	if !ok {
		return flaw("wants patterns that begin with '/'")
	}
	for more := true; more; {
		var segment string
		segment, rest, more = cut(rest, '/')
		switch {
		case segment == "*":
		case segment == "**":
			if more {
				return flaw("wants '**' only as the last segment of a pattern")
			}
		case strings.IndexByte(segment, '*') >= 0:
			return flaw("wants '*' only as a whole segment of a pattern (%2A is the character)")
		case segment == "" && more, !canonicalSegment(segment):
			return flaw("wants patterns of canonical paths: no empty, '.' or '..' segment, none of \\ % ; ? #")
		case !spelled(segment):
			return flaw("wants patterns decoded, but for space (%20), star (%2A) and hidden characters")
		}
	}
	return nil
}

// spelled reports whether a canonical segment is written as a pattern has it.
func spelled(segment string) bool {
	if literal(segment) {
		return true
	}
	for segment != "" {
		r, size, _ := nextRune(segment)
		width := utf8.RuneLen(r)
		if mustEscape(r) {
			if size != width*len("%XX") || strings.ContainsAny(segment[:size], "abcdef") {
				return false
			}
		} else if size != width {
			return false
		}
		segment = segment[size:]
	}
	return true
}

// PatternFor returns the pattern that matches the path of this request target
// and no other path: what a client uses to bind a token to one request. The
// error is [ErrPath]. (Whether it fits into [MaxLen] is for [Path] to say.)
func PatternFor(target string) (string, error) {
	const upper = "0123456789ABCDEF"
	segments, err := CanonicalPath(target)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, segment := range segments {
		out.WriteByte('/')
		for _, r := range segment {
			if !mustEscape(r) {
				out.WriteRune(r)
				continue
			}
			for _, b := range []byte(string(r)) {
				out.Write([]byte{'%', upper[b>>4], upper[b&15]})
			}
		}
	}
	return out.String(), nil
}

// matches reports whether an accepted pattern matches a canonical path.
func matches(pattern, path string) bool {
	pattern, path = pattern[1:], path[1:]
	for {
		want, wants, moreWanted := cut(pattern, '/')
		have, has, moreThere := cut(path, '/')
		switch {
		case want == "**":
			return true
		case want == "*" && have == "", want != "*" && !sameSegment(want, have):
			return false
		case moreWanted != moreThere:
			return false
		case !moreWanted:
			return true
		}
		pattern, path = wants, has
	}
}

// sameSegment compares two segments decoded. Both are known to decode.
func sameSegment(a, b string) bool {
	if a == b {
		return true
	}
	for a != "" && b != "" {
		x, sizeX, _ := nextByte(a)
		y, sizeY, _ := nextByte(b)
		if x != y {
			return false
		}
		a, b = a[sizeX:], b[sizeY:]
	}
	return a == b
}

func checkPath(args string, r *Request) Outcome {
	path := pathOf(r.Target)
	if !canonical(path) {
		return Refused
	}
	for args != "" {
		var p string
		if p, args, _ = cut(args, ' '); matches(p, path) {
			return Held
		}
	}
	return Refused
}

// whyPath leaves the query out: it may hold what belongs in no log.
func whyPath(args string, r *Request) string {
	path := pathOf(r.Target)
	switch {
	case r.Target == "":
		return missing("path")
	case !canonical(path):
		return "path " + fact(path) + " is not canonical"
	default:
		return "path " + fact(path) + " matches none of " + args
	}
}
