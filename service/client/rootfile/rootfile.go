// Package rootfile keeps a device's root token in a file that several
// processes share, as `macaroon login --save-to FILE` writes it: one line.
//
// Why it can be trusted: the file is replaced whole and durably, by one process
// at a time, before anybody uses what is in it. A process that dies in between
// leaves the predecessor, which the authority renews to the same successor, and
// perhaps a temporary file, which the next one removes.
// It is refused when others on the machine can read it. A link to it is
// another name of it, with the same lock.
//
// What it leaves to others: when to renew (client.Session), and hardware that
// keeps secrets better than a file does.
package rootfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"macaroond/service/client"
)

// maxFile bounds the file in bytes; a token has at most 4096.
const maxFile = 16 << 10

// File implements [client.RootStore].
type File struct{ path string }

// Open names the file. A lock lies beside it.
func Open(path string) File { return File{path} }

// Load reads the token. Since is when the file was written.
func (f File) Load(context.Context) (client.Kept, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return client.Kept{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return client.Kept{}, err
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return client.Kept{}, fmt.Errorf("%s is open to others (mode %04o), who may have copied the root token in it: chmod 600 it, and log in again", f.path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is too long to be a token", f.path)
	}
	return client.Kept{Token: strings.TrimSpace(string(b)), Since: info.ModTime()}, err
}

// Update replaces the token while no other process does. That it can be replaced
// is known before renew is called.
func (f File) Update(ctx context.Context, renew func(client.Kept) (string, error)) error {
	return f.locked(ctx, func(f File) error {
		kept, err := f.Load(ctx)
		if err != nil {
			return err
		}
		r, err := begin(f.path)
		if err != nil {
			return err
		}
		defer r.drop()
		next, err := renew(kept)
		if err != nil {
			return err
		}
		if next == kept.Token { // whoever wrote it may have died before it was durable
			return syncDir(f.path)
		}
		return r.finish([]byte(next + "\n"))
	})
}

// Keep writes the token of a new login, whatever is in the file and whether there
// is one, while no other process renews what was there.
func (f File) Keep(ctx context.Context, token string) error {
	return f.locked(ctx, func(f File) error { return Replace(f.path, []byte(token+"\n")) })
}

// locked does what is to be done by one process at a time, with the file itself:
// by whatever name a process knows it, the lock is the same.
func (f File) locked(ctx context.Context, do func(File) error) error {
	path, err := behind(f.path)
	if err != nil {
		return err
	}
	unlock, err := Lock(ctx, path+".lock")
	if err != nil {
		return fmt.Errorf("locking %s: %w", f.path, err)
	}
	defer unlock()
	Sweep(path)
	return do(File{path})
}

// Sweep removes what writers of the file at path left when they were killed:
// whole tokens, perhaps. It is for who has the file's lock: nobody else writes then.
func Sweep(path string) {
	path, err := behind(path)
	if err != nil {
		return
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		number, ours := strings.CutPrefix(name, temporary(path))
		if !ours || strings.Trim(number, "0123456789") != "" { // another file's, whose name begins like this
			continue
		}
		left := filepath.Join(dir.Name(), name)
		if info, err := os.Lstat(left); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) >= abandoned {
			os.Remove(left)
		}
	}
}

// temporary is what the names of files begin with that are to take path's place;
// os.CreateTemp adds a number.
func temporary(path string) string { return "." + filepath.Base(path) + ".new-" }

// Replaceable is an error when [Replace] could not write there.
func Replaceable(path string) error {
	path, err := behind(path)
	if err != nil {
		return err
	}
	r, err := begin(path)
	if err != nil {
		return err
	}
	r.drop()
	return nil
}

// Replace writes a file that only its owner can read, durably, and then gives
// it its name: whoever reads sees the old one or the new one. Of a link it is the
// file behind it, and the link stays. The owner stays, too, or it is an error.
// Where others write the file, it is for who has the lock.
func Replace(path string, b []byte) error {
	path, err := behind(path)
	if err != nil {
		return err
	}
	r, err := begin(path)
	if err != nil {
		return err
	}
	defer r.drop()
	return r.finish(b)
}

// behind is the file that a name leads to, which need not be there, without links.
func behind(path string) (string, error) {
	file, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("%s is a link that leads nowhere", path)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

// replacement is a file that has no name yet but a temporary one.
type replacement struct {
	file *os.File
	path string
	done bool
}

func begin(path string) (*replacement, error) {
	file, err := os.CreateTemp(filepath.Dir(path), temporary(path)+"*") // mode 0600
	if err != nil {
		return nil, err
	}
	r := &replacement{file: file, path: path}
	if err := keepOwner(file, path); err != nil {
		r.drop()
		return nil, err
	}
	return r, nil
}

func (r *replacement) finish(b []byte) error {
	_, err := r.file.Write(b)
	if err == nil {
		err = r.file.Sync()
	}
	if e := r.file.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(r.file.Name(), r.path)
	}
	if err != nil {
		return err
	}
	r.done = true
	return syncDir(r.path)
}

// drop leaves nothing behind but what is finished.
func (r *replacement) drop() {
	if !r.done {
		r.file.Close()
		os.Remove(r.file.Name())
	}
}
