package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkCheck checks a proof whose key was seen before and uses it up, beside
// the bare verification of its signature over the same bytes, in turns. Promised:
// at most 1.3 of it, in the median.
func BenchmarkCheck(b *testing.B) {
	for name, signer := range map[string]crypto.Signer{"ES256": ecKey, "EdDSA": edKey} {
		b.Run(name, func(b *testing.B) {
			k := must(NewKey(signer))
			v := fresh()
			const many = 200
			var ratios []float64
			for b.Loop() {
				texts := make([]string, many)
				for i := range texts {
					texts[i] = must(k.Prove("GET", request.URL, request.Token, t0))
				}
				var checks, bare time.Duration
				for i, text := range texts {
					end := strings.LastIndexByte(text, '.')
					input := []byte(text[:end])
					sig, _ := decode(text[end+1:])
					r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
					shown := &Presented{Proofs: []string{text}, URL: request.URL}
					check := func() {
						begin := time.Now()
						binding := v.Bind(shown, request)
						_, err := binding.Prove()
						if err == nil {
							err = binding.Use()
						}
						checks += time.Since(begin)
						if err != nil {
							b.Fatal(err)
						}
					}
					alone := func() {
						begin := time.Now()
						ok := false
						switch pub := signer.Public().(type) {
						case *ecdsa.PublicKey:
							digest := sha256.Sum256(input)
							ok = ecdsa.Verify(pub, digest[:], r, s)
						case ed25519.PublicKey:
							ok = ed25519.Verify(pub, input, sig)
						}
						bare += time.Since(begin)
						if !ok {
							b.Fatal("does not verify")
						}
					}
					if i%2 == 0 { // neither is always the one whose memory is warm
						check()
						alone()
					} else {
						alone()
						check()
					}
				}
				ratios = append(ratios, float64(checks)/float64(bare))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "x-of-bare-signature")
			b.ReportMetric(0, "ns/op")
		})
	}
}
