package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
)

// MaxBody is the largest request body, in bytes.
const MaxBody = 64 << 10

// none is the body of endpoints that take none.
type none struct{}

// call is one request on its way through the adapter.
type call struct {
	s      *server
	gin    *gin.Context
	body   []byte
	epoch  uint32 // of the service's token that asks; 0 when none does
	cookie bool   // the token that asks came in the cookie
}

// do is the adapter: it caps and decodes the body, calls f, and writes its
// answer or a problem. OAuth's endpoints have an adapter of their own; gateways,
// the feed, health checks and the interface's description have none.
func do[In, Out any](s *server, status int, f func(*call, In) (Out, error)) gin.HandlerFunc {
	return func(c *gin.Context) {
		// What goes through here has a secret in it, or somebody's data.
		c.Header("Cache-Control", "no-store")
		x, err := s.read(c)
		if err != nil {
			s.fail(c, err)
			return
		}
		var in In
		if err := x.decode(&in); err != nil {
			s.fail(c, err)
			return
		}
		out, err := f(x, in)
		if err != nil {
			if x.cookie && dead(err) { // by the verdict, or by the act's own transaction
				takeCookie(c)
			}
			s.fail(c, err)
			return
		}
		status, body := status, any(out)
		if e, ok := body.(either); ok {
			status, body = e.status, e.body
		}
		if status == http.StatusNoContent {
			c.Status(status)
			return
		}
		s.answer(c, status, "application/json", body)
	}
}

// copied is how much of an answer net/http copies before Write returns, in
// HTTP/1.1 and in HTTP/2: only a buffer of no more may be used again.
const copied = 4 << 10

// buffers are for answers.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// answer writes JSON. Encoding our own types cannot fail.
func (s *server) answer(c *gin.Context, status int, mediaType string, v any) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	body := (*buffer)[:0]
	if d, ok := v.(api.Decision); ok {
		body = appendDecision(body, &d)
	} else {
		var err error
		if body, err = json.Marshal(v); err != nil {
			s.Log.Error("encoding an answer", "error", err)
			c.Status(http.StatusInternalServerError)
			return
		}
	}
	*buffer = append(body, '\n')
	c.Writer.Header()["Content-Type"] = []string{mediaType}
	c.Status(status)
	_, _ = c.Writer.Write(*buffer) // a client that has gone is told nothing
	if len(*buffer) > copied {
		*buffer = nil // HTTP/2 may still be writing from it when the client goes
		return
	}
	clear(*buffer) // a grant has a token in it
}

// read takes the whole body within its cap.
func (s *server) read(c *gin.Context) (*call, error) {
	x := &call{s: s, gin: c}
	if c.Request.ContentLength == 0 {
		return x, nil
	}
	if c.Request.ContentLength > MaxBody {
		return nil, errBodyTooLarge()
	}
	var err error
	if n := c.Request.ContentLength; n > 0 {
		x.body = make([]byte, n)
		_, err = io.ReadFull(c.Request.Body, x.body)
	} else {
		x.body, err = io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, MaxBody))
	}
	if err != nil {
		if _, too := errors.AsType[*http.MaxBytesError](err); too {
			return nil, errBodyTooLarge()
		}
		return nil, &service.Error{Code: api.CodeBadRequest, Detail: "the body could not be read", Err: err}
	}
	return x, nil
}

func errBodyTooLarge() error {
	return &service.Error{Code: api.CodeBodyTooLarge, Detail: "a body has at most " + strconv.Itoa(MaxBody) + " bytes"}
}

// decode reads the body strictly: known members in their exact spelling, each
// once, valid UTF-8, nothing after it. No body reads as an empty object.
func (x *call) decode(in any) error {
	if len(bytes.TrimSpace(x.body)) == 0 {
		return nil
	}
	if ct := x.gin.GetHeader("Content-Type"); ct != "" && ct != "application/json" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || mt != "application/json" {
			return &service.Error{Code: api.CodeUnsupportedMedia, Detail: "send Content-Type: application/json"}
		}
	}
	if v, ok := in.(*api.VerifyIn); ok && readVerifyIn(x.body, v) {
		return nil
	}
	if err := json.Unmarshal(x.body, in, json.RejectUnknownMembers(true)); err != nil {
		return badJSON(err)
	}
	if bytes.Contains(x.body, []byte("null")) || bytes.Contains(x.body, []byte(`""`)) || bytes.IndexByte(x.body, '0') >= 0 {
		return saysNothing(x.body, in)
	}
	return nil
}

// mayBeEmpty reports whether "" says something of a member: a fact of a request
// that has none; a name, password or code that is nobody's; no role; a device
// without a name.
func mayBeEmpty(in any, member jsontext.Pointer) bool {
	switch in.(type) {
	case *api.VerifyIn:
		return true
	case *api.LoginIn, *api.RecoverIn, *api.LinkIn:
		if member == "/username" || member == "/password" || member == "/code" {
			return true
		}
	}
	return member == "/role" || member == "/device/name"
}

// saysNothing refuses null, and "" and 0 for a member, which everything behind it
// takes as "left out": a password that is null, or a form's empty field, is a
// mistake and not a wish for an account without one, and a time of which nothing
// is left is none for the longest there is.
func saysNothing(body []byte, in any) error {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	for {
		t, err := dec.ReadToken()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return badJSON(err)
		}
		at := dec.StackPointer()
		around, n := dec.StackIndex(dec.StackDepth())
		switch value := around == '{' && n%2 == 0; {
		case t.Kind() == 'n':
			return badField(pointer(at), "the member is null: fill it in, or leave it out if it is optional")
		case value && t.Kind() == '"' && t.String() == "" && !mayBeEmpty(in, at):
			return badField(pointer(at), "the member is empty: fill it in, or leave it out if it is optional")
		case value && t.Kind() == '0' && strings.TrimPrefix(t.String(), "-") == "0":
			return badField(pointer(at), "the member is 0: fill it in, or leave it out if it is optional")
		}
	}
}

