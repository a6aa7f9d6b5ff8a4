package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
)

// dialect is how a gateway says what request it asks about. Each believes its
// own two headers and ignores the other family's, because a client can send
// the other family's through.
type dialect struct {
	method, uri string // header names; empty: the subrequest's own
	host        string // likewise; may be left out
}

var (
	original  = dialect{"X-Original-Method", "X-Original-Uri", "X-Original-Host"}    // nginx auth_request
	forwarded = dialect{"X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host"} // Traefik ForwardAuth, Caddy forward_auth
	prefixed  = dialect{}                                                            // Envoy ext_authz with a path prefix
)

// authz answers a gateway's subrequest: exactly 200 with the identity in
// headers, or 401, 403, and 503 only when the list of revocations is stale.
func (s *server) authz(d dialect) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Header("Cache-Control", "no-store") // a gateway that kept a verdict would outlive a revocation
		pass, err := s.ask(c.Request, d)
		if err == nil && s.byName(pass) && pass.Username == "" {
			// As "-" all whose name is not known would be one account to the backend.
			err = &api.Refusal{Code: api.CodeBusy, Reason: "the name of the user cannot be found out now", RetryAfter: time.Second}
		}
		if err != nil {
			if len(c.Request.Header["Cookie"]) > 0 && dead(err) && len(c.Request.Header["Authorization"]) == 0 {
				takeCookie(c)
			}
			p := s.problem(c, err)
			// A gateway understands nothing else, but for what nobody can know now.
			switch p.Code {
			case api.CodeStale, api.CodeBusy, api.CodeRateLimited:
				p.Status = http.StatusServiceUnavailable
			default:
				if p.Status != http.StatusUnauthorized {
					p.Status = http.StatusForbidden
				}
			}
			s.answer(c, p.Status, "application/problem+json", p)
			return
		}
		header := c.Writer.Header()
		delete(header, "Allow")         // gin's, for a method that it does not know
		delete(header, requestIDHeader) // nobody reads it there, and a ninth header makes the map a large one
		s.tell(header, pass)
		c.Status(http.StatusOK)
		c.Writer.WriteHeaderNow()
	}
}

// passHeaders are what a backend behind a gateway is told; values has the same
// order.
var passHeaders = [...]string{"X-Auth-User", "X-Auth-Username", "X-Auth-Device", "X-Auth-Audience", "X-Auth-Expires", "X-Auth-Roles", "Remote-User"}

func (s *server) tell(h http.Header, pass *api.Pass) {
	values := [len(passHeaders)]string{
		pass.User, pass.Username, pass.Device, pass.Audience, pass.Expires.UTC().Format(time.RFC3339), pass.Role, pass.User,
	}
	if s.byName(pass) {
		values[6] = pass.Username
	}
	for i, name := range passHeaders {
		values[i] = headerValue(values[i])
		h[name] = values[i : i+1 : i+1]
	}
}

// byName reports whether Remote-User is the name. A service's may be a user's,
// too: it is told by its id, which no name of a user begins like.
func (s *server) byName(pass *api.Pass) bool {
	return s.RemoteUser == "username" && !service.IsService(pass.User)
}

func forbidden(detail string) error { return &service.Error{Code: api.CodeForbidden, Detail: detail} }

// ask reads what the gateway says and has it judged.
func (s *server) ask(r *http.Request, d dialect) (*api.Pass, error) {
	if !s.trusted(peerAddr(r)) {
		return nil, forbidden("only a trusted proxy may ask: see trusted_proxies")
	}
	facts := caveats.Request{Origins: r.Header["Origin"]}
	if len(r.Header["X-Forwarded-For"]) > 0 { // else the gateway does not say who asks, and it is not itself
		facts.ClientIP = s.clientAddr(r)
	}
	if d == prefixed {
		target, ok := strings.CutPrefix(r.RequestURI, "/authz/request")
		if !ok {
			return nil, forbidden("the request target does not begin with the prefix")
		}
		facts.Method, facts.Target = r.Method, target
	} else {
		var ok [2]bool
		facts.Method, ok[0] = single(r.Header, d.method)
		facts.Target, ok[1] = single(r.Header, d.uri)
		if !ok[0] || !ok[1] {
			return nil, forbidden("the gateway must send " + d.method + " and " + d.uri + ", each once")
		}
		var err error
		if facts.Audience, facts.Actions, err = asked(r.URL.RawQuery); err != nil {
			return nil, err
		}
	}
	cred, cookie, err := s.presented(r)
	if e, ok := errors.AsType[*service.Error](err); ok && e.Code == api.CodeBadRequest {
		err = forbidden(e.Detail) // the client's mistake; a gateway understands no 400
	}
	if err != nil {
		return nil, err
	}
	if cookie {
		facts.Via = caveats.Cookie
		host := r.Host
		if d.host != "" {
			host, _ = single(r.Header, d.host)
		}
		if err := s.sameSite(cred.token, r, facts.Method, host); err != nil {
			return nil, err
		}
	}
	return s.judge.Gateway(r.Context(), cred.token, facts, cred.presented(r, s.AuthzOrigin, facts.Target))
}

// asked reads the query, which is the gateway's configuration and no client's.
func asked(query string) (audience string, actions []string, err error) {
	if a, ok := strings.CutPrefix(query, "audience="); ok && !strings.ContainsAny(a, "&;=%+") || query == "" {
		return a, nil, nil // as nearly all are
	}
	q, err := url.ParseQuery(query)
	unknown := len(q)
	for _, k := range [...]string{"audience", "action"} {
		if _, there := q[k]; there {
			unknown--
		}
	}
	if err != nil || unknown > 0 || len(q["audience"]) > 1 { // a misspelt ?audience= would judge for another
		return "", nil, forbidden("the gateway's query is not one audience and actions")
	}
	return q.Get("audience"), q["action"], nil
}

// single takes a header that must be there exactly once and not be empty.
// Neither a method nor a target has a space (RFC 9112 section 3): one that has
// was joined from two on the way here.
func single(h http.Header, name string) (string, bool) {
	v := h[name]
	if len(v) != 1 || v[0] == "" || strings.Contains(v[0], " ") {
		return "", false
	}
	return v[0], true
}

// headerValue is never empty, and percent-encodes what could mean something to
// a backend's parser.
func headerValue(v string) string {
	if v == "" {
		return "-"
	}
	for i := range len(v) {
		if !plain(v[i]) {
			return encoded(v)
		}
	}
	return v
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~@+:/", c) >= 0
}

func encoded(v string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(v) {
		if c := v[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
