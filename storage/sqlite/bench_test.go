package sqlite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"macaroond/storage"
)

func openTest(tb testing.TB, path string, opt Options) *Store {
	tb.Helper()
	s, err := Open(context.Background(), path, opt)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func randomBranch() storage.RevokeBranch {
	var in storage.RevokeBranch
	rand.Read(in.RootKeyID[:])
	rand.Read(in.Fingerprint[:])
	in.ExpiresAt = time.Now().Add(time.Hour)
	return in
}

// rate is how many changes a second so many writers make together.
func rate(b *testing.B, writers int, change func() error) float64 {
	const each = 200
	begin := time.Now()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := change(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(writers*each) / time.Since(begin).Seconds()
}

// BenchmarkCommits compares durable revocations by 16 concurrent writers, who
// share syncs, with those by one writer at a time.
func BenchmarkCommits(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "db"), Options{})
	ctx := b.Context()
	begin := time.Now()
	revoke := func() error {
		_, added, err := s.RevokeBranch(ctx, randomBranch(), storage.Event{Time: begin, Type: "branch_revoked"})
		if err == nil && !added {
			err = errors.New("not added")
		}
		return err
	}
	var one, many float64
	for b.Loop() {
		one += rate(b, 1, revoke)
		many += rate(b, 16, revoke)
	}
	b.ReportMetric(one/float64(b.N), "commits/s-1")
	b.ReportMetric(many/float64(b.N), "commits/s-16")
	b.ReportMetric(many/one, "ratio")
}

// BenchmarkRevocations reads a list of a million entries, as a node does when
// it starts.
func BenchmarkRevocations(b *testing.B) {
	const n = 1_000_000
	s := openTest(b, filepath.Join(b.TempDir(), "db"), Options{})
	fillRevocations(b, s, n)
	b.ResetTimer()
	for b.Loop() {
		var got int
		for _, err := range s.Revocations(b.Context(), 0) {
			if err != nil {
				b.Fatal(err)
			}
			got++
		}
		if got != n {
			b.Fatalf("%d entries", got)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/million")
}

func fillRevocations(tb testing.TB, s *Store, n int) {
	tb.Helper()
	const batch = 20_000
	for done := 0; done < n; done += batch {
		if err := s.w.do(context.Background(), func(t *tx) error {
			for range min(batch, n-done) {
				in := randomBranch()
				if _, _, err := t.list(storage.Revocation{Grain: storage.GrainDevice, RootKeyID: in.RootKeyID, ExpiresAt: in.ExpiresAt}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			tb.Fatal(fmt.Errorf("fill: %w", err))
		}
	}
}
