package peers

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BenchmarkHTTP compares requests per second over keep-alive on loopback:
// /authz/forwarded of macaroond as it is served, by the authority and by a
// sidecar, against the introspection endpoints of fosite and oidc-provider. Each
// server is a process that may use one core, as node does, and all are asked in
// turns by the same client on as many connections.
func BenchmarkHTTP(b *testing.B) {
	authority, edge := macaroond(b)
	fosite := start(b, build(b, "fosite", "."))
	basic := basicAuth("bench", "bench-secret")
	token, caller := granted(b, fosite.url+"/token", basic), granted(b, fosite.url+"/token", basic)
	peers := []endpoint{
		// As Hydra serves it, on a private port, and the cheapest that there is.
		{"fosite", fosite, token, introspect(fosite.url+"/admin/introspect", ""), active, 2},
		// fosite's own endpoint authenticates its caller: by a token, or by a
		// secret, which is hashed with bcrypt at cost 12 unless told otherwise.
		{"fosite-bearer", fosite, token, introspect(fosite.url+"/introspect", "Bearer "+caller), active, 0},
		{"fosite-bcrypt", fosite, token, introspect(fosite.url+"/introspect", basic), active, 0},
	}
	if _, err := os.Stat("node_modules/oidc-provider"); err == nil { // `make bench` says when it is not there
		oidc := start(b, "node", "oidc-provider.mjs")
		peers = append(peers, endpoint{
			"oidc-provider", oidc, granted(b, oidc.url+"/token", basic),
			introspect(oidc.url+"/token/introspection", basic), active, 10,
		})
	}
	ceiling := authority // how far anything on gin could get
	ceiling.name, ceiling.server, ceiling.good = "ceiling", start(b, build(b, ".", "./bare")), nil
	ceiling.ask = forwarded(ceiling.server.url)
	for _, peer := range peers {
		for _, c := range clients {
			for _, ours := range []endpoint{authority, edge, ceiling} {
				bound := peer.bound
				if ours.name == ceiling.name {
					bound = 0
				}
				if ours.name == authority.name || peer.bound > 0 {
					b.Run(ours.name+"/against="+peer.name+"/client="+c.name, func(b *testing.B) { compare(b, ours, peer, c.dial, bound) })
				}
			}
		}
	}
}

func compare(b *testing.B, ours, peer endpoint, dial dial, bound float64) {
	our, ourCost := ours.contender(b, dial)
	their, theirCost := peer.contender(b, dial)
	// Node compiles what runs often: its first seconds are not its pace.
	for begin := time.Now(); time.Since(begin) < 3*time.Second; {
		our.slice(b)
		their.slice(b)
	}
	ourCost()
	theirCost()
	inTurns(b, our, their, bound)
	b.ReportMetric(ourCost(), "ours-cpu-µs")
	b.ReportMetric(theirCost(), "peer-cpu-µs")
}

// endpoint is asked whether a token is good.
type endpoint struct {
	name   string
	server server
	token  string
	ask    func(token string) *http.Request
	good   func(*http.Response, []byte) bool // the answer is yes; nil says so to everything
	bound  float64                           // how many times its requests ours are to be
}

// macaroond is the product in an empty directory, a sidecar of it, and a user's
// token of seven caveats that a gateway asks them about.
func macaroond(b *testing.B) (authority, edge endpoint) {
	b.Helper()
	dir := b.TempDir()
	command := build(b, "../..", "./cmd/macaroond")
	s := start(b, command, "serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir", dir)
	password, err := os.ReadFile(filepath.Join(dir, "demo-password"))
	must(b, err)
	var grant struct{ Token string }
	post(b, s.url+"/v1/login", basicAuth("demo", strings.TrimSpace(string(password))), "application/json", `{"device":{"name":"bench"}}`, &grant)
	add := exec.Command(command, "service", "add", "photos", "--serves", "photos", "--json", "--data-dir", dir)
	add.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	credential, err := add.Output()
	must(b, err)
	file := filepath.Join(dir, "photos.credential")
	must(b, os.WriteFile(file, credential, 0o600))
	authority = endpoint{
		name:   "authority",
		server: s,
		token:  narrow(b, grant.Token, time.Now().Add(2*time.Hour), time.Now().Add(time.Hour)),
		ask:    forwarded(s.url),
		good: func(resp *http.Response, _ []byte) bool {
			return resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("X-Auth-User"), "usr_")
		},
	}
	edge = authority
	edge.name = "edge"
	edge.server = start(b, command, "edge", "--listen", "127.0.0.1:0", "--authority", s.url, "--credential-file", file, "--audience", "photos")
	edge.ask = forwarded(edge.server.url)
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(edge.server.url + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return authority, edge
			}
		}
	}
	b.Fatal("the sidecar is not ready")
	return authority, edge
}

// forwarded asks as a gateway does.
func forwarded(url string) func(string) *http.Request {
	return func(token string) *http.Request {
		r, _ := http.NewRequest("GET", url+"/authz/forwarded?audience=photos", nil)
		r.Header = http.Header{"Authorization": {"Bearer " + token}, "X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {"/photos/1"}}
		return r
	}
}

// introspect asks as RFC 7662 says.
func introspect(at, authorization string) func(string) *http.Request {
	return func(token string) *http.Request {
		form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
		r, _ := http.NewRequest("POST", at, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		return r
	}
}

func active(resp *http.Response, body []byte) bool {
	return resp.StatusCode == http.StatusOK && bytes.Contains(body, []byte(`"active":true`))
}

// granted is an opaque access token for a client's own use.
func granted(b *testing.B, at, authorization string) string {
	b.Helper()
	var grant struct {
		Token string `json:"access_token"`
	}
	post(b, at, authorization, "application/x-www-form-urlencoded", "grant_type=client_credentials", &grant)
	return grant.Token
}

func post(b *testing.B, at, authorization, contentType, body string, out any) {
	b.Helper()
	r, err := http.NewRequest("POST", at, strings.NewReader(body))
	must(b, err)
	r.Header.Set("Authorization", authorization)
	r.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(r)
	must(b, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.Fatalf("%s: status %s", at, resp.Status)
	}
	must(b, json.NewDecoder(resp.Body).Decode(out))
}

func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
