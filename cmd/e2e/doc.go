// Package e2e proves macaroond from the outside: it starts the built command
// and lets other people's software meet it. There is no code here but tests.
//
//   - pymacaroons, js-macaroon and a few lines of plain HMAC narrow a root from a
//     running server, which accepts what they made and refuses what they forged.
//   - nginx and Caddy guard a backend with the configurations of docs/gateways,
//     as they stand there but for addresses.
//   - Sidecars (macaroond edge) follow an authority over a network that is cut,
//     through kills and a restore, and stand behind the same gateways.
//   - The snippets of docs/clients.md and docs/gateways are cut out of the page
//     and run.
//   - The figures of testdata/vectors are computed anew.
//
// What is not on the machine is said loudly, and is a failure when CI=true or
// MACAROOND_REQUIRE_PEERS=1. The npm packages come from testdata/interop
// (npm ci), everything else is Debian's: nginx, caddy, python3-pymacaroons.
package e2e
