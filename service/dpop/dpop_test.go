package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

var (
	t0      = time.Unix(1_795_300_200, 0)
	request = Request{Method: "GET", URL: "https://api.example.com/photos/1", Token: "the token", Now: t0}
	ecKey   = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	edKey   = func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) }()
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func fresh() *Verifier { return NewVerifier(t0.Add(-time.Minute)) }

// jws is a proof as somebody writes it who is not this package: each part as
// given, signed by sign over what JWS signs.
func jws(header, payload map[string]any, sign func(input string) []byte) string {
	input := encode(must(json.Marshal(header))) + "." + encode(must(json.Marshal(payload)))
	return input + "." + encode(sign(input))
}

func es256(key *ecdsa.PrivateKey) func(string) []byte {
	return func(input string) []byte {
		digest := sha256.Sum256([]byte(input))
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			panic(err)
		}
		out := make([]byte, 64)
		r.FillBytes(out[:32])
		s.FillBytes(out[32:])
		return out
	}
}

func eddsa(key ed25519.PrivateKey) func(string) []byte {
	return func(input string) []byte { return ed25519.Sign(key, []byte(input)) }
}

func jwkOf(key any) map[string]any {
	var m map[string]any
	if err := json.Unmarshal(must(jose.JSONWebKey{Key: key}.MarshalJSON()), &m); err != nil {
		panic(err)
	}
	return m
}

// parts are a good proof's, which rows of a table change.
type parts struct {
	header, claims map[string]any
	sign           func(string) []byte
}

func good() *parts {
	return &parts{
		header: map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": jwkOf(ecKey.Public())},
		claims: map[string]any{
			"jti": "a jti", "htm": "GET", "htu": "https://api.example.com/photos/1", "iat": t0.Unix(),
			"ath": base64.RawURLEncoding.EncodeToString(sum("the token")),
		},
		sign: es256(ecKey),
	}
}

func sum(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }

func goodEd() *parts {
	p := good()
	p.header["alg"], p.header["jwk"], p.sign = "EdDSA", jwkOf(edKey.Public()), eddsa(edKey)
	return p
}

