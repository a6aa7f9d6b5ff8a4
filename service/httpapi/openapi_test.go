package httpapi

import (
	"bytes"
	"context"
	"errors"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gin-gonic/gin"

	"macaroond/service/api"
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
		re := regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllStringFunc(regexp.QuoteMeta(p), func(s string) string { return s })
		re = strings.ReplaceAll(re, `\{path\}`, `(?P<path>.*)`)
		re = strings.ReplaceAll(re, `\{id\}`, `(?P<id>[^/]+)`)
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
			scheme, _, _ := strings.Cut(in.RequestValidationInput.Request.Header.Get("Authorization"), " ")
			if !strings.EqualFold(scheme, in.SecurityScheme.Scheme) {
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
		v, err := openapi3.NewLoader(), error(nil)
		_ = v
		var problem any
		if err = jsonOf(body, &problem); err != nil {
			return err
		}
		return ref.Value.Content["application/problem+json"].Schema.Value.VisitJSON(problem)
	}
	if resp.StatusCode/100 == 2 {
		succeeded.Store(in.Route.Operation.OperationID, true)
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Options: in.Options, Body: io.NopCloser(bytes.NewReader(body)),
	})
}

func TestDocumentIsValid(t *testing.T) {
	if err := document().doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := document().doc.OpenAPI; v != "3.0.3" {
		t.Errorf("it is of version %s", v)
	}
	a := start(t)
	got := a.do(ask{method: "GET", path: "/openapi.json"})
	if got.StatusCode != 200 || !same(got.body, OpenAPI) || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("GET /openapi.json: %d %s", got.StatusCode, got.Header)
	}
}

// Routes and document are the same set. Under /authz every method of gin's is
// routed and GET is documented.
func TestRoutesAreDocumented(t *testing.T) {
	g := gin.New()
	(&server{}).routes(g)
	routed := map[string]bool{}
	anyMethod := map[string]int{}
	for _, r := range g.Routes() {
		path := regexp.MustCompile(`[:*]([a-z]+)`).ReplaceAllString(r.Path, "{$1}")
		if strings.HasPrefix(path, "/authz/") {
			anyMethod[path]++
			if r.Method != http.MethodGet {
				continue
			}
		}
		routed[r.Method+" "+path] = true
	}
	documented := map[string]bool{}
	for path, item := range document().doc.Paths.Map() {
		for method := range item.Operations() {
			documented[method+" "+path] = true
		}
	}
	if !maps.Equal(routed, documented) || len(routed) < 20 {
		t.Errorf("routed:\n%v\ndocumented:\n%v", slices.Sorted(maps.Keys(routed)), slices.Sorted(maps.Keys(documented)))
	}
	for path, n := range anyMethod {
		if n != 9 {
			t.Errorf("%s is routed for %d methods", path, n)
		}
	}
}

// The schemas are package api's types: same members, and required is what is
// never left out.
func TestSchemasAreTheWireTypes(t *testing.T) {
	schemas := maps.Clone(document().doc.Components.Schemas)
	for name, fields := range wireTypes(t) {
		ref := schemas[name]
		if ref == nil {
			t.Errorf("%s has no schema", name)
			continue
		}
		delete(schemas, name)
		var members, required []string
		for _, f := range fields {
			member, rest, _ := strings.Cut(f, ",")
			members = append(members, member)
			if rest != "omitempty" {
				required = append(required, member)
			}
		}
		slices.Sort(members)
		slices.Sort(required)
		if got := slices.Sorted(maps.Keys(ref.Value.Properties)); !slices.Equal(got, members) {
			t.Errorf("%s: the schema has %v, the type %v", name, got, members)
		}
		if got := slices.Sorted(slices.Values(ref.Value.Required)); !slices.Equal(got, required) {
			t.Errorf("%s: the schema requires %v, the type %v", name, got, required)
		}
		if ap := ref.Value.AdditionalProperties; ap.Has == nil || *ap.Has {
			t.Errorf("%s takes unknown members", name)
		}
	}
	for name := range schemas {
		t.Errorf("schema %s is no type of package api", name)
	}
}

// wireTypes reads package api's source: the JSON tags of every exported struct.
func wireTypes(t *testing.T) map[string][]string {
	types := map[string][]string{}
	eachDecl(t, func(spec ast.Spec) {
		ts, ok := spec.(*ast.TypeSpec)
		if !ok || ts.Name.Name == "Time" {
			return
		}
		st, ok := ts.Type.(*ast.StructType)
		if !ok {
			return
		}
		for _, f := range st.Fields.List {
			types[ts.Name.Name] = append(types[ts.Name.Name], reflect.StructTag(must(strconv.Unquote(f.Tag.Value))).Get("json"))
		}
	})
	if len(types) < 25 {
		t.Fatalf("only %d types found", len(types))
	}
	return types
}

// codesOf reads the same for the codes.
func codesOf(t *testing.T) map[string]string {
	codes := map[string]string{}
	eachDecl(t, func(spec ast.Spec) {
		vs, ok := spec.(*ast.ValueSpec)
		if !ok || len(vs.Names) != 1 || !strings.HasPrefix(vs.Names[0].Name, "Code") {
			return
		}
		codes[must(strconv.Unquote(vs.Values[0].(*ast.BasicLit).Value))] = vs.Names[0].Name
	})
	if len(codes) < 25 {
		t.Fatalf("only %d codes found", len(codes))
	}
	return codes
}

func eachDecl(t *testing.T, f func(ast.Spec)) {
	for _, name := range []string{"../api/api.go", "../api/codes.go"} {
		file, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				for _, spec := range g.Specs {
					f(spec)
				}
			}
		}
	}
}

// Every code is documented, for problems and for decisions, and nothing else is.
func TestCodesAreDocumented(t *testing.T) {
	enum := func(schema string) (out []string) {
		for _, v := range document().doc.Components.Schemas[schema].Value.Properties["code"].Value.Enum {
			out = append(out, v.(string))
		}
		slices.Sort(out)
		return out
	}
	problems := codesOf(t)
	delete(problems, api.CodeOK)
	if got, want := enum("Problem"), slices.Sorted(maps.Keys(problems)); !slices.Equal(got, want) {
		t.Errorf("problems: documented %v, defined %v", got, want)
	}
	decisions := slices.Sorted(slices.Values([]string{
		"ok", "malformed", "too_large", "invalid", "stale", "revoked", "unknown_caveat",
		"expired", "not_yet_valid", "wrong_audience", "refused", "replayed",
	}))
	if got := enum("Decision"); !slices.Equal(got, decisions) {
		t.Errorf("decisions: documented %v", got)
	}
}
