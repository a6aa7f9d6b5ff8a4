package httpapi

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"macaroond/service/api"
)

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
		if r.Method == http.MethodHead { // GET without its body
			continue
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
			if rest != "omitempty" && rest != "omitzero" {
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
		if !ok || slices.Contains([]string{"Time", "Moment", "Pass", "Refusal"}, ts.Name.Name) { // texts, and what goes as headers
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
	for _, name := range must(filepath.Glob("../api/*.go")) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
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
