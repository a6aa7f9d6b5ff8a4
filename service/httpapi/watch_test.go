package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// watch is the test client's wire: it holds every request and answer against
// the document, and remembers what must never be seen again.
type watch struct {
	a    *authority
	wire http.RoundTripper
}

func (w *watch) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		sent = must(io.ReadAll(r.Body))
		length := r.ContentLength
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(sent)), length
	}
	resp, err := w.wire.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body := must(io.ReadAll(resp.Body))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))

	t := w.a.t
	if r.Method == http.MethodHead { // documented as the GET that it is
		return resp, nil
	}
	if err := document().request(r, sent, resp.StatusCode); err != nil {
		t.Errorf("%s %s was answered with %d and is not as documented: %v", r.Method, r.URL.Path, resp.StatusCode, err)
	}
	if err := document().response(r, sent, resp, body); err != nil {
		t.Errorf("%s %s: %d is not as documented: %v\n%.500s", r.Method, r.URL.Path, resp.StatusCode, err, body)
	}
	for _, c := range cookies(resp.Header) {
		asked := len(r.Header["Cookie"]) > 0 || bytes.Contains(sent, []byte(`"cookie"`))
		if !documentedCookie.MatchString(c) || len(c) > 4096 || !asked {
			t.Errorf("%s %s: the answer sets a cookie: %q", r.Method, r.URL.Path, c)
		}
	}
	secrets := secretsOf(r, sent)
	for _, s := range secrets {
		if leaks(string(body), s) || leaks(headerText(resp.Header), s) {
			t.Errorf("%s %s: the answer repeats %q: %.300s", r.Method, r.URL.Path, s, body)
		}
	}
	w.a.log.secret(append(secrets, membersOf(body)...)...)
	for _, c := range cookies(resp.Header) {
		_, value, _ := strings.Cut(c, "=")
		value, _, _ = strings.Cut(value, ";")
		w.a.log.secret(long([]string{value})...)
	}
	w.a.log.secret(long(r.Header.Values("X-CSRF-Token"))...)
	return resp, nil
}

// documentedCookie is the only one that is ever set.
var documentedCookie = regexp.MustCompile(`^__Host-macaroon=[A-Za-z0-9_-]*; Path=/; Max-Age=[0-9]+; Secure; HttpOnly; SameSite=Lax$`)

// cookies are those that an answer sets.
func cookies(h http.Header) (out []string) {
	for name, values := range h {
		if name = http.CanonicalHeaderKey(name); name == "Set-Cookie" || name == "Set-Cookie2" {
			out = append(out, values...)
		}
	}
	return out
}

func leaks(text, secret string) bool { return strings.Contains(text, secret) }

func headerText(h http.Header) string {
	var b strings.Builder
	h.Write(&b)
	return b.String()
}

// secretsOf is what a request has that nothing may repeat: credentials,
// wherever they stand, and the query.
func secretsOf(r *http.Request, body []byte) []string {
	out := membersOf(body)
	for _, v := range r.Header.Values("Authorization") {
		_, cred, _ := strings.Cut(v, " ")
		out = append(out, cred)
		if plain, err := base64.StdEncoding.DecodeString(cred); err == nil {
			_, secret, _ := strings.Cut(string(plain), ":")
			out = append(out, string(plain), secret)
		}
	}
	for _, c := range r.Cookies() {
		out = append(out, c.Value)
	}
	if form, err := url.ParseQuery(string(body)); err == nil && strings.Contains(r.Header.Get("Content-Type"), "form") {
		out = append(out, form.Get("token"), form.Get("client_secret"))
	}
	return long(append(out, r.URL.RawQuery))
}

// membersOf finds secrets in a JSON body by the names of its members.
func membersOf(body []byte) (out []string) {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return nil
	}
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(k, e)
			}
		case []any:
			for _, e := range v {
				walk(name, e)
			}
		case string:
			switch name {
			case "token", "password", "code", "secret", "recovery_codes", "csrf_token", "ticket", "claim", "current":
				out = append(out, v)
			}
		}
	}
	walk("", v)
	return long(out)
}

