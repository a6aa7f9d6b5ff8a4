package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

// routed are the server's own routes, as "METHOD /path" in gin's spelling: all
// but HEAD, which is GET without its body, and the gateways', which judge a
// request of somebody else's last of all.
func routed() (out []string) {
	g := gin.New()
	(&server{}).routes(g)
	for _, r := range g.Routes() {
		if r.Method != http.MethodHead && !strings.HasPrefix(r.Path, "/authz/") {
			out = append(out, r.Method+" "+r.Path)
		}
	}
	slices.Sort(out)
	return out
}

// open are the routes that read no Authorization header.
var open = []string{
	"POST /v1/signup", "POST /v1/recover", "POST /v1/link", "POST /v1/link/claim", "POST /v1/seal",
	"GET /livez", "GET /readyz", "GET /version", "GET /openapi.json",
	"GET /.well-known/oauth-authorization-server", "GET /.well-known/oauth-authorization-server/*path",
}

// filled puts something into each parameter of a path, as it is documented.
var filled = strings.NewReplacer(
	"users/:id", "users/usr_0123456789abcdef", "devices/:id", "devices/dev_0123456789abcdef", "services/:id", "services/svc_0123456789abcdef",
	"delayed/:id", "delayed/act_0123456789abcdef", "links/:id", "links/lnk_0123456789abcdef", "policies/:id", "policies/pol_0123456789abcdef",
	":secret", "sec_0123456789abcdef", ":subject", "42", ":number", "1", "*path", "x",
)

// at is a request to a route, with something for each of its parameters.
func at(route string) ask {
	method, path, _ := strings.Cut(route, " ")
	q := ask{method: method, path: filled.Replace(path)}
	if strings.HasPrefix(path, "/oauth2/") {
		q.header = form
	}
	return q
}
