// Package peers compares macaroond with what one would otherwise take, side by
// side in one run: verifying a token with macaroon.v2 and golang-jwt, asking
// over HTTP with ory/fosite and oidc-provider. It is a module of its own, so
// that the product depends on none of them. docs/benchmarks.md says what is
// compared and why that is fair.
package peers
