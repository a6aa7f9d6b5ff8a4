package dpop

import (
	"net/url"
	"strings"
)

// sameURL compares as section 4.3 of RFC 9449 has it: without query and
// fragment, in the spelling that RFC 3986 sections 6.2.2 and 6.2.3 makes one.
func sameURL(proof, request string) bool {
	if proof == request && !strings.ContainsAny(proof, "?#@\\") {
		return true // as nearly all are
	}
	a, ok := oneSpelling(proof)
	b, ok2 := oneSpelling(request)
	return ok && ok2 && a == b
}

// oneSpelling is an http or https URL with scheme and host in lower case, no
// default port, escapes in upper case and only where they are needed, and "/"
// for no path. A path with dot segments has none: whoever normalizes it and
// whoever does not would mean two things.
func oneSpelling(text string) (string, bool) {
	text, _, _ = strings.Cut(text, "#")
	text, _, _ = strings.Cut(text, "?")
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.Host == "" {
		return "", false
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme { // in lower case already
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	default:
		return "", false
	}
	host = strings.TrimSuffix(host, ":")
	path, ok := onePath(u.EscapedPath())
	return u.Scheme + "://" + host + path, ok
}

// onePath decodes what needs no escape (RFC 3986 section 2.3) and writes the
// others in upper case. The path's escapes are whole.
func onePath(path string) (string, bool) {
	if path == "" {
		return "/", true
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			b.WriteByte(path[i])
			continue
		}
		if c := byte(hex(path[i+1])<<4 | hex(path[i+2])); unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	for segment := range strings.SplitSeq(b.String(), "/") {
		if segment == "." || segment == ".." {
			return "", false
		}
	}
	return b.String(), true
}

func hex(c byte) int { return strings.IndexByte("0123456789ABCDEF", upper(c)) }

func upper(c byte) byte {
	if 'a' <= c && c <= 'f' {
		return c - 'a' + 'A'
	}
	return c
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
