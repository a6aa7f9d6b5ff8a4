package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/dpop"
	"macaroond/service/token"
)

// A sidecar judges as the authority does, counts it, can be reloaded, ends
// well, and writes nothing that is secret.
func TestEdge(t *testing.T) {
	s := newSite(t, nil)
	s.spawn() // a process of its own: SIGHUP here is the sidecar's
	s.addUser("alice")
	root := s.login("alice").Token
	var svc api.Service
	s.must(&svc, "", "service", "add", "photos", "--serves", "photos")

	credential, file := filepath.Join(t.TempDir(), "credential"), filepath.Join(t.TempDir(), "edge.yaml")
	s.write(credential, svc.ID+":"+svc.Secret+"\n")
	configure := func(more string) {
		s.write(file, "authority: "+s.url+"\naudience: photos\nlisten: 127.0.0.1:0\nmetrics_listen: 127.0.0.1:0\nlog_level: debug\ncredential_file: "+credential+"\n"+more)
	}
	configure("max_staleness: 45s\n")
	out, log := newRecord(), newRecord()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, process{Args: []string{"edge", "--config", file}, Stdin: strings.NewReader(""), Stdout: out, Stderr: log})
	}()
	url := out.wait(t, `macaroond edge listens on (\S+)`)
	metrics := log.wait(t, `"msg":"metrics","address":"([^"]+)"`)
	get := func(url string, header ...string) (int, http.Header, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		must(t, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Add(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, resp.Header, body
	}
	within := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not in time: %s\n%s", what, log)
			}
		}
	}
	within("ready", func() bool { status, _, _ := get(url + "/readyz"); return status == http.StatusOK })
	ask := func(text, from string) int {
		t.Helper()
		status, header, body := get(url+"/authz/original?audience=photos", "Authorization", "Bearer "+text,
			"X-Original-Method", "GET", "X-Original-Uri", "/photos/1", "X-Forwarded-For", from)
		if status == http.StatusOK && (header.Get("X-Auth-Username") != "alice" || header.Get("X-Auth-Audience") != "photos") {
			t.Errorf("%v %s", header, body)
		}
		return status
	}

	window := "time-before " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	bound := narrow(t, root, window, "audience photos", "client-ip 192.0.2.0/24")
	for _, row := range []struct {
		text, from string
		want       int
	}{
		{bound, "192.0.2.7", http.StatusOK},
		{bound, "203.0.113.9, 192.0.2.7", http.StatusOK}, // from the right: the left is the client's own word
		{bound, "192.0.2.7, 127.0.0.1", http.StatusOK},
		{bound, "192.0.2.7, 203.0.113.9", http.StatusForbidden},
		{bound, "nonsense", http.StatusForbidden},
		{narrow(t, bound, "method POST"), "192.0.2.7", http.StatusForbidden},
		{narrow(t, root, window, "audience mail"), "192.0.2.7", http.StatusUnauthorized},
		{root, "192.0.2.7", http.StatusUnauthorized},
	} {
		if got := ask(row.text, row.from); got != row.want {
			t.Errorf("from %s: %d, want %d", row.from, got, row.want)
		}
	}
	if status, _, body := get(url+"/authz/original?audience=mail", "Authorization", "Bearer "+bound, "X-Original-Method", "GET", "X-Original-Uri", "/"); status != http.StatusForbidden {
		t.Errorf("another audience: %d %s", status, body)
	}
	// The cookie is the authority's to take, which knows whose page sends it.
	if status, header, body := get(url+"/authz/original?audience=photos", "Cookie", api.Cookie+"="+bound, "X-Original-Method", "GET", "X-Original-Uri", "/", "X-Forwarded-For", "192.0.2.7"); status != http.StatusUnauthorized || header.Get("Set-Cookie") != "" {
		t.Errorf("the cookie: %d %v %s", status, header, body)
	}
	// Metrics: the verdicts above, and each name is in the manual.
	_, _, text := get("http://" + metrics + "/metrics")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	must(t, err)
	manual, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if f := all[name]; strings.HasPrefix(name, "macaroond_") && (f.GetHelp() == "" || !bytes.Contains(manual, []byte("`"+name+"`")) && !bytes.Contains(manual, []byte("`"+name+"{"))) {
			t.Errorf("%s has no help text or is not in docs/operations.md", name)
		}
	}
	for _, want := range []string{
		`macaroond_edge_verdicts_total{code="ok",how="introspected"} 1`,
		`macaroond_edge_verdicts_total{code="ok",how="local"} 2`,
		`macaroond_edge_verdicts_total{code="refused",how="local"} 3`,
		`macaroond_edge_verdicts_total{code="stale",how="online"} 0`, // there before it happens
		`macaroond_edge_revocations_age_bound_seconds 45`,
		`macaroond_edge_revocations_live 0`,
		`macaroond_edge_prefixes 1`,
	} {
		if !bytes.Contains(text, []byte("\n"+want+"\n")) {
			t.Errorf("no %s", want)
		}
	}
	if age := all["macaroond_edge_revocations_age_seconds"].Metric[0].GetGauge().GetValue(); age < 0 || age > 45 {
		t.Errorf("age %v", age)
	}

	must(t, s.client.Logout(t.Context(), client.Bearer(root)))
	within("revoked", func() bool { return ask(bound, "192.0.2.7") == http.StatusUnauthorized })
	if _, _, text := get("http://" + metrics + "/metrics"); !bytes.Contains(text, []byte("\nmacaroond_edge_revocations_live 1\n")) {
		t.Error("the revocation is not counted")
	}

	// What a backend is told, and whose proofs are right, is as a reload has it. This
	// client's way is through a gateway, and its tokens are bound to its key.
	configure("max_staleness: 45s\nremote_user: username\nauthz_origin: https://photos.example\n")
	hangup(t)
	log.wait(t, "configuration reloaded")
	held, err := token.Parse(s.login("alice").Token)
	must(t, err)
	_, signer, err := ed25519.GenerateKey(nil)
	must(t, err)
	key, err := dpop.NewKey(signer)
	must(t, err)
	way, err := client.NewTransport(held, client.TransportOptions{
		Origins: []string{"https://photos.example"}, Narrowing: client.Narrowing{Audience: "photos"}, Key: key,
		Base: transport(func(r *http.Request) (*http.Response, error) {
			asks, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url+"/authz/original", nil)
			must(t, err)
			asks.Header = r.Header.Clone()
			asks.Header.Set("X-Original-Method", r.Method)
			asks.Header.Set("X-Original-Uri", r.URL.RequestURI())
			return http.DefaultTransport.RoundTrip(asks)
		}),
	})
	must(t, err)
	resp, err := (&http.Client{Transport: way}).Get("https://photos.example/photos/1")
	must(t, err)
	defer resp.Body.Close()
	// A sidecar that has just begun cannot know whether a right proof was used before.
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK && !bytes.Contains(said, []byte("whether the DPoP proof was used before")) {
		t.Errorf("a proof: %s %s", resp.Status, said)
	}
	if _, header, _ := get(url+"/authz/original", "Authorization", "Bearer "+narrow(t, held.Text(), "audience photos"), "X-Original-Method", "GET", "X-Original-Uri", "/"); header.Get("Remote-User") != "alice" {
		t.Errorf("remote_user: %v", header)
	}

	// Another gateway is believed from now on, this one is not. Another credential is
	// not read before a restart, and that is said.
	s.write(credential, svc.ID+":"+"mds_another-secret-in-the-same-file\n")
	configure("max_staleness: 46s\ntrusted_proxies: 192.0.2.1/32\n")
	hangup(t)
	log.wait(t, `"msg":"configuration reloaded","needs_restart":\["max_staleness","credential_file"\]`)
	if got := ask(bound, "192.0.2.7"); got != http.StatusForbidden {
		t.Errorf("no trusted proxy: %d", got)
	}
	configure("audience: mail\n")
	hangup(t)
	log.wait(t, `the configuration is bad; the old one stays in force`)

	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d\n%s", code, log)
	}
	written := out.String() + log.String()
	if !strings.Contains(written, `"route":"/authz/original"`) {
		t.Fatalf("the log is not the one meant:\n%s", written)
	}
	for name, secret := range map[string]string{
		"secret": svc.Secret, "Basic": base64.StdEncoding.EncodeToString([]byte(svc.ID + ":" + svc.Secret)), "root": root, "token": bound,
	} {
		if strings.Contains(written, secret[len(secret)/2:]) {
			t.Errorf("the %s was written:\n%s", name, written)
		}
	}
}

