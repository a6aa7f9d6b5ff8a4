package peers

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"gopkg.in/macaroon.v2"
)

// BenchmarkVerify compares verifications of one token on one core: ours, from
// text to verdict, against macaroon.v2 (the signature alone, from binary) and
// JWTs that tell the same facts.
func BenchmarkVerify(b *testing.B) {
	c := newCapability(b)
	secret := make([]byte, 32)
	rand.Read(secret)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(b, err)
	peers := []way{
		macaroonV2(b, c),
		jsonWebToken(b, c, "jwt-HS256", jwt.SigningMethodHS256, secret, secret),
		jsonWebToken(b, c, "jwt-EdDSA", jwt.SigningMethodEdDSA, private, public),
	}
	for _, ours := range c.ways {
		for _, peer := range peers {
			b.Run(ours.name+"/against="+peer.name, func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the garbage of each is collected on its own time
				inTurns(b, ours.contender(b), peer.contender(b), promised[ours.name][peer.name])
			})
		}
	}
}

// way is a way to verify a token.
type way struct {
	name            string
	genuine, forged func() error
}

// promised is how many times as fast as a peer we are to be.
var promised = map[string]map[string]float64{
	"authority": {"macaroon.v2": 1 / 0.45},
	"edge":      {"macaroon.v2": 1 / 0.30, "jwt-HS256": 3, "jwt-EdDSA": 30},
}

// wayOf verifies the text, and one with another signature.
func wayOf(name string, verify func(string) error, text string) way {
	other := forge(text)
	return way{name, func() error { return verify(text) }, func() error { return verify(other) }}
}

// forge changes a character of the signature, with which a token's text ends,
// and not the last one: some of that one's bits mean nothing.
func forge(text string) string {
	b := []byte(text)
	if i := len(b) - 10; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}

// contender verifies five hundred times a slice. What takes a forged token does
// not compete.
func (w way) contender(b *testing.B) contender {
	b.Helper()
	if w.forged() == nil {
		b.Fatalf("%s takes a forged token", w.name)
	}
	return contender{w.name, func(b *testing.B) float64 {
		const times = 500
		begin := time.Now()
		for range times {
			if err := w.genuine(); err != nil {
				b.Fatalf("%s: %v", w.name, err)
			}
		}
		return times / time.Since(begin).Seconds()
	}}
}

// macaroonV2 decodes the same token and checks its chain. It has the root key at
// hand, and is asked neither for base64 nor for what a caveat means.
func macaroonV2(b *testing.B, c capability) way {
	b.Helper()
	verify := func(data []byte) error {
		var m macaroon.Macaroon
		if err := m.UnmarshalBinary(data); err != nil {
			return err
		}
		conditions, err := m.VerifySignature(c.key[:], nil)
		if err == nil && len(conditions) != 7 {
			err = errors.New("not seven caveats")
		}
		return err
	}
	decode := func(text string) []byte {
		data, err := base64.RawURLEncoding.DecodeString(text)
		must(b, err)
		return data
	}
	data, other := decode(c.text), decode(forge(c.text))
	return way{"macaroon.v2", func() error { return verify(data) }, func() error { return verify(other) }}
}

// claims tell what the capability's identifier, location and caveats tell.
type claims struct {
	jwt.RegisteredClaims                  // iss, jti, sub, exp, aud
	Device               string           `json:"device"`
	Window               *jwt.NumericDate `json:"window"`
	Minute               *jwt.NumericDate `json:"minute"`
	Path                 string           `json:"path"`
}

// jsonWebToken is a JWT, verified with its algorithm pinned, its claims decoded
// and each of them checked. Its key is at hand.
func jsonWebToken(b *testing.B, c capability, name string, method jwt.SigningMethod, signs, verifies any) way {
	b.Helper()
	text, err := jwt.NewWithClaims(method, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, ID: c.identifier, Subject: user,
			ExpiresAt: jwt.NewNumericDate(till), Audience: jwt.ClaimStrings{"photos"},
		},
		Device: device, Window: jwt.NewNumericDate(window), Minute: jwt.NewNumericDate(minute), Path: "/photos/1",
	}).SignedString(signs)
	must(b, err)
	parser := jwt.NewParser(jwt.WithValidMethods([]string{method.Alg()}), jwt.WithIssuer(issuer), jwt.WithAudience("photos"),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(func() time.Time { return now }))
	key := func(*jwt.Token) (any, error) { return verifies, nil }
	return wayOf(name, func(text string) error {
		var got claims
		if _, err := parser.ParseWithClaims(text, &got, key); err != nil {
			return err
		}
		if got.Subject != user || got.Device != device || got.Path != "/photos/1" ||
			got.Window == nil || !now.Before(got.Window.Time) || got.Minute == nil || !now.Before(got.Minute.Time) {
			return errors.New("a claim does not hold")
		}
		return nil
	}, text)
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
