package caveats

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// full is a request whose every fact is known.
func full() *Request {
	return &Request{
		Time:       time.Date(2026, 11, 21, 22, 30, 0, 500, time.UTC),
		User:       "usr_alice",
		Device:     "dev_phone",
		Audience:   "photos",
		Method:     "GET",
		Target:     "/photos/1?size=big",
		Actions:    []string{"photos:read"},
		ClientIP:   netip.MustParseAddr("192.0.2.7"),
		Origins:    []string{"https://app.example"},
		BodySHA256: strings.Repeat("0123456789abcdef", 4),
		ProofKey:   "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
		Via:        "cookie",
		Extra:      map[string]string{"tenant": "blue"},
	}
}

// judge asserts an outcome, by every way of asking.
func judge(t *testing.T, text string, r *Request, want Outcome) {
	t.Helper()
	c, err := Parse(text)
	if err != nil {
		t.Errorf("%q: %v", text, err)
		return
	}
	if got := Check(text, r); got != want {
		t.Errorf("%q: %v, want %v (request %+v)", text, got, want, r)
	}
	if got := c.Check(r); got != want {
		t.Errorf("%q parsed: %v, want %v", text, got, want)
	}
	why := c.Explain(r)
	if (why == "") != (want == Held) || Explain(text, r) != why {
		t.Errorf("%q: %v, explained as %q", text, want, why)
	}
	tellable(t, why)
}

// tellable asserts that words can go into a log line as they are.
func tellable(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) || strings.ContainsFunc(s, Hidden) {
		t.Errorf("not fit to be shown: %q", s)
	}
}

type row struct {
	caveat string
	facts  func(*Request) // nil: the full request as it is
	want   Outcome
}

func policy(t *testing.T, rows []row) {
	t.Helper()
	for _, row := range rows {
		r := full()
		if row.facts != nil {
			row.facts(r)
		}
		judge(t, row.caveat, r, row.want)
	}
}

const (
	yes = Held
	no  = Refused
)

func TestTimes(t *testing.T) {
	noTime := func(r *Request) { r.Time = time.Time{} }
	sharp := func(r *Request) { r.Time = time.Date(2026, 11, 21, 22, 30, 0, 0, time.UTC) }
	elsewhere := func(r *Request) { r.Time = r.Time.In(time.FixedZone("", 5*3600)) }
	policy(t, []row{
		{"time-before 2026-11-21T22:30:01Z", nil, yes},
		{"time-before 2026-11-21T22:30:00Z", nil, Expired},
		{"time-before 2026-11-21T22:30:00Z", sharp, Expired},
		{"time-before 2026-11-21T22:30:00.0000005Z", nil, Expired},
		{"time-before 2026-11-21T22:30:00.000000501Z", nil, yes},
		{"time-before 2026-11-21T22:30:00.1Z", nil, yes},
		{"time-before 2026-11-21T22:30:01Z", elsewhere, yes},
		{"time-before 2026-11-21T22:30:00Z", elsewhere, Expired},
		{"time-before 0000-01-01T00:00:00Z", nil, Expired},
		{"time-before 9999-12-31T23:59:59Z", noTime, no},
		{"time-after 2026-11-21T22:30:00Z", nil, yes},
		{"time-after 2026-11-21T22:30:00Z", sharp, yes},
		{"time-after 2026-11-21T22:30:00.0000005Z", nil, yes},
		{"time-after 2026-11-21T22:30:00.000000501Z", nil, NotYetValid},
		{"time-after 2026-11-21T22:30:01Z", nil, NotYetValid},
		{"time-after 0000-01-01T00:00:00Z", noTime, no},
	})
}

func TestIdentity(t *testing.T) {
	policy(t, []row{
		{"user usr_alice", nil, yes},
		{"user usr_bob", nil, no},
		{"user USR_ALICE", nil, no},
		{"user usr_alic", nil, no},
		{"user usr_alice", func(r *Request) { r.User = "" }, no},
		{"user dev_phone", nil, no},
		{"device dev_phone", nil, yes},
		{"device dev_tablet", nil, no},
		{"device dev_phone", func(r *Request) { r.Device = "" }, no},
		{"device usr_alice", nil, no},
		{"audience photos", nil, yes},
		{"audience photo", nil, WrongAudience},
		{"audience Photos", nil, WrongAudience},
		{"audience photos", func(r *Request) { r.Audience = "" }, WrongAudience},
	})
}

