package service_test

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"macaroond/service"
	"macaroond/service/keyring"
	"macaroond/storage/sqlite"
)

// BenchmarkLoad starts the authority on a database with 1,000,000 live
// revocations: until it returns, no token is judged.
func BenchmarkLoad(b *testing.B) {
	const entries = 1_000_000
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as serve does
	ctx := context.Background()
	path := filepath.Join(b.TempDir(), "db")
	keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	if err != nil {
		b.Fatal(err)
	}
	start := func() int {
		store, err := sqlite.Open(ctx, path, sqlite.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer store.Close()
		svc, err := service.New(ctx, service.Config{
			Store: store, Keys: keys, Now: time.Now, Log: slog.New(slog.DiscardHandler),
			Hashing: service.Hashing{MemoryKiB: 19456, Time: 2, Threads: 1, Pool: 1, Queue: 1},
		})
		if err != nil {
			b.Fatal(err)
		}
		return svc.Revocations()
	}
	start()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		b.Fatal(err)
	}
	for _, statement := range []string{
		`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
		INSERT INTO revocations (seq, grain, root_key_id, fingerprint, epoch, expires_at)
		SELECT i, 1 + i % 2, randomblob(16), CASE i % 2 WHEN 0 THEN x'' ELSE randomblob(16) END, 0, ?2 FROM n`,
		`UPDATE state SET sequence = ?1 WHERE ?2 > 0`,
	} {
		if _, err := db.Exec(statement, entries, time.Now().Add(24*time.Hour).UnixMilli()); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if n := start(); n != entries {
			b.Fatalf("%d entries", n)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/start")
	b.ReportMetric(0, "ns/op")
}
