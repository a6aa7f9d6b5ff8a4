package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestGatewayMethods: each method is judged as itself and arrives as itself,
// with its body.
func TestGatewayMethods(t *testing.T) {
	atGateways(t, func(t *testing.T, g *gateway, _ *authority, h holder) {
		open := h.photos(t)
		reading := h.photos(t, "method GET HEAD")
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "FROBNICATE"} {
			t.Run(method, func(t *testing.T) {
				body := ""
				if method != "GET" && method != "HEAD" {
					body = fmt.Sprintf("a body for %s\r\n\r\n", method)
				}
				res, got := g.ask(t, ask{method: method, target: "/photos/1", tokens: []string{open}, body: body})
				if checkPassed(t, h, res, got) && (got[0].method != method || got[0].body != body) {
					t.Errorf("the backend got %s with %q, want %s with %q", got[0].method, got[0].body, method, body)
				}
				res, got = g.ask(t, ask{method: method, target: "/photos/1", tokens: []string{reading}, body: body})
				if method == "GET" || method == "HEAD" {
					checkPassed(t, h, res, got)
				} else {
					checkRefused(t, res, got, http.StatusForbidden)
				}
				res, got = g.ask(t, ask{method: method, target: "/photos/1", body: body})
				checkRefused(t, res, got, http.StatusUnauthorized)
			})
		}
		for _, method := range []string{"get", "TRACE", "CONNECT"} { // a gateway may refuse these by itself
			t.Run(method, func(t *testing.T) {
				res, got := g.ask(t, ask{method: method, target: "/photos/1", tokens: []string{reading}})
				checkRefused(t, res, got, http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed)
			})
		}
	})
}

// TestGatewayLimits: what is too large is refused before it is judged, and the
// largest token is not.
func TestGatewayLimits(t *testing.T) {
	atGateways(t, func(t *testing.T, g *gateway, _ *authority, h holder) {
		text := h.photos(t)
		for len(text) < 3500 {
			text = narrow(t, text, "note "+strings.Repeat("n", 400))
		}
		res, got := g.ask(t, ask{target: "/photos/1?q=" + strings.Repeat("q", 2000), tokens: []string{text}})
		checkPassed(t, h, res, got)

		res, got = g.ask(t, ask{target: "/photos/1", tokens: []string{text + strings.Repeat("A", 1000)}})
		checkRefused(t, res, got, http.StatusUnauthorized)

		long := []header{{"X-Long", strings.Repeat("x", 7000)}, {"X-Longer", strings.Repeat("x", 7000)}, {"X-Longest", strings.Repeat("x", 7000)}}
		res, got = g.ask(t, ask{target: "/photos/1", tokens: []string{text}, header: long})
		checkRefused(t, res, got, http.StatusBadRequest, http.StatusRequestHeaderFieldsTooLarge)

		// Caddy 2.6 notices while it forwards, and then has no better word than 502.
		res, got = g.ask(t, ask{method: "POST", target: "/photos/1", tokens: []string{text}, body: strings.Repeat("b", 2<<20)})
		checkRefused(t, res, got, http.StatusRequestEntityTooLarge, http.StatusBadGateway)
	})
}

// TestGatewayListens: on the address that the file says, and not on every one
// that the machine has.
func TestGatewayListens(t *testing.T) {
	atGateways(t, func(t *testing.T, g *gateway, _ *authority, _ holder) {
		_, port, err := net.SplitHostPort(g.addr)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.2", port)); err == nil {
			c.Close()
			t.Errorf("it answers at %s, too", c.RemoteAddr())
		}
	})
}