// What a proof must be. Each row is a good proof but for one thing.
func TestCheck(t *testing.T) {
	set := func(m func(*parts) map[string]any, name string, v any) func(*parts) {
		return func(p *parts) { m(p)[name] = v }
	}
	head := func(p *parts) map[string]any { return p.header }
	body := func(p *parts) map[string]any { return p.claims }
	without := func(m func(*parts) map[string]any, name string) func(*parts) {
		return func(p *parts) { delete(m(p), name) }
	}
	secp384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	for _, row := range []struct {
		name   string
		change func(*parts)
		want   error
	}{
		{"good", func(*parts) {}, nil},
		{"good, Ed25519", func(p *parts) { *p = *goodEd() }, nil},
		{"more than is needed", func(p *parts) { p.header["kid"], p.claims["nonce"] = "x", "y" }, nil},
		{"iat with a fraction", set(body, "iat", float64(t0.Unix())+0.7), nil},
		{"just new enough", set(body, "iat", t0.Add(-Window).Unix()), nil},
		{"a clock a little ahead", set(body, "iat", t0.Add(Skew).Unix()), nil},
		{"the longest jti", set(body, "jti", strings.Repeat("x", 256)), nil},

		{"typ of another kind", set(head, "typ", "JWT"), errType},
		{"typ in capitals", set(head, "typ", "DPOP+JWT"), errType},
		{"no typ", without(head, "typ"), errType},
		{"alg none", func(p *parts) {
			p.header["alg"], p.sign = "none", func(string) []byte { return nil }
		}, errAlgorithm},
		{"no alg", without(head, "alg"), errAlgorithm},
		{"HS256 with the public key as the secret", func(p *parts) {
			secret := must(json.Marshal(p.header["jwk"]))
			p.header["alg"] = "HS256"
			p.sign = func(in string) []byte { h := hmac.New(sha256.New, secret); h.Write([]byte(in)); return h.Sum(nil) }
		}, errAlgorithm},
		{"a secret as the key", func(p *parts) {
			p.header["alg"], p.header["jwk"] = "HS256", map[string]any{"kty": "oct", "k": "AAAA"}
		}, errAlgorithm},
		{"a secret as the key, ES256", set(head, "jwk", map[string]any{"kty": "oct", "k": "AAAA"}), errPrivate},
		{"RS256", func(p *parts) {
			p.header["alg"], p.header["jwk"] = "RS256", jwkOf(rsaKey.Public())
			p.sign = func(in string) []byte {
				return must(rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum(in)))
			}
		}, errAlgorithm},
		{"ES256 and an RSA key", set(head, "jwk", jwkOf(rsaKey.Public())), errKey},
		{"ES384", func(p *parts) { p.header["alg"], p.header["jwk"] = "ES384", jwkOf(secp384.Public()) }, errAlgorithm},
		{"ES256 and P-384", set(head, "jwk", jwkOf(secp384.Public())), errKey},
		{"ES256 and Ed25519", set(head, "jwk", jwkOf(edKey.Public())), errAlgorithm},
		{"EdDSA and P-256", set(head, "alg", "EdDSA"), errAlgorithm},
		{"a private key", set(head, "jwk", jwkOf(ecKey)), errPrivate},
		{"an Ed25519 private key", func(p *parts) { *p = *goodEd(); p.header["jwk"] = jwkOf(edKey) }, errPrivate},
		{"a point that is on no curve", func(p *parts) { p.header["jwk"].(map[string]any)["y"] = encode(sum("y")) }, errKey},
		{"an Ed25519 key of small order", func(p *parts) {
			*p = *goodEd()
			p.header["jwk"] = map[string]any{"kty": "OKP", "crv": "Ed25519", "x": encode(make([]byte, 32))}
		}, errKey},
		{"no key", without(head, "jwk"), errKey},
		{"a key that is none", set(head, "jwk", "key"), errKey},
		{"two keys", set(head, "jwk", []any{jwkOf(ecKey.Public()), jwkOf(ecKey.Public())}), errKey},
		{"crit", set(head, "crit", []string{"b64"}), errCritical},
		{"crit null", set(head, "crit", nil), errCritical},
		{"another key than signed", set(head, "jwk", jwkOf(other.Public())), errSignature},
		{"signed by another key", func(p *parts) { p.sign = es256(other) }, errSignature},
		{"a signature of ASN.1", func(p *parts) {
			p.sign = func(in string) []byte { return must(ecdsa.SignASN1(rand.Reader, ecKey, sum(in))) }
		}, errSignature},
		{"a signature of zeros", func(p *parts) { p.sign = func(string) []byte { return make([]byte, 64) } }, errSignature},
		{"no signature", func(p *parts) { p.sign = func(string) []byte { return nil } }, errSignature},
		{"Ed25519: signed by another", func(p *parts) { *p = *goodEd(); p.sign = es256(ecKey) }, errSignature},

		{"another method", set(body, "htm", "POST"), errMethod},
		{"the method in small letters", set(body, "htm", "get"), errMethod},
		{"no method", without(body, "htm"), errClaims},
		{"another path", set(body, "htu", "https://api.example.com/photos/2"), errURL},
		{"another host", set(body, "htu", "https://evil.example.com/photos/1"), errURL},
		{"another scheme", set(body, "htu", "http://api.example.com/photos/1"), errURL},
		{"another port", set(body, "htu", "https://api.example.com:8443/photos/1"), errURL},
		{"a path alone", set(body, "htu", "/photos/1"), errURL},
		{"no URL", without(body, "htu"), errClaims},
		{"a second too old", set(body, "iat", t0.Add(-Window-time.Second).Unix()), errOld},
		{"a second too early", set(body, "iat", t0.Add(Skew+time.Second).Unix()), errFuture},
		{"iat in milliseconds", set(body, "iat", t0.UnixMilli()), errFuture},
		{"iat a string", set(body, "iat", fmt.Sprint(t0.Unix())), errClaims},
		{"no iat", without(body, "iat"), errClaims},
		{"another token", set(body, "ath", Hash("another token")), errToken},
		{"the token itself", set(body, "ath", "the token"), errToken},
		{"its hash in the other alphabet", set(body, "ath", base64.StdEncoding.EncodeToString(sum("the token"))), errToken},
		{"no ath", without(body, "ath"), errClaims},
		{"no jti", without(body, "jti"), errID},
		{"an empty jti", set(body, "jti", ""), errID},
		{"a jti too long", set(body, "jti", strings.Repeat("x", 257)), errID},
		{"a jti that is no text", set(body, "jti", 7), errClaims},
		{"too long", set(body, "more", strings.Repeat("x", MaxLen)), errSize},
	} {
		p := good()
		row.change(p)
		text := jws(p.header, p.claims, p.sign)
		v := fresh()
		for range 2 { // the second time its key may be known
			got, err := v.Check(text, request)
			if !errors.Is(err, row.want) || (err == nil) != (got.Key != "") {
				t.Errorf("%s: %v, want %v; key %q", row.name, err, row.want, got.Key)
			}
		}
	}
}

