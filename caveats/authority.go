package caveats

import "strings"

// once and sealed are known here, and judged nowhere here: what was used before
// is in the authority's ledger, and what is sealed only its key opens. To this
// package they are well formed and [Unknown], which refuses; a verifier that has
// the ledger or the key parses them and judges them itself.
func checkElsewhere(string, *Request) Outcome { return Unknown }

func whyOnce(string, *Request) string {
	return "whether it was used before is known to the authority only"
}

func whySealed(string, *Request) string { return "what is sealed only the authority can open" }

// thumbprint accepts the SHA-256 thumbprint of a key (RFC 7638) as RFC 9449
// section 6.1 writes it: 43 characters of base64url.
func thumbprint(s string) error {
	if len(s) != 43 || !base64url(s) {
		return flaw("wants a key's thumbprint: 43 characters of base64url")
	}
	return nil
}

// box accepts what is sealed, in its one spelling.
func box(s string) error {
	if !base64url(s) {
		return flaw("wants base64url without padding")
	}
	return nil
}

// base64url reports whether s is the one spelling of some bytes (RFC 4648
// section 5): no padding, no other alphabet, no bits set beyond the last byte.
func base64url(s string) bool {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if s == "" || strings.Trim(s, digits) != "" {
		return false
	}
	last := strings.IndexByte(digits, s[len(s)-1])
	switch len(s) % 4 {
	case 1:
		return false
	case 2:
		return last&0xf == 0
	case 3:
		return last&0x3 == 0
	}
	return true
}

// checkCnf compares two thumbprints, which are public. The proof itself was
// checked by whoever states it as a fact.
func checkCnf(args string, r *Request) Outcome { return heldIf(r.ProofKey == args) }

func whyCnf(args string, r *Request) string {
	if r.ProofKey == "" {
		return "the request has no valid DPoP proof"
	}
	return "the DPoP proof is by the key " + fact(r.ProofKey) + ", not " + args
}
