package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
)

func TestNewURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://auth.example":           "https://auth.example",
		"HTTPS://Auth.Example:443/":      "https://auth.example",
		"https://auth.example:8443/a/b/": "https://auth.example:8443/a/b",
		"http://127.0.0.1:8420":          "http://127.0.0.1:8420",
		"http://localhost:80":            "http://localhost",
		"http://localhost:443":           "http://localhost:443", // each scheme's own port, and no other's
		"https://auth.example:80":        "https://auth.example:80",
		"http://[::1]:8420/":             "http://[::1]:8420",
		"https://[2001:DB8::1]":          "https://[2001:db8::1]",
		"https://[FE80::1%25Wlan0]:8420": "https://[fe80::1%25Wlan0]:8420",
		"https://[fe80::1%25eth0]:443/":  "https://[fe80::1%25eth0]",
		"http://[fe80::1%25eth0]":        "",
		"http://auth.example":            "",
		"http://192.0.2.1":               "",
		"http://localhost.example":       "",
		"https://user:pw@auth.example":   "",
		"https://auth.example?x=1":       "",
		"https://auth.example?":          "",
		"https://auth.example#a":         "",
		"ftp://auth.example":             "",
		"auth.example":                   "",
		"https://":                       "",
		"https:auth.example":             "",
		"":                               "",
		"https://a b":                    "",
	} {
		c, err := New(in, Options{})
		switch {
		case want == "" && err == nil:
			t.Errorf("New(%q) = %s, want an error", in, c.URL())
		case want == "" && strings.Contains(err.Error(), "pw"):
			t.Errorf("New(%q): the error repeats the password: %v", in, err)
		case want != "" && (err != nil || c.URL() != want):
			t.Errorf("New(%q) = %v, %v; want %s", in, c, err, want)
		case want != "":
			if _, err := c.request(t.Context(), call{path: "/version"}); err != nil {
				t.Errorf("New(%q): nothing can be asked: %v", in, err)
			}
		}
	}
	if _, err := New("http://auth.example", Options{PlainHTTP: true}); err != nil {
		t.Error(err)
	}
}

// peer is whatever may answer at a URL that is not, or no longer, macaroond's.
func peer(t *testing.T, o Options, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(s.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const secret = "AgEbaHR0cHM6secret"

// Nothing but the Authorization header shows the token to anybody, and a
// redirect does not send it on.
func TestRedirectIsNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		elsewhere := 0
		c := peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.String(), secret) {
				t.Errorf("the token is in the URL %s", r.URL)
			}
			if r.URL.Path == "/elsewhere" {
				elsewhere++
				return
			}
			http.Redirect(w, r, "/elsewhere", status)
		})
		_, err := c.Devices(t.Context(), Bearer(secret))
		var e *StatusError
		if !errors.As(err, &e) || e.Status != status || e.Location != "/elsewhere" || elsewhere != 0 {
			t.Errorf("%d: %v, %d requests elsewhere", status, err, elsewhere)
		}
	}
}

func TestForeignAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		media  string
		body   string
		is     func(error) bool
	}{
		"a captive portal":           {200, "text/html", "<html>", isStatus(200)},
		"no type":                    {200, "", `{"devices":[]}`, isStatus(200)},
		"a proxy in trouble":         {502, "text/html", "<html>", isStatus(502)},
		"a problem without a code":   {404, "application/problem+json", `{"title":"x"}`, isStatus(404)},
		"a problem that is no JSON":  {404, "application/problem+json", `<`, isStatus(404)},
		"another kind of success":    {201, "application/json", `{"devices":[]}`, isStatus(201)},
		"JSON of another shape":      {200, "application/json", `{"devices":"` + secret + `"}`, isPlain},
		"no JSON":                    {200, "application/json", secret, isPlain},
		"an OAuth error":             {400, "application/json", `{"error":"invalid_grant"}`, isStatus(400)},
		"trailing bytes":             {200, "application/json", `{"devices":[]}{}`, isPlain},
		"longer than anything sound": {200, "application/json", strings.Repeat(" ", maxAnswer+1), isPlain},
	} {
		t.Run(name, func(t *testing.T) {
			cl := peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Content-Type"] = []string{c.media}
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			})
			_, err := cl.Devices(t.Context(), Bearer(secret))
			if err == nil || !c.is(err) || errors.Is(err, ErrUnreachable) {
				t.Errorf("%v", err)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error repeats the answer: %v", err)
			}
		})
	}
}

