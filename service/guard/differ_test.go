package guard_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/guard"
	"macaroond/service/token"
)

// The guard says what the authority says, of whatever token and request: random
// caveats in random places, random tampering, revocations in between, with
// prefixes that are known and that are not. It differs in four points, and in
// each refuses with 401 what the authority refuses, too.
func TestSameAsTheAuthority(t *testing.T) {
	a := start(t)
	var how string
	g := a.guard(func(o *guard.Options) { o.Observe = func(x guard.Observation) { how = x.How } })
	photos := a.credential("photos")
	r := rand.New(rand.NewPCG(20260101, 7))
	m := &maker{t: t, a: a, r: r}
	n := 4000
	if raceOn {
		n = 2000
	}
	seen := map[string]int{}
	for i := range n {
		if i%25 == 24 {
			m.revoke(g)
		}
		text := m.token()
		facts := m.facts()
		want, err := a.c.Verify(t.Context(), photos, api.VerifyIn{Token: text, Request: asked(facts)})
		ok(t, err)
		pass, err := g.Gateway(t.Context(), text, facts, nil)
		got := codeIn(err)
		seen[got+" "+how]++
		if got == want.Code {
			switch {
			case got != api.CodeOK:
				if reason := err.(*api.Refusal).Reason; reason != want.Reason && how == guard.Local && !timely(reason) {
					t.Errorf("%d: %s because %q, the authority says %q", i, got, reason, want.Reason)
				}
			case pass.User != want.Principal.User || pass.Device != want.Principal.Device || pass.Username != want.Principal.Username || !pass.Expires.Equal(want.ExpiresAt.Time):
				t.Errorf("%d: %+v, the authority says %+v %v", i, pass, want.Principal, want.ExpiresAt)
			}
			continue
		}
		if want.Code == api.CodeOK && got == api.CodeReplayed && how == guard.Online {
			continue // the authority was asked first, and let it in
		}
		refused := want.Code != api.CodeOK && got != api.CodeOK && api.StatusOf(got) == 401
		switch {
		case refused && got == api.CodeInvalid && how == guard.Introspected && want.Code != api.CodeRefused:
			// The authority said that the token is not active, and no more: what is
			// forged, revoked, expired or for nobody here is the same to a stranger.
			seen["not active: "+want.Code]++
		case refused && got == api.CodeWrongAudience && how == guard.Introspected && !names(text):
			// It does not name the audience, so nobody was asked whether it holds.
			seen["not named: "+want.Code]++
		case refused && got == api.CodeExpired && how == guard.Introspected && over(text):
			// It is over by this clock, so nobody was asked whether it holds.
			seen["over: "+want.Code]++
		case refused && got == api.CodeNotYetValid && how == guard.Introspected && early(text):
			// Nor before its time.
			seen["early: "+want.Code]++
		default:
			t.Errorf("%d: %s (%s), the authority says %s: %v for %+v", i, got, how, want.Code, shown(text), facts)
		}
	}
	t.Log(seen)
	for _, kind := range []string{
		"ok local", "ok introspected", "invalid local", "invalid introspected", "revoked local", "expired local", "not_yet_valid local", "refused local",
		"unknown_caveat local", "unknown_caveat online", "replayed online", "invalid online", "wrong_audience local", "malformed local",
		"not active: revoked", "not active: wrong_audience", "expired introspected", "over: invalid", "not named: invalid", "not named: revoked",
	} {
		if seen[kind] == 0 && !raceOn { // then there are fewer
			t.Errorf("never %s: the test does not reach it", kind)
		}
	}
}

// timely: the sentence has the time of judging in it.
func timely(reason string) bool { return strings.Contains(reason, "and it is ") }

func asked(f caveats.Request) api.Request {
	out := api.Request{Method: f.Method, Path: f.Target, Audience: "photos", Actions: f.Actions, BodySHA256: f.BodySHA256}
	if f.ClientIP.IsValid() {
		out.ClientIP = f.ClientIP.String()
	}
	if len(f.Origins) > 0 {
		out.Origin = f.Origins[0]
	}
	return out
}

func names(text string) bool {
	tok, err := token.Parse(text)
	return err == nil && strings.Contains("\n"+strings.Join(tok.UnverifiedCaveats(), "\n")+"\n", "\naudience photos\n")
}

func early(text string) bool {
	return slices.ContainsFunc(shown(text), func(c string) bool {
		at, ok := caveats.After(c)
		return ok && time.Now().Before(at)
	})
}

func over(text string) bool {
	for _, c := range shown(text) {
		if at, ok := caveats.Before(c); ok && !time.Now().Before(at) {
			return true
		}
	}
	return false
}

func shown(text string) []string {
	tok, err := token.Parse(text)
	if err != nil {
		return nil
	}
	return tok.UnverifiedCaveats()
}

