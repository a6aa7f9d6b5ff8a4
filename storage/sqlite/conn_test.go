package sqlite

import (
	"reflect"
	"testing"

	"macaroond/storage"
)

// What a column holds goes into a variable of its kind, or nowhere: nothing is
// cut, converted or left as it was.
func TestAssign(t *testing.T) {
	n, set := int64(7), new(int64)
	for _, c := range []struct {
		dest, value, want any // want nil: refused
	}{
		{new(string), "a", "a"},
		{new(storage.Grain), int64(2), storage.Grain(2)},
		{new(int64), int64(-1), int64(-1)},
		{new(uint32), int64(0), uint32(0)},
		{new(uint32), int64(1<<32 - 1), uint32(1<<32 - 1)},
		{new([]byte), []byte{1}, []byte{1}},
		{new(bool), int64(1), true},
		{new(*int64), int64(7), &n},
		{&set, nil, (*int64)(nil)},

		{new(string), int64(1), nil},
		{new(string), []byte("a"), nil},
		{new(string), nil, nil},
		{new(int64), "1", nil},
		{new(int64), nil, nil},
		{new(int64), 1.5, nil},
		{new(int32), int64(1 << 31), nil},
		{new(uint32), int64(1 << 32), nil},
		{new(uint64), int64(-1), nil},
		{new([]byte), "a", nil},
		{new([]byte), nil, nil},
		{new([]int64), []byte{1}, nil},
		{new(bool), int64(2), nil},
		{new(*int64), "7", nil},
	} {
		ok := assign(reflect.ValueOf(c.dest).Elem(), c.value)
		if ok != (c.want != nil) {
			t.Errorf("%T from %#v: %v", c.dest, c.value, ok)
		} else if got := reflect.ValueOf(c.dest).Elem().Interface(); ok && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%T from %#v: got %#v", c.dest, c.value, got)
		}
	}
}

// The writer's own statements: what it binds and reads is what readers read.
func TestConnReadsWhatItWrote(t *testing.T) {
	s := openTest(t, t.TempDir()+"/db", Options{})
	err := s.w.do(t.Context(), func(tx *tx) error {
		type row struct {
			text  string
			blob  []byte
			n     int64
			empty *int64
		}
		got, err := one(tx, func(r scanner) (v row, err error) { err = r.Scan(&v.text, &v.blob, &v.n, &v.empty); return v, err },
			`SELECT ?, ?, ?, NULL WHERE ? AND ?`, "text", []byte{0, 255}, uint32(9), true, storage.Grain(1))
		if err != nil || got.text != "text" || string(got.blob) != "\x00\xff" || got.n != 9 || got.empty != nil {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := one(tx, func(r scanner) (n int64, err error) { return n, r.Scan(&n, &n) }, `SELECT 1`); err == nil {
			t.Error("one column goes into two variables")
		}
		if _, err := one(tx, column[int64], `SELECT '1'`); err == nil {
			t.Error("a text goes into a number")
		}
		if _, err := tx.exec(`SELECT ?`, struct{}{}); err == nil {
			t.Error("a struct is bound")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// What ends before its last row is an error, for readers and for changes: half
// a list of what is revoked is none.
func TestListIsWhole(t *testing.T) {
	s := openTest(t, t.TempDir()+"/db", Options{})
	check := func(name string, q queryer) {
		for _, query := range []string{
			`SELECT n FROM nowhere`,
			`SELECT abs(-9223372036854775808)`,                              // it overflows
			`SELECT abs(column1) FROM (VALUES (1), (-9223372036854775808))`, // in the second row
			`SELECT column1 FROM (VALUES (1), ('a'))`,
		} {
			n, err := list(q, column[int64], query)
			if err == nil {
				t.Errorf("%s: %s: %v", name, query, n)
			}
		}
	}
	check("reader", s.reader(t.Context()))
	if err := s.w.do(t.Context(), func(tx *tx) error { check("change", tx); return nil }); err != nil {
		t.Error(err)
	}
}
