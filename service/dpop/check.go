package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// Window is how old a proof may be.
	Window = 60 * time.Second
	// Skew is how far a client's clock may be ahead.
	Skew = 5 * time.Second
	// MaxLen is the length limit of a proof, in bytes.
	MaxLen = 8 << 10
	// maxID is the length limit of a jti, in bytes.
	maxID = 256
)

// Request is what a proof must be for.
type Request struct {
	Method string
	URL    string // absolute, as the client asked for it; its query and fragment do not count
	Token  string // as it was presented
	Now    time.Time
}

// Proof is what a good one says.
type Proof struct {
	Key      string // the RFC 7638 thumbprint of the key that signed it
	IssuedAt int64  // Unix seconds
	id       [32]byte
}

// What is wrong with a proof. The texts repeat nothing of it.
var (
	errSize      = errors.New("the DPoP proof is longer than 8 KiB")
	errForm      = errors.New("the DPoP proof is not a compact JWS in base64url")
	errHeader    = errors.New("the DPoP proof's header is not the JSON of one")
	errType      = errors.New("the DPoP proof's typ is not dpop+jwt")
	errCritical  = errors.New("the DPoP proof has a crit that nobody here understands")
	errAlgorithm = errors.New("the DPoP proof is not signed with ES256 or EdDSA, or its key is of another kind")
	errPrivate   = errors.New("the DPoP proof has a private key in it: make another key, this one is known")
	errKey       = errors.New("the DPoP proof's jwk is not a public key of P-256 or Ed25519")
	errClaims    = errors.New("the DPoP proof's claims are not the JSON of jti, htm, htu, iat and ath")
	errID        = errors.New("the DPoP proof's jti has not 1 to 256 bytes")
	errMethod    = errors.New("the DPoP proof is for another method")
	errURL       = errors.New("the DPoP proof is for another URL")
	errNoURL     = errors.New("the verifier does not know the request's URL")
	errOld       = errors.New("the DPoP proof is too old")
	errFuture    = errors.New("the DPoP proof is from the future")
	errToken     = errors.New("the DPoP proof is for another token")
	errSignature = errors.New("the DPoP proof's signature does not match its key")
)

type header struct {
	Type     string         `json:"typ"`
	Alg      string         `json:"alg"`
	JWK      jsontext.Value `json:"jwk"`
	Critical jsontext.Value `json:"crit,omitzero"`
}

type claims struct {
	ID       string  `json:"jti"`
	Method   string  `json:"htm"`
	URL      string  `json:"htu"`
	IssuedAt float64 `json:"iat"`
	Token    string  `json:"ath"`
}

// key is a proof's header, understood.
type key struct {
	ec         *ecdsa.PublicKey  // or
	ed         ed25519.PublicKey // the other is nil
	thumbprint string
}

// keys are the headers of proofs whose signature was good: a client sends the
// same one each time, and to understand it costs a third of what the signature
// does.
type keys struct {
	mu    sync.RWMutex
	known map[string]*key
}

const (
	mostKeys      = 4096
	longestHeader = 1 << 10 // that is remembered
)

func (k *keys) get(header string) *key {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.known[header]
}

// keep remembers a key; when there are too many any other one goes.
func (k *keys) keep(header string, key *key) {
	if len(header) > longestHeader {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) >= mostKeys {
		for other := range k.known {
			delete(k.known, other)
			break
		}
	}
	k.known[strings.Clone(header)] = key
}

// check is section 4.3 of RFC 9449 but for the jti's novelty and the key's being
// the token's. The signature comes last: it costs the most.
func (k *keys) check(proof string, r *Request) (Proof, error) {
	if len(proof) > MaxLen {
		return Proof{}, errSize
	}
	head, rest, ok := strings.Cut(proof, ".")
	body, sig, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return Proof{}, errForm
	}
	known := k.get(head)
	by := known
	if by == nil {
		var err error
		if by, err = understand(head); err != nil {
			return Proof{}, err
		}
	}
	c, err := r.claims(body)
	if err != nil {
		return Proof{}, err
	}
	signature, ok := decode(sig)
	if !ok {
		return Proof{}, errForm
	}
	if !by.signed(proof[:len(head)+1+len(body)], signature) {
		return Proof{}, errSignature
	}
	if known == nil {
		k.keep(head, by)
	}
	return Proof{Key: by.thumbprint, IssuedAt: int64(c.IssuedAt), id: idOf(by.thumbprint, c.ID)}, nil
}

