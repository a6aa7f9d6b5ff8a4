// Package httpapi is the authority over HTTP: routes, adapters, one table of
// errors, and the middleware around them. It is the only importer of gin on the
// server side.
//
// Why it can be trusted: whatever takes a body goes through an adapter, one for
// JSON and one for OAuth's forms, which caps and strictly decodes it and writes
// either the answer or an error from the one table. A gateway's question and the
// feed, which is streamed, have none, and refuse by the same table. What
// a client sends is never echoed, logged or redirected to: logs have the
// route, not the path, and no query, header or body. gin's defaults that bite
// are off: no proxy is trusted unless named, nothing is redirected.
//
// What it leaves to others: every decision (service).
package httpapi
