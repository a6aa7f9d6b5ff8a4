package service_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// BenchmarkRenew has 16 clients renew their roots as fast as they get answers,
// each root once, and compares that with what the same database on the same
// disk does when each change has a sync of its own: one audit entry at a time
// (x-single), and one renewal at a time (x-alone), before and after. Sharing a sync is worth what a sync costs, and a virtual
// disk may answer one before anything is on a disk: so the same is run in a
// process whose syncs take so much longer.
func BenchmarkRenew(b *testing.B) {
	if os.Getenv(renewHere) != "" {
		benchmarkRenew(b)
		return
	}
	b.Run("this-disk", benchmarkRenew)
	for _, slower := range []time.Duration{500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond} {
		b.Run("sync+"+slower.String(), func(b *testing.B) { renewSlower(b, slower) })
	}
}

const renewHere = "MACAROOND_BENCH_RENEW_HERE"

// renewSlower runs the benchmark in a process of its own, under strace, which
// makes it wait after each sync.
func renewSlower(b *testing.B, slower time.Duration) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		b.Skip("there is no strace")
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, strace, "-f", "--seccomp-bpf", "-qq", "-o", os.DevNull, "-e", "trace=fsync,fdatasync",
			"-e", fmt.Sprintf("inject=fsync,fdatasync:delay_exit=%d", slower.Microseconds()),
			self, "-test.run=^$", "-test.bench=^BenchmarkRenew$", "-test.benchtime=6000x")
		cmd.Env = append(os.Environ(), renewHere+"=1")
		out, err := cmd.CombinedOutput()
		cancel()
		found := renewLine.FindSubmatch(out)
		if err != nil || found == nil {
			b.Fatalf("%v: %s", err, out)
		}
		for i, unit := range []string{"renewals/s", "single-commits/s", "x-alone", "x-single"} {
			n, err := strconv.ParseFloat(string(found[i+1]), 64)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(n, unit)
		}
	}
}

var renewLine = regexp.MustCompile(`([0-9.]+) renewals/s\s+([0-9.]+) single-commits/s\s+([0-9.]+) x-alone\s+([0-9.]+) x-single`)

func benchmarkRenew(b *testing.B) {
	const clients = 16
	ctx := context.Background()
	from := service.Source{ClientIP: netip.MustParseAddr("192.0.2.1")}
	store, err := sqlite.Open(ctx, filepath.Join(b.TempDir(), "db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	if err != nil {
		b.Fatal(err)
	}
	svc, err := service.New(ctx, service.Config{
		Store: store, Keys: keys, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Hashing: service.Hashing{MemoryKiB: 19456, Time: 2, Threads: 1, Pool: 1, Queue: 1},
		Limits:  service.Limits{Signup: service.Rate{Burst: 1 << 20, Interval: time.Nanosecond}},
		Settings: service.Settings{
			Issuer: "https://auth.example.com", Audience: "macaroond", Signup: "device",
			// Without a grace nothing limits how often a device is renewed.
			RootTTL: 24 * time.Hour, MaxStaleness: time.Hour, MaxDevices: 10,
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	var roots [clients]string
	for i := range roots {
		g, err := svc.Signup(ctx, api.SignupIn{Username: "user " + string(rune('a'+i))}, service.Source{})
		if err != nil {
			b.Fatal(err)
		}
		roots[i] = g.Token
	}
	single := func() (took time.Duration) {
		const n = 100
		begin := time.Now()
		for range n {
			if err := store.AppendAudit(ctx, storage.Event{Time: begin, Type: "single"}); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(begin) / n
	}
	alone := func() (took time.Duration) {
		const n = 100
		begin := time.Now()
		for range n {
			g, err := svc.Renew(ctx, roots[0], caveats.Request{}, from)
			if err != nil {
				b.Fatal(err)
			}
			roots[0] = g.Token
		}
		return time.Since(begin) / n
	}
	alone() // the first ones prepare the statements
	before, beforeAlone := single(), alone()
	b.ResetTimer()
	var todo atomic.Int64
	var all sync.WaitGroup
	for i := range roots {
		all.Go(func() {
			for todo.Add(1) <= int64(b.N) {
				g, err := svc.Renew(ctx, roots[i], caveats.Request{}, from)
				if err != nil {
					b.Error(err)
					return
				}
				roots[i] = g.Token
			}
		})
	}
	all.Wait()
	b.StopTimer()
	each := b.Elapsed() / time.Duration(b.N)
	one := (before + single()) / 2
	b.ReportMetric(float64(time.Second)/float64(each), "renewals/s")
	b.ReportMetric(float64(time.Second)/float64(one), "single-commits/s")
	b.ReportMetric(float64(one)/float64(each), "x-single")
	b.ReportMetric(float64((beforeAlone+alone())/2)/float64(each), "x-alone")
}
