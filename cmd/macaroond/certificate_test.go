package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

// certificate writes a fresh self-signed one and gives it for a client to trust.
func certificate(t *testing.T, certFile, keyFile string, serial int64, change ...func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "auth.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"auth.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	for _, f := range change {
		f(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

// tlsSite serves with a certificate of its own, which is in the pool.
func tlsSite(t *testing.T) (s *site, pool *x509.CertPool, certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert"), filepath.Join(dir, "tlskey")
	s, pool = newSite(t, map[string]string{"tls_cert_file": certFile, "tls_key_file": keyFile}), x509.NewCertPool()
	s.tls = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	pool.AddCert(certificate(t, certFile, keyFile, 1))
	s.serve()
	return s, pool, certFile, keyFile
}

// A reload takes the new certificate; a bad one keeps the old.
func TestReloadCertificate(t *testing.T) {
	s, pool, certFile, keyFile := tlsSite(t)
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatal(s.url)
	}
	s.addUser("alice")
	root := s.login("alice").Token
	serial := func() int64 {
		t.Helper()
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), s.tls)
		must(t, err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Errorf("certificate %d", n)
	}
	pool.AddCert(certificate(t, certFile, keyFile, 2))
	hangup(t)
	s.log.wait(t, "configuration reloaded")
	if n := serial(); n != 2 {
		t.Errorf("certificate %d", n)
	}
	if got := s.answer(root); got != api.CodeOK { // on the connection from before
		t.Error(got)
	}
	s.write(certFile, "no certificate")
	hangup(t)
	s.log.wait(t, "the configuration is bad; the old one stays in force")
	if n := serial(); n != 2 {
		t.Errorf("certificate %d", n)
	}
	// HTTP/2 is spoken, and TLS from 1.2.
	for _, row := range []struct {
		version uint16
		ok      bool
	}{{tls.VersionTLS11, false}, {tls.VersionTLS12, true}, {tls.VersionTLS13, true}} {
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{
			RootCAs: pool, MinVersion: row.version, MaxVersion: row.version, NextProtos: []string{"h2", "http/1.1"},
		})
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", tls.VersionName(row.version), err)
		}
		if err == nil {
			if got := c.ConnectionState().NegotiatedProtocol; got != "h2" {
				t.Errorf("%s: %q", tls.VersionName(row.version), got)
			}
			c.Close()
		}
	}
	// Clear text is no way in.
	resp, err := http.Get("http" + strings.TrimPrefix(s.url, "https") + "/livez")
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("answered without TLS")
		}
	}
	// Turning TLS off is not for a reload.
	s.set(map[string]string{"tls_cert_file": "", "tls_key_file": ""})
	hangup(t)
	s.log.wait(t, `"needs_restart":\["tls_cert_file"\]`)
}

// config check and doctor look into the certificate's files; serve refuses what
// it cannot use as a wrong configuration.
func TestCertificateFindings(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	certificate(t, path("good"), path("good.key"), 1)
	certificate(t, path("expired"), path("expired.key"), 2, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	certificate(t, path("early"), path("early.key"), 3, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
	certificate(t, path("other"), path("other.key"), 4, func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} })
	must(t, os.WriteFile(path("text"), []byte("no certificate"), 0o600))
	for _, row := range []struct {
		cert, key, proxies string
		want               string // of the finding; empty: none
		starts             bool
	}{
		{"good", "good.key", "", "", true},
		{"none", "good.key", "", "no such file or directory", false},
		{"good", "none", "", "no such file or directory", false},
		{"text", "good.key", "", "failed to find any PEM data", false},
		{"good", "other.key", "", "private key does not match public key", false},
		{"expired", "expired.key", "", "expired on ", true},
		{"early", "early.key", "", "is good only from ", true},
		{"other", "other.key", "", "is not for the issuer: x509: certificate is valid for other.example, not auth.example", true},
		{"other", "other.key", "10.0.0.0/8", "", true}, // the gateway's certificate is for clients
	} {
		s := newSite(t, map[string]string{"tls_cert_file": path(row.cert), "tls_key_file": path(row.key), "trusted_proxies": row.proxies})
		out, code := s.run("", "config", "check")
		if (code == exitOK) != (row.want == "") || !strings.Contains(out, row.want) {
			t.Errorf("%v: config check: %d\n%s", row, code, out)
		}
		if out, _ := s.run("", "doctor"); !strings.Contains(out, row.want) {
			t.Errorf("%v: doctor:\n%s", row, out)
		}
		if !row.starts {
			if _, code := s.run("", "serve"); code != exitUsage {
				t.Errorf("%v: serve: exit code %d", row, code)
			}
		}
	}
	// With a certificate, other machines may connect.
	s := newSite(t, map[string]string{"tls_cert_file": path("good"), "tls_key_file": path("good.key"), "listen": "0.0.0.0:8420"})
	if out, code := s.run("", "config", "check"); code != exitOK {
		t.Errorf("config check: %d\n%s", code, out)
	}
}
