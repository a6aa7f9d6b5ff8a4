//go:build !race

package token_test

// slower is how much longer anything takes under the race detector.
const slower = 1
