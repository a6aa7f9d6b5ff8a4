package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// rule is what a key's value must be, and whether it is not.
type rule struct {
	key string
	bad bool
	say string
}

func allowed(rules []rule) error {
	for _, r := range rules {
		if r.bad {
			return usagef("%s: must be %s", r.key, r.say)
		}
	}
	return nil
}

func address(s string) bool {
	if path, unix := strings.CutPrefix(s, "unix:"); unix {
		return path != ""
	}
	return hostPort(s)
}

func hostPort(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil || port == "" {
		return false
	}
	_, err = net.LookupPort("tcp", port)
	return err == nil
}

// collide reports whether two listeners cannot have these addresses at a time.
func collide(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && portA != "0" && (hostA == hostB || everywhere(hostA) || everywhere(hostB))
}

// everywhere reports whether a listener's host is every address of the machine.
func everywhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// origin accepts http or https and a host, or nothing.
func origin(s string) bool {
	u, err := url.Parse(s)
	return s == "" || err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.Scheme+"://"+u.Host == s
}

func logLevel(s string) bool { return slices.Contains([]string{"debug", "info", "warn", "error"}, s) }

func plainWord(s string) bool {
	return len(s) >= 1 && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func prefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not a CIDR such as 10.0.0.0/8", s)
		}
		if p.Addr().Is4In6() { // it would never match: a peer's IPv4 address is compared as one
			return nil, fmt.Errorf("%q is IPv4 written as IPv6: write it as IPv4%s", s, unmapped(p))
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// unmapped tells the IPv4 form of an IPv4-mapped prefix, if it has one.
func unmapped(p netip.Prefix) string {
	if p.Bits() < 96 {
		return ""
	}
	return ", " + netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).String()
}
