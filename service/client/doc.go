// Package client is the Go client of macaroond's HTTP interface, and the
// holder's part of a token's life that needs no server: narrowing it.
//
// Why it can be trusted with a token: a token or password travels only in the
// Authorization header or in the body of a request to the one server that the
// [Client] was made for. It is never part of a URL or of an error; a redirect
// is an error and not another address to send it to; plain HTTP to another
// machine has to be asked for by name. What comes back is bounded in size and
// in time, and is taken for an answer of macaroond's only when it looks like
// one, so a captive portal's page is no success.
//
// For requests to resource servers there is [Transport]. The token that it is
// given stays in the process; what it sends is narrowed for each request, and
// goes only to the origins that it was made for.
//
// What it leaves to others: storing tokens, retrying (a [RetryAfter] says when
// that makes sense; only a [Session] tries to renew again by itself), and knowing
// what time it is: [Narrow] is told, and only Transport finds out, from the
// answers that it sees.
//
// Errors. A refusal by the server is an [*api.Problem], or an [*OAuthError]
// from the OAuth endpoints; an answer that is not macaroond's is a
// [*StatusError]; no answer is [ErrUnreachable]. All by errors.As and
// errors.Is.
package client
