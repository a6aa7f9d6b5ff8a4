package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"macaroond/storage"
	"macaroond/storage/storagetest"
)

func pointNumber(n uint64) []storage.AcceptedPoint {
	var p storage.AcceptedPoint
	binary.BigEndian.PutUint64(p.Point[:], n)
	p.ExpiresAt = storagetest.T0
	return []storage.AcceptedPoint{p}
}

// childTaker accepts one point after another and prints each when that is
// answered.
func childTaker(s *Store) error {
	for n := uint64(1); ; n++ {
		if err := s.Accept(context.Background(), pointNumber(n)); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// What was answered before kill -9 is used afterwards, and after each reopening.
func TestAcceptedOutlivesKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	cmd, _, lines := startChild(t, "taker", path)
	var answered []uint64
	for lines.Scan() {
		var n uint64
		if _, err := fmt.Sscan(lines.Text(), &n); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if answered = append(answered, n); n == 50 {
			must(t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait() // killed
	if len(answered) < 50 {
		t.Fatalf("%d were answered", len(answered))
	}
	for range 2 {
		s, err := Open(t.Context(), path, Options{})
		must(t, err)
		for _, n := range answered {
			if err := s.Accept(t.Context(), pointNumber(n)); !errors.Is(err, storage.ErrReplayed) {
				t.Errorf("point %d again: %v", n, err)
			}
		}
		must(t, s.Close())
	}
}

// BenchmarkAccept compares acceptances by 16 clients, who share syncs, with
// single synced commits of the same change.
func BenchmarkAccept(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "db"), Options{})
	ctx := b.Context()
	until := time.Now().Add(time.Hour)
	accept := func() error {
		p := storage.AcceptedPoint{ExpiresAt: until}
		random := randomBranch()
		copy(p.Point[:], random.RootKeyID[:])
		copy(p.Point[16:], random.Fingerprint[:])
		return s.Accept(ctx, []storage.AcceptedPoint{p})
	}
	var one, many float64
	for b.Loop() {
		one += rate(b, 1, accept)
		many += rate(b, 16, accept)
	}
	b.ReportMetric(one/float64(b.N), "commits/s-1")
	b.ReportMetric(many/float64(b.N), "acceptances/s-16")
	b.ReportMetric(many/one, "ratio")
}
