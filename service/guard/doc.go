// Package guard is what a resource server imports: it verifies tokens on the
// spot, in microseconds, without the authority's keys and without asking it for
// each request, and knows within a stated bound what is revoked.
//
// Why it can be trusted: the verdict is the authority's own code (verify), walked
// from a prefix instead of a root key. A prefix is the signature right after
// the audience caveat, which the authority gives only to a credential that
// serves that one audience. A token whose identifier and caveats up to there are
// byte-equal to those that the authority saw has the same signature at that
// point, so whatever follows is checked as strictly as the authority would. What
// is revoked comes by the feed, in the order in which it was committed; a guard
// that cannot know it asks, and refuses when it cannot ask.
//
// What a prefix does not protect from: this server itself. Whoever has the
// prefix can make tokens that begin with it, so it could act as that user at
// this audience until the window that the prefix covers has passed. It could do
// so with the tokens it is sent anyway. It can never speak for another audience
// or widen what stands before the audience caveat.
//
// Nothing that a stranger sends changes what is known: flights and refusals are
// keyed by the whole token, and a prefix is learned from an answer about a token
// that the authority found good, never from a token.
//
// What it leaves to others: the meaning of the server's own x- caveats (given as
// a caveats.Language), transport security, and what an accepted user may do.
package guard
