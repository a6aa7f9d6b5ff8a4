//go:build race

package guard_test

// raceOn: everything takes many times as long.
const raceOn = true
