package service

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"macaroond/storage"
	"macaroond/storage/sqlite"
)

// walked is a store in which something happens while the audit is walked, after
// so many pages.
type walked struct {
	storage.Store
	pages     int
	meanwhile func()
	missing   []int64
}

func (w *walked) Audit(ctx context.Context, after int64, limit int) ([]storage.AuditEntry, error) {
	if w.pages--; w.pages == -1 {
		w.meanwhile()
	}
	entries, err := w.Store.Audit(ctx, after, limit+len(w.missing))
	entries = slices.DeleteFunc(entries, func(e storage.AuditEntry) bool { return slices.Contains(w.missing, e.Seq) })
	return entries[:min(limit, len(entries))], err
}

// The oldest entries go while others are being checked: that is no alarm, and
// what goes from anywhere else is one.
func TestVerifyAuditWhileEntriesExpire(t *testing.T) {
	const all, page = 1700, 1000
	begin := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		name    string
		expire  int // of the oldest, after the first page
		missing []int64
		n       int64 // that were walked
		want    string
	}{
		{"none", 0, nil, all, ""},
		{"some that were walked", 500, nil, all, ""},
		{"just those that were walked", page, nil, all, ""},
		{"more than were walked", page + 300, nil, all - 300, ""},
		{"all", all, nil, page, ""},
		{"the next one, and none has expired", 0, []int64{page + 1}, page, "entry 1002 does not follow entry 1000"},
		{"the next one, and some have expired", page - 1, []int64{page + 1}, page, "entry 1002 does not follow entry 1000"},
		{"one of the rest", page + 300, []int64{1500}, 1499 - 300, "entry 1501 does not follow entry 1499"},
		{"the last", page + 300, []int64{all}, all - 301, "entry 1700 is not there"},
	} {
		t.Run(row.name, func(t *testing.T) {
			store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), sqlite.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			events := make([]storage.Event, all)
			for i := range events {
				events[i] = storage.Event{Time: begin.Add(time.Duration(i) * time.Second), Type: EventLogin}
			}
			if err := store.AppendAudit(t.Context(), events...); err != nil {
				t.Fatal(err)
			}
			w := &walked{Store: store, pages: 1, missing: row.missing, meanwhile: func() {
				got, err := store.Expire(t.Context(), storage.Expire{Now: begin, AuditBefore: begin.Add(time.Duration(row.expire) * time.Second), Limit: all})
				if err != nil || got.Audit != row.expire {
					t.Fatalf("%d entries expired, want %d (%v)", got.Audit, row.expire, err)
				}
			}}
			n, _, err := VerifyAudit(t.Context(), w)
			switch {
			case row.want == "" && err != nil, row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("error %v, want %q", err, row.want)
			case n != row.n:
				t.Errorf("%d entries were walked, want %d", n, row.n)
			}
		})
	}
}