// A sidecar with a certificate takes nothing in clear text, and another
// certificate without a restart; a configuration that lost what it needs is none.
func TestEdgeCertificate(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) { t.Helper(); must(t, os.WriteFile(path(name), []byte(text), 0o600)) }
	const needed = "authority: https://127.0.0.1:1\naudience: photos\nlisten: 127.0.0.1:0\n"
	rest := "credential_file: " + path("credential") + "\ntls_cert_file: " + path("cert") + "\ntls_key_file: " + path("key") + "\n"
	write("credential", token.NewID(token.ServicePrefix)+":mds_x\n")
	write("edge.yaml", needed+rest)
	pool := x509.NewCertPool()
	pool.AddCert(certificate(t, path("cert"), path("key"), 1))
	out, log := newRecord(), newRecord()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, process{Args: []string{"edge", "--config", path("edge.yaml")}, Stdin: strings.NewReader(""), Stdout: out, Stderr: log})
	}()
	address := out.wait(t, `macaroond edge listens on https://(\S+)`)
	serial := func(want int64) {
		t.Helper()
		c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool})
		must(t, err)
		defer c.Close()
		if n := c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); n != want {
			t.Errorf("certificate %d, want %d", n, want)
		}
	}
	serial(1)
	pool.AddCert(certificate(t, path("cert"), path("key"), 2))
	hangup(t)
	log.wait(t, `"configuration reloaded","needs_restart":null`)
	serial(2)
	// What needs a restart is said once, also of another credential elsewhere.
	other := token.NewID(token.ServicePrefix) + ":mds_y"
	write("other", other+"\n")
	for credential, said := range map[string]string{
		"credential_file: " + path("other"): `\["credential_file"\]`,
		"credential: " + other:              `\["credential","credential_file"\]`,
	} {
		write("edge.yaml", needed+strings.Replace(rest, "credential_file: "+path("credential"), credential, 1))
		hangup(t)
		log.wait(t, `"needs_restart":`+said)
	}
	write("edge.yaml", strings.Replace(needed, "audience: photos\n", "", 1)+rest)
	hangup(t)
	log.wait(t, "the configuration is bad; the old one stays in force.*which audience")
	write("edge.yaml", needed+rest+"log_level: debug\n")
	hangup(t)
	log.wait(t, `(?s)(configuration reloaded.*){4}`)
	if resp, err := http.Get("http://" + address + "/livez"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("answered without TLS")
		}
	}
	log.wait(t, `"level":"DEBUG".*client sent an HTTP request to an HTTPS server`)
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d\n%s", code, log)
	}
}
