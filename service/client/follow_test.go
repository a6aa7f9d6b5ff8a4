package client_test

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/httpapi"
	"macaroond/service/keyring"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// node is an authority that can be killed and started again at the same
// address, on the same database.
type node struct {
	t     testing.TB
	path  string
	addr  string
	keys  *keyring.SealingKeys
	store *sqlite.Store
	svc   *service.Service
	cred  client.Credential

	server *http.Server
	stop   func() // the follower, when the server has ended
}

func newNode(t testing.TB) *node {
	keys, err := keyring.ParseSealingKeys(keyring.NewKeyText())
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, path: filepath.Join(t.TempDir(), "macaroond.db"), addr: "127.0.0.1:0", keys: keys}
	n.start()
	t.Cleanup(func() { n.kill() })
	made, err := n.svc.AddService(context.Background(), api.ServiceIn{Name: "edge"}, service.ActorOperator, service.Source{})
	if err != nil {
		t.Fatal(err)
	}
	n.cred = client.Basic(made.ID, made.Secret)
	return n
}

func (n *node) start() {
	n.t.Helper()
	store, err := sqlite.Open(context.Background(), n.path, sqlite.Options{})
	if err != nil {
		n.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	svc, err := service.New(context.Background(), service.Config{
		Store: store, Keys: n.keys, Now: time.Now, Log: log, Limits: service.DefaultLimits,
		Hashing:  service.Hashing{MemoryKiB: 19456, Time: 2, Threads: 1, Pool: 1, Queue: 8},
		Settings: service.Settings{Issuer: "https://auth.example", Audience: "macaroond", RootTTL: 24 * time.Hour, MaxStaleness: 30 * time.Second, MaxDevices: 10, FreshLogin: 10 * time.Minute},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	server := httpapi.NewServer(httpapi.New(httpapi.Config{Service: svc, Log: log, Requests: httpapi.NewRequests()}), log)
	server.RegisterOnShutdown(svc.EndWaits)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { svc.Run(ctx) })
	wg.Go(func() { server.Serve(listener) })
	n.store, n.svc, n.server, n.addr = store, svc, server, listener.Addr().String()
	n.stop = func() { cancel(); wg.Wait() }
}

// kill ends it in the middle of whatever it does.
func (n *node) kill() {
	n.server.Close()
	n.stop()
	n.store.Close()
}

func (n *node) client() *client.Client {
	c, err := client.New("http://"+n.addr, client.Options{})
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// expires is of the entries that tests make.
var expires = time.Now().Add(24 * time.Hour)

// revoke lists a root key of its own and is heard by the follower.
func (n *node) revoke(number uint64) {
	_, err := n.store.RevokeRootKey(context.Background(), keyOf(number), expires, storage.Event{Time: time.Now(), Type: "test"})
	if err != nil {
		n.t.Error(err)
	}
}

func keyOf(number uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[:], number)
	return id
}

// insert lists count root keys at once.
func (n *node) insert(count int) {
	n.t.Helper()
	n.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
		INSERT INTO revocations (seq, grain, root_key_id, fingerprint, epoch, expires_at)
		SELECT i, 1 + i % 2, randomblob(16), CASE i % 2 WHEN 0 THEN x'' ELSE randomblob(16) END, 0, ?2 FROM n`, count, expires.UnixMilli())
	n.exec(`UPDATE state SET sequence = ?`, count)
}

func (n *node) exec(statement string, args ...any) {
	n.t.Helper()
	db, err := sql.Open("sqlite", n.path)
	if err != nil {
		n.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement, args...); err != nil {
		n.t.Fatal(err)
	}
}

// sink keeps everything that it is told.
type sink struct {
	mu      sync.Mutex
	changed chan struct{}
	seqs    []int64 // since the last reset
	keys    map[string]bool
	asOf    time.Time
	resets  int
	failed  []error
	refuse  error // what Entries answers, once
}

func newSink() *sink { return &sink{changed: make(chan struct{}), keys: map[string]bool{}} }

func (s *sink) told(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sink) Entries(batch []api.Revocation) (err error) {
	s.told(func() {
		if err, s.refuse = s.refuse, nil; err != nil {
			return
		}
		for _, e := range batch {
			s.seqs = append(s.seqs, e.Seq)
			s.keys[string([]byte(e.RootKeyID))] = true
		}
	})
	return err
}

// state is a copy that the follower does not change any more.
func (s *sink) state() (asOf time.Time, failed []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asOf, slices.Clone(s.failed)
}

func (s *sink) AsOf(t time.Time) { s.told(func() { s.asOf = t }) }

func (s *sink) Reset() {
	s.told(func() {
		s.resets++
		s.seqs, s.asOf = nil, time.Time{}
		clear(s.keys)
	})
}

func (s *sink) Failed(err error) { s.told(func() { s.failed = append(s.failed, err) }) }

// until waits for a condition of what the sink was told.
func (s *sink) until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	timeout := time.After(50 * time.Second)
	for {
		s.mu.Lock()
		ok, changed := holds(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("%s: never; %d entries, as of %v, %d resets, failed %v", what, len(s.seqs), s.asOf, s.resets, s.failed)
		}
	}
}

// follow starts a follower until the test ends.
func (n *node) follow(s *sink) *client.Follower {
	f := &client.Follower{Client: n.client(), Credential: n.cred, Sink: s, Wait: time.Second, Now: time.Now}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	n.t.Cleanup(func() { stop(); wg.Wait() })
	return f
}

func through(from, to int64) (out []int64) {
	for ; from <= to; from++ {
		out = append(out, from)
	}
	return out
}

// Eight revoke while four follow, one from before, one late, one through a
// wire that breaks again and again, one with a sink that refuses: everybody is
// told every entry, in order, nothing twice.
func TestFollow(t *testing.T) {
	const writers, each, all = 8, 50, 400
	n := newNode(t)
	early, late, flaky, fussy := newSink(), newSink(), newSink(), newSink()
	fussy.refuse = errors.New("not now")
	n.follow(early)
	n.follow(fussy)
	broken := n.breaking(700)
	f := &client.Follower{Client: broken, Credential: n.cred, Sink: flaky, Wait: 2 * time.Second, Now: time.Now}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	defer func() { stop(); wg.Wait() }()
	var writing sync.WaitGroup
	for w := range uint64(writers) {
		writing.Go(func() {
			for i := range uint64(each) {
				n.revoke(w<<32 | i)
			}
		})
	}
	early.until(t, "half", func() bool { return len(early.seqs) >= all/2 })
	n.follow(late)
	writing.Wait()
	for name, s := range map[string]*sink{"early": early, "late": late, "flaky": flaky, "fussy": fussy} {
		s.until(t, name, func() bool { return len(s.seqs) >= all && !s.asOf.IsZero() })
		s.mu.Lock()
		if !slices.Equal(s.seqs, through(1, all)) || s.resets != 0 {
			t.Errorf("%s: %d entries, %d resets", name, len(s.seqs), s.resets)
		}
		for w := range uint64(writers) {
			for i := range uint64(each) {
				if key := keyOf(w<<32 | i); !s.keys[base64.RawURLEncoding.EncodeToString(key[:])] {
					t.Errorf("%s: key %x was not told", name, key)
				}
			}
		}
		if age := time.Since(s.asOf); age < 0 || age > 20*time.Second {
			t.Errorf("%s: as of %v ago", name, age)
		}
		s.mu.Unlock()
	}
	_, once := fussy.state()
	_, often := flaky.state()
	if len(once) != 1 || len(often) == 0 {
		t.Errorf("fussy failed with %v, flaky with %v", once, often)
	}
}

// breaking is a client whose connections break after so many bytes of an
// answer, more with each.
func (n *node) breaking(after int) *client.Client {
	var count atomic.Int64
	c, err := client.New("http://"+n.addr, client.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			resp.Body = &broken{resp.Body, int64(after) + 300*count.Add(1)}
		}
		return resp, err
	})})
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type broken struct {
	io.ReadCloser
	left int64
}

func (b *broken) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the wire is broken")
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// The authority is killed in the middle of a poll, comes back, and goes on;
// one that shuts down waits for nobody.
func TestFollowThroughRestarts(t *testing.T) {
	n, s := newNode(t), newSink()
	n.revoke(1)
	f := n.follow(s)
	s.until(t, "the first entry", func() bool { return slices.Equal(s.seqs, through(1, 1)) && !s.asOf.IsZero() })
	for round := range int64(3) {
		_, failed := s.state()
		if round == 2 {
			begin := time.Now()
			if err := n.server.Shutdown(t.Context()); err != nil || time.Since(begin) > 700*time.Millisecond {
				t.Errorf("shutting down took %v, %v", time.Since(begin), err)
			}
		}
		n.kill()
		s.until(t, "a failure", func() bool { return len(s.failed) > len(failed) })
		before, _ := s.state()
		n.start()
		n.revoke(uint64(round) + 2)
		s.until(t, "the next entry", func() bool { return slices.Equal(s.seqs, through(1, round+2)) && s.asOf.After(before) })
	}
	s.until(t, "the position", func() bool {
		if s.resets != 0 {
			t.Errorf("%d resets", s.resets)
		}
		p := f.Position()
		return p.Sequence == 4 && p.Generation == n.svc.FeedPosition().Generation
	})
}

// asks tells how long each question of the feed was to wait.
type asks chan string

func (a asks) RoundTrip(r *http.Request) (*http.Response, error) {
	if wait := r.URL.Query().Get("wait"); wait != "" {
		select {
		case a <- wait:
		default:
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// A wait of less than a second is a second, and not none: the feed would be asked
// a hundred times in it. The clock need not be named.
func TestFollowWaits(t *testing.T) {
	n := newNode(t)
	for wait, want := range map[time.Duration]string{0: "10", time.Millisecond: "1", 1100 * time.Millisecond: "2", time.Hour: "30"} {
		asked, s := make(asks, 1), newSink()
		c := must[*client.Client](t)(client.New("http://"+n.addr, client.Options{Transport: asked}))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { (&client.Follower{Client: c, Credential: n.cred, Sink: s, Wait: wait}).Run(ctx) })
		s.until(t, "as of now", func() bool { return time.Since(s.asOf) < time.Minute })
		select {
		case got := <-asked:
			if got != want {
				t.Errorf("%v: waits %s s, want %s", wait, got, want)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%v: no question waits", wait)
		}
		stop()
		wg.Wait()
	}
}

// A restored backup is another history: everything is told anew.
func TestFollowAnotherHistory(t *testing.T) {
	n, s := newNode(t), newSink()
	n.revoke(1)
	n.revoke(2)
	f := n.follow(s)
	s.until(t, "the first history", func() bool { return slices.Equal(s.seqs, through(1, 2)) && !s.asOf.IsZero() })
	n.exec(`DELETE FROM revocations WHERE seq = 2; UPDATE state SET sequence = 1`) // as the backup was
	if _, err := n.store.Restored(t.Context(), true, storage.Event{Time: time.Now(), Type: "test"}); err != nil {
		t.Fatal(err)
	}
	s.until(t, "a reset", func() bool { return s.resets == 1 })
	s.until(t, "the second history", func() bool { return slices.Equal(s.seqs, through(1, 1)) && !s.asOf.IsZero() })
	n.revoke(3)
	s.until(t, "what follows", func() bool { return slices.Equal(s.seqs, through(1, 2)) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := errors.AsType[*api.Problem](s.failed[0]); !ok || p.Code != api.CodeOtherGeneration || p.Generation != n.svc.FeedPosition().Generation || s.resets != 1 {
		t.Errorf("failed %v, %d resets", s.failed, s.resets)
	}
	if p := f.Position(); p.Generation == "" {
		t.Error("no position")
	}
}

// A node that cannot read its database answers, and as_of does not move on.
func TestFollowStandsStill(t *testing.T) {
	n, s := newNode(t), newSink()
	n.revoke(1)
	f := n.follow(s)
	s.until(t, "the first entry", func() bool { return len(s.seqs) == 1 && !s.asOf.IsZero() })
	n.store.Close()
	answered, last := 0, f.Position().AsOf
	s.until(t, "three answers with one as_of", func() bool {
		if at := f.Position().AsOf; at != last {
			answered, last = 0, at
		}
		answered++
		return answered > 3 && time.Since(s.asOf) > 2*time.Second
	})
	if _, failed := s.state(); len(failed) > 0 {
		t.Errorf("failed: %v", failed)
	}
}

// A grain of a newer authority: what was told is void, nothing is said to be
// whole, and it goes on when the entry can be understood.
func TestFollowUnknownGrain(t *testing.T) {
	n, s := newNode(t), newSink()
	n.revoke(1)
	newer := &atomic.Bool{}
	f := n.followWhile(newer, s, func(generation string) string { // as a newer authority would answer
		return fmt.Sprintf(`{"generation":%q,"as_of":"2026-11-22T01:02:03.456Z","entries":[{"seq":7,"grain":"user","user":"usr_A","expires_at":"2026-12-21T22:10:04Z"}],"next":7}`, generation)
	})
	s.until(t, "the first entry", func() bool { return len(s.seqs) == 1 && !s.asOf.IsZero() })
	newer.Store(true)
	s.until(t, "the unknown grain, twice", func() bool { return len(s.failed) >= 2 })
	s.mu.Lock()
	for _, err := range s.failed {
		if e, ok := errors.AsType[*client.UnknownGrainError](err); !ok || e.Grain != "user" || e.Seq != 7 {
			t.Errorf("failed with %v", err)
		}
	}
	if s.resets < 2 || !s.asOf.IsZero() || f.Position() != (api.FeedPosition{}) {
		t.Errorf("%d resets, as of %v, %+v", s.resets, s.asOf, f.Position())
	}
	s.mu.Unlock()
	newer.Store(false)
	s.until(t, "it is understood", func() bool { return slices.Equal(s.seqs, through(1, 1)) && !s.asOf.IsZero() })
}

// An answer that contradicts what was told before voids it: everything is told
// anew, and until then nothing is said to be whole.
func TestFollowBrokenHistory(t *testing.T) {
	for name, format := range map[string]string{
		"the end is before what was told": `{"generation":%q,"as_of":"2026-11-22T01:02:03.456Z","entries":[],"next":0}`,
		"an entry comes again":            `{"generation":%q,"as_of":"2026-11-22T01:02:03.456Z","entries":[{"seq":1,"grain":"epoch","epoch":7,"expires_at":"2026-12-21T22:10:04Z"}],"next":1}`,
		"another generation":              `{"generation":"not %s","as_of":"2026-11-22T01:02:03.456Z","entries":[],"next":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			n, s := newNode(t), newSink()
			n.revoke(1)
			broken := &atomic.Bool{}
			f := n.followWhile(broken, s, func(generation string) string {
				broken.Store(false) // once
				return fmt.Sprintf(format, generation)
			})
			s.until(t, "the first entry", func() bool { return len(s.seqs) == 1 && !s.asOf.IsZero() })
			broken.Store(true)
			s.until(t, "a reset", func() bool { return s.resets == 1 })
			s.until(t, "everything anew", func() bool { return slices.Equal(s.seqs, through(1, 1)) && !s.asOf.IsZero() })
			if _, failed := s.state(); len(failed) != 1 || !errors.Is(failed[0], client.ErrHistory) || f.Position().Sequence != 1 {
				t.Errorf("failed with %v, at %+v", failed, f.Position())
			}
		})
	}
}

