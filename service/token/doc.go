// Package token is the macaroon itself: its one strict text form, minting,
// attenuation, and the walk along its chain of HMACs.
//
// Why it can be trusted: the construction is libmacaroons' version 2, made by
// gopkg.in/macaroon.v2 (this package is its only importer) and held against
// other implementations by the vectors in testdata. Decoding is our own and
// strict, because the library's is not: it takes trailing bytes, over-long
// varints, four base64 alphabets and JSON keys in any case. A token has one
// spelling, so nobody can vary its bytes to slip past a cache or a log. What
// has been parsed is a [Token], which is nobody's word yet; only
// the walk from a root key or another [Anchor] makes it a [Chain], and only a
// Chain has an [Identity].
//
// What it leaves to others: where root keys come from (keyring), what is
// revoked (revocation), and whether the caveats hold (caveats, by way of
// verify).
package token
