package caveats

import (
	"net/netip"
)

// network accepts a CIDR prefix in its one canonical spelling (RFC 4632,
// section 3.1; RFC 5952): no bits set beyond the prefix, lower case, no leading
// zeros. IPv4 mapped into IPv6 is refused, because addresses are unmapped before
// they are compared and it would never match.
func network(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil || p != p.Masked() || p.Addr().Is4In6() {
		return flaw("wants networks such as 192.0.2.0/24 or 2001:db8::/32")
	}
	var room [64]byte
	if string(p.AppendTo(room[:0])) != s {
		return flaw("wants networks in canonical spelling, such as 2001:db8::/32")
	}
	return nil
}

func checkClientIP(args string, r *Request) Outcome {
	if !r.ClientIP.IsValid() {
		return Refused
	}
	address := r.ClientIP.Unmap()
	for args != "" {
		var s string
		s, args, _ = cut(args, ' ')
		if p, err := netip.ParsePrefix(s); err == nil && p.Contains(address) {
			return Held
		}
	}
	return Refused
}

func whyClientIP(args string, r *Request) string {
	if !r.ClientIP.IsValid() {
		return missing("client address")
	}
	return "client address " + fact(r.ClientIP.Unmap().String()) + " is not in " + args
}