func TestMethod(t *testing.T) {
	method := func(m string) func(*Request) { return func(r *Request) { r.Method = m } }
	policy(t, []row{
		{"method GET", nil, yes},
		{"method POST GET", nil, yes},
		{"method GET HEAD", method("POST"), no},
		{"method GET HEAD", method("GE"), no},
		{"method GET HEAD", method("GETS"), no},
		{"method GET HEAD", method("get"), no},
		{"method GET HEAD", method("GET HEAD"), no},
		{"method GET HEAD", method(""), no},
	})
}

func TestPath(t *testing.T) { // the cases proper are in testdata/caveats
	policy(t, []row{
		{"path /photos/1", nil, yes},
		{"path /photos/**", nil, yes},
		{"path /photos", nil, no},
		{"path /**", func(r *Request) { r.Target = "" }, no},
		{"path /**", func(r *Request) { r.Target = "/\xff" }, no},
	})
}

func TestAllow(t *testing.T) {
	does := func(a ...string) func(*Request) { return func(r *Request) { r.Actions = a } }
	policy(t, []row{
		{"allow photos:read", nil, yes},
		{"allow photos:write photos:read", nil, yes},
		{"allow photos:read", does("photos:read", "photos:read"), yes},
		{"allow photos:read", does("photos:read", "photos:write"), no},
		{"allow photos:read photos:write", does("photos:write", "photos:read"), yes},
		{"allow photos:write", nil, no},
		{"allow photos:read", does("photos:reads"), no},
		{"allow photos:*", nil, yes},
		{"allow photos:*", does("photos:read", "photos:albums:read"), yes},
		{"allow photos:*", does("photos"), no},
		{"allow photos:*", does("photos:"), no},
		{"allow photos:*", does("photos2:read"), no},
		{"allow photos:*", does("photos:read", "users:read"), no},
		{"allow photos:albums:*", does("photos:read"), no},
		{"allow photos:*", does("photos:*"), no},
		{"allow photos:*", does("photos:r*"), no},
		{"allow photos:*", does("photos:read write"), no},
		{"allow photos:*", does("photos:\x00"), no},
		{"allow photos:*", does("photos:" + strings.Repeat("a", 122)), no},
		{"allow photos:*", does("photos:" + strings.Repeat("a", 121)), yes},
		{"allow photos:read", does(""), no},
		{"allow photos:read", does("photos:read", ""), no},
		{"allow photos:read", does(), no},
		{"allow a b", does("a b"), no},
	})
}

func TestClientIP(t *testing.T) {
	from := func(a string) func(*Request) {
		return func(r *Request) { r.ClientIP = netip.MustParseAddr(a) }
	}
	policy(t, []row{
		{"client-ip 192.0.2.0/24", nil, yes},
		{"client-ip 192.0.2.7/32", nil, yes},
		{"client-ip 10.0.0.0/8 192.0.2.0/24", nil, yes},
		{"client-ip 192.0.2.8/32", nil, no},
		{"client-ip 192.0.2.0/24", from("::ffff:192.0.2.7"), yes},
		{"client-ip ::/0", from("::ffff:192.0.2.7"), no},
		{"client-ip ::/0", nil, no},
		{"client-ip 0.0.0.0/0", nil, yes},
		{"client-ip 0.0.0.0/0", from("2001:db8::1"), no},
		{"client-ip 2001:db8::/32", from("2001:db8::1"), yes},
		{"client-ip 2001:db8::/32", from("2001:db9::1"), no},
		{"client-ip fe80::/10", from("fe80::1%eth0"), no},
		{"client-ip fe80::/10", from("fe80::1%\x1b[31m"), no},
		{"client-ip 0.0.0.0/0 ::/0", func(r *Request) { r.ClientIP = netip.Addr{} }, no},
	})
}

