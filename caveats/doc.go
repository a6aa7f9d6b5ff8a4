// Package caveats is the language of restrictions that macaroond's tokens
// carry: it parses, prints and checks them.
//
// A caveat is one line of text, a name and its arguments, that can only refuse:
//
//	time-before 2026-11-21T23:00:00Z
//	audience photos
//	method GET HEAD
//	path /photos/** /albums/*/cover
//	note for the printer in the hall
//
// Why it can be trusted:
//
//   - A check sees one caveat and the facts of one request, never another
//     caveat. A list holds when each of its caveats holds on its own, so one
//     more caveat cannot turn a refusal into an acceptance, whatever it says and
//     whoever added it.
//   - What is not understood is refused: an unknown name, a wrong argument, a
//     fact that the verifier did not state, an [Outcome] that nobody set (its
//     zero value is [Unknown]), a zero [Caveat]. No check has a default that holds.
//   - There is one spelling. A [Caveat] keeps the very text it was read from, so
//     what is printed is what the token's signature covers; and text that would
//     look like something else on a screen (control characters, line separators,
//     bidirectional controls, doubled spaces) is no caveat.
//   - It is pure. There is no clock, no I/O, no global registry and no other
//     package of this project in it: the time, the address and everything else
//     about the request come in as a [Request], so that authority, edge and tests
//     judge with the same code and the same words.
//
// What it leaves to others: the signature chain, which caveats the authority
// wrote itself (the first three: never read an identity from a [Caveat]),
// revocation, how many caveats a token may carry, and whether the facts in a
// [Request] are true.
//
// To add a built-in caveat, add one row to the table in rules.go. A resource
// server adds its own, under names that begin with "x-", through [NewLanguage].
package caveats
