package e2e

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// smuggled is in every value that a client sends under a name which is not its
// own, so that it can be looked for in whatever the backend got.
const smuggled = "smuggled"

// TestGatewaySmuggling: an allowed client claims to be somebody else, or to ask
// for something else, under every name that anybody might believe.
func TestGatewaySmuggling(t *testing.T) {
	names := []string{
		"X-Original-URI", "X-Original-Method", "X-Original-URL", "X_Original_URI",
		"X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
		"X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X_Forwarded_For", "X_Forwarded_Uri",
		"Forwarded", "X-Real-IP", "X-Rewrite-URL", "X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override",
		"X-Original-Host", "X-Forwarded-Path", "X-Forwarded-Scheme", "X-Forwarded-Ssl", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups",
		"X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
	}
	for _, name := range identityHeaders {
		// Every mixture of the two spellings: to CGI they are all one name.
		spellings := []string{""}
		for _, part := range strings.SplitAfter(name, "-") {
			var longer []string
			for _, s := range spellings {
				longer = append(longer, s+part)
				if strings.HasSuffix(part, "-") {
					longer = append(longer, s+strings.TrimSuffix(part, "-")+"_")
				}
			}
			spellings = longer
		}
		names = append(names, spellings...)
		names = append(names, strings.ToLower(name))
		// What else may stand in a name (RFC 9110 section 5.6.2) is an underscore to CGI.
		for _, c := range "!#$%&'*+.^`|~" {
			names = append(names, strings.ReplaceAll(name, "-", string(c)), strings.Replace(name, "-", string(c), 1))
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)

	atGateways(t, func(t *testing.T, g *gateway, _ *authority, h holder) {
		text := h.photos(t, "path /photos/**", "method GET")
		check := func(t *testing.T, headers []header) {
			t.Helper()
			res, got := g.ask(t, ask{target: "/photos/1", tokens: []string{text}, header: headers})
			if !checkPassed(t, h, res, got) {
				return
			}
			for _, hd := range got[0].header {
				if strings.Contains(hd.value, smuggled) || strings.Contains(strings.ToLower(hd.name), smuggled) {
					t.Errorf("the backend got %s: %s", hd.name, hd.value)
				}
			}
			if from := spelledAnyhow(got[0], "X-Forwarded-For"); !slices.Equal(from, []string{"127.0.0.1"}) {
				t.Errorf("the backend got X-Forwarded-For %q, want the client's address", from)
			}
		}
		var all []header
		for _, name := range names {
			hd := header{name, smuggled}
			all = append(all, hd)
			t.Run(name, func(t *testing.T) {
				check(t, []header{hd})
				check(t, []header{hd, hd})
			})
		}
		t.Run("all at once", func(t *testing.T) { check(t, all) })

		// A client can declare headers to belong to this hop only, to have the
		// gateway drop its own.
		t.Run("Connection", func(t *testing.T) {
			check(t, []header{{"Connection", "close, X-Forwarded-For, X-Forwarded-Uri, X-Original-URI, " + strings.Join(identityHeaders, ", ")}})
		})
	})
}

// TestGatewayDeletesFirst: the client's claims are gone before the authority is
// asked, and not only because its answer replaces them: here it says yes and
// nothing more, as macaroond never does.
func TestGatewayDeletesFirst(t *testing.T) {
	for _, p := range products {
		t.Run(p.name, func(t *testing.T) {
			program(t, p.name)
			silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			defer silent.Close()
			g := startGateway(t, p, silent.Listener.Addr().String())
			question := ask{target: "/photos/1", tokens: []string{"AAAA"}}
			for _, name := range identityHeaders {
				question.header = append(question.header, header{name, smuggled}, header{strings.ReplaceAll(name, "-", "_"), smuggled})
			}
			res, got := g.ask(t, question)
			if res.status != http.StatusOK || len(got) != 1 {
				t.Fatalf("%d requests reached the backend, answer %s", len(got), res)
			}
			for _, hd := range got[0].header {
				if strings.Contains(hd.value, smuggled) {
					t.Errorf("the backend got %s: %s", hd.name, hd.value)
				}
			}
		})
	}
}

// TestGatewayJudgesTheRealRequest: what the client says about its request in
// headers changes no verdict, neither way.
func TestGatewayJudgesTheRealRequest(t *testing.T) {
	lies := func(method, target, from string) []header {
		return []header{
			{"X-Original-Method", method},
			{"X-Forwarded-Method", method},
			{"X-HTTP-Method-Override", method},
			{"X-Original-URI", target},
			{"X-Forwarded-Uri", target},
			{"X-Original-URL", target},
			{"X-Rewrite-URL", target},
			{"X_Original_Method", method},
			{"X_Original_URI", target},
			{"X_Forwarded_Method", method},
			{"X_Forwarded_Uri", target},
			{"X-Forwarded-For", from},
			{"X-Real-IP", from},
			{"Forwarded", "for=" + from},
		}
	}
	atGateways(t, func(t *testing.T, g *gateway, _ *authority, h holder) {
		text := []string{h.photos(t, "path /photos/**", "method GET", "client-ip 127.0.0.0/8")}
		abroad := []string{h.photos(t, "client-ip 192.0.2.0/24")}

		res, got := g.ask(t, ask{target: "/photos/1", tokens: text, header: lies("DELETE", "/admin", "192.0.2.1")})
		checkPassed(t, h, res, got)
		res, got = g.ask(t, ask{target: "/admin", tokens: text, header: lies("GET", "/photos/1", "127.0.0.1")})
		checkRefused(t, res, got, http.StatusForbidden)
		res, got = g.ask(t, ask{method: "DELETE", target: "/photos/1", tokens: text, header: lies("GET", "/photos/1", "127.0.0.1")})
		checkRefused(t, res, got, http.StatusForbidden)
		res, got = g.ask(t, ask{target: "/photos/1", tokens: abroad, header: lies("GET", "/photos/1", "192.0.2.1")})
		checkRefused(t, res, got, http.StatusForbidden)
	})
}

// TestGatewayTwoAuthorizations: of two credentials one would be judged and the
// other believed, so both together are no credential.
func TestGatewayTwoAuthorizations(t *testing.T) {
	atGateways(t, func(t *testing.T, g *gateway, _ *authority, h holder) {
		good := h.photos(t)
		for _, tokens := range [][]string{{good, good}, {good, "AAAA"}, {"AAAA", good}} {
			res, got := g.ask(t, ask{target: "/photos/1", tokens: tokens})
			checkRefused(t, res, got, http.StatusBadRequest, http.StatusForbidden)
		}
		for _, value := range []string{"Bearer " + good + ", Bearer " + good, "Bearer " + good + " " + good, "Basic " + good, good} {
			res, got := g.ask(t, ask{target: "/photos/1", header: []header{{"Authorization", value}}})
			checkRefused(t, res, got, http.StatusUnauthorized, http.StatusForbidden)
		}
		res, got := g.ask(t, ask{target: "/photos/1", header: []header{{"X_Authorization", bearer(good)}, {"Proxy-Authorization", bearer(good)}}})
		checkRefused(t, res, got, http.StatusUnauthorized)
	})
}
