package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"macaroond/caveats"
	"macaroond/service/dpop"
	"macaroond/service/token"
)

// TransportOptions say whose requests get a token, and what is left of it.
type TransportOptions struct {
	// Origins are those that may have a token, such as https://photos.example:
	// scheme, host, and the port if it is not the scheme's. At least one.
	Origins []string
	// Narrowing is what each request's token is narrowed by. Its audience is
	// needed unless the token has one; For is a minute when 0, at least 10
	// seconds; there is never a random note.
	Narrowing Narrowing
	// BindRequest makes each token good only for its own request's method and
	// path, the query left out. It takes the place of Narrowing's Methods and
	// Paths. A path that is not canonical ([caveats.PatternFor]) is then an
	// error, and so is one behind a proxy that rewrites paths.
	BindRequest bool
	// Key, when there is one, makes the tokens worth nothing to whoever has not
	// got it: each is bound to the key (cnf) and goes with a fresh DPoP proof (RFC
	// 9449) for its request, in the scheme DPoP.
	Key *dpop.Key
	// PlainHTTP permits origins of http:// that are not this machine. Whoever is
	// on the way then reads every token.
	PlainHTTP bool
	// Base does the requests. It must not follow redirects itself. nil is
	// net/http's default.
	Base http.RoundTripper
	// Now is this machine's clock. It may be wrong. nil is time.Now.
	Now func() time.Time
}

// ErrOrigin means that a request is for an origin that may not have a token.
// Nothing was sent.
var ErrOrigin = errors.New("the request is for an origin that this transport has no token for")

// ErrAuthorization means that a request brought an Authorization header. There
// is no telling which of two credentials is meant. Nothing was sent.
var ErrAuthorization = errors.New("the request has an Authorization header already")

// ErrSendAgain means that a request was answered 401 because this machine's clock
// is wrong, or because somebody has logged in again, and that its body cannot be
// sent a second time. The transport knows of both by now: send the same request
// again, and its token is in time and comes from the new root. A request that has a
// GetBody, which [http.NewRequest] sets for bytes and strings, is sent again by
// itself.
var ErrSendAgain = errors.New("401: the token was out of time, or from a former login, and the body cannot be sent again; the next one is right, send the request again")

// Transport puts a fresh narrowed token on every request: window, audience, an
// expiry a minute away, the rest (see [Narrow]). The token that it narrows never
// leaves it. It is an [http.RoundTripper], safe for concurrent use, and leaves
// the caller's request as it was.
//
// Only its origins get a token. Any other request is refused with [ErrOrigin]
// before anything is sent, with one exception: what a redirect leads elsewhere
// to goes there without a token, as to a bucket with a signed URL, and so does
// the rest of that chain of redirects even if it comes back, for then a stranger
// chooses what is asked for.
//
// A clock that is wrong by up to a day is corrected for, origin by origin, by
// the Date of its answers. A request that was refused with 401 while the clock
// was found to be wrong is sent again, once: 401 says that it had no effect. So is
// one of a [Session] whose store has another root by then.
type Transport struct {
	from    roots
	narrow  func(*token.Token, *http.Request, time.Time) (*token.Token, error)
	base    http.RoundTripper
	now     func() time.Time
	key     *dpop.Key        // or nil
	origins map[string]*skew // never changed; by the origin's one spelling
}

// roots is where a Transport has its token from. These are closures: of a pointer
// in a field, fmt prints what it points to when a verb does not fit, secrets and
// all.
type roots struct {
	root     func(context.Context) (*token.Token, error)
	isAhead  func(time.Duration)                      // is told of origins' clocks
	replaced func(context.Context, *token.Token) bool // after a 401: there is another one now
}

// NewTransport makes a Transport that narrows t, a root or what a delegation
// left of one. The errors say which option is wrong, and are those of [Narrow].
func NewTransport(t *token.Token, o TransportOptions) (*Transport, error) {
	return transportOf(t, roots{
		root:     func(context.Context) (*token.Token, error) { return t, nil },
		isAhead:  func(time.Duration) {},
		replaced: func(context.Context, *token.Token) bool { return false },
	}, o)
}

