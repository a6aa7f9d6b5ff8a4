//go:build race

package e2e

// raceEnabled: the commands under test are built as the tests are.
const raceEnabled = true
