package httpapi

import (
	"net/http"
	"net/netip"
	"strings"
)

// peerAddr is who is at the other end of the connection. A Unix socket counts
// as IPv4 loopback: whoever may open it is on this machine.
func peerAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		if r.RemoteAddr == "@" || r.RemoteAddr == "" || strings.HasPrefix(r.RemoteAddr, "/") {
			return netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

func (s *server) trusted(a netip.Addr) bool {
	for _, p := range s.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// clientAddr is the client's address as far as it can be believed: the peer,
// or, while the one who says it is a trusted proxy, who X-Forwarded-For says
// came before, from the right. What cannot be read is no address, so that a
// client-ip caveat refuses instead of judging a proxy.
func (s *server) clientAddr(r *http.Request) netip.Addr {
	addr := peerAddr(r)
	if !s.trusted(addr) {
		return addr
	}
	if len(r.Header["X-Forwarded-For"]) == 0 {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := strings.TrimSpace(hops[i])
		a, err := netip.ParseAddr(hop)
		if err != nil || a.Zone() != "" {
			return netip.Addr{}
		}
		if addr = a.Unmap(); !s.trusted(addr) {
			return addr
		}
	}
	return addr
}