// Transport is a Transport that narrows the session's root, which is renewed on
// the way. What it learns of its origins' clocks counts for when that is.
func (s *Session) Transport(o TransportOptions) (*Transport, error) {
	return transportOf(s.held.Load().root, roots{s.Root, s.isAhead, s.replaced}, o)
}

func transportOf(t *token.Token, from roots, o TransportOptions) (*Transport, error) {
	n, err := o.Narrowing.PerRequest(t)
	if err != nil {
		return nil, err
	}
	if o.BindRequest && len(n.Methods)+len(n.Paths) > 0 {
		return nil, errors.New("BindRequest chooses method and path: leave those of the Narrowing empty")
	}
	if o.Key != nil {
		// Not in place: the caller's own list may have room behind its end.
		n.Extra = append(slices.Clip(n.Extra), "cnf "+o.Key.Thumbprint())
	}
	tr := &Transport{from: from, base: o.Base, now: o.Now, key: o.Key, origins: map[string]*skew{}}
	tr.narrow = func(t *token.Token, req *http.Request, now time.Time) (*token.Token, error) {
		if !o.BindRequest {
			return Narrow(t, n, now)
		}
		bound, err := n.boundTo(req)
		if err != nil {
			return nil, err
		}
		return Narrow(t, bound, now)
	}
	if tr.base == nil {
		tr.base = http.DefaultTransport
	}
	if tr.now == nil {
		tr.now = time.Now
	}
	if len(o.Origins) == 0 {
		return nil, errors.New("no origin is named that may have a token")
	}
	for _, s := range o.Origins {
		base, err := normalize(s, o.PlainHTTP)
		if err != nil {
			return nil, fmt.Errorf("an origin: %w", err)
		}
		if u, err := url.Parse(base); err != nil || u.Path != "" {
			return nil, fmt.Errorf("an origin is a scheme and a host, without a path: %s", base)
		}
		tr.origins[base] = new(skew)
	}
	if _, err := Narrow(t, n, tr.now()); err != nil {
		return nil, err
	}
	return tr, nil
}

// RoundTrip does one request. Errors match [ErrOrigin], [ErrAuthorization],
// [caveats.ErrPath] and those of [Narrow] when nothing was sent, [ErrSendAgain],
// or are the base's.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.strayed(req) {
		return t.base.RoundTrip(req)
	}
	clock, err := t.admit(req)
	if err != nil {
		closeBody(req.Body)
		return nil, err
	}
	resp, outdated, err := t.send(req, req.Body, clock)
	if err != nil || !outdated || !t.untimely(resp.StatusCode) {
		return resp, err
	}
	resp.Body.Close()
	body := req.Body
	if body != nil && body != http.NoBody {
		if req.GetBody == nil {
			return nil, ErrSendAgain
		}
		if body, err = req.GetBody(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSendAgain, err)
		}
	}
	resp, _, err = t.send(req, body, clock)
	return resp, err
}

// untimely reports a status with which a wrong clock is answered: 401 for a
// token, 403 for a proof. Either says that the request had no effect.
func (t *Transport) untimely(status int) bool {
	return status == http.StatusUnauthorized || t.key != nil && status == http.StatusForbidden
}

