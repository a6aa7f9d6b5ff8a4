package main

import (
	"os"
	"path/filepath"
	"testing"
)

// Of restores in the same second each keeps what was there before it.
func TestSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	name := path + ".before"
	for _, row := range []struct{ was, want string }{{"first", name}, {"second", name + "-2"}, {"third", name + "-3"}} {
		must(t, os.WriteFile(path, []byte(row.was), 0o600)) // no database: its log goes with it
		must(t, os.WriteFile(path+"-wal", []byte(row.was+"'s log"), 0o600))
		former, err := setAside(t.Context(), path, name)
		must(t, err)
		must(t, os.Remove(path))
		if former != row.want {
			t.Errorf("%s, want %s", former, row.want)
		}
		for file, want := range map[string]string{former: row.was, former + "-wal": row.was + "'s log"} {
			if got, err := os.ReadFile(file); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", file, got, err)
			}
		}
	}
}
