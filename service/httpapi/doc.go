// Package httpapi is the authority over HTTP: routes, one adapter, one table
// of errors, and the middleware around them. It is the only importer of gin on
// the server side.
//
// Why it can be trusted: every handler goes through the adapter, which caps
// and strictly decodes the body, asks for the credential, and writes either the
// answer or a problem from the one table; there is no other way to answer. What
// a client sends is never echoed, logged or redirected to: logs have the
// route, not the path, and no query, header or body. gin's defaults that bite
// are off: no proxy is trusted unless named, nothing is redirected.
//
// What it leaves to others: every decision (service).
package httpapi