// long leaves out what is too short to be told from other text; a code of an
// answer, such as name_taken, is no secret and has no capital, digit or space.
func long(in []string) (out []string) {
	for _, s := range in {
		if len(s) >= 8 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") != "" {
			out = append(out, s)
		}
	}
	return out
}

// journal is the log of one authority, and what must not be in it.
type journal struct {
	mu      sync.Mutex
	text    bytes.Buffer
	secrets map[string]bool
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) secret(s ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.secrets == nil {
		j.secrets = map[string]bool{}
	}
	for _, s := range s {
		j.secrets[s] = true
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// check runs at the end of every test that has an authority.
func (j *journal) check(t *testing.T) {
	log := j.String()
	for s := range j.secrets {
		if leaks(log, s) {
			t.Errorf("the log has the secret %q", s)
		}
	}
	for _, word := range []string{"Authorization", "authorization", "Bearer ", "Basic ", "?", "mds_", "$argon2"} {
		if leaks(log, word) {
			t.Errorf("the log has %q", word)
		}
	}
	for line := range strings.Lines(log) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a log line is not JSON: %s", line)
		}
	}
}

// The check finds what it looks for, and there is a log to look at.
func TestSecretsAreLookedFor(t *testing.T) {
	r := must(http.NewRequest("POST", "http://x/y?link=private", strings.NewReader("")))
	r.Header.Set("Authorization", basic("alice", "Secret of hers"))
	got := strings.Join(secretsOf(r, []byte(`{"password":"Pass word","device":{"name":"not one"},"token":"To-ken-12"}`)), "|")
	for _, want := range []string{"Pass word", "To-ken-12", "alice:Secret of hers", "|Secret of hers|", "link=private"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not among %s", want, got)
		}
	}
	a := start(t)
	alice := a.user("alice")
	a.do(ask{method: "GET", path: "/v1/devices?private=link", auth: bearer(alice.Token)})
	a.do(ask{method: "GET", path: "/a/private/path"}).want(404, "not_found")
	log := a.log.String()
	if !strings.Contains(log, `"route":"/v1/devices"`) || !strings.Contains(log, `"route":"none"`) || strings.Contains(log, "private") {
		t.Errorf("the log: %s", log)
	}
	if n := len(a.log.secrets); n < 3 {
		t.Errorf("%d secrets are known, want a password, a token and a query", n)
	}
}

// Without browser mode no cookie is set, which is looked for in every answer, and
// none but its own is read: nothing else that a browser sends along lets anybody
// in.
func TestNoOtherCookies(t *testing.T) {
	set := http.Header{"Cookie": {"a=b"}}
	if cookies(set) != nil {
		t.Error("a cookie is found where there is none")
	}
	set["set-cookie"] = []string{"a=b"}
	set.Add("Set-Cookie", "c=d")
	if got := cookies(set); len(got) != 2 {
		t.Errorf("of two cookies %q are found", got)
	}

	a := start(t, func(s *setup) { s.trust(proxy) })
	alice := a.user("alice")
	for _, name := range []string{"Authorization", "authorization", "token", "access_token", "session", "macaroon", "macaroond", "__Host-macaroond", "__Host-session", "__host-macaroon", "__HOST-macaroon", "__Host-Macaroon", "__Secure-macaroon", "Host-macaroon"} {
		for _, value := range []string{alice.Token, `"` + bearer(alice.Token) + `"`} {
			cookie := []string{"Cookie", name + "=" + value}
			a.do(ask{method: "GET", path: "/v1/devices", header: cookie}).want(401, "no_token")
			a.do(ask{method: "DELETE", path: "/v1/devices", header: cookie}).want(401, "no_token")
			a.do(ask{method: "POST", path: "/v1/logout", header: cookie}).want(401, "no_token")
			if r := a.do(ask{method: "GET", path: "/authz/original", header: append([]string{"X-Original-Method", "GET", "X-Original-URI", "/x"}, cookie...)}); r.StatusCode != 401 {
				t.Errorf("a gateway's question with the cookie %s: %d", name, r.StatusCode)
			}
			a.do(ask{method: "GET", path: "/v1/devices", auth: bearer(alice.Token), header: cookie}).want(200, "")
		}
	}
}
