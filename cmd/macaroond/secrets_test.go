package main

import (
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
)

// No password, token, key or service secret is in anything that the server or
// a command writes, at the most talkative log level, but for the one place
// where it is meant to be.
func TestNoSecretIsWritten(t *testing.T) {
	s := newSite(t, map[string]string{"log_level": "debug", "signup": "password", "metrics_listen": "127.0.0.1:0"})
	key, err := os.ReadFile(s.settings["key_file"])
	must(t, err)
	secrets := map[string]string{"key": strings.TrimSpace(string(key)), "password": password, "wrong password": "incorrect zebra battery"}

	s.serve()
	s.addUser("alice")
	grant := s.login("alice")
	root := grant.Token
	secrets["root"] = root
	secrets["narrowed"] = narrow(t, root, "audience photos", "note x")
	_, err = s.client.Login(t.Context(), api.LoginIn{Username: "alice", Password: secrets["wrong password"], Device: api.DeviceIn{Name: "d"}})
	if s.code(err) != api.CodeBadCredentials {
		t.Error(err)
	}
	signup, err := s.client.Signup(t.Context(), api.SignupIn{Username: "carol", Password: "another zebra battery", Device: api.DeviceIn{Name: "d"}})
	must(t, err)
	secrets["signup's password"], secrets["signup's root"], secrets["recovery code"] = "another zebra battery", signup.Token, signup.RecoveryCodes[0]

	// The one place for a service secret.
	printed := s.out
	s.out = newRecord()
	var svc api.Service
	s.must(&svc, "", "service", "add", "photos", "--serves", "photos")
	if strings.Count(s.out.String(), svc.Secret) != 1 || svc.Secret == "" {
		t.Error("service add does not print the secret once")
	}
	s.out = printed
	secrets["service secret"] = svc.Secret
	secrets["Basic"] = base64.StdEncoding.EncodeToString([]byte(svc.ID + ":" + svc.Secret))

	// Use them well and badly: in places where they are expected, and where not.
	_, err = s.client.Verify(t.Context(), client.Basic(svc.ID, svc.Secret), api.VerifyIn{Token: secrets["narrowed"], Request: api.Request{Audience: "photos"}})
	s.code(err)
	for deadline := time.Now().Add(patience); ; { // until the server knows the credential
		if _, err = s.client.Introspect(t.Context(), client.Basic(svc.ID, svc.Secret), secrets["narrowed"]); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	for name, secret := range secrets {
		for _, path := range []string{"/v1/devices?token=" + secret, "/" + secret, "/v1/devices/" + secret, "/authz/request/" + secret} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+strings.ReplaceAll(path, " ", "%20"), nil)
			must(t, err)
			req.Header.Set("Authorization", "Bearer "+secret)
			req.Header.Set("X-Request-Id", strings.ReplaceAll(secret, " ", ""))
			resp, err := s.pool.RoundTrip(req)
			must(t, err)
			body, err := io.ReadAll(resp.Body)
			must(t, err)
			resp.Body.Close()
			if strings.Contains(string(body), secret) {
				t.Errorf("%s: the answer of %s repeats it: %s", name, strings.SplitN(path, secret, 2)[0], body)
			}
		}
		for _, body := range []string{`{"username":"alice","` + secret + `":1}`, `{"` + secret, `{"username":` + secret + `}`} {
			resp, err := http.Post(s.url+"/v1/login", "application/json", strings.NewReader(body))
			must(t, err)
			resp.Body.Close()
		}
		s.run(secret, "revoke", "--token-file", "-")
		s.run(secret, "user", "passwd", "nobody", "--password-file", "-")
	}
	s.run("", "config", "print")
	s.run("", "config", "check", "--json")
	s.run("", "doctor")
	s.run("", "service", "list", "--json")
	s.run("", "audit", "tail", "-n", "1000", "--json")
	s.run("", "user", "list", "--json")
	s.run("", "device", "list", "alice", "--json")
	s.run("", "keys", "list", "--json")
	hangup(t)
	s.log.wait(t, "configuration reloaded")
	if code := s.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}

	written := s.out.String() + s.log.String()
	if !strings.Contains(written, `"route":"/v1/login"`) || !strings.Contains(written, `"route":"/v1/verify"`) {
		t.Fatalf("the log is not the one meant:\n%s", written)
	}
	for name, secret := range secrets {
		for _, part := range []string{secret, strings.TrimRight(secret[len(secret)/2:], "=")} { // cut off is leaked, too
			if i := strings.Index(written, part); i >= 0 {
				t.Errorf("the %s was written: …%s…", name, written[max(i-200, 0):min(i+200, len(written))])
				break
			}
		}
	}
}