// What is no JWS, and what JSON can say twice.
func TestCheckStrict(t *testing.T) {
	p := good()
	text := jws(p.header, p.claims, p.sign)
	head, rest, _ := strings.Cut(text, ".")
	body, sig, _ := strings.Cut(rest, ".")
	signed := func(header, payload string) string {
		input := encode([]byte(header)) + "." + encode([]byte(payload))
		return input + "." + encode(es256(ecKey)(input))
	}
	enclosed := func(payload string) string { // signed as it is written
		return head + "." + payload + "." + encode(es256(ecKey)(head+"."+payload))
	}
	h, b := string(must(json.Marshal(p.header))), string(must(json.Marshal(p.claims)))
	for name, row := range map[string]struct {
		text string
		want error
	}{
		"empty": {"", errForm}, "two parts": {head + "." + body, errForm}, "four parts": {text + "." + sig, errForm},
		"padded": {head + "." + body + "." + sig + "==", errForm}, "a line end": {head + "." + body + "." + sig + "\n", errForm},
		"a line end within": {head[:4] + "\r\n" + head[4:] + "." + body + "." + sig, errForm},
		"JSON form":         {`{"protected":"` + head + `","payload":"` + body + `","signature":"` + sig + `"}`, errForm},
		"two in one":        {text + ", " + text, errForm}, "in quotes": {`"` + text + `"`, errForm},
		"typ twice":      {signed(`{"typ":"dpop+jwt",`+h[1:], b), errHeader},
		"jwk twice":      {signed(strings.Replace(h, `"jwk":`, `"jwk":{},"jwk":`, 1), b), errHeader},
		"htm twice":      {signed(h, `{"htm":"POST",`+b[1:]), errClaims},
		"htu in capital": {signed(h, strings.Replace(b, `"htu"`, `"HTU"`, 1)), errClaims},
		"more behind":    {signed(h, b+"{}"), errClaims},
		"header no JSON": {signed("x", b), errHeader}, "header an array": {signed("["+h+"]", b), errHeader},
		"claims null": {signed(h, "null"), errClaims}, "jwk null": {signed(strings.Replace(h, `"jwk":{`, `"jwk":null,"x":{`, 1), b), errKey},
		"claims padded": {enclosed(body + "="), errForm}, "a line end in the claims": {enclosed(body[:4] + "\n" + body[4:]), errForm},
	} {
		if _, err := fresh().Check(row.text, request); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
	if _, err := fresh().Check(text, Request{Method: "GET", Token: "the token", Now: t0}); !errors.Is(err, errNoURL) {
		t.Errorf("without a URL: %v", err)
	}
}

// One URL, however it is spelt, and no other one.
func TestSameURL(t *testing.T) {
	const base = "https://api.example.com/photos/1"
	for _, row := range []struct {
		a, b string
		same bool
	}{
		{base, base, true},
		{base, base + "?size=big", true},
		{base + "?other=query#fragment", base, true},
		{base, "HTTPS://API.Example.COM/photos/1", true},
		{base, "https://api.example.com:443/photos/1", true},
		{"http://h:80/", "http://h", true},
		{"https://h/a%20b", "https://h/a b", true},
		{"https://h/%7Euser/%e2%82%ac", "https://h/~user/%E2%82%AC", true},
		{"https://h/a%2Fb", "https://h/a%2fb", true},
		{"https://h/%61%7A%41%5a%30%39%2D%2e%5f%7E", "https://h/azAZ09-._~", true},
		{"https://h:", "https://h/", true},
		{"https://[2001:DB8::1]/x", "https://[2001:db8::1]:443/x", true},

		{base, base + "/", false},
		{base, "https://api.example.com/Photos/1", false},
		{base, "http://api.example.com/photos/1", false},
		{base, "https://api.example.com:444/photos/1", false},
		{"http://h:443/", "http://h/", false},
		{"https://h/a%2Fb", "https://h/a/b", false},
		{"https://h/a%2Fb", "https://h/ab", false},
		{"https://h/a%3Db%40c%3a", "https://h/a=b@c:", false},
		{"https://h/a/./b", "https://h/a/%2e/b", false},
		{"https://h/100%", "https://h/100%?", false},
		{"https:h/", "https:h/?", false},
		{"https://h/a/../b", "https://h/b", false},
		{"https://h/a/%2e%2e/b", "https://h/a/../b", false},
		{"https://h/a//b", "https://h/a/b", false},
		{"https://user@h/", "https://h/", false},
		{"https://user@h/", "https://user@h/", false},
		{"https://h\\@evil/", "https://h\\@evil/", false},
		{"ftp://h/", "ftp://h/", true}, // the very same text: nobody asks for one
		{"ftp://h/", "FTP://h/", false},
		{"/photos", "/photos", true},
		{"//h/photos", "https://h/photos", false},
		{"https://h/%zz", "https://h/%ZZ", false},
		{"https:", "https://", false},
	} {
		if sameURL(row.a, row.b) != row.same || sameURL(row.b, row.a) != row.same {
			t.Errorf("%q and %q: want the same: %v", row.a, row.b, row.same)
		}
	}
}

// What Key makes is good for its request, and go-jose verifies it too.
func TestKey(t *testing.T) {
	for name, signer := range map[string]crypto.Signer{"P-256": ecKey, "Ed25519": edKey} {
		k := must(NewKey(signer))
		text := must(k.Prove("GET", request.URL+"?x=y#z", request.Token, t0))
		proof, err := fresh().Check(text, request)
		if err != nil || proof.Key != k.Thumbprint() || proof.IssuedAt != t0.Unix() {
			t.Errorf("%s: %+v, %v", name, proof, err)
		}
		parsed := must(jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA}))
		if _, err := parsed.Verify(signer.Public()); err != nil {
			t.Errorf("%s: go-jose: %v", name, err)
		}
		if again := must(k.Prove("GET", request.URL, request.Token, t0)); again == text {
			t.Errorf("%s: the same proof twice", name)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			if got := fmt.Sprintf(verb, k) + fmt.Sprintf(verb, *k); got != "[redacted][redacted]" {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
	// RFC 9449 section 4.1's key has section 6.1's thumbprint.
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON([]byte(`{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}`)); err != nil {
		t.Fatal(err)
	}
	if got := encode(must(jwk.Thumbprint(crypto.SHA256))); got != "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" {
		t.Error(got)
	}
	for _, url := range []string{"", "/photos/1", "ftp://api.example.com/", "https://user@api.example.com/", "https://api.example.com/a/../b"} {
		if proof, err := must(NewKey(edKey)).Prove("GET", url, request.Token, t0); err == nil || proof != "" {
			t.Errorf("a proof for %q was made", url)
		}
	}
	if _, err := NewKey(must(rsa.GenerateKey(rand.Reader, 2048))); err == nil {
		t.Error("an RSA key was taken")
	}
	if _, err := NewKey(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))); err == nil {
		t.Error("a P-384 key was taken")
	}
}

