package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// description is the OpenAPI document, ready to hold exchanges against.
type description struct {
	doc   *openapi3.T
	paths map[string]*regexp.Regexp
}

var document = sync.OnceValue(func() *description {
	doc, err := openapi3.NewLoader().LoadFromData(OpenAPI)
	if err != nil {
		panic(err)
	}
	d := &description{doc, map[string]*regexp.Regexp{}}
	for p := range doc.Paths.Map() {
		re := strings.ReplaceAll(regexp.QuoteMeta(p), `\{path\}`, `(?P<path>.*)`)
		re = regexp.MustCompile(`\\\{(\w+)\\\}`).ReplaceAllString(re, `(?P<$1>[^/]+)`)
		d.paths[p] = regexp.MustCompile("(?s)^" + re + "$")
	}
	return d
})

// route finds the operation; nil when there is none. Under /authz GET stands
// for every method.
func (d *description) route(r *http.Request) (*routers.Route, map[string]string) {
	for p, re := range d.paths {
		m := re.FindStringSubmatch(r.URL.Path)
		if m == nil {
			continue
		}
		method := r.Method
		if verdicts(p) && p != "/v1/verify" {
			method = http.MethodGet
		}
		item := d.doc.Paths.Value(p)
		op := item.Operations()[method]
		if op == nil {
			return nil, nil
		}
		params := map[string]string{}
		for i, n := range re.SubexpNames() {
			if n != "" {
				params[n] = m[i]
			}
		}
		return &routers.Route{Spec: d.doc, Path: p, PathItem: item, Method: method, Operation: op}, params
	}
	return nil, nil
}

func (d *description) input(r *http.Request, body []byte) *openapi3filter.RequestValidationInput {
	route, params := d.route(r)
	if route == nil {
		return nil
	}
	r = r.Clone(context.Background())
	r.Method = route.Method
	if r.URL.Host == "" {
		r.URL = &url.URL{Scheme: "http", Host: "test", Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		r.Body = http.NoBody
	}
	return &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: &openapi3filter.Options{
		IncludeResponseStatus: true, MultiError: true,
		AuthenticationFunc: func(_ context.Context, in *openapi3filter.AuthenticationInput) error {
			if in.SecurityScheme.Type == "apiKey" {
				if _, err := in.RequestValidationInput.Request.Cookie(in.SecurityScheme.Name); err != nil {
					return err
				}
				return nil
			}
			scheme, _, _ := strings.Cut(in.RequestValidationInput.Request.Header.Get("Authorization"), " ")
			bound := strings.EqualFold(scheme, "DPoP") && in.SecurityScheme.Scheme == "bearer" // as the document says of it
			if !bound && !strings.EqualFold(scheme, in.SecurityScheme.Scheme) {
				return errors.New("no " + in.SecurityScheme.Scheme)
			}
			return nil
		},
	}}
}

// request holds a request that was taken (or refused for what it is about, not
// for how it is written) against the document.
func (d *description) request(r *http.Request, body []byte, status int) error {
	switch {
	case status == http.StatusForbidden && strings.HasPrefix(r.URL.Path, "/authz/"):
		return nil
	case status/100 != 2 && status != http.StatusForbidden && status != http.StatusConflict && status != http.StatusTooManyRequests:
		return nil
	}
	in := d.input(r, body)
	if in == nil {
		if r.Method == http.MethodOptions { // a preflight
			return nil
		}
		return errors.New("the operation is not documented")
	}
	return openapi3filter.ValidateRequest(context.Background(), in)
}

var succeeded sync.Map // operations that a test has had succeed

// response holds an answer against the document. What is not an operation is a
// problem all the same.
func (d *description) response(r *http.Request, sent []byte, resp *http.Response, body []byte) error {
	in := d.input(r, sent)
	if in == nil {
		if r.Method == http.MethodOptions && resp.StatusCode == http.StatusNoContent {
			return nil
		}
		ref := d.doc.Components.Responses["P"+strconv.Itoa(resp.StatusCode)]
		if ref == nil || resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
			return errors.New("neither an operation nor a 404 or 405")
		}
		var problem any
		if err := json.Unmarshal(body, &problem); err != nil {
			return err
		}
		return ref.Value.Content["application/problem+json"].Schema.Value.VisitJSON(problem)
	}
	in.Options.ExcludeResponseBody = r.Method == http.MethodHead
	if resp.StatusCode/100 == 2 {
		succeeded.Store(in.Route.Operation.OperationID, true)
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Options: in.Options, Body: io.NopCloser(bytes.NewReader(body)),
	})
}

// The holding bites: what is not as documented is found.
func TestConformanceBites(t *testing.T) {
	ok := func() *http.Response {
		h := http.Header{}
		for k, v := range map[string]string{
			"Content-Type": "application/problem+json", "X-Request-Id": "abc", "Cache-Control": "no-store", "WWW-Authenticate": noToken,
		} {
			h.Set(k, v)
		}
		return &http.Response{StatusCode: 401, Header: h}
	}
	const body = `{"type":"about:blank","title":"Unauthorized","status":401,"code":"no_token"}`
	for _, row := range []struct {
		name   string
		change func(*http.Response)
		body   string
		want   bool
	}{
		{"as documented", func(*http.Response) {}, body, true},
		{"no challenge", func(r *http.Response) { r.Header.Del("WWW-Authenticate") }, body, false},
		{"cacheable", func(r *http.Response) { r.Header.Del("Cache-Control") }, body, false},
		{"another type", func(r *http.Response) { r.Header.Set("Content-Type", "text/html") }, body, false},
		{"a status that is not documented", func(r *http.Response) { r.StatusCode = 418 }, body, false},
		{"a code of another status", func(*http.Response) {}, strings.Replace(body, "no_token", "forbidden", 1), false},
		{"an unknown member", func(*http.Response) {}, strings.Replace(body, "{", `{"x":1,`, 1), false},
		{"no code", func(*http.Response) {}, strings.Replace(body, `,"code":"no_token"`, "", 1), false},
	} {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/v1/devices"}, Header: http.Header{}}
		resp := ok()
		row.change(resp)
		if err := document().response(r, nil, resp, []byte(row.body)); (err == nil) != row.want {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	r := must(http.NewRequest("DELETE", "http://x/v1/devices?except=all", nil))
	if document().request(r, nil, 204) == nil {
		t.Error("a request without a token and with a wrong query is as documented")
	}
}
