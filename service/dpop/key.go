package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

// Key makes proofs. The private key stays in the signer, which may be one that
// never gives it away: a keystore's, a security module's.
type Key struct {
	signer     crypto.Signer
	header     string // in base64url
	thumbprint string
	ec         bool
}

// Format keeps the key out of logs, for every verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// NewKey takes a key of P-256 or Ed25519.
func NewKey(signer crypto.Signer) (*Key, error) {
	k := &Key{signer: signer}
	alg := "EdDSA"
	switch pub := signer.Public().(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return nil, errors.New("a DPoP key is of P-256 or Ed25519")
		}
		k.ec, alg = true, "ES256"
	case ed25519.PublicKey:
	default:
		return nil, errors.New("a DPoP key is of P-256 or Ed25519")
	}
	jwk := jose.JSONWebKey{Key: signer.Public()}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	public, err := jwk.MarshalJSON()
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(header{Type: "dpop+jwt", Alg: alg, JWK: public})
	if err != nil {
		return nil, err
	}
	k.thumbprint, k.header = encode(sum), encode(header)
	return k, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Thumbprint is what the caveat cnf names (RFC 7638).
func (k *Key) Thumbprint() string { return k.thumbprint }

// Prove makes a proof for one request with one token, at a time. The URL's query
// and fragment are left out.
func (k *Key) Prove(method, url, token string, now time.Time) (string, error) {
	htu, ok := oneSpelling(url)
	if !ok {
		return "", errors.New("the URL is not one of http or https that a DPoP proof can name")
	}
	body, err := json.Marshal(claims{ID: rand.Text(), Method: method, URL: htu, IssuedAt: float64(now.Unix()), Token: Hash(token)})
	if err != nil {
		return "", err
	}
	input := k.header + "." + encode(body)
	sig, err := k.sign([]byte(input))
	return input + "." + encode(sig), err
}

func (k *Key) sign(input []byte) ([]byte, error) {
	if !k.ec {
		return k.signer.Sign(rand.Reader, input, crypto.Hash(0))
	}
	digest := sha256.Sum256(input)
	der, err := k.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	rs.R.FillBytes(out[:32])
	rs.S.FillBytes(out[32:])
	return out, nil
}