// The proof of RFC 9449 section 7.1, to the byte.
func TestRFCExample(t *testing.T) {
	const proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19" +
		".eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9" +
		".2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	r := Request{Method: "GET", URL: "https://resource.example.org/protectedresource", Token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU", Now: time.Unix(1562262618, 0)}
	got, err := fresh().Check(proof, r)
	if err != nil || got.Key != "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" {
		t.Errorf("%+v, %v", got, err)
	}
}

func bind(v *Verifier, k *Key, now time.Time) *Binding {
	r := request
	r.Now = now
	return v.Bind(&Presented{Proofs: []string{must(k.Prove("GET", r.URL, r.Token, now))}, URL: r.URL}, r)
}

func proven(t *testing.T, b *Binding) *Binding {
	t.Helper()
	if _, err := b.Prove(); err != nil {
		t.Fatal(err)
	}
	return b
}

// A proof is used once, by an acceptance only.
func TestUse(t *testing.T) {
	v, k := fresh(), must(NewKey(edKey))
	b := bind(v, k, t0)
	if err := b.Use(); err != nil || v.seen.count != 0 {
		t.Errorf("nobody asked for the proof: %v, %d used", err, v.seen.count)
	}
	for range 3 {
		proven(t, b) // looking at it does not use it
	}
	if err := b.Use(); err != nil {
		t.Fatal(err)
	}
	if err := b.Use(); !errors.Is(err, ErrReplayed) {
		t.Errorf("again: %v", err)
	}
	b.Release()
	if err := b.Use(); err != nil {
		t.Errorf("after it was given back: %v", err)
	}
	// The same jti by another key, or another jti, is another proof.
	p := good()
	mine := must(v.Check(jws(p.header, p.claims, p.sign), request))
	p = goodEd()
	his := must(v.Check(jws(p.header, p.claims, p.sign), request))
	if v.seen.use(&mine, t0) != nil || v.seen.use(&his, t0) != nil {
		t.Error("somebody else's jti was used up")
	}
	// The same jti in a proof of another second is a proof of its own: it has
	// another iat, and a thief cannot make it.
	p = good()
	p.sign = es256(ecKey) // signed anew: another text, the same proof
	again := must(v.Check(jws(p.header, p.claims, p.sign), request))
	if err := v.seen.use(&again, t0); !errors.Is(err, ErrReplayed) {
		t.Errorf("signed anew: %v", err)
	}
	for name, b := range map[string]*Binding{"none": v.Bind(nil, request), "no header": v.Bind(&Presented{URL: request.URL}, request)} {
		if _, err := b.Prove(); !errors.Is(err, errNone) || b.Use() != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.Release()
	}
	two := v.Bind(&Presented{Proofs: []string{"a", "a"}, URL: request.URL}, request)
	if _, err := two.Prove(); !errors.Is(err, errSeveral) {
		t.Errorf("two: %v", err)
	}
}

