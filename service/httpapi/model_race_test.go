//go:build race

package httpapi

import "flag"

// Under the race detector everything takes many times as long: TestModel runs
// fewer checks there, unless the command line says how many.
func init() { flag.Set("rapid.checks", "40") }
