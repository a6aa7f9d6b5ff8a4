package peers

import (
	"slices"
	"testing"
)

// contender does a slice of work and says how many times a second it did it.
type contender struct {
	name  string
	slice func(b *testing.B) float64
}

// inTurns measures ours and the peer slice by slice, so that a busy machine
// slows both, and compares the medians. A bound of 0 is none; a bound that is
// missed is told and fails nothing, because a machine's mood is no error.
func inTurns(b *testing.B, ours, peer contender, bound float64) {
	b.Helper()
	var our, their []float64
	for b.Loop() {
		our = append(our, ours.slice(b))
		their = append(their, peer.slice(b))
	}
	median := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	times := median(our) / median(their)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(our), "ours/s")
	b.ReportMetric(median(their), "peer/s")
	b.ReportMetric(times, "times-peer")
	if bound > 0 {
		b.ReportMetric(bound, "bound")
		if times < bound {
			b.Logf("NOT MET: %s: %.2f times, at least %g promised", b.Name(), times, bound)
		}
	}
}
