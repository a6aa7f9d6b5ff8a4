package service

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// feedKit is a real authority on a database of its own.
type feedKit struct {
	*Service
	t     *testing.T
	path  string
	store *sqlite.Store
	asker storage.Service
}

func newFeedKit(t *testing.T, path string) *feedKit {
	t.Helper()
	store, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	keys, err := keyring.ParseSealingKeys(feedKey())
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), Config{Store: store, Keys: keys, Now: time.Now, Log: slog.New(slog.DiscardHandler), Hashing: Hashing{MemoryKiB: 8, Time: 1, Threads: 1, Pool: 1, Queue: 1}})
	if err != nil {
		t.Fatal(err)
	}
	s.SetSettings(Settings{MaxStaleness: time.Minute})
	return &feedKit{Service: s, t: t, path: path, store: store, asker: storage.Service{ID: "svc_a"}}
}

// feedKey is one for all kits of a test process: two of them share a database.
var feedKey = sync.OnceValue(keyring.NewKeyText)

// run has the follower run until the test ends.
func (k *feedKit) run() {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx) })
	k.t.Cleanup(func() { stop(); wg.Wait() })
}

// revoke is what every revoking verb does.
func (k *feedKit) revoke(n uint64) int64 {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], n)
	entries, err := k.store.RevokeRootKey(k.t.Context(), id, time.Now().Add(time.Hour), storage.Event{Time: time.Now(), Type: "test"})
	if err != nil || len(entries) != 1 {
		k.t.Errorf("%d entries, %v", len(entries), err)
		return 0
	}
	k.revoked(entries...)
	return entries[0].Seq
}

func (k *feedKit) catchUp() {
	k.t.Helper()
	if err := k.CatchUp(k.t.Context()); err != nil {
		k.t.Fatal(err)
	}
}

// read asks once and gives the sequences.
func (k *feedKit) read(q FeedQuestion) (*FeedAnswer, []int64, error) {
	a, err := k.Feed(k.t.Context(), k.asker, q)
	if err != nil {
		return nil, nil, err
	}
	defer a.Close()
	var out []int64
	for e, err := range a.Entries(k.t.Context()) {
		if err != nil {
			return a, out, err
		}
		out = append(out, e.Seq)
	}
	return a, out, nil
}

func wantFeedCode(t *testing.T, err error, code string) *Error {
	t.Helper()
	e := AsError(errors.Join(err))
	if err == nil || e.Code != code {
		t.Fatalf("%v, want %s", err, code)
	}
	return e
}

func through(from, to int64) []int64 {
	var out []int64
	for ; from <= to; from++ {
		out = append(out, from)
	}
	return out
}

// Eight revoke and six read, from the start and from the middle, with and
// without waiting: everybody sees every sequence once, in order.
func TestFeedOrder(t *testing.T) {
	const writers, each, all = 8, 60, 480
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.run()
	generation := k.FeedPosition().Generation
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for w := range uint64(writers) {
		wg.Go(func() {
			for n := range uint64(each) {
				k.revoke(w<<32 | n + 1)
			}
		})
	}
	for r := range 6 {
		from := int64(r % 2 * all / 2)
		wg.Go(func() {
			q := FeedQuestion{Generation: generation, After: from, Wait: time.Duration(r/2) * time.Second}
			var got []int64
			for q.After < all && ctx.Err() == nil {
				a, some, err := k.read(q)
				if err != nil {
					if e := AsError(err); e.Code == api.CodeOtherGeneration && len(got) == 0 {
						continue // the middle is not there yet
					}
					t.Error(err)
					return
				}
				if len(some) > 0 && some[len(some)-1] != a.Next {
					t.Errorf("next is %d after %d", a.Next, some[len(some)-1])
				}
				got = append(got, some...)
				q.After = a.Next
			}
			if want := through(from+1, all); !slices.Equal(got, want) {
				t.Errorf("reader %d from %d: %d entries, want %d", r, from, len(got), len(want))
			}
		})
	}
	wg.Wait()
}

