package token_test

import (
	"testing"

	"macaroond/service/token"
)

// sizes are the bounds on what stands in a header, in characters, for an issuer
// of 24. The epoch is of as many digits as it has after a backup was restored.
var sizes = []struct {
	name    string
	most    int
	caveats []string
}{
	{"root", 260, nil},
	{"narrowed", 420, []string{"time-before 2026-11-21T12:00:00Z", "audience photos", "time-before 2026-11-21T11:01:00Z", "path /photos/**"}},
}

func TestSize(t *testing.T) {
	for _, epoch := range []uint32{7, 1_763_769_600} {
		id := token.Identifier{Epoch: epoch, RootKeyID: keyID}
		root, err := token.Mint(&rootKey, location, id, who)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sizes {
			if n := len(mustAttenuate(t, root, s.caveats...).Text()); n > s.most {
				t.Errorf("%s, epoch %d: %d characters, want at most %d", s.name, epoch, n, s.most)
			}
		}
	}
}

// BenchmarkSize says how long the tokens of TestSize are.
func BenchmarkSize(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			var text string
			for b.Loop() {
				text = mustMint(b, s.caveats...).Text()
			}
			b.ReportMetric(float64(len(text)), "characters")
		})
	}
}
