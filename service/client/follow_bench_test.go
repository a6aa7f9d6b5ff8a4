package client_test

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

// counter counts entries and keeps nothing.
type counter struct {
	told   atomic.Int64
	last   atomic.Int64
	change chan struct{}
	whole  chan struct{} // an AsOf
}

func newCounter() *counter {
	return &counter{change: make(chan struct{}, 1), whole: make(chan struct{}, 1)}
}

func (c *counter) Entries(batch []api.Revocation) error {
	c.told.Add(int64(len(batch)))
	c.last.Store(batch[len(batch)-1].Seq)
	select {
	case c.change <- struct{}{}:
	default:
	}
	return nil
}

func (c *counter) AsOf(time.Time) {
	select {
	case c.whole <- struct{}{}:
	default:
	}
}
func (c *counter) Reset()       {}
func (c *counter) Failed(error) {}

// BenchmarkFeedSnapshot reads 1,000,000 revocations over HTTP: an edge's start.
// Server and reader share the machine; alloc-MB is what both allocated.
func BenchmarkFeedSnapshot(b *testing.B) {
	const entries = 1_000_000
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as serve does
	n := newNode(b)
	n.insert(entries)
	n.kill()
	n.start()
	c := n.client()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		told := 0
		out, err := c.Revocations(context.Background(), n.cred, client.FeedQuestion{}, func(_ string, batch []api.Revocation) error {
			told += len(batch)
			return nil
		})
		if err != nil || told != entries || out.Next != entries {
			b.Fatalf("%d entries, %+v, %v", told, out, err)
		}
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/snapshot")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/1e6, "alloc-MB")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFeedThroughput has 64 goroutines revoke 20,000 branches as POST
// /v1/revoke does, while followers read along over HTTP; it ends when all of
// them have everything. followers=0 is what the revoking alone takes.
// behind-ms is how long after the last commit that is.
func BenchmarkFeedThroughput(b *testing.B) {
	for _, followers := range []int{0, 1, 8} {
		b.Run(fmt.Sprintf("followers=%d", followers), func(b *testing.B) { feedThroughput(b, followers) })
	}
}

func feedThroughput(b *testing.B, followers int) {
	const writers, each = 64, 320
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	n := newNode(b)
	sinks := make([]*counter, followers)
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	for i := range sinks {
		sinks[i] = newCounter()
		f := &client.Follower{Client: n.client(), Credential: n.cred, Sink: sinks[i], Now: time.Now}
		following.Go(func() { f.Run(ctx) })
		<-sinks[i].whole
	}
	defer func() { stop(); following.Wait() }()
	if _, err := n.svc.AddUser(ctx, api.UserIn{Username: "alice", Password: password}, service.ActorOperator, service.Source{}); err != nil {
		b.Fatal(err)
	}
	grant, err := n.client().Login(ctx, api.LoginIn{Username: "alice", Password: password, Device: api.DeviceIn{Name: "phone"}})
	if err != nil {
		b.Fatal(err)
	}
	owner, err := n.svc.Authorize(b.Context(), service.Shown{Token: grant.Token, Bare: true})
	if err != nil {
		b.Fatal(err)
	}
	root := must[*token.Token](b)(token.Parse(grant.Token))
	var number atomic.Uint64
	end := int64(0)
	var written, heard time.Duration
	for b.Loop() {
		end += writers * each
		begin := time.Now()
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range each {
					branch, err := token.Attenuate(root, fmt.Sprintf("note %d", number.Add(1)))
					if err == nil {
						_, err = n.svc.Revoke(context.Background(), branch.Text(), owner, service.Source{})
					}
					if err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		written += time.Since(begin)
		for _, s := range sinks {
			for s.last.Load() < end {
				<-s.change
			}
		}
		heard += time.Since(begin)
	}
	for i, s := range sinks {
		if s.told.Load() != end {
			b.Errorf("follower %d was told %d entries of %d", i, s.told.Load(), end)
		}
	}
	b.ReportMetric(float64(end)/written.Seconds(), "revoked/s")
	b.ReportMetric(float64(end)/heard.Seconds(), "followed/s")
	b.ReportMetric((heard-written).Seconds()/float64(b.N)*1e3, "behind-ms")
	b.ReportMetric(0, "ns/op")
}
