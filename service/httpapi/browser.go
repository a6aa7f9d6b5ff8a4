package httpapi

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"macaroond/service"
	"macaroond/service/api"
)

// Browser mode: the cookie, and what keeps other pages from using it. A browser
// sends the cookie along with requests that any page makes, so what counts is
// who made the request: first by the headers that a page cannot write
// (Sec-Fetch-Site, Origin), as net/http's CrossOriginProtection has it, then by
// one that a page of another origin cannot know (X-CSRF-Token). Either would do
// in a browser of today; SameSite=Lax stands before both.

func (s *server) browserRoutes(g *gin.Engine) {
	get(g, "/v1/session", do(s, http.StatusOK, s.session))
	g.POST("/v1/ticket", do(s, http.StatusOK, owner("ticket", s.ticket)))
}

func (s *server) session(x *call, _ none) (api.Session, error) {
	c, err := x.user("session")
	if err != nil {
		return api.Session{}, err
	}
	return s.svc.Session(x.ctx(), c, x.cookie)
}

func (s *server) ticket(x *call, c *service.Caller, in api.TicketIn) (api.Ticket, error) {
	return s.svc.Ticket(c, in)
}

// presented is the token that a request came with, from the one Authorization
// header or from the one cookie. A sidecar takes no cookie: it cannot derive
// synchronizer tokens, and has no root to judge.
func (s *server) presented(r *http.Request) (cred credential, cookie bool, err error) {
	cred, err = credentialOf(r)
	if err != nil || cred.token != "" {
		return cred, false, err
	}
	if s.svc == nil {
		return cred, false, errNoToken()
	}
	switch values := api.CookieValues(r.Header["Cookie"]); len(values) {
	case 0:
		return cred, false, errNoToken()
	case 1:
		return credential{token: values[0]}, true, nil
	}
	return cred, false, badRequest("more than one cookie " + api.Cookie)
}

// token is the token that a request to the authority's own endpoint came with.
// When it came in the cookie, the request is its own page's.
func (x *call) token() (cred credential, err error) {
	r := x.gin.Request
	cred, x.cookie, err = x.s.presented(r)
	if x.cookie {
		err = x.s.sameSite(cred.token, r, r.Method, r.Host)
	}
	return cred, err
}

// hasCookie reports the cookie, looked at or not.
func hasCookie(r *http.Request) bool { return len(api.CookieValues(r.Header["Cookie"])) > 0 }

// sameSite holds a request that came with the cookie against what its own page
// would send. method and host are those that the browser asked for: behind a
// gateway r is its subrequest.
func (s *server) sameSite(text string, r *http.Request, method, host string) error {
	switch {
	case handshake(r) && (method == http.MethodGet || method == http.MethodConnect):
		// A WebSocket's handshake (RFC 6455; RFC 8441 over HTTP/2) begins something
		// though it is a GET, and a script cannot add a header to it. But browsers
		// always send its Origin.
		if len(r.Header["Origin"]) == 0 {
			return errForeign()
		}
		return sameOrigin(r, host)
	case method == http.MethodGet || method == http.MethodHead:
		// Changes nothing, here; and must not, at a backend. A link from another
		// site is one.
		return nil
	}
	if err := sameOrigin(r, host); err != nil {
		return err
	}
	csrf := r.Header.Values(api.CSRFHeader)
	if len(csrf) != 1 {
		return &service.Error{Code: api.CodeCSRF, Detail: "with the cookie a request needs one " + api.CSRFHeader + ": GET /v1/session has it"}
	}
	return s.svc.CheckCSRF(text, csrf[0])
}

// handshake: RFC 6455 section 4.1. Gateways take Upgrade away from a subrequest,
// for it is about the connection; the key stays.
func handshake(r *http.Request) bool {
	return len(r.Header["Sec-Websocket-Key"]) > 0 || strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get("Sec-Fetch-Mode") == "websocket"
}

func errForeign() error {
	return &service.Error{Code: api.CodeCSRF, Detail: "the request comes from a page of another origin"}
}

// sameOrigin is the decision of net/http's CrossOriginProtection without its
// exemptions. same-site is another origin: a page on a neighbour's host or port.
// A request with neither header is no browser's of the last years.
func sameOrigin(r *http.Request, host string) error {
	site, origin := r.Header["Sec-Fetch-Site"], r.Header["Origin"]
	if len(site) > 1 || len(origin) > 1 {
		return errForeign()
	}
	if len(site) == 1 {
		// By the user, from a bookmark or the address bar, is "none".
		if site[0] == "same-origin" || site[0] == "none" {
			return nil
		}
		return errForeign()
	}
	if len(origin) == 0 {
		return nil
	}
	u, err := url.Parse(origin[0])
	if err != nil || host == "" || u.Host != host {
		return errForeign()
	}
	// The scheme of the browser's own request is not known behind a proxy; but a
	// cookie with __Host- goes over TLS only, or to this machine, so its page
	// came so, too. A page that somebody on the network put at http:// did not.
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return nil
	}
	return errForeign()
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// mayLogin keeps another site's page from logging a browser in as somebody else.
// There is no session yet, so there is no synchronizer token.
func (x *call) mayLogin(mode string) error {
	if mode != api.ModeCookie {
		return nil
	}
	return sameOrigin(x.gin.Request, x.gin.Request.Host)
}

// granted moves a grant's token into the cookie when it is meant for it.
func (x *call) granted(g api.Grant, err error) (api.Grant, error) {
	if err != nil || g.CSRFToken == "" {
		return g, err
	}
	x.gin.Header("Set-Cookie", service.SetCookie(g.Token, time.Duration(g.ExpiresIn)*time.Second))
	g.Token = ""
	return g, nil
}

// takeCookie takes the cookie away from the browser.
func takeCookie(c *gin.Context) { c.Header("Set-Cookie", service.SetCookie("", 0)) }

// dead reports whether a token was refused for good: it will be accepted
// nowhere and never. One for another audience, or refused by a caveat, is not;
// nor is one that a policy ends, for that gives back what it took.
func dead(err error) bool {
	refused, ok := errors.AsType[*api.Refusal](err)
	if !ok || refused.Policy {
		return false
	}
	switch refused.Code {
	case api.CodeMalformed, api.CodeTooLarge, api.CodeInvalid, api.CodeRevoked, api.CodeExpired:
		return true
	}
	return false
}
