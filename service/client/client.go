package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// Options are what a Client may be told. The zero value is good.
type Options struct {
	// Timeout bounds one exchange from dialling to the last byte of the answer.
	// 0 is 30 seconds; the hashing pool of a busy server takes seconds.
	Timeout time.Duration
	// PlainHTTP permits http:// to a host that is not this machine. Whoever is
	// on the way then reads every token.
	PlainHTTP bool
	// Transport replaces the way to the server, for a Unix socket or a private
	// certificate authority. It must not follow redirects itself. nil is
	// net/http's default.
	Transport http.RoundTripper
	// UserAgent says who asks. "" is "macaroond-client".
	UserAgent string
}

// Client talks to one authority. It is safe for concurrent use.
type Client struct {
	base      string
	userAgent string
	http      http.Client
}

// maxAnswer bounds an answer in bytes; the longest are pages of the audit.
const maxAnswer = 4 << 20

// New makes a client of the authority at baseURL, such as
// https://auth.example; a path is kept, for a server behind a prefix. The
// errors say what is wrong with the URL.
func New(baseURL string, o Options) (*Client, error) {
	base, err := normalize(baseURL, o.PlainHTTP)
	if err != nil {
		return nil, err
	}
	c := &Client{base: base, userAgent: o.UserAgent}
	if c.userAgent == "" {
		c.userAgent = "macaroond-client"
	}
	c.http.Timeout = o.Timeout
	if c.http.Timeout == 0 {
		c.http.Timeout = 30 * time.Second
	}
	c.http.Transport = o.Transport
	// A redirect would carry a token, or a password's body, to an address that
	// nobody chose.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// URL is the authority's base URL in its one spelling: lower-case host, no
// default port, no slash at the end. Credentials are kept under it.
func (c *Client) URL() string { return c.base }

func normalize(s string, plainHTTP bool) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", errors.New("the server's URL does not parse; want one such as https://auth.example")
	}
	host, zone, zoned := strings.Cut(u.Hostname(), "%") // of a link-local address (RFC 6874)
	host = strings.ToLower(host)
	if zoned {
		host += "%" + zone // an interface's name, which may have capitals
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", host == "":
		return "", errors.New("the server's URL must be https://host or http://host")
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return "", errors.New("the server's URL must have no user, query or fragment")
	case u.Scheme == "http" && !plainHTTP && !loopback(host):
		return "", errors.New("http:// to another machine would show every token to whoever is on the way; use https://")
	}
	port := u.Port()
	if u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		port = ""
	}
	switch {
	case port != "":
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	if zoned {
		host = strings.Replace(host, "%", "%25", 1)
	}
	return u.Scheme + "://" + host + strings.TrimRight(u.EscapedPath(), "/"), nil
}

// loopback reports a host that no packet leaves this machine for. RFC 6761
// gives localhost to it.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// call is one exchange. Of in and form at most one is set.
type call struct {
	method string
	path   string // below the base; without anything secret
	query  url.Values
	cred   Credential
	in     any         // the JSON body
	form   url.Values  // the form body, of the OAuth endpoints
	want   int         // the one status of success
	also   int         // another one, whose answer is read all the same; 0 for none
	out    any         // what to read the answer into; nil for one without a body
	sound  func() bool // that out says what such an answer must say; nil when anything will do
	delays bool        // 202 is a DelayedError
}

func (c *Client) do(ctx context.Context, x call) error {
	req, err := c.request(ctx, x)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return unreachable(ctx, err)
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("%s %s: the answer is longer than %d bytes", x.method, x.path, maxAnswer)
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	ours := media == "application/json"
	if x.out == nil {
		ours = len(body) == 0 // a page of somebody's is no success
	}
	switch {
	case x.delays && resp.StatusCode == http.StatusAccepted && media == "application/json":
		return delayed(body)
	case resp.StatusCode == x.want && !ours:
		return &StatusError{Status: resp.StatusCode}
	case resp.StatusCode != x.want && (resp.StatusCode != x.also || !ours):
		return refusal(resp.StatusCode, resp.Header, body, x.form != nil)
	case x.out == nil:
		return nil
	}
	// The text of a decoding error can quote the answer, which may hold a token.
	if err := json.Unmarshal(body, x.out); err != nil || x.sound != nil && !x.sound() {
		return fmt.Errorf("%s %s: the answer is not the JSON that was expected", x.method, x.path)
	}
	return nil
}

// ask does a call whose answer is a T.
func ask[T any](ctx context.Context, c *Client, x call) (*T, error) {
	out := new(T)
	x.out = out
	if err := c.do(ctx, x); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Client) request(ctx context.Context, x call) (*http.Request, error) {
	var body io.Reader
	var media string
	switch {
	case x.form != nil:
		body, media = strings.NewReader(x.form.Encode()), "application/x-www-form-urlencoded"
	case x.in != nil:
		if !utf8Only(reflect.ValueOf(x.in)) {
			return nil, fmt.Errorf("%s %s: %w", x.method, x.path, ErrText)
		}
		b, err := json.Marshal(x.in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: the request does not encode as JSON", x.method, x.path)
		}
		body, media = bytes.NewReader(b), "application/json"
	}
	target := c.base + x.path
	if len(x.query) > 0 {
		target += "?" + x.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, x.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", x.method, x.path, err)
	}
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json, application/problem+json")
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	if header := x.cred.text(); header != "" {
		req.Header.Set("Authorization", header)
	}
	return req, nil
}

// utf8Only reports that every text of v is UTF-8. In another one encoding/json
// puts U+FFFD for what it cannot write: the request would be about another path,
// or set another password, than the caller meant.
func utf8Only(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Pointer, reflect.Interface:
		return v.IsNil() || utf8Only(v.Elem())
	case reflect.Struct:
		for _, field := range v.Fields() {
			if !utf8Only(field) {
				return false
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !utf8Only(v.Index(i)) {
				return false
			}
		}
	case reflect.Map:
		for key, value := range v.Seq2() {
			if !utf8Only(key) || !utf8Only(value) {
				return false
			}
		}
	}
	return true
}

// unreachable keeps the caller's own cancellation apart from a silent server.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
