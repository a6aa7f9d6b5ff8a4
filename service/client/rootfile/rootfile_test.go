//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package rootfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"macaroond/service/client"
	"macaroond/service/client/rootfile"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func to(next string) func(client.Kept) (string, error) {
	return func(client.Kept) (string, error) { return next, nil }
}

// entries are the names in a directory.
func entries(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func symlink(t *testing.T, to, name string) string {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// soon is a context for who must not get in.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// All names of a file lead to the one file, and are locked by the one lock.
func TestLinks(t *testing.T) {
	for name, link := range map[string]func(t *testing.T, dir string) string{
		"to the file": func(t *testing.T, dir string) string {
			return symlink(t, filepath.Join(dir, "root"), filepath.Join(t.TempDir(), "name"))
		},
		"to a link": func(t *testing.T, dir string) string {
			one := filepath.Join(t.TempDir(), "one")
			return symlink(t, symlink(t, filepath.Join(dir, "root"), one), filepath.Join(t.TempDir(), "two"))
		},
		"to the directory": func(t *testing.T, dir string) string {
			return filepath.Join(symlink(t, dir, filepath.Join(t.TempDir(), "dir")), "root")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "root")
			write(t, file, "first\n")
			path := link(t, dir)
			f := rootfile.Open(path)
			err := f.Update(t.Context(), func(client.Kept) (string, error) {
				for _, other := range []string{path, file} {
					if err := rootfile.Open(other).Keep(soon(t), "stray"); err == nil {
						t.Errorf("%s has another lock", other)
					}
				}
				return "second", nil
			})
			if err != nil || read(t, file) != "second\n" || read(t, path) != "second\n" {
				t.Errorf("%v; the file has %q, the name leads to %q", err, read(t, file), read(t, path))
			}
			if err := f.Keep(t.Context(), "third"); err != nil || read(t, file) != "third\n" {
				t.Errorf("%v; the file has %q", err, read(t, file))
			}
			if err := rootfile.Replace(path, []byte("fourth\n")); err != nil || read(t, file) != "fourth\n" {
				t.Errorf("%v; the file has %q", err, read(t, file))
			}
			if got := entries(t, dir); got != "root root.lock" {
				t.Errorf("the directory has %s", got)
			}
		})
	}
	t.Run("to nothing", func(t *testing.T) {
		path := symlink(t, filepath.Join(t.TempDir(), "gone"), filepath.Join(t.TempDir(), "name"))
		if err := rootfile.Replace(path, []byte("x")); err == nil || !strings.Contains(err.Error(), path) {
			t.Error(err)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSymlink {
			t.Errorf("%v, %v", info, err)
		}
	})
}

// A login keeps its token in a new file as well, and no renewal of the former root
// that is on its way comes after it.
func TestKeep(t *testing.T) {
	f := rootfile.Open(filepath.Join(t.TempDir(), "root"))
	if err := f.Keep(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	kept := make(chan error, 1)
	err := f.Update(t.Context(), func(client.Kept) (string, error) {
		go func() { kept <- f.Keep(t.Context(), "login") }()
		return "second", nil
	})
	if err := errors.Join(err, <-kept); err != nil {
		t.Fatal(err)
	}
	if k, err := f.Load(t.Context()); err != nil || k.Token != "login" {
		t.Errorf("%q, %v", k.Token, err)
	}
}

// A renewal that fails, or that cannot be kept, leaves nothing behind; and nobody
// is asked for what cannot be kept.
func TestUpdateThatFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "root")
	write(t, file, "first\n")
	why := errors.New("no")
	if err := rootfile.Open(file).Update(t.Context(), func(client.Kept) (string, error) { return "second", why }); !errors.Is(err, why) {
		t.Error(err)
	}
	if err := rootfile.Open(file).Update(t.Context(), to("first")); err != nil {
		t.Error(err)
	}
	if got := entries(t, dir); got != "root root.lock" || read(t, file) != "first\n" {
		t.Errorf("the directory has %s, the file %q", got, read(t, file))
	}
}

// What a writer left that was killed goes before the next one writes, whatever
// becomes of that, and beside the file itself. Other files' stay.
func TestSweeps(t *testing.T) {
	const others = ".other.new-1 .root.new-1.new-2 .root.newer-1"
	why := errors.New("no")
	for name, change := range map[string]func(rootfile.File) error{
		"Keep":   func(f rootfile.File) error { return f.Keep(t.Context(), "second") },
		"Update": func(f rootfile.File) error { return f.Update(t.Context(), to("second")) },
		"Update that fails": func(f rootfile.File) error {
			err := f.Update(t.Context(), func(client.Kept) (string, error) { return "", why })
			if errors.Is(err, why) {
				err = nil
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "root")
			write(t, file, "first\n")
			for _, left := range append(strings.Fields(others), ".root.new-1", ".root.new-23") {
				write(t, filepath.Join(dir, left), "a token\n")
			}
			if err := change(rootfile.Open(symlink(t, file, filepath.Join(t.TempDir(), "name")))); err != nil {
				t.Error(err)
			}
			if got, want := entries(t, dir), others+" root root.lock"; got != want {
				t.Errorf("the directory has %s, want %s", got, want)
			}
		})
	}
}

// The owner can read the file after a process of root has replaced it.
func TestOwnerStays(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files to others")
	}
	file := filepath.Join(t.TempDir(), "root")
	write(t, file, "first\n")
	if err := os.Chown(file, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for _, replace := range []func() error{
		func() error { return rootfile.Replace(file, []byte("x\n")) },
		func() error { return rootfile.Open(file).Update(t.Context(), to("second")) },
	} {
		if err := replace(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 65534 || owner.Gid != 65534 || info.Mode().Perm() != 0o600 {
			t.Errorf("owner %d:%d, mode %v", owner.Uid, owner.Gid, info.Mode())
		}
	}
}
