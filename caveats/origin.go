package caveats

import (
	"net/netip"
	"strings"
)

// defaultPort is the port that a browser leaves out (WHATWG URL, section
// "special scheme").
func defaultPort(scheme string) string {
	switch scheme {
	case "http", "ws":
		return "80"
	case "https", "wss":
		return "443"
	case "ftp":
		return "21"
	}
	return ""
}

// browserOrigin accepts scheme://host[:port] exactly as a browser writes it (RFC 6454,
// section 6.2; WHATWG HTML, "serialization of an origin"): lower case, no path,
// no trailing slash, no default port, internationalised names as A-labels. An
// origin that no browser writes would never be matched, so it is a mistake. The
// literal null is refused: every sandboxed document has that origin.
func browserOrigin(s string) error {
	const wrong = flaw("wants origins such as https://app.example or http://localhost:8080")
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || !isScheme(scheme) {
		return wrong
	}
	host, port, hasPort := splitPort(rest)
	if hasPort && (!isPort(port) || port == defaultPort(scheme)) {
		return wrong
	}
	if !isHost(host) {
		return wrong
	}
	return nil
}

// splitPort cuts at the last colon outside brackets.
func splitPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || i < strings.LastIndexByte(s, ']') {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// isScheme: RFC 3986, section 3.1, in lower case.
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.')) {
			return false
		}
	}
	return s != ""
}

func isPort(s string) bool {
	n, ok := digits(s)
	return ok && s[0] != '0' && n <= 65535
}

// isHost accepts a canonical IPv4 address, a canonical IPv6 address in brackets
// (RFC 5952; not one with an embedded IPv4 address, which browsers and Go spell
// differently), or a name of letters, digits, '-' and '_'. A name whose last
// label is a number is an IPv4 address to a browser, so it must be one in full.
func isHost(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		var room [64]byte
		return ok && err == nil && a.Is6() && !a.Is4In6() && a.Zone() == "" && string(a.AppendTo(room[:0])) == inner
	}
	const maxName, maxLabel = 253, 63 // RFC 1035, section 2.3.4
	if len(s) > maxName {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel || !isLabel(label) {
			return false
		}
		last = label
	}
	if numeric(last) {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is4() // which takes no leading zeros
	}
	return true
}

func isLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// numeric: WHATWG URL, "ends in a number checker": decimal digits, or 0x and
// hexadecimal ones.
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// checkOrigin: two Origin headers are refused like none, for nobody can say
// which of them another part of the stack would have read.
func checkOrigin(args string, r *Request) Outcome {
	return heldIf(len(r.Origins) == 1 && listed(args, r.Origins[0]))
}

func whyOrigin(args string, r *Request) string {
	switch len(r.Origins) {
	case 0:
		return "the request has no Origin"
	case 1:
		return "origin " + fact(r.Origins[0]) + " is not one of " + args
	default:
		return "the request has more than one Origin"
	}
}
