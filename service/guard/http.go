package guard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/dpop"
	"macaroond/service/verify"
)

// Protect lets requests with a good token through to next, which finds out with
// [From] whose they are. Others are answered: 401 and 403 as RFC 6750 has it,
// 503 when nobody can know, always with a problem (RFC 9457).
func (g *Guard) Protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r, ok := g.Admit(w, r); ok {
			next.ServeHTTP(w, r)
		}
	})
}

// Admit is Protect for other frameworks' middleware: the request to go on with,
// or false when it was answered.
func (g *Guard) Admit(w http.ResponseWriter, r *http.Request) (*http.Request, bool) {
	a := &admitted{Context: r.Context()}
	if err := g.request(r, &a.pass); err != nil {
		refuse(w, err)
		return r, false
	}
	return r.WithContext(a), true
}

// admitted is the context of a request that a guard let through.
type admitted struct {
	context.Context
	pass api.Pass
}

type passKey struct{}

// Value gives the pass, too.
func (a *admitted) Value(key any) any {
	if key == (passKey{}) {
		return &a.pass
	}
	return a.Context.Value(key)
}

// From tells whose request it is that a guard let through; false when none did.
func From(ctx context.Context) (api.Pass, bool) {
	if p, ok := ctx.Value(passKey{}).(*api.Pass); ok {
		return *p, true
	}
	return api.Pass{}, false
}

func (g *Guard) request(r *http.Request, pass *api.Pass) error {
	text, bound, err := bearer(r.Header["Authorization"], r.Header["Cookie"])
	if err != nil {
		return err
	}
	var shown *dpop.Presented
	if proofs := r.Header["Dpop"]; bound || len(proofs) > 0 {
		shown = &dpop.Presented{Proofs: proofs, URL: g.urlOf(r), Scheme: bound}
	}
	facts := caveats.Request{Method: r.Method, Target: r.RequestURI, Origins: r.Header["Origin"]}
	from := lookup{r, r}
	if g.o.Facts != nil {
		facts.ClientIP = peer(r)
		g.o.Facts(r, &facts)
		from.address = nil // one that they take away is not known
	}
	v := verdicts.Get().(*verify.Verdict)
	defer verdicts.Put(v)
	defer v.Forget()
	if !v.Read(text) {
		return g.refused(v, Local)
	}
	return g.judge(r.Context(), text, v, &facts, shown, from, pass)
}

// urlOf is what the client asked for.
func (g *Guard) urlOf(r *http.Request) string {
	if g.o.URL != nil {
		return g.o.URL(r)
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	return scheme + r.Host + r.URL.EscapedPath()
}

// bearer takes the token from the one Authorization header: two readers of two
// could each take another one, and so could they of a header and browser mode's
// cookie. By itself that cookie is nothing here: only the authority can tell a
// page of its own from a foreign one. bound: the token came under the scheme
// DPoP (RFC 9449 section 7.1).
func bearer(values, cookies []string) (token string, bound bool, err error) {
	if len(values) > 1 {
		return "", false, &api.Refusal{Code: api.CodeBadRequest, Reason: "more than one Authorization header"}
	}
	if len(values) == 1 {
		if len(cookies) > 0 && len(api.CookieValues(cookies)) > 0 {
			return "", false, &api.Refusal{Code: api.CodeBadRequest, Reason: "an Authorization header and the cookie " + api.Cookie + ": send one of them"}
		}
		scheme, rest, _ := strings.Cut(values[0], " ")
		bound = strings.EqualFold(scheme, "DPoP")
		if text := strings.TrimLeft(rest, " "); (bound || strings.EqualFold(scheme, "Bearer")) && text != "" {
			return text, bound, nil
		}
	}
	return "", false, &api.Refusal{Code: api.CodeNoToken, Reason: "send a token: Authorization: Bearer …"}
}

// peer is who is at the other end of the connection; no address for a Unix
// socket, and then client-ip refuses.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// address adds the connection's peer to facts that name no client.
func address(facts *caveats.Request, r *http.Request) {
	if r != nil && !facts.ClientIP.IsValid() {
		facts.ClientIP = peer(r)
	}
}

// body adds the body's hash to the facts when a caveat is about it, or may be: a
// sealed one says nothing, so a body that is too long is no fact to it and no
// reason to refuse.
func (g *Guard) body(facts *caveats.Request, r *http.Request, special special) error {
	if r == nil || !special.body && !special.sealed {
		return nil
	}
	sum, err := g.hashBody(r)
	if err != nil && (special.body || err.Code != api.CodeBodyTooLarge) {
		return err
	}
	facts.BodySHA256 = sum
	return nil
}

// hashBody reads the body within its cap and puts it back. One that somebody
// has read before is not the empty one.
func (g *Guard) hashBody(r *http.Request) (string, *api.Refusal) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(io.LimitReader(r.Body, g.o.MaxBody+1))
		long := int64(len(body)) > g.o.MaxBody
		if _, capped := errors.AsType[*http.MaxBytesError](err); capped || long {
			r.Body = again(io.MultiReader(bytes.NewReader(body), r.Body), r.Body)
			return "", &api.Refusal{Code: api.CodeBodyTooLarge, Reason: "the token binds a body, and this one is too long to be checked"}
		}
		if err != nil {
			return "", &api.Refusal{Code: api.CodeBadRequest, Reason: "the body could not be read"}
		}
		r.Body = again(bytes.NewReader(body), r.Body)
	}
	read := r.PostForm != nil || r.MultipartForm != nil
	if r.ContentLength >= 0 {
		read = int64(len(body)) != r.ContentLength
	}
	if read {
		return "", &api.Refusal{Code: api.CodeRefused, Reason: "the token binds a body, and this one was read before it could be checked"}
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:]), nil
}

// again is a body that is read once more.
func again(r io.Reader, c io.Closer) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{r, c}
}

// refuse answers.
func refuse(w http.ResponseWriter, err error) {
	refusal, ok := errors.AsType[*api.Refusal](err)
	if !ok {
		refusal = &api.Refusal{Code: api.CodeInternal, Reason: "something went wrong here"}
	}
	p, header := refusal.Problem()
	for k, v := range header {
		w.Header().Set(k, v)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	body, _ := json.Marshal(p) // our own type
	_, _ = w.Write(append(body, '\n'))
}
