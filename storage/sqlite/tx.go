package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"time"

	"macaroond/storage"
)

// A queryer reads: a pool for readers, a transaction for changes.
type queryer interface {
	query(query string, args ...any) (rows, context.Context, error)
}

// rows are a pool's ([sql.Rows]) or the writer's.
type rows interface {
	scanner
	Next() bool
	Err() error
	Close() error
}

type scanner interface{ Scan(dest ...any) error }

// reader reads from the pool; each query is its own snapshot.
type reader struct {
	ctx context.Context
	db  *sql.DB
}

func (s *Store) reader(ctx context.Context) reader { return reader{ctx, s.read} }

func (r reader) query(query string, args ...any) (rows, context.Context, error) {
	rows, err := r.db.QueryContext(r.ctx, query, args...)
	return rows, r.ctx, fault(r.ctx, err) // the pool closes rows when ctx ends
}

// tx is the writer's transaction as one change sees it.
type tx struct {
	w  *writer
	st state
}

// state is the row that moves with the changes; it is written once a group.
type state struct {
	generation         string
	sequence, revision int64
	lastEpoch          int64
	auditSeq           int64
	auditHash          [32]byte
}

func (t *tx) query(query string, args ...any) (rows, context.Context, error) {
	r, err := t.w.conn.query(query, args)
	return r, t.w.ctx, fault(t.w.ctx, err)
}

// exec returns how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	n, err := t.w.conn.exec(query, args)
	return n, fault(t.w.ctx, err)
}

// must is exec of what is about one thing: ErrNotFound when it is not there.
func (t *tx) must(query string, args ...any) error {
	n, err := t.exec(query, args...)
	if err == nil && n == 0 {
		err = storage.ErrNotFound
	}
	return err
}

// column scans a row of one column. (In a return statement the order of a variable
// and of a call that changes it is left open, so no scan stands in one.)
func column[T any](r scanner) (v T, err error) {
	err = r.Scan(&v)
	return v, err
}

// list reads all rows of a query.
func list[T any](q queryer, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, ctx, err := q.query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, badRow(ctx, err)
		}
		all = append(all, v)
	}
	return all, fault(ctx, rows.Err())
}

// one reads the first row; ErrNotFound without any.
func one[T any](q queryer, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	all, err := list(q, scan, query, args...)
	if err == nil && len(all) == 0 {
		err = storage.ErrNotFound
	}
	if err != nil {
		var none T
		return none, err
	}
	return all[0], nil
}

// exists tells whether a query has a row.
func exists(q queryer, query string, args ...any) (bool, error) {
	_, err := one(q, column[int64], query, args...)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// change runs fn in a transaction and returns its result when that is durable.
func change[T any](ctx context.Context, s *Store, fn func(*tx) (T, error)) (T, error) {
	var out T
	err := s.w.do(ctx, func(t *tx) (err error) {
		out, err = fn(t)
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return out, nil
}

func scanState(r scanner) (st state, err error) {
	var hash []byte
	err = r.Scan(&st.generation, &st.sequence, &st.revision, &st.lastEpoch, &st.auditSeq, &hash)
	copy(st.auditHash[:], hash)
	return st, err
}

func (t *tx) loadState() (err error) {
	t.st, err = one(t, scanState, `SELECT generation, sequence, revision, last_epoch, audit_seq, audit_hash FROM state WHERE id = 1`)
	return err
}

func (t *tx) saveState(before state) error {
	if t.st == before {
		return nil
	}
	_, err := t.exec(`UPDATE state SET generation = ?, sequence = ?, revision = ?, last_epoch = ?, audit_seq = ?, audit_hash = ? WHERE id = 1`,
		t.st.generation, t.st.sequence, t.st.revision, t.st.lastEpoch, t.st.auditSeq, t.st.auditHash[:])
	return err
}

// State implements [storage.Store]. Who follows the table asks it each time, so
// that nobody follows a file that others do not see.
func (s *Store) State(ctx context.Context) (storage.State, error) {
	if err := s.file.same(); err != nil {
		return storage.State{}, err
	}
	return one(s.reader(ctx), func(r scanner) (st storage.State, err error) {
		err = r.Scan(&st.Generation, &st.Sequence, &st.Audit, &st.Revision)
		return st, err
	}, `SELECT generation, sequence, audit_seq, revision FROM state WHERE id = 1`)
}

// newGeneration names a history: 16 random bytes in base64url.
func newGeneration() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// milli is how a time is stored; 0 is never.
func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// noBytes is the empty BLOB; a nil slice would be NULL.
var noBytes = []byte{}