// What could have been used before this process began is not accepted, nor what
// is forgotten when the clock goes back.
func TestUnknownPast(t *testing.T) {
	k := must(NewKey(edKey))
	v := NewVerifier(t0)
	use := func(iat, now time.Time) error {
		r := request
		r.Now = now
		b := v.Bind(&Presented{Proofs: []string{must(k.Prove("GET", r.URL, r.Token, iat))}, URL: r.URL}, r)
		return proven(t, b).Use()
	}
	for _, row := range []struct {
		name     string
		iat, now time.Duration
		want     error
	}{
		{"made before it began", -time.Second, 0, ErrCannotKnow},
		{"made before it began, and shown much later", -time.Second, 50 * time.Second, ErrCannotKnow},
		{"made as it began", 0, time.Second, ErrCannotKnow},
		{"what the process before would have taken", Skew, Skew, ErrCannotKnow},
		{"what it would not", Skew + time.Second, Skew, nil},
		{"later", time.Minute, time.Minute, nil},
		{"an hour later", time.Hour, time.Hour, nil},
		{"the clock goes back: what is forgotten", time.Minute, time.Minute, ErrCannotKnow},
		{"within what is remembered", time.Hour - 30*time.Second, time.Hour, nil},
	} {
		if err := use(t0.Add(row.iat), t0.Add(row.now)); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
}

// A memory that is full refuses what is new, forgets nothing that is still good,
// and goes on when that is over.
func TestFull(t *testing.T) {
	v := newVerifier(t0.Add(-time.Minute), 10)
	k := must(NewKey(edKey))
	var used []*Binding
	for range 10 {
		b := proven(t, bind(v, k, t0))
		if err := b.Use(); err != nil {
			t.Fatal(err)
		}
		used = append(used, b)
	}
	for range 3 {
		if err := proven(t, bind(v, k, t0)).Use(); !errors.Is(err, ErrCannotKnow) {
			t.Errorf("full: %v", err)
		}
	}
	for _, b := range used {
		if err := b.Use(); !errors.Is(err, ErrReplayed) {
			t.Errorf("used when it was full: %v", err)
		}
	}
	for range 3 { // one that is given back makes room for one
		used[0].Release()
	}
	if err := used[0].Use(); err != nil {
		t.Errorf("in the room that was made: %v", err)
	}
	if err := proven(t, bind(v, k, t0)).Use(); !errors.Is(err, ErrCannotKnow) {
		t.Errorf("full again: %v", err)
	}
	late := t0.Add(Window)
	if err := proven(t, bind(v, k, late)).Use(); !errors.Is(err, ErrCannotKnow) {
		t.Errorf("the others are still good: %v", err)
	}
	late = late.Add(time.Second)
	if err := proven(t, bind(v, k, late)).Use(); err != nil || v.seen.count != 1 || len(v.seen.seconds) != 1 {
		t.Errorf("when they are over: %v, %d remembered of %d seconds", err, v.seen.count, len(v.seen.seconds))
	}
}

// Of many who use one proof at once, one does.
func TestUseConcurrently(t *testing.T) {
	v, k := fresh(), must(NewKey(ecKey))
	text := must(k.Prove("GET", request.URL, request.Token, t0))
	var did atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			b := v.Bind(&Presented{Proofs: []string{text}, URL: request.URL}, request)
			if _, err := b.Prove(); err != nil {
				t.Error(err)
			}
			switch err := b.Use(); {
			case err == nil:
				did.Add(1)
			case !errors.Is(err, ErrReplayed):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if did.Load() != 1 {
		t.Errorf("%d did", did.Load())
	}
}

// Headers that are remembered are few, whatever is sent, and only of good proofs.
func TestKeysAreBounded(t *testing.T) {
	var k keys
	k.known = map[string]*key{}
	for i := range mostKeys + 100 {
		k.keep(fmt.Sprint(i), new(key))
	}
	if len(k.known) != mostKeys {
		t.Errorf("%d", len(k.known))
	}
	k.keep(strings.Repeat("x", longestHeader+1), new(key))
	if k.get(strings.Repeat("x", longestHeader+1)) != nil {
		t.Error("a header of any length is remembered")
	}
	v := fresh()
	p := good()
	p.sign = func(string) []byte { return make([]byte, 64) }
	if _, err := v.Check(jws(p.header, p.claims, p.sign), request); err == nil || len(v.keys.known) != 0 {
		t.Errorf("a bad proof's header is remembered: %v", err)
	}
}

// FuzzCheck: whatever is sent, nothing breaks, and nothing that this package did
// not see signed is good.
func FuzzCheck(f *testing.F) {
	p, q := good(), goodEd()
	seeds := []string{"", "..", "a.b.c", jws(p.header, p.claims, p.sign), jws(q.header, q.claims, q.sign)}
	for _, s := range seeds {
		f.Add(s)
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	v := fresh()
	f.Fuzz(func(t *testing.T, text string) {
		got, err := v.Check(text, request)
		if (err == nil) != (got.Key != "") {
			t.Fatalf("%q: %+v, %v", text, got, err)
		}
		if err == nil {
			parsed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
			if err != nil {
				t.Fatalf("%q: go-jose does not read it: %v", text, err)
			}
			if _, err := parsed.Verify(parsed.Signatures[0].Header.JSONWebKey); err != nil {
				t.Fatalf("%q: go-jose: %v", text, err)
			}
		}
	})
}