// What says nothing of the kind that was asked for is no success, JSON or not:
// nobody is told that a token is dead, or accepted, who was not told so.
func TestEmptyAnswers(t *testing.T) {
	type method struct {
		status int // of success
		call   func(*Client, context.Context) error
	}
	methods := map[string]method{
		"revoke": {200, func(c *Client, ctx context.Context) error { _, err := c.Revoke(ctx, Credential{}, secret); return err }},
		"revoke branch": {200, func(c *Client, ctx context.Context) error {
			_, err := c.RevokeBranch(ctx, Bearer(secret), nil)
			return err
		}},
		"verify": {200, func(c *Client, ctx context.Context) error {
			_, err := c.Verify(ctx, Bearer(secret), api.VerifyIn{})
			return err
		}},
		"renew":   {200, func(c *Client, ctx context.Context) error { _, err := c.Renew(ctx, Bearer(secret)); return err }},
		"login":   {200, func(c *Client, ctx context.Context) error { _, err := c.Login(ctx, api.LoginIn{}); return err }},
		"sign up": {201, func(c *Client, ctx context.Context) error { _, err := c.Signup(ctx, api.SignupIn{}); return err }},
		"mint": {200, func(c *Client, ctx context.Context) error {
			_, err := c.Mint(ctx, Bearer(secret), api.MintIn{})
			return err
		}},
		"wait": {202, func(c *Client, ctx context.Context) error { _, err := c.OpenLink(ctx, Bearer(secret)); return err }},
	}
	for name, m := range methods {
		for _, body := range []string{"null", "{}", `{"grain":"","code":"","token":"","delayed":{}}`, `{"grain":"epoch"}`} {
			c := peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(m.status)
				io.WriteString(w, body)
			})
			err := m.call(c, t.Context())
			if _, waits := errors.AsType[*DelayedError](err); err == nil || waits {
				t.Errorf("%s: %s: %v", name, body, err)
			}
		}
	}
	// Where there is nothing to say, a body is somebody else's.
	methods["revoke as OAuth"] = method{200, func(c *Client, ctx context.Context) error { return c.RevokeOAuth(ctx, Basic("svc_A", secret), secret) }}
	for name, m := range methods {
		for status, body := range map[int]string{200: "<html>", 204: ""} {
			c := peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(status)
				io.WriteString(w, body)
			})
			if err := m.call(c, t.Context()); !isStatus(status)(err) {
				t.Errorf("%s: %d %s: %v", name, status, body, err)
			}
		}
	}
}

// Another text than the caller's is not sent: encoding/json would write U+FFFD
// for what is not UTF-8. The error does not repeat it.
func TestOnlyUTF8IsSent(t *testing.T) {
	var came []string
	c := peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) { came = append(came, r.URL.Path) })
	ctx, text := t.Context(), secret+"\xff"
	for name, call := range map[string]func() error{
		"a field":         func() error { _, err := c.Login(ctx, api.LoginIn{Username: "ana", Password: text}); return err },
		"a field's field": func() error { _, err := c.Login(ctx, api.LoginIn{Device: api.DeviceIn{Name: text}}); return err },
		"a request to judge": func() error {
			_, err := c.Verify(ctx, Credential{}, api.VerifyIn{Request: api.Request{Path: text}})
			return err
		},
		"a pointed-to list": func() error { _, err := c.RevokeBranch(ctx, Credential{}, []string{"method GET", text}); return err },
		"a pointed-to text": func() error { _, err := c.SetRole(ctx, Credential{}, "usr_AAAAAAAAAAAAAAAA", text); return err },
		"a proof":           func() error { return c.DeleteAccount(ctx, Credential{}, api.Proof{Password: text}) },
		"a key of a map":    func() error { return c.do(ctx, call{in: map[string]any{text: 1}}) },
		"a value of a map":  func() error { return c.do(ctx, call{in: map[string]any{"a": [1]any{text}}}) },
	} {
		if err := call(); !errors.Is(err, ErrText) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(came) != 0 {
		t.Errorf("sent: %q", came)
	}
	if err := c.SetPassword(ctx, Credential{}, "usr_AAAAAAAAAAAAAAAA", "pässwörd \ufffd 🐧"); !isStatus(200)(err) || len(came) != 1 {
		t.Errorf("%v, %d sent", err, len(came))
	}
}

func isStatus(status int) func(error) bool {
	return func(err error) bool {
		var e *StatusError
		return errors.As(err, &e) && e.Status == status
	}
}

func isPlain(err error) bool {
	var e *StatusError
	return !errors.As(err, &e)
}

func TestProblems(t *testing.T) {
	c := peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
		w.Header().Set("Retry-After", "17")
		w.WriteHeader(429)
		io.WriteString(w, `{"type":"about:blank","title":"Too Many Requests","status":200,"code":"rate_limited","new_member":1}`)
	})
	_, err := c.Login(t.Context(), api.LoginIn{Username: "alice", Password: secret})
	var p *api.Problem
	if !errors.As(err, &p) || p.Code != api.CodeRateLimited || p.Status != 429 {
		t.Errorf("%v, %+v", err, p)
	}
	if after, ok := RetryAfter(err); !ok || after != 17*time.Second {
		t.Errorf("RetryAfter = %v, %v", after, ok)
	}
	if _, ok := RetryAfter(p); ok {
		t.Error("a problem on its own has no Retry-After")
	}
}