// Readers within the tail cost no look at the table, those beyond it get the
// whole from there, and both the same.
func TestFeedTail(t *testing.T) {
	const all = tailLength + 100
	path := filepath.Join(t.TempDir(), "db")
	newFeedKit(t, path)
	insert(t, path, all)
	k := newFeedKit(t, path)
	generation := k.FeedPosition().Generation
	for _, row := range []struct {
		after int64
		table bool
	}{{99, true}, {100, false}, {101, false}, {12_345, false}, {all - 1, false}, {all, false}} {
		a, got, err := k.read(FeedQuestion{Generation: generation, After: row.after})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, through(row.after+1, all)) || a.Next != all || (a.release != nil) != row.table {
			t.Errorf("after %d: %d entries, next %d, from the table: %v", row.after, len(got), a.Next, a.release != nil)
		}
	}
	if _, got, err := k.read(FeedQuestion{}); err != nil || len(got) != all {
		t.Errorf("from the start: %d entries, %v", len(got), err)
	}
	if some, _ := k.feed.at.Load().tail.read(make([]storage.Revocation, 0, 2), 100, all); len(some) != 2 {
		t.Errorf("%d entries in a room for two", len(some))
	}
	// One that falls behind the tail while it reads goes on in the table.
	a, err := k.Feed(t.Context(), k.asker, FeedQuestion{Generation: generation, After: 100})
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for e, err := range a.Entries(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			exec(t, path, `INSERT INTO revocations (seq, grain, root_key_id, fingerprint, epoch, expires_at)
				SELECT seq + ?1, 1, randomblob(16), x'', 0, expires_at FROM revocations WHERE seq <= 10000`, all)
			exec(t, path, `UPDATE state SET sequence = ?1`, all+10_000)
			k.catchUp()
			if k.feed.at.Load().tail != a.tail {
				t.Error("what was read before was read again")
			}
		}
		got = append(got, e.Seq)
	}
	if !slices.Equal(got, through(101, all)) || k.feed.at.Load().tail.reaches(101+tailBatch) {
		t.Errorf("%d entries", len(got))
	}
	if n := len(k.feed.at.Load().tail.ring); n != tailLength {
		t.Errorf("the tail has %d entries", n)
	}
	// A reader may go away at any entry, and what cannot be read does not look like the end.
	for _, after := range []int64{0, a.Next + 9000} {
		a, err := k.Feed(t.Context(), k.asker, FeedQuestion{Generation: generation, After: after})
		if err != nil {
			t.Fatal(err)
		}
		for range a.Entries(t.Context()) {
			break
		}
		a.Close()
	}
	if a, err = k.Feed(t.Context(), k.asker, FeedQuestion{}); err != nil {
		t.Fatal(err)
	}
	k.store.Close()
	var last error
	for _, last = range a.Entries(t.Context()) {
	}
	if last == nil {
		t.Error("a list of which nothing can be read is whole")
	}
}

// What has expired is a gap and no end; and who has anything to be told, if it is
// where the feed is, does not wait.
func TestFeedGaps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	newFeedKit(t, path)
	insert(t, path, 10)
	exec(t, path, `DELETE FROM revocations WHERE seq IN (1, 2, 5, 9, 10)`)
	k := newFeedKit(t, path)
	k.feed.waiting.total = 0
	generation := k.FeedPosition().Generation
	for after, want := range map[int64][]int64{0: {3, 4, 6, 7, 8}, 4: {6, 7, 8}, 5: {6, 7, 8}, 8: nil, 10: nil} {
		q := FeedQuestion{Generation: generation, After: after}
		if after < 10 {
			q.Wait = api.MaxFeedWait
		}
		if a, got, err := k.read(q); err != nil || !slices.Equal(got, want) || a.Next != 10 {
			t.Errorf("after %d: %v, %v", after, got, err)
		}
	}
	k = newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.feed.waiting.total = 0
	if a, got, err := k.read(FeedQuestion{Wait: api.MaxFeedWait}); err != nil || len(got) != 0 || a.Next != 0 {
		t.Errorf("the empty list, from the start: %v, %v", got, err)
	}
}

