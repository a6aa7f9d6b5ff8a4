// Package rootfile keeps a device's root token in a file that several
// processes share, as `macaroon login --save-to FILE` writes it: one line.
//
// Why it can be trusted: the file is replaced whole and durably, by one process
// at a time, before anybody uses what is in it. A process that dies in between
// leaves the predecessor, which the authority renews to the same successor.
// It is refused when others on the machine can read it.
//
// What it leaves to others: when to renew (client.Session), and hardware that
// keeps secrets better than a file does.
package rootfile

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

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
		return client.Kept{}, fmt.Errorf("%s is open to others (mode %04o), who may have copied the root token in it", f.path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is too long to be a token", f.path)
	}
	return client.Kept{Token: strings.TrimSpace(string(b)), Since: info.ModTime()}, err
}

// Update replaces the token while no other process does.
func (f File) Update(ctx context.Context, renew func(client.Kept) (string, error)) error {
	unlock, err := Lock(ctx, f.path+".lock")
	if err != nil {
		return fmt.Errorf("locking %s: %w", f.path, err)
	}
	defer unlock()
	kept, err := f.Load(ctx)
	if err != nil {
		return err
	}
	next, err := renew(kept)
	if err != nil || next == kept.Token {
		return err
	}
	return Replace(f.path, []byte(next+"\n"))
}

// Replace writes a file that only its owner can read, durably, and then gives
// it its name: whoever reads sees the old one or the new one.
func Replace(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	if d, e := os.Open(dir); e == nil { // not every system can sync a directory
		d.Sync()
		d.Close()
	}
	return nil
}