func TestUnreachable(t *testing.T) {
	release := make(chan struct{})
	silent := peer(t, Options{Timeout: 20 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) })
	closed := httptest.NewServer(nil)
	closed.Close()
	gone, err := New(closed.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cut := peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "{")
	})
	for name, c := range map[string]*Client{"silent": silent, "gone": gone, "cut short": cut} {
		if err := c.Logout(t.Context(), Bearer(secret)); !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for given, want := range map[*Client]time.Duration{silent: 20 * time.Millisecond, gone: 30 * time.Second} {
		if given.http.Timeout != want {
			t.Errorf("an exchange may take %v, want %v", given.http.Timeout, want)
		}
	}
	// The caller's own end is the caller's own reason.
	why := errors.New("changed my mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := gone.Logout(ctx, Bearer(secret)); !errors.Is(err, why) || errors.Is(err, ErrUnreachable) {
		t.Errorf("cancelled: %v", err)
	}
}

// With "" or ".." for an id, DELETE of one device would be DELETE of all.
func TestOnlyIDsGoIntoPaths(t *testing.T) {
	c := peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was sent", r.Method, r.URL)
	})
	ctx := t.Context()
	for _, id := range []string{"", ".", "..", "dev_", "usr_AAAAAAAAAAAAAAA/", "dev_AAAAAAAAAAAAAAA?", "dev_AAAAAAAAAAAAAAAAA", "svc_AAAAAAAAAAAAAAA%"} {
		_, err := c.RenameDevice(ctx, Credential{}, id, "x")
		for i, err := range []error{
			err, c.RevokeDevice(ctx, Credential{}, id), c.SuspendUser(ctx, Credential{}, id),
			c.RemoveServiceSecret(ctx, Credential{}, id, "sec_AAAAAAAAAAAAAAAA"), c.RemoveServiceSecret(ctx, Credential{}, "svc_AAAAAAAAAAAAAAAA", id),
			c.RevokeSubjectDevice(ctx, Credential{}, "subject", id),
			c.ResumeUser(ctx, Credential{}, id), c.SetPassword(ctx, Credential{}, id, "p"), c.RemoveService(ctx, Credential{}, id),
		} {
			if !errors.Is(err, ErrID) {
				t.Errorf("%q, method %d: %v", id, i, err)
			}
		}
	}
}

// A subject goes into a path as it is, so it is one segment of it or nothing.
func TestOnlySubjectsGoIntoPaths(t *testing.T) {
	c := peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was sent", r.Method, r.URL)
	})
	ctx := t.Context()
	for _, subject := range []string{"", ".", "..", "a/b", "../users", "a?b", "a#b", "a%2fb", "a b", "a\nb", "é", strings.Repeat("x", 129)} {
		_, err := c.SubjectDevices(ctx, Credential{}, subject)
		for i, err := range []error{
			err, c.RevokeSubjectDevices(ctx, Credential{}, subject), c.RevokeSubjectDevice(ctx, Credential{}, subject, "dev_AAAAAAAAAAAAAAAA"),
			c.SuspendSubject(ctx, Credential{}, subject), c.ResumeSubject(ctx, Credential{}, subject),
		} {
			if !errors.Is(err, ErrID) {
				t.Errorf("%q, method %d: %v", subject, i, err)
			}
		}
	}
}

func TestCredentialsDoNotPrint(t *testing.T) {
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	c, err := New("https://auth.example", Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, cred := range []Credential{Bearer(secret), Basic("svc_A", secret)} {
		logger.Info("x", "cred", cred, "pointer", &cred, "in", struct{ C Credential }{cred}, "slice", []Credential{cred}, "client", c)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			fmt.Fprintf(&log, verb+"\n", cred)
			fmt.Fprintf(&log, verb+"\n", struct{ C Credential }{cred})
			fmt.Fprintf(&log, verb+"\n", struct{ hidden Credential }{cred})
			fmt.Fprintf(&log, verb+"\n", &struct{ hidden []Credential }{[]Credential{cred}})
			fmt.Fprintf(&log, verb+"\n", &Follower{Credential: cred})
		}
	}
	if Bearer(secret) != Bearer(strings.Clone(secret)) || Bearer(secret) == Bearer("") || Bearer("") == (Credential{}) {
		t.Error("equal ones are not equal, or others are")
	}
	for _, leak := range []string{secret, "c3ZjX0E6", fmt.Sprintf("%x", secret)} { // the second is how Basic begins
		if strings.Contains(log.String(), leak) {
			t.Errorf("%s is in %s", leak, log.String())
		}
	}
	if n := strings.Count(log.String(), "[redacted]"); n < 12 {
		t.Errorf("only %d redactions in %s", n, log.String())
	}
}
