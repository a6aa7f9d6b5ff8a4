//go:build !race

package guard_test

const raceOn = false
