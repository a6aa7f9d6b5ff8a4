package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"reflect"
)

// conn is the writer's connection: the driver itself, with the statements that
// it has prepared. All changes pass through it one after the other, and the
// locks and conversions of database/sql take longer for one than SQLite does.
// One goroutine uses it, and none of its contexts ends.
type conn struct {
	ctx   context.Context
	db    driver.Conn
	stmts map[string]driver.Stmt
	args  []driver.NamedValue // used again: the driver copies what it binds
}

func connect(ctx context.Context, d driver.Driver, dsn string) (*conn, error) {
	db, err := d.Open(dsn)
	if err != nil {
		return nil, err
	}
	return &conn{ctx: ctx, db: db, stmts: map[string]driver.Stmt{}}, nil
}

// close rolls back what was not committed. Its errors have nobody to go to.
func (c *conn) close() {
	for _, s := range c.stmts {
		_ = s.Close()
	}
	_ = c.db.Close()
}

func (c *conn) prepare(query string, args []any) (driver.Stmt, error) {
	s := c.stmts[query]
	if s == nil {
		var err error
		if s, err = c.db.(driver.ConnPrepareContext).PrepareContext(c.ctx, query); err != nil {
			return nil, err
		}
		c.stmts[query] = s
	}
	c.args = c.args[:0]
	for i, arg := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return nil, fmt.Errorf("argument %d: %w", i+1, err)
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return s, nil
}

// exec returns how many rows it changed.
func (c *conn) exec(query string, args []any) (int64, error) {
	s, err := c.prepare(query, args)
	if err != nil {
		return 0, err
	}
	res, err := s.(driver.StmtExecContext).ExecContext(c.ctx, c.args)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (c *conn) query(query string, args []any) (*connRows, error) {
	s, err := c.prepare(query, args)
	if err != nil {
		return nil, err
	}
	r, err := s.(driver.StmtQueryContext).QueryContext(c.ctx, c.args)
	if err != nil {
		return nil, err
	}
	return &connRows{rows: r, row: make([]driver.Value, len(r.Columns()))}, nil
}

// connRows are to a conn what [database/sql.Rows] are to a pool.
type connRows struct {
	rows driver.Rows
	row  []driver.Value
	err  error
}

func (r *connRows) Next() bool {
	if r.err == nil {
		r.err = r.rows.Next(r.row)
	}
	return r.err == nil
}

func (r *connRows) Err() error {
	if r.err == io.EOF {
		return nil
	}
	return r.err
}

func (r *connRows) Close() error { return r.rows.Close() }

// Scan copies the row. Each column must be of its destination's kind, and NULL
// goes into a pointer only: the tables are STRICT.
func (r *connRows) Scan(dest ...any) error {
	if len(dest) != len(r.row) {
		return fmt.Errorf("%d columns into %d", len(r.row), len(dest))
	}
	for i, d := range dest {
		if !assign(reflect.ValueOf(d).Elem(), r.row[i]) {
			return fmt.Errorf("column %d is %T", i+1, r.row[i])
		}
	}
	return nil
}

func assign(to reflect.Value, v driver.Value) bool {
	if to.Kind() == reflect.Pointer {
		if v == nil {
			to.SetZero()
			return true
		}
		to.Set(reflect.New(to.Type().Elem()))
		return assign(to.Elem(), v)
	}
	switch v := v.(type) {
	case string:
		if to.Kind() != reflect.String {
			return false
		}
		to.SetString(v)
	case []byte:
		if to.Kind() != reflect.Slice || to.Type().Elem().Kind() != reflect.Uint8 {
			return false
		}
		to.SetBytes(v)
	case int64:
		switch {
		case to.Kind() == reflect.Bool && v&^1 == 0:
			to.SetBool(v == 1)
		case to.CanInt() && !to.OverflowInt(v):
			to.SetInt(v)
		case to.CanUint() && v >= 0 && !to.OverflowUint(uint64(v)):
			to.SetUint(uint64(v))
		default:
			return false
		}
	default:
		return false
	}
	return true
}
