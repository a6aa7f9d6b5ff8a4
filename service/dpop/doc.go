// Package dpop checks and makes DPoP proofs (RFC 9449): that whoever sends a
// request has a certain key, for this method, this URL and this token, now, and
// not before.
//
// Why it can be trusted: a proof is refused unless every member that section 4.3
// of the RFC names is there and right. The algorithm is ES256 or EdDSA and must
// fit the key, so nothing signs with a public key as if it were a secret, or
// with nothing; a private key in a header is refused; size is capped before
// anything is parsed, and JSON is read strictly. A proof is good a single time:
// its jti is remembered until its time is over, in a memory that is bounded and
// refuses when it is full, for forgetting one would let it in again. What a
// former process had seen is not known, so proofs that it could have seen are
// refused.
//
// What it leaves to others: whether the token is bound to the key (package
// caveats), which URL the request was for (whoever took the request), and when a
// jti counts as used: [Binding.Use] is for the last step of an acceptance.
package dpop