// send does req once with this body, which it closes, and a token of its own.
// outdated reports that the answer, or another one meanwhile, showed that the
// token was made for a wrong time, or that there is another root to make it from.
func (t *Transport) send(req *http.Request, body io.ReadCloser, clock *skew) (resp *http.Response, outdated bool, err error) {
	ahead := clock.get()
	sent := t.now().Round(0) // without the monotonic reading, which stands still while a machine sleeps
	root, err := t.from.root(req.Context())
	if err != nil {
		closeBody(body)
		return nil, false, err
	}
	narrowed, err := t.narrow(root, req, sent.Add(ahead))
	if err != nil {
		closeBody(body)
		return nil, false, err
	}
	r := req.Clone(req.Context())
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if r.Method == "" { // as net/http has it
		r.Method = http.MethodGet
	}
	r.Header.Set("Authorization", "Bearer "+narrowed.Text())
	if t.key != nil {
		proof, err := t.key.Prove(r.Method, r.URL.String(), narrowed.Text(), sent.Add(ahead))
		if err != nil {
			closeBody(body)
			return nil, false, err
		}
		r.Header.Set("Authorization", "DPoP "+narrowed.Text())
		r.Header.Set("DPoP", proof)
	}
	r.Body = body
	r.Trailer = req.Trailer // not a copy: the caller fills it in while the body is read
	resp, err = t.base.RoundTrip(r)
	if err != nil {
		return nil, false, err
	}
	if t.same(req, resp.Request) {
		clock.learn(resp.Header, sent, t.now().Round(0))
	}
	resp.Request = req // and not the one with the token, which callers may log
	if clock.get() != ahead {
		t.from.isAhead(clock.get())
		return resp, true, nil
	}
	return resp, resp.StatusCode == http.StatusUnauthorized && t.from.replaced(req.Context(), root), nil
}

// boundTo is n for this request's method and path, as they will stand in the
// request line.
func (n Narrowing) boundTo(req *http.Request) (Narrowing, error) {
	pattern, err := caveats.PatternFor(req.URL.RequestURI())
	if err != nil {
		return Narrowing{}, err
	}
	n.Methods, n.Paths = []string{req.Method}, []string{pattern}
	if req.Method == "" { // as net/http has it
		n.Methods = []string{http.MethodGet}
	}
	return n, nil
}

// admit finds the clock of a request's origin. The header may be in any case:
// net/http sends what it finds.
func (t *Transport) admit(req *http.Request) (*skew, error) {
	origin, clock := t.origin(req)
	if clock == nil {
		if origin == "" {
			return nil, ErrOrigin
		}
		return nil, fmt.Errorf("%w: %s", ErrOrigin, origin)
	}
	for name := range req.Header {
		if http.CanonicalHeaderKey(name) == "Authorization" {
			return nil, ErrAuthorization
		}
	}
	return clock, nil
}

// origin is where a request goes, in its one spelling, and that origin's clock;
// nil when it may not have a token. A Host of another name is for another site
// on the same machine, and an opaque URL can say another one in the request line.
func (t *Transport) origin(req *http.Request) (string, *skew) {
	if req.URL == nil || req.URL.Opaque != "" {
		return "", nil
	}
	origin, err := normalize(originURL(req.URL.Scheme, req.URL.Host), true)
	if err != nil {
		return "", nil
	}
	if req.Host != "" && req.Host != req.URL.Host {
		if named, err := normalize(originURL(req.URL.Scheme, req.Host), true); err != nil || named != origin {
			return "", nil
		}
	}
	return origin, t.origins[origin]
}

// originURL writes a host as it stands in a URL, where the % of an address's zone
// is escaped.
func originURL(scheme, host string) string {
	return (&url.URL{Scheme: scheme, Host: host}).String()
}

// same reports an answer that is the asked origin's own, and not what a base
// that follows redirects all the same found elsewhere.
func (t *Transport) same(asked, answered *http.Request) bool {
	if answered == nil { // the base does not say
		return true
	}
	_, a := t.origin(asked)
	_, b := t.origin(answered)
	return a == b
}

// strayed reports a request that a redirect made, when it or an earlier one of
// its chain was for somebody else.
func (t *Transport) strayed(req *http.Request) bool {
	for r := req; r.Response != nil; r = r.Response.Request {
		if _, clock := t.origin(r); clock == nil || r.Response.Request == nil {
			return true
		}
	}
	return false
}

// CloseIdleConnections closes those of the base, if it knows how:
// [http.Client.CloseIdleConnections] looks for it here.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

func closeBody(body io.ReadCloser) {
	if body != nil {
		body.Close()
	}
}