// maker makes tokens and requests.
type maker struct {
	t     *testing.T
	a     *authority
	r     *rand.Rand
	roots []*api.Grant
	made  []string // whose chain holds
	users int
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (m *maker) root() *api.Grant {
	for len(m.roots) < 6 {
		m.roots = append(m.roots, m.a.device(fmt.Sprint("user", m.users)))
		m.users++
	}
	return pick(m.r, m.roots...)
}

func (m *maker) caveat(who *api.Grant) string {
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	switch m.r.IntN(24) {
	case 0, 1, 2, 3, 4:
		return "audience photos"
	case 5, 6, 7:
		return window()
	case 8:
		return "time-before " + pick(m.r, at(time.Minute), at(-time.Minute), at(90*time.Minute), at(20*time.Hour), "2020-01-01", "")
	case 9:
		return "time-after " + pick(m.r, at(-time.Minute), at(-time.Hour), at(time.Hour))
	case 10, 11:
		return "method " + pick(m.r, "GET", "GET PUT", "PUT", "get", "GET  PUT")
	case 12, 13:
		return "path " + pick(m.r, "/photos/*", "/photos/**", "/**", "/albums/*", "photos", "/photos/1 /albums/1")
	case 14:
		return "allow " + pick(m.r, "photos:read", "photos:*", "albums:read", "*")
	case 15:
		return "client-ip " + pick(m.r, "192.0.2.0/24", "2001:db8::/32", "198.51.100.0/24 192.0.2.1/32", "192.0.2.1")
	case 16:
		return "origin " + pick(m.r, "https://a.example", "https://b.example", "https://a.example/")
	case 17:
		return "body-sha256 " + strings.Repeat(pick(m.r, "0", "a", "A"), 64)
	case 18:
		return pick(m.r, "user "+who.User.ID, "device "+who.Device.ID, "user usr_admin00000000000", "device "+who.User.ID)
	case 19:
		return pick(m.r, "audience mail", "audience macaroond", "audience Photos", "audience photos2", "audience  photos")
	case 20:
		return pick(m.r, "x-album 1", "cnf abc", "via cookie", "colour blue", "once", "audience")
	case 21:
		return pick(m.r, "once abc", "sealed abc", "note x", "note y")
	}
	return fmt.Sprint("note ", m.r.IntN(4))
}

// token is one whose chain holds, mostly, made from a root or from a token that
// was made before.
func (m *maker) token() string {
	who := m.root()
	text := who.Token
	switch {
	case len(m.made) > 0 && m.r.IntN(2) == 0:
		text = pick(m.r, m.made[max(0, len(m.made)-60):]...)
	case m.r.IntN(4) > 0: // as clients do
		text = narrow(m.t, text, window(), "audience photos")
	}
	tok, err := token.Parse(text)
	ok(m.t, err)
	for range m.r.IntN(4) {
		if tok, err = token.Attenuate(tok, m.caveat(who)); err != nil {
			break
		}
	}
	if err == nil && tok.UnverifiedLen() < 12 {
		text = tok.Text()
		m.made = append(m.made, text)
	}
	if m.r.IntN(4) > 0 {
		return text
	}
	return m.tamper(text)
}

func (m *maker) tamper(text string) string {
	data, err := base64.RawURLEncoding.DecodeString(text)
	ok(m.t, err)
	other, _ := base64.RawURLEncoding.DecodeString(pick(m.r, append(m.made, text)...))
	switch m.r.IntN(9) {
	case 0: // the text
		return pick(m.r, text+"A", text[1:], text[:len(text)-4], text+"=", strings.ToLower(text), text+"\n")
	case 1: // somebody else's tail
		copy(data[len(data)-32:], other[len(other)-32:])
	case 2: // somebody else's caveats
		data = append(other[:len(other)-32:len(other)-32], data[len(data)-32:]...)
	case 3:
		data[len(data)-1-m.r.IntN(32)] ^= 1 << m.r.IntN(8)
	case 4: // a word for another of the same length
		return base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(data), "photos", pick(m.r, "albums", "photoz"), 1)))
	case 5: // over, of a beginning that nobody knows, and forged
		return forge(narrow(m.t, m.root().Token, fmt.Sprint("note ", m.r.Uint32()), "audience photos", "time-before 2020-01-01T00:00:00Z"))
	case 6: // an empty caveat in front of the end and the signature
		data = slices.Insert(data, len(data)-35, 2, 0, 0)
	default:
		data[m.r.IntN(len(data))] ^= 1 << m.r.IntN(8)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// revoke ends something, and waits until the guard has heard of it.
func (m *maker) revoke(g *guard.Guard) {
	m.t.Helper()
	before := m.a.svc.FeedPosition().Sequence
	if m.r.IntN(6) == 0 {
		i := m.r.IntN(len(m.roots))
		_, err := m.a.c.Revoke(m.t.Context(), client.Credential{}, m.roots[i].Token) // perhaps again
		ok(m.t, err)
		m.roots = append(m.roots[:i], m.roots[i+1:]...)
	} else {
		_, err := m.a.c.Revoke(m.t.Context(), client.Credential{}, pick(m.r, m.made[max(0, len(m.made)-60):]...))
		ok(m.t, err)
	}
	ok(m.t, m.a.svc.CatchUp(m.t.Context()))
	if m.a.svc.FeedPosition().Sequence > before { // else it was dead already
		eventually(m.t, "the guard hears of it", func() bool { return g.Revocations() >= m.a.svc.Revocations() })
	}
}

func (m *maker) facts() caveats.Request {
	f := caveats.Request{
		Method: pick(m.r, "GET", "GET", "PUT", ""), Target: pick(m.r, "/photos/1", "/photos/1", "/photos/1?x", "/albums/1", "/photos/../1", ""),
		BodySHA256: pick(m.r, "", strings.Repeat("0", 64), strings.Repeat("a", 64)),
	}
	if m.r.IntN(2) == 0 {
		f.Actions = pick(m.r, []string{"photos:read"}, []string{"photos:read", "albums:read"})
	}
	if m.r.IntN(2) == 0 {
		f.ClientIP = netip.MustParseAddr(pick(m.r, "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"))
	}
	if m.r.IntN(2) == 0 {
		f.Origins = []string{pick(m.r, "https://a.example", "https://b.example")}
	}
	return f
}
