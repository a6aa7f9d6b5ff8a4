package httpapi

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
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
	return slices.ContainsFunc(s.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// clientAddr is the client's address as far as it can be believed: the peer,
// or, while the one who says it is a trusted proxy, who X-Forwarded-For says
// came before, from the right. What cannot be read is no address, so that a
// client-ip caveat refuses instead of judging a proxy.
func (s *server) clientAddr(r *http.Request) netip.Addr {
	addr := peerAddr(r)
	if len(r.Header["X-Forwarded-For"]) == 0 {
		return addr
	}
	if !s.trusted(addr) {
		s.told.untrusted.Do(func() {
			s.Log.Warn("X-Forwarded-For is ignored: its sender is not in trusted_proxies. If it is a gateway of yours, all its clients are one, and any of them can use up everybody's attempts to log in", "peer", addr.String())
		})
		return addr
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		a, ok := hop(strings.TrimSpace(hops[i]))
		if !ok {
			s.told.unreadable.Do(func() {
				s.Log.Warn("X-Forwarded-For from a trusted proxy cannot be read as addresses: the clients that it is about share one limit on attempts to log in, and client-ip caveats refuse them", "proxy", addr.String())
			})
			return netip.Addr{}
		}
		if addr = a; !s.trusted(addr) {
			return addr
		}
	}
	return addr
}

// hop reads an address of X-Forwarded-For, which some gateways write with the
// client's port: 192.0.2.7:4711 or [2001:db8::7]:4711.
func hop(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		var with netip.AddrPort
		with, err = netip.ParseAddrPort(text)
		a = with.Addr()
	}
	return a.Unmap(), err == nil && a.Zone() == ""
}

// told is what the log has been told once under a configuration: what a gateway
// does wrong, it does with each request.
type told struct{ untrusted, unreadable sync.Once }
