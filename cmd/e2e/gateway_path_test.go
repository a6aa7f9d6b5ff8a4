package e2e

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// TestGatewayPaths: whatever the gateway forwards is what was judged. A token
// for /photos/** opens nothing beyond, however the path is written.
func TestGatewayPaths(t *testing.T) {
	const passes, refused = true, false
	targets := []struct {
		target string
		want   bool
	}{
		{"/photos/1", passes},
		{"/photos/", passes},
		{"/photos/1/", passes},
		{"/photos/1/2/3.jpg", passes},
		{"/photos/1?a=b&c=%2e%2e/%2F;x", passes},
		{"/photos/?", passes},
		{"/photos/1?x=../../admin", passes},
		{"/photos/1?/../../admin", passes},
		{"/photos/1??", passes},
		{"/%70hotos/1", passes},
		{"/photos/%31", passes},
		{"/photos/a%20b", passes},
		{"/photos/...", passes},
		{"/photos/a:b@c!$&'()*+,=~_-.", passes},
		{"/photos/%C3%BC", passes},
		{"/photos/*", passes},

		{"/", refused},
		{"/photos", refused},
		{"/photos?x=/photos/1", refused},
		{"/admin", refused},
		{"/admin?/photos/1", refused},
		{"/admin%3F/photos/1", refused},
		{"/PHOTOS/1", refused},
		{"/photosx/1", refused},
		{"//photos/1", refused},
		{"/photos//1", refused},
		{"/photos/1//", refused},
		{"///", refused},
		{"/./photos/1", refused},
		{"/photos/.", refused},
		{"/photos/..", refused},
		{"/photos/./1", refused},
		{"/photos/../admin", refused},
		{"/photos/../photos/1", refused},
		{"/photos/1/../../admin", refused},
		{"/admin/../photos/1", refused},
		{"/photos/%2e%2e/admin", refused},
		{"/photos/%2E%2E/admin", refused},
		{"/photos/.%2e/admin", refused},
		{"/photos/%2e/1", refused},
		{"/photos/..%2fadmin", refused},
		{"/photos/..%2Fadmin", refused},
		{"/photos/%2e%2e%2fadmin", refused},
		{"/photos%2f1", refused},
		{"/photos%2F..%2Fadmin", refused},
		{"/photos/1%2F2", refused},
		{"/%2fphotos/1", refused},
		{"/photos/%252e%252e/admin", refused},
		{"/photos/%25%32%65%25%32%65/admin", refused},
		{"/photos/..%252fadmin", refused},
		{"/photos/1;jsessionid=1", refused},
		{"/photos/..;/admin", refused},
		{"/photos/;/../admin", refused},
		{"/photos/%3b/admin", refused},
		{"/photos/1%3Fx=y", refused},
		{"/photos/1%23x", refused},
		{"/photos/1#/../../admin", refused},
		{"/photos/\\..\\..\\admin", refused},
		{"/photos/%5c..%5cadmin", refused},
		{"/photos\\1", refused},
		{"/photos/%00", refused},
		{"/photos/1%00.jpg", refused},
		{"/photos/%0d%0aX-Auth-User:%20root", refused},
		{"/photos/%0a", refused},
		{"/photos/%7f", refused},
		{"/photos/%zz", refused},
		{"/photos/%2", refused},
		{"/photos/%", refused},
		{"/photos/%c0%ae%c0%ae/admin", refused},
		{"/photos/%c0%af..%c0%afadmin", refused},
		{"/photos/%ff", refused},
		{"/photos/1 /../admin", refused},
		{"/photos/\x00", refused},
		{"/photos/\x7f", refused},
		{"photos/1", refused},
		{"admin", refused},
		{"*", refused},
		{"", refused},
		{"?/photos/1", refused},
		{"http://photos.example.com/admin", refused},
		{"http://photos.example.com", refused},
		{"http://photos.example.com/photos/../admin", refused},
		{"http://photos.example.com?/photos/1", refused},
		{"http://photos.example.com//photos/1", refused},
		{"//evil.example.com/photos/1", refused},
		{"/http://photos.example.com/photos/1", refused},
		{"/_authz", refused},
		{"/authz/original", refused},
		{"/authz/forwarded?audience=photos", refused},
	}
	// The absolute form (RFC 9112, section 3.2.2) is a gateway's to turn into the
	// origin form; either answer is right, if only the right path comes through.
	either := []string{"http://photos.example.com/photos/1", "http://evil.example.com/photos/1", "HTTP://photos.example.com/photos/1?x", "/photos/\u00fc"}

	atGateways(t, func(t *testing.T, g *gateway, _ *authority, h holder) {
		text := []string{h.photos(t, "path /photos/**")}
		for _, c := range targets {
			for _, method := range []string{"GET", "OPTIONS"} {
				t.Run(method+" "+c.target, func(t *testing.T) {
					res, got := g.ask(t, ask{method: method, target: c.target, tokens: text})
					if c.want == passes {
						if checkPassed(t, h, res, got) && got[0].target != c.target {
							t.Errorf("the backend was asked for %q", got[0].target)
						}
					} else if own := method == "OPTIONS" && c.target == "*"; own && len(got) == 0 {
						// "OPTIONS *" asks about the gateway itself (RFC 9110, section 9.3.7).
					} else if res.status < 400 || res.status >= 500 || len(got) != 0 {
						t.Errorf("%d requests reached the backend, answer %s; want none and 4xx", len(got), res)
					}
					checkInside(t, got)
				})
			}
		}
		for _, target := range either {
			t.Run(target, func(t *testing.T) {
				res, got := g.ask(t, ask{target: target, tokens: text})
				if (res.status == 200) != (len(got) == 1) {
					t.Errorf("%d requests reached the backend, answer %s", len(got), res)
				}
				checkInside(t, got)
			})
		}
	})
}

