package sqlite

import (
	"context"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"macaroond/storage"
	"macaroond/storage/storagetest"
)

func TestContract(t *testing.T) {
	var seen statements
	storagetest.Run(t, func(t *testing.T) storage.Store {
		s := openTest(t, filepath.Join(t.TempDir(), "db"), Options{})
		t.Cleanup(func() { seen.add(s) })
		return s
	})
	t.Run("plans", seen.plans)
}

// The next page is read while one is given out: a consumer that takes its time
// sees each entry all the same, and once.
func TestPages(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "db"), Options{})
	const n = 3*pageLength + 1
	fillRevocations(t, s, n)
	read := func(each func(seq int64)) (last int64) {
		for r, err := range s.Revocations(t.Context(), 0) {
			must(t, err)
			if r.Seq != last+1 {
				t.Fatalf("entry %d comes after %d", r.Seq, last)
			}
			last = r.Seq
			each(last)
		}
		return last
	}
	last := read(func(seq int64) {
		if seq%pageLength == 1 { // far longer than it takes to read a page
			read(func(int64) {})
		}
	})
	if last != n {
		t.Errorf("%d entries of %d", last, n)
	}
}

// statements are those that the writers of a test have prepared.
type statements struct {
	mu  sync.Mutex
	all map[string]bool
}

func (c *statements) add(s *Store) {
	_ = s.w.do(context.Background(), func(t *tx) error { // it fails where a clause has closed the store
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.all == nil {
			c.all = map[string]bool{}
		}
		for query := range t.w.conn.stmts {
			c.all[query] = true
		}
		return nil
	})
}

// growing are tables that are read from one end to the other. The others have few rows.
var growing = regexp.MustCompile(`SCAN (users|devices|d|root_keys|k|renewals|revocations|recovery_codes|accepted|links|delayed|audit|a|u)\b`)

// mayScan are statements that do so, and are rare enough.
var mayScan = []string{
	"DELETE FROM audit WHERE seq <= ? AND seq IN (",                     // no more rows than the caller's limit
	"SELECT seq FROM (SELECT seq, time FROM audit ORDER BY seq LIMIT ?", // the same
	"DELETE FROM links WHERE EXISTS (SELECT 1 FROM devices d",           // an epoch is retired
	"UPDATE root_keys SET unknown_until = MAX(",                         // a restore that keeps the tokens
	"SELECT 1 FROM users WHERE role = ? AND suspended_at = 0 AND id <>", // whether an administrator is the last
}

// Every change waits for one writer: none may take longer the more users,
// devices and tokens there are.
func (c *statements) plans(t *testing.T) {
	if len(c.all) < 100 {
		t.Fatalf("%d statements were seen: run all of the suite", len(c.all))
	}
	s := openTest(t, filepath.Join(t.TempDir(), "db"), Options{})
	for _, query := range slices.Sorted(maps.Keys(c.all)) {
		if slices.ContainsFunc(mayScan, func(rare string) bool { return strings.HasPrefix(query, rare) }) {
			continue
		}
		args := make([]any, 20) // as many as any has, and none is bound
		steps, err := list(s.reader(t.Context()), func(r scanner) (step string, err error) {
			var id, parent, unused int
			err = r.Scan(&id, &parent, &unused, &step)
			return step, err
		}, "EXPLAIN QUERY PLAN "+query, args...)
		must(t, err)
		for _, step := range steps {
			if strings.Contains(query, "ORDER BY "+rowUntil) && strings.Contains(step, "ORDER BY") {
				t.Errorf("%s, of all that have the same: %s", step, query)
			}
			if growing.MatchString(step) {
				t.Errorf("%s: %s", step, query)
			}
		}
	}
}