// waiting returns when so many readers wait.
func (k *feedKit) waiting(n int) {
	k.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); k.feed.waiting.count() != n; {
		if time.Now().After(deadline) {
			k.t.Fatalf("%d wait, want %d", k.feed.waiting.count(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// asks has a reader wait in the background.
func (k *feedKit) asks(q FeedQuestion) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, got, err := k.read(q)
		if err == nil && len(got) > 0 {
			err = errors.New("there are entries")
		}
		done <- err
	}()
	return done
}

func TestFeedOtherHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	k := newFeedKit(t, path)
	k.revoke(1)
	k.catchUp()
	was := k.FeedPosition()
	if was.Sequence != 1 || was.Generation == "" || time.Since(was.AsOf.Time) > time.Minute {
		t.Fatalf("%+v", was)
	}
	for _, q := range []FeedQuestion{{Generation: "another"}, {Generation: was.Generation, After: 2}, {Generation: "another", After: 1, Wait: api.MaxFeedWait}} {
		_, _, err := k.read(q)
		if e := wantFeedCode(t, err, api.CodeOtherGeneration); e.Generation != was.Generation {
			t.Errorf("%+v: in force is %s", q, e.Generation)
		}
	}

	// A backup is restored while somebody waits, and while somebody reads the table.
	waiter := k.asks(FeedQuestion{Generation: was.Generation, After: 1, Wait: api.MaxFeedWait})
	k.waiting(1)
	reader, err := k.Feed(t.Context(), k.asker, FeedQuestion{})
	if err != nil {
		t.Fatal(err)
	}
	now, err := k.store.Restored(t.Context(), true, storage.Event{Time: time.Now(), Type: "test"})
	if err != nil {
		t.Fatal(err)
	}
	var broken error
	reader.fromTable(t.Context(), 0, func(_ storage.Revocation, err error) bool { broken = err; return true })
	if e := wantFeedCode(t, broken, api.CodeOtherGeneration); e.Generation != now.Generation {
		t.Error(e.Generation)
	}
	k.catchUp()
	if e := wantFeedCode(t, <-waiter, api.CodeOtherGeneration); e.Generation != now.Generation {
		t.Error(e.Generation)
	}
	if a, got, err := k.read(FeedQuestion{Generation: now.Generation}); err != nil || !slices.Equal(got, []int64{1}) || a.Generation != now.Generation {
		t.Errorf("the new history: %v, %v", got, err)
	}

	// A node that lags behind the reader looks before it denies.
	other := newFeedKit(t, path)
	k.revoke(2)
	k.catchUp()
	time.Sleep(2 * coalesce) // what bounds how often it looks
	if a, got, err := other.read(FeedQuestion{Generation: now.Generation, After: 2}); err != nil || len(got) != 0 || a.Next != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

// Whoever asks about another history, however often, has the table looked at no
// more than that often.
func TestFeedLooksSeldom(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	read := k.list.AsOf()
	for _, row := range []struct{ after, want time.Duration }{{coalesce - 1, 0}, {coalesce, coalesce}, {2*coalesce - 1, coalesce}} {
		k.now = func() time.Time { return read.Add(row.after) }
		_, _, err := k.read(FeedQuestion{Generation: "another"})
		wantFeedCode(t, err, api.CodeOtherGeneration)
		if got := k.list.AsOf().Sub(read); got != row.want {
			t.Errorf("asked %v after it was read: read %v after", row.after, got)
		}
	}
}

// A node that cannot read its database says so by its old as_of, and goes on
// answering.
func TestFeedCutOff(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.revoke(1)
	k.catchUp()
	was := k.FeedPosition()
	k.store.Close()
	if err := k.CatchUp(t.Context()); err == nil {
		t.Fatal("the database is read")
	}
	for _, q := range []FeedQuestion{{}, {Generation: was.Generation}, {Generation: was.Generation, After: 1, Wait: 20 * time.Millisecond}} {
		a, got, err := k.read(q)
		if err != nil || !slices.Equal(got, through(q.After+1, 1)) || !a.AsOf.Equal(k.list.AsOf()) || !a.AsOf.Equal(was.AsOf.Time) {
			t.Errorf("%+v: %v, %v, %+v", q, got, err, a)
		}
	}
	time.Sleep(2 * coalesce)
	_, _, err := k.read(FeedQuestion{Generation: "another"})
	wantFeedCode(t, err, api.CodeUnavailable) // it does not know
}

// An entry that this release cannot honour is nobody's either.
func TestFeedUnknownGrain(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.revoke(1)
	k.catchUp()
	was := k.FeedPosition()
	exec(t, k.path, `PRAGMA ignore_check_constraints = 1; INSERT INTO revocations (seq, grain, root_key_id, fingerprint, epoch, expires_at) SELECT 2, 9, randomblob(16), x'', 0, expires_at FROM revocations; UPDATE state SET sequence = 2`)
	if err := k.CatchUp(t.Context()); err == nil {
		t.Fatal("the unknown grain is taken")
	}
	if a, got, err := k.read(FeedQuestion{}); err != nil || !slices.Equal(got, []int64{1}) || a.Next != 1 || !a.AsOf.Equal(was.AsOf.Time) {
		t.Errorf("%v, %v, %+v", got, err, a)
	}
}

func TestFeedEndWaits(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	q := FeedQuestion{Generation: k.FeedPosition().Generation, Wait: api.MaxFeedWait}
	waiter := k.asks(q)
	k.waiting(1)
	k.EndWaits()
	if err := <-waiter; err != nil {
		t.Error(err)
	}
	k.EndWaits()
	if err := <-k.asks(q); err != nil { // from now on
		t.Error(err)
	}
	if n := k.feed.waiting.count(); n != 0 {
		t.Errorf("%d still wait", n)
	}
	// A reader that goes away.
	k = newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := k.Feed(ctx, k.asker, FeedQuestion{Generation: k.FeedPosition().Generation, Wait: api.MaxFeedWait})
		left <- err
	}()
	k.waiting(1)
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The places of those who wait, and of those who read the table, are bounded,
// for one credential and for all; nobody else is refused for that.
func TestFeedBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	newFeedKit(t, path)
	insert(t, path, tailLength+1)
	k := newFeedKit(t, path)
	k.feed.waiting.total, k.feed.waiting.each = 2, 1
	k.feed.reading.total, k.feed.reading.each = 2, 1
	end := k.FeedPosition()
	wait := FeedQuestion{Generation: end.Generation, After: end.Sequence, Wait: api.MaxFeedWait}
	a, b, c := storage.Service{ID: "svc_a"}, storage.Service{ID: "svc_b"}, storage.Service{ID: "svc_c"}
	busy := func(asker storage.Service, q FeedQuestion) {
		t.Helper()
		_, err := k.Feed(t.Context(), asker, q)
		if e := wantFeedCode(t, err, api.CodeBusy); e.RetryAfter <= 0 {
			t.Error("no Retry-After")
		}
	}
	k.asker = a
	first := k.asks(wait)
	k.waiting(1)
	busy(a, wait)
	k.asker = b
	second := k.asks(wait)
	k.waiting(2)
	busy(c, wait)
	if _, err := k.Feed(t.Context(), a, FeedQuestion{Generation: end.Generation, After: end.Sequence}); err != nil {
		t.Errorf("who does not wait: %v", err)
	}

	var open []*FeedAnswer
	for _, asker := range []storage.Service{a, b} {
		f, err := k.Feed(t.Context(), asker, FeedQuestion{})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
		busy(a, FeedQuestion{})
	}
	busy(c, FeedQuestion{})
	open[0].Close()
	if f, err := k.Feed(t.Context(), c, FeedQuestion{}); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	open[1].Close()

	k.EndWaits()
	for _, done := range []<-chan error{first, second} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, p := range []*places{&k.feed.waiting, &k.feed.reading} {
		if p.count() != 0 || len(p.by) != 0 {
			t.Errorf("%d places are taken, %v", p.taken, p.by)
		}
	}
}

// A name that gives one of its places back has no more than before.
func TestPlaces(t *testing.T) {
	p := places{total: 3, each: 2}
	release := p.take("a")
	if release == nil || p.take("a") == nil {
		t.Fatal("no place for the first two")
	}
	release()
	if p.take("a") == nil || p.take("a") != nil {
		t.Error("not two of one name")
	}
	if p.take("b") == nil || p.take("c") != nil {
		t.Error("not three in all")
	}
}

// A clock that is set back makes nothing look fresh; one that is set forward,
// or slewed, changes nothing.
func TestWallTime(t *testing.T) {
	then := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for name, row := range map[string]struct {
		now  time.Time
		age  time.Duration
		want time.Time
	}{
		"all is well":         {then.Add(5 * time.Second), 5 * time.Second, then},
		"slewed":              {then.Add(4500 * time.Millisecond), 5 * time.Second, then},
		"set forward":         {then.Add(time.Hour), 5 * time.Second, then},
		"set back":            {then.Add(-time.Hour), 5 * time.Second, then.Add(-time.Hour - 5*time.Second)},
		"set back by seconds": {then.Add(2 * time.Second), 5 * time.Second, then.Add(-3 * time.Second)},
	} {
		if got := wallTime(then, row.now, row.age); !got.Equal(row.want) {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}