// checkInside: read as leniently as the worst of backends would, the path is
// still inside /photos/.
func checkInside(t *testing.T, got []received) {
	t.Helper()
	for _, r := range got {
		if lenient := asTheWorstBackendReads(r.target); !strings.HasPrefix(lenient, "/photos/") {
			t.Errorf("the backend was asked for %q, which can be read as %q", r.target, lenient)
		}
	}
}

// asTheWorstBackendReads cuts the query, decodes until nothing is left to
// decode, takes backslashes for slashes, drops path parameters and what follows
// a NUL, and cleans.
func asTheWorstBackendReads(target string) string {
	p, _, _ := strings.Cut(target, "?")
	for {
		decoded, err := url.PathUnescape(p)
		if err != nil || decoded == p {
			break
		}
		p = decoded
	}
	p, _, _ = strings.Cut(strings.ReplaceAll(p, `\`, "/"), "\x00")
	segments := strings.Split(p, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	slash := strings.HasSuffix(p, "/")
	p = path.Clean("/" + strings.Join(segments, "/"))
	if slash && p != "/" {
		p += "/"
	}
	return p
}

// TestWorstBackend: the reading above is lenient enough to catch what it is for.
func TestWorstBackend(t *testing.T) {
	for target, want := range map[string]string{
		"/photos/1":                      "/photos/1",
		"/photos/":                       "/photos/",
		"/photos/../admin?x":             "/admin",
		"/photos/%2e%2e%2fadmin":         "/admin",
		"/photos/%252e%252e/admin":       "/admin",
		`/photos/..\..\admin`:            "/admin",
		"/photos/..;a=b/admin":           "/admin",
		"//photos/..//admin/":            "/admin/",
		"/photos/%5c..%5c..%5cadmin%00x": "/admin",
	} {
		if got := asTheWorstBackendReads(target); got != want {
			t.Errorf("%q is read as %q, want %q", target, got, want)
		}
	}
}