func TestOrigin(t *testing.T) {
	from := func(o ...string) func(*Request) { return func(r *Request) { r.Origins = o } }
	policy(t, []row{
		{"origin https://app.example", nil, yes},
		{"origin https://www.example https://app.example", nil, yes},
		{"origin https://app.example", from("http://app.example"), no},
		{"origin https://app.example", from("https://app.example:8443"), no},
		{"origin https://app.example", from("https://app.example/"), no},
		{"origin https://app.example", from("https://APP.example"), no},
		{"origin https://app.example", from("https://evil-app.example"), no},
		{"origin https://app.example", from("null"), no},
		{"origin https://app.example", from(""), no},
		{"origin https://app.example", from(), no},
		{"origin https://app.example", from("https://app.example", "https://app.example"), no},
		{"origin https://app.example", from("https://app.example https://app.example"), no},
	})
}

func TestVia(t *testing.T) {
	by := func(via string) func(*Request) { return func(r *Request) { r.Via = via } }
	policy(t, []row{
		{"via cookie", nil, yes},
		{"via cookie", by(""), no},
		{"via cookie", by("header"), no},
		{"via cookie", by("Cookie"), no},
		{"via cookie", by("cookie "), no},
	})
}

func TestBodyAndNote(t *testing.T) {
	sum := strings.Repeat("0123456789abcdef", 4)
	policy(t, []row{
		{"body-sha256 " + sum, nil, yes},
		{"body-sha256 " + strings.Repeat("0", 64), nil, no},
		{"body-sha256 " + sum, func(r *Request) { r.BodySHA256 = "" }, no},
		{"body-sha256 " + sum, func(r *Request) { r.BodySHA256 = strings.ToUpper(sum) }, no},
		{"note anything at all", nil, yes},
		{"note anything at all", func(r *Request) { *r = Request{} }, yes},
	})
}

// What only the authority can judge is well formed and refused, whatever the
// facts: nobody else may take it for held.
func TestWhatOnlyTheAuthorityJudges(t *testing.T) {
	for _, text := range []string{"once abc", "sealed AAECAwQ"} {
		for _, r := range []*Request{full(), {}, nil} {
			c, err := Parse(text)
			if err != nil || c.Check(r) != Unknown || Check(text, r) != Unknown || c.Explain(r) == "" || !c.NeedsRequest() {
				t.Errorf("%q: %v, %v, explained as %q", text, err, c.Check(r), c.Explain(r))
			}
		}
	}
}

func TestCnf(t *testing.T) {
	by := func(key string) func(*Request) { return func(r *Request) { r.ProofKey = key } }
	const key = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	policy(t, []row{
		{"cnf " + key, nil, yes},
		{"cnf " + key, by(""), no},
		{"cnf " + key, by(key[:42]), no},
		{"cnf " + key, by(strings.ToLower(key)), no},
		{"cnf " + strings.Repeat("A", 43), nil, no},
	})
}

// A request that states nothing satisfies nothing but a note, and the same goes
// for no request at all.
func TestNoFactsRefuse(t *testing.T) {
	if len(example) != len(rules) {
		t.Fatalf("%d examples for %d kinds", len(example), len(rules))
	}
	for i := range rules {
		name := rules[i].name
		for _, r := range []*Request{{}, nil} {
			if held := Check(example[name], r) == Held; held != (name == "note") {
				t.Errorf("%q holds without facts: %v", example[name], held)
			}
			c, err := Parse(example[name])
			if held := c.Check(r) == Held; err != nil || held != (name == "note") {
				t.Errorf("%q parsed holds without facts: %v, %v", example[name], held, err)
			}
			why := Explain(example[name], r)
			if (why == "") != (name == "note") {
				t.Errorf("%q explained as %q", example[name], why)
			}
		}
		want := Held
		if elsewhere(name) {
			want = Unknown
		}
		if got := Check(example[name], full()); got != want {
			t.Errorf("%q: %v with all facts", example[name], got)
		}
	}
}