// idOf names a jti of a key: nobody uses up another one's. The thumbprint has a
// fixed length.
func idOf(thumbprint, jti string) [32]byte {
	var room [43 + maxID]byte
	return sha256.Sum256(append(append(room[:0], thumbprint...), jti...))
}

// decode is strict base64url. The library's skips line ends.
func decode(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil
}

// understand reads a header. The library gets the public members of the key and
// no others: it would follow what certificates and private keys say.
func understand(text string) (*key, error) {
	raw, ok := decode(text)
	if !ok {
		return nil, errForm
	}
	var h header
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, errHeader
	}
	switch {
	case h.Type != "dpop+jwt":
		return nil, errType
	case h.Critical != nil:
		return nil, errCritical
	case h.Alg != "ES256" && h.Alg != "EdDSA":
		return nil, errAlgorithm
	}
	var members map[string]jsontext.Value
	if json.Unmarshal(h.JWK, &members) != nil {
		return nil, errKey
	}
	for _, private := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth"} {
		if _, there := members[private]; there {
			return nil, errPrivate
		}
	}
	public := map[string]jsontext.Value{}
	for _, name := range []string{"kty", "crv", "x", "y"} {
		if v, there := members[name]; there {
			public[name] = v
		}
	}
	b, err := json.Marshal(public)
	if err != nil {
		return nil, errKey
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(b); err != nil || !jwk.Valid() || !jwk.IsPublic() {
		return nil, errKey
	}
	out := new(key)
	switch pub := jwk.Key.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return nil, errKey
		}
		if h.Alg != "ES256" {
			return nil, errAlgorithm
		}
		out.ec = pub
	case ed25519.PublicKey:
		if h.Alg != "EdDSA" {
			return nil, errAlgorithm
		}
		out.ed = pub
	default:
		return nil, errKey
	}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, errKey
	}
	out.thumbprint = base64.RawURLEncoding.EncodeToString(sum)
	return out, nil
}

// signed checks a signature as JWS writes it (RFC 7518 section 3.4, RFC 8037
// section 3.1).
func (k *key) signed(input string, sig []byte) bool {
	if len(sig) != 64 {
		return false
	}
	if k.ec != nil {
		digest := sha256.Sum256([]byte(input))
		r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
		return ecdsa.Verify(k.ec, digest[:], r, s)
	}
	return ed25519.Verify(k.ed, []byte(input), sig)
}

// claims reads a payload and holds it against the request.
func (r *Request) claims(text string) (claims, error) {
	raw, ok := decode(text)
	if !ok {
		return claims{}, errForm
	}
	var c claims
	if err := json.Unmarshal(raw, &c); err != nil || c.Method == "" || c.URL == "" || c.Token == "" || c.IssuedAt == 0 {
		return c, errClaims
	}
	// Neither comparison is of secrets: both sides are the client's own.
	now := float64(r.Now.Unix())
	switch c.IssuedAt = math.Floor(c.IssuedAt); {
	case c.ID == "" || len(c.ID) > maxID:
		return c, errID
	case c.Method != r.Method:
		return c, errMethod
	case r.URL == "":
		return c, errNoURL
	case !sameURL(c.URL, r.URL):
		return c, errURL
	case c.IssuedAt < now-Window.Seconds():
		return c, errOld
	case c.IssuedAt > now+Skew.Seconds():
		return c, errFuture
	case c.Token != Hash(r.Token):
		return c, errToken
	}
	return c, nil
}

// Hash is a proof's ath of a token: base64url of its SHA-256.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
