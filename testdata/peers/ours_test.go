package peers

import (
	"errors"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/keyring"
	"macaroond/service/revocation"
	"macaroond/service/token"
	"macaroond/service/verify"
	"macaroond/storage"
)

// What touches the product's packages stands in this file alone.

// capability is a token of seven caveats with its root key, and the ways in
// which we verify it.
type capability struct {
	key        [32]byte
	identifier string
	text       string
	ways       []way
}

// The facts that the capability and its peers tell.
const (
	issuer = "https://auth.example.com"
	user   = "usr_AliceAliceAlice1"
	device = "dev_PhonePhonePhone1"
)

var (
	now    = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	till   = now.AddDate(0, 1, 0)
	window = now.Add(2 * time.Hour)
	minute = now.Add(time.Minute)
)

func newCapability(b *testing.B) capability {
	b.Helper()
	keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	must(b, err)
	box, err := keys.Seal(1)
	must(b, err)
	ring := keyring.New(keys)
	must(b, ring.Load([]storage.Epoch{{Number: 1, Sealed: box, State: storage.EpochSigning}}))
	id := token.Identifier{Epoch: 1, RootKeyID: token.NewRootKeyID()}
	key, ok := ring.RootKey(id)
	if !ok {
		b.Fatal("no root key")
	}
	root, err := token.Mint(&key, issuer, id, token.Identity{User: user, Device: device, Expires: till})
	must(b, err)
	text := narrow(b, root.Text(), window, minute)
	list := revocation.New()
	list.SetAsOf(now)
	request := caveats.Request{Time: now, Audience: "photos", Method: "GET", Target: "/photos/1"}
	judged := func(verdict *verify.Verdict) error {
		if !verdict.Allowed() || verdict.Identity.User != user {
			return errors.New(verdict.Code)
		}
		return nil
	}
	// The authority knows a token by nothing but its keyring and its list.
	var atAuthority verify.Verdict
	authority := verify.Verifier{Keys: ring, Revoked: list, MaxStaleness: 30 * time.Second}
	byAuthority := func(text string) error {
		authority.Judge(&verify.Question{Token: text, Request: request}, &atAuthority)
		return judged(&atAuthority)
	}
	// An edge knows the chain up to the audience: that, and no root key.
	parsed, err := token.Parse(text)
	must(b, err)
	chain, ok := parsed.Verify(&key)
	if !ok {
		b.Fatal("the chain does not hold")
	}
	const n = token.MintCaveats + 2
	prefix := token.Anchor{Caveats: n, Signature: *chain.Signature(n), Fingerprints: []token.Fingerprint{chain.Fingerprint(n - 1), chain.Fingerprint(n)}}
	covered, ok := verify.Cover(chain, n, request.Audience)
	if !ok {
		b.Fatal("the chain has no identity")
	}
	begin := string(parsed.UnverifiedBegin(n))
	var atEdge verify.Verdict
	edge := verify.Verifier{Revoked: list, MaxStaleness: 30 * time.Second}
	byEdge := func(text string) error {
		if !atEdge.Read(text) {
			return errors.New(atEdge.Code)
		}
		if t := atEdge.Unverified(); t.UnverifiedLen() < n || string(t.UnverifiedBegin(n)) != begin {
			return errors.New("not known")
		}
		edge.JudgeFrom(&verify.Question{Request: request}, &prefix, covered, &atEdge)
		return judged(&atEdge)
	}
	return capability{
		key: key, identifier: id.String(), text: text,
		ways: []way{wayOf("authority", byAuthority, text), wayOf("edge", byEdge, text)},
	}
}

// narrow adds the four holder caveats: a window, an audience, a short time, a path.
func narrow(b *testing.B, root string, window, short time.Time) string {
	b.Helper()
	parsed, err := token.Parse(root)
	must(b, err)
	narrowed, err := token.Attenuate(parsed, caveats.TimeBefore(window).String(),
		"audience photos", caveats.TimeBefore(short).String(), "path /photos/1")
	must(b, err)
	return narrowed.Text()
}