func TestExplain(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	for _, c := range []struct {
		caveat, why string
		facts       func(*Request)
	}{
		{"method GET HEAD", "method POST is not one of GET HEAD", func(r *Request) { r.Method = "POST" }},
		{"method GET", "the request's method is not known", func(r *Request) { r.Method = "" }},
		{"method GET", `method "\x1b[31m\n" is not one of GET`, func(r *Request) { r.Method = "\x1b[31m\n" }},
		{"method GET", `method "A\x7f" is not one of GET`, func(r *Request) { r.Method = "A\x7f" }},
		{"path /a", "path /photos/1 matches none of /a", nil}, // without the query
		{"path /a", "path /a/../b is not canonical", func(r *Request) { r.Target = "/a/../b?token=x" }},
		{"user usr_bob", "user usr_alice is not usr_bob", nil},
		{"audience x", "audience photos is not x", nil},
		{"allow a", "action photos:read is not one of a", nil},
		{"allow a", `the request names "", which is no action`, func(r *Request) { r.Actions = []string{""} }},
		{"origin http://a", `origin "" is not one of http://a`, func(r *Request) { r.Origins = []string{""} }},
		{"allow a", "the request names no action", func(r *Request) { r.Actions = nil }},
		{"allow a:*", "the request names a:*, which is no action", func(r *Request) { r.Actions = []string{"a:*"} }},
		{"origin http://a", "the request has no Origin", func(r *Request) { r.Origins = nil }},
		{"client-ip ::/0", "client address 192.0.2.7 is not in ::/0", nil},
		{"client-ip ::/0", "the request's client address is not known", func(r *Request) { r.ClientIP = netip.Addr{} }},
		{"origin http://a", "the request has more than one Origin", func(r *Request) { r.Origins = []string{"http://a", "http://a"} }},
		{"path /a", "the request's path is not known", func(r *Request) { r.Target = "" }},
		{"user a", "the request's user is not known", func(r *Request) { r.User = "" }},
		{"device a", "the request's device is not known", func(r *Request) { r.Device = "" }},
		{"audience a", "the request's audience is not known", func(r *Request) { r.Audience = "" }},
		{"body-sha256 " + zeros, "the request's body is not known", func(r *Request) { r.BodySHA256 = "" }},
		{"body-sha256 " + zeros, "the body's SHA-256 is 00ff, not " + zeros, func(r *Request) { r.BodySHA256 = "00ff" }},
		{"time-before 9999-01-01T00:00:00Z", "the request's time is not known", func(r *Request) { r.Time = time.Time{} }},
		{"time-after 2020-01-01T00:00:00Z", "the request's time is not known", func(r *Request) { r.Time = time.Time{} }},
		{"time-after 2030-01-01T00:00:00Z", "not valid before 2030-01-01T00:00:00Z, and it is 2026-11-21T22:30:00.0000005Z", nil},
		{"time-before 2020-01-01T00:00:00Z", "expired at 2020-01-01T00:00:00Z, and it is 2026-11-21T22:30:00.0000005Z", nil},
		{"via cookie", "the token is good in the cookie only, and did not come in it", func(r *Request) { r.Via = "" }},
		{"via cookie", `the token is good in the cookie only, and came by "\x1b[31m"`, func(r *Request) { r.Via = "\x1b[31m" }},
		{"note x", "", nil},
		{"once x", "whether it was used before is known to the authority only", nil},
		{"sealed AA", "what is sealed only the authority can open", nil},
		{"cnf " + strings.Repeat("A", 43), "the DPoP proof is by the key 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I, not " + strings.Repeat("A", 43), nil},
		{"cnf " + strings.Repeat("A", 43), "the request has no valid DPoP proof", func(r *Request) { r.ProofKey = "" }},
		{"nope x", `unknown caveat "nope"`, nil},
		{"method", "caveat method: wants an argument", nil},
	} {
		r := full()
		if c.facts != nil {
			c.facts(r)
		}
		if got := Explain(c.caveat, r); got != c.why {
			t.Errorf("%q:\n got %q\nwant %q", c.caveat, got, c.why)
		}
	}
	long := full()
	long.Method = strings.Repeat("A", 5000)
	if got := Explain("method GET", long); len(got) > 200 {
		t.Errorf("an explanation of %d bytes", len(got))
	}
}
