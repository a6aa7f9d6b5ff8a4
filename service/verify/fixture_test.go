package verify_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gopkg.in/macaroon.v2"

	"macaroond/caveats"
	"macaroond/service/keyring"
	"macaroond/service/revocation"
	"macaroond/service/token"
	"macaroond/service/verify"
	"macaroond/storage"
)

const (
	alice     = "usr_AliceAliceAlice1"
	mallory   = "usr_MalloryMallory12"
	phone     = "dev_PhonePhonePhone1"
	staleness = 30 * time.Second
)

var (
	now  = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	till = time.Date(2026, 12, 21, 12, 0, 0, 0, time.UTC)
	id   = token.Identifier{Epoch: 1, RootKeyID: token.RootKeyID{1, 2, 3}}
	mint = []string{"time-before 2026-12-21T12:00:00Z", "user " + alice, "device " + phone}
	ring = newRing()
)

// newRing is a real keyring with epoch 1.
func newRing() *keyring.Keyring {
	keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	if err != nil {
		panic(err)
	}
	box, err := keys.Seal(1)
	ring := keyring.New(keys)
	if err := errors.Join(err, ring.Load([]storage.Epoch{{Number: 1, Sealed: box, State: storage.EpochSigning}})); err != nil {
		panic(err)
	}
	return ring
}

// newVerifier has an empty list that is up to date, and knows x-tenant.
func newVerifier(t testing.TB) *verify.Verifier {
	t.Helper()
	lang, err := caveats.NewLanguage(caveats.Extension{Name: "x-tenant", Check: func(args string, r *caveats.Request) error {
		if r.Extra["tenant"] != args {
			return errors.New("another tenant")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	list := revocation.New()
	list.SetAsOf(now)
	return &verify.Verifier{Keys: ring, Revoked: list, Language: lang, MaxStaleness: staleness}
}

// request is one that every caveat of these tests is about.
func request() caveats.Request {
	return caveats.Request{
		Time: now, Audience: "photos", Method: "GET", Target: "/photos/1",
		Actions: []string{"photos:read"}, Extra: map[string]string{"tenant": "blue"},
	}
}

// library builds a token with macaroon.v2, so that it can hold what neither Mint
// nor Attenuate would write. A text with the prefix "third-party " is that
// third-party caveat.
func library(t testing.TB, texts ...string) *macaroon.Macaroon {
	t.Helper()
	key, ok := ring.RootKey(id)
	if !ok {
		t.Fatal("no key")
	}
	m, err := macaroon.New(key[:], []byte(id.String()), "https://auth.example.com", macaroon.V2)
	for _, text := range texts {
		if third, ok := strings.CutPrefix(text, "third-party "); ok {
			err = errors.Join(err, m.AddThirdPartyCaveat([]byte("shared"), []byte(third), "https://idp.example"))
		} else {
			err = errors.Join(err, m.AddFirstPartyCaveat([]byte(text)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func textOf(t testing.TB, m *macaroon.Macaroon) string {
	t.Helper()
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return encode(b)
}

// tokenWith is alice's token on her phone with these holder caveats.
func tokenWith(t testing.TB, holder ...string) string {
	t.Helper()
	return textOf(t, library(t, append(append([]string(nil), mint...), holder...)...))
}

// ask judges a token by the request.
func ask(v *verify.Verifier, text string) *verify.Verdict {
	return v.Verify(verify.Question{Token: text, Request: request()})
}