// followWhile starts a follower until the test ends, whose answers are others
// while it is so.
func (n *node) followWhile(so *atomic.Bool, s *sink, other func(generation string) string) *client.Follower {
	n.t.Helper()
	c, err := client.New("http://"+n.addr, client.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil && so.Load() {
			resp.Body.Close()
			resp.Body, resp.ContentLength = io.NopCloser(&text{other(n.svc.FeedPosition().Generation)}), -1
		}
		return resp, err
	})})
	if err != nil {
		n.t.Fatal(err)
	}
	f := &client.Follower{Client: c, Credential: n.cred, Sink: s, Wait: time.Second, Now: time.Now}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	n.t.Cleanup(func() { stop(); wg.Wait() })
	return f
}

type text struct{ s string }

func (t *text) Read(p []byte) (int, error) {
	if t.s == "" {
		return 0, io.EOF
	}
	n := copy(p, t.s)
	t.s = t.s[n:]
	return n, nil
}

// A credential that does not hold is told, and tried again.
func TestFollowRefused(t *testing.T) {
	n, s := newNode(t), newSink()
	f := &client.Follower{Client: n.client(), Credential: client.Basic("svc_AAAAAAAAAAAAAAAA", "wrong"), Sink: s, Now: time.Now}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	s.until(t, "two refusals", func() bool { return len(s.failed) >= 2 })
	stop()
	wg.Wait()
	wantCode(t, s.failed[0], api.CodeBadCredentials)
	if s.resets != 0 || !s.asOf.IsZero() {
		t.Errorf("%+v", s)
	}
}