// badJSON says what is wrong and where, and nothing of what was sent: the
// member may be a password.
func badJSON(err error) error {
	e := &service.Error{Code: api.CodeBadRequest, Detail: "the body is not valid JSON in UTF-8"}
	if syn, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		e.Field = pointer(syn.JSONPointer)
		if errors.Is(err, jsontext.ErrDuplicateName) {
			e.Detail = "the member is there twice"
		}
		return e
	}
	if sem, ok := errors.AsType[*json.SemanticError](err); ok {
		e.Field = pointer(sem.JSONPointer)
		e.Detail = "the value has the wrong type"
		if errors.Is(err, json.ErrUnknownName) {
			e.Detail = "the member is unknown"
		}
	}
	return e
}

// pointer is the field as it goes into the answer: what the client chose as a
// name is cut so that it cannot be a page long.
func pointer(p jsontext.Pointer) string {
	if len(p) > 128 {
		p = p[:128]
	}
	return string(bytes.ToValidUTF8([]byte(p), nil))
}

func (x *call) ctx() context.Context { return x.gin.Request.Context() }

func (x *call) source() service.Source {
	return service.Source{ClientIP: x.s.clientAddr(x.gin.Request)}
}

// facts are the request's own, for caveats at the authority's endpoints.
func (x *call) facts(action string) caveats.Request {
	sum := sha256.Sum256(x.body)
	r := x.gin.Request
	facts := caveats.Request{
		Method: r.Method, Target: r.RequestURI, Actions: []string{action}, ClientIP: x.s.clientAddr(r),
		Origins: r.Header["Origin"], BodySHA256: hex.EncodeToString(sum[:]),
	}
	if x.cookie {
		facts.Via = caveats.Cookie
	}
	return facts
}

// user asks for a token that holds here for the action.
// ready is what else could refuse the request: see [service.Service.Authorize].
func (x *call) user(action string, ready ...func(*service.Caller) error) (*service.Caller, error) {
	return x.authorize(action, false, ready...)
}

// owner asks for a bare root.
func (x *call) owner(action string) (*service.Caller, error) { return x.authorize(action, true) }

// owner is a handler for whoever shows a bare root.
func owner[In, Out any](action string, f func(*call, *service.Caller, In) (Out, error)) func(*call, In) (Out, error) {
	return func(x *call, in In) (out Out, err error) {
		c, err := x.owner(action)
		if err != nil {
			return out, err
		}
		return f(x, c, in)
	}
}

func (x *call) authorize(action string, bare bool, ready ...func(*service.Caller) error) (*service.Caller, error) {
	cred, err := x.token()
	if err != nil {
		return nil, err
	}
	return x.s.svc.Authorize(x.ctx(), x.shown(cred, x.facts(action), bare), ready...)
}

// shown is the request as it shows itself.
func (x *call) shown(cred credential, facts caveats.Request, bare bool) service.Shown {
	r := x.gin.Request
	return service.Shown{
		Token: cred.token, Facts: facts, Bare: bare,
		DPoP: cred.presented(r, x.s.svc.Settings().Issuer, r.RequestURI),
	}
}

// basic checks a service credential.
func (x *call) basic(cred credential) (*storage.Service, error) {
	svc, err := x.s.svc.AuthenticateService(x.ctx(), cred.name, cred.secret, x.source())
	return &svc, err
}

func errNoToken() error {
	return &service.Error{Code: api.CodeNoToken, Detail: "send a token: Authorization: Bearer …"}
}

// query takes the known query parameters, each at most once. A misspelt or
// malformed one is an error: ?exept=current or ?except=current;x (which
// URL.Query drops) would otherwise revoke everything.
func (x *call) query(known ...string) (map[string]string, error) {
	values, err := url.ParseQuery(x.gin.Request.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query is malformed")
	}
	out := map[string]string{}
	for _, k := range known {
		if v := values[k]; len(v) == 1 {
			out[k] = v[0]
		} else if len(v) > 1 {
			return nil, badRequest("query parameter " + k + " is there twice")
		}
		delete(values, k)
	}
	if len(values) > 0 {
		err = badRequest("unknown query parameter")
	}
	return out, err
}

// whole is a list that has no pages: it takes no query, so that whoever asks for
// one is not given everything.
func whole[Out any](f func(*call, none) (Out, error)) func(*call, none) (Out, error) {
	return func(x *call, in none) (out Out, err error) {
		if _, err = x.query(); err != nil {
			return out, err
		}
		return f(x, in)
	}
}

// page reads the query of a list that has pages: ?after=, which is the list's own
// to understand, and ?limit=.
func (x *call) page() (after string, limit int, err error) {
	q, err := x.query("after", "limit")
	if err != nil {
		return "", 0, err
	}
	if q["limit"] == "" {
		return q["after"], 100, nil
	}
	limit, err = strconv.Atoi(q["limit"])
	if err != nil || limit < 1 || limit > 1000 {
		return "", 0, badRequest("limit is 1 to 1000")
	}
	return q["after"], limit, nil
}
