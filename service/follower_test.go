package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/storage"
)

// watched is a store that keeps what was read of it but the state.
type watched struct {
	storage.Store
	read []string
	fail error // of reading revocations, after the first
}

func (w *watched) Revocations(ctx context.Context, after int64) iter.Seq2[storage.Revocation, error] {
	w.read = append(w.read, fmt.Sprint("revocations after ", after))
	all := w.Store.Revocations(ctx, after)
	if w.fail == nil {
		return all
	}
	return func(yield func(storage.Revocation, error) bool) {
		for r, err := range all {
			if yield(r, err) {
				yield(storage.Revocation{}, w.fail)
			}
			return
		}
	}
}

func (w *watched) Epochs(ctx context.Context) ([]storage.Epoch, error) {
	w.read = append(w.read, "epochs")
	return w.Store.Epochs(ctx)
}

// Ten times a second nothing is read but what is new.
func TestFollowerReadsWhatIsNew(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.revoke(1)
	k.catchUp()
	w := &watched{Store: k.store}
	k.Service.store = w
	for _, row := range []struct {
		what string
		do   func()
		want []string
	}{
		{"nothing happens", func() {}, nil},
		{"something is revoked", func() { k.revoke(2) }, []string{"revocations after 1"}},
		{"nothing happens again", func() {}, nil},
		{"a service is added", func() {
			if err := k.store.AddService(t.Context(), storage.Service{ID: "svc_a", Name: "a"}, storage.Event{Time: time.Now(), Type: "test"}); err != nil {
				t.Fatal(err)
			}
		}, []string{"epochs"}},
		{"and nothing more", func() {}, nil},
	} {
		w.read = nil
		row.do()
		k.catchUp()
		if !slices.Equal(w.read, row.want) {
			t.Errorf("%s: read %q, want %q", row.what, w.read, row.want)
		}
	}
}

// Of a list that cannot be read to its end what was read is in force, and the
// node is as old as before: it does not take what is missing for not revoked.
func TestFollowerReadsTheWholeList(t *testing.T) {
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	w := &watched{Store: k.store, fail: errors.New("damaged")}
	k.Service.store = w
	before := k.FeedPosition()
	for n := range uint64(3) {
		k.revoke(n + 1)
	}
	if err := k.CatchUp(t.Context()); !errors.Is(err, w.fail) {
		t.Errorf("error %v", err)
	}
	if got := k.FeedPosition(); got != before {
		t.Errorf("at %+v, was at %+v", got, before)
	}
	w.fail = nil
	k.catchUp()
	if a, got, err := k.read(FeedQuestion{}); err != nil || a.Next != 3 || !slices.Equal(got, through(1, 3)) {
		t.Errorf("%v, %v", got, err)
	}
}

// What this process revokes wakes the follower: a reader who waits hears of
// each long before the tick.
func TestFeedIsKicked(t *testing.T) {
	const rounds = 20
	k := newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.run()
	q := FeedQuestion{Generation: k.FeedPosition().Generation, Wait: api.MaxFeedWait}
	begin := time.Now()
	for n := range uint64(rounds) {
		k.revoke(n + 1)
		a, got, err := k.read(q)
		if err != nil || !slices.Equal(got, []int64{int64(n) + 1}) {
			t.Fatalf("%v, %v", got, err)
		}
		q.After = a.Next
	}
	if took := time.Since(begin); took > rounds*FollowInterval/2 {
		t.Errorf("%d revocations took %v", rounds, took)
	}
	// Nobody listens: the revoker goes on.
	k = newFeedKit(t, filepath.Join(t.TempDir(), "db"))
	k.revoke(1)
	k.revoke(2)
	if len(k.kick) != 1 {
		t.Errorf("%d kicks wait", len(k.kick))
	}
}

// insert lists n revoked root keys, from sequence 1 on.
func insert(t *testing.T, path string, n int) {
	t.Helper()
	exec(t, path, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
		INSERT INTO revocations (seq, grain, root_key_id, fingerprint, epoch, expires_at)
		SELECT i, 1, randomblob(16), x'', 0, ?2 FROM n`, n, time.Now().Add(24*time.Hour).UnixMilli())
	exec(t, path, `UPDATE state SET sequence = ?1`, n)
}

func exec(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
}
