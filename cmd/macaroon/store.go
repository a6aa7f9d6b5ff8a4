package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"macaroond/service/api"
	"macaroond/service/client/rootfile"
)

// store is where root tokens are kept between runs: one file that nobody else
// may read, in a directory that nobody else may write.
type store struct{ dir string }

// contents is the store's file. Servers are keyed by client.URL's spelling.
type contents struct {
	Version int    `json:"version"`
	Default string `json:"default,omitempty"`
	// InstallID names this installation to servers, so that logging in again
	// replaces this device's root key instead of adding a device.
	InstallID string           `json:"install_id"`
	Servers   map[string]login `json:"servers"`
}

// login is what was granted by one server.
type login struct {
	Token     string        `json:"token"`
	User      api.UserRef   `json:"user"`
	Device    api.DeviceRef `json:"device"`
	RootKeyID string        `json:"root_key_id"`
	ExpiresAt api.Time      `json:"expires_at"`
	RenewAt   api.Time      `json:"renew_at,omitzero"`    // half of its life is over then
	PlainHTTP bool          `json:"plain_http,omitempty"` // permitted at login
}

const (
	storeVersion = 1
	storeFile    = "credentials.json"
	maxStore     = 4 << 20
)

// store finds the directory by the XDG base directory specification, by which
// a relative XDG_CONFIG_HOME is to be ignored.
func (a *app) store() (store, error) {
	if dir := a.getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return store{filepath.Join(dir, "macaroon")}, nil
	}
	home := a.getenv("HOME")
	if home == "" && runtime.GOOS == "windows" {
		home = a.getenv("USERPROFILE")
	}
	if !filepath.IsAbs(home) {
		return store{}, errors.New("no place for the credential store: set HOME or XDG_CONFIG_HOME")
	}
	return store{filepath.Join(home, ".config", "macaroon")}, nil
}

func (s store) path() string { return filepath.Join(s.dir, storeFile) }

// file is the path of the file itself, which may lie elsewhere, on an encrypted
// disk say: then path is a symbolic link, and stays one. When that leads nowhere
// the disk may not be there, and nothing is written in its place.
func (s store) file() (string, error) {
	file, err := filepath.EvalSymlinks(s.path())
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	if target, err := os.Readlink(s.path()); err == nil {
		return "", fmt.Errorf("the credential store %s is a link to %s, which is not there; mount what is missing, or remove the link", s.path(), target)
	}
	return s.path(), nil
}

// read gives what is stored. No file is an empty store.
func (s store) read() (contents, error) {
	empty := contents{Version: storeVersion, Servers: map[string]login{}}
	path, err := s.file()
	if err != nil {
		return contents{}, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return contents{}, fmt.Errorf("the credential store: %w", err)
	}
	defer f.Close()
	for _, dir := range []string{s.dir, filepath.Dir(path)} {
		if err := private(f, dir); err != nil {
			return contents{}, err
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxStore+1))
	if err != nil {
		return contents{}, fmt.Errorf("the credential store: %w", err)
	}
	var c contents
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields() // a newer macaroon's, which writing back would lose
	// The text of a decoding error may quote what is stored.
	if d.Decode(&c) != nil || d.More() || len(b) > maxStore || c.Version != storeVersion {
		return contents{}, fmt.Errorf("the credential store %s is damaged, or a newer macaroon's; move it away and log in again", s.path())
	}
	if c.Servers == nil {
		c.Servers = empty.Servers
	}
	return c, nil
}

// private refuses a file that others can read, for they may have the tokens,
// and a directory that others can write, for the file may be theirs. (The
// permission bits of Windows say nothing of the kind.)
func private(f *os.File, dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	file, err := f.Stat()
	if err != nil {
		return fmt.Errorf("the credential store: %w", err)
	}
	if mode := file.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("the credential store %s is open to others (mode %04o), who may have copied its tokens; "+
			"log in again after removing it, or chmod 600 it if you know better", f.Name(), mode)
	}
	parent, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("the credential store: %w", err)
	}
	if mode := parent.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("the directory of the credential store, %s, can be written by others (mode %04o); chmod 700 it", dir, mode)
	}
	return nil
}

// update changes what is stored: whole or not at all, and never across another
// update by a second run, for which it waits until ctx ends.
func (s store) update(ctx context.Context, change func(*contents)) error {
	return s.change(ctx, func(c *contents) error { change(c); return nil })
}

// update changes the store, and says so when that takes another run's end.
func (a *app) update(ctx context.Context, change func(*contents)) error {
	s, err := a.store()
	if err != nil {
		return err
	}
	return a.waiting("another macaroon to be done with "+s.dir, func() error { return s.update(ctx, change) })
}

// change is update by what may fail, and then changes nothing.
func (s store) change(ctx context.Context, change func(*contents) error) (err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("the credential store: %w", err)
	}
	unlock, err := rootfile.Lock(ctx, filepath.Join(s.dir, "lock"))
	if err != nil {
		return fmt.Errorf("locking the credential store: %w", err)
	}
	defer unlock()
	rootfile.Sweep(s.path())
	c, err := s.read()
	if err != nil {
		return err
	}
	if c.InstallID == "" {
		var b [16]byte
		rand.Read(b[:])
		c.InstallID = base64.RawURLEncoding.EncodeToString(b[:])
	}
	if err := change(&c); err != nil {
		return err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("the credential store: %w", err)
	}
	path, err := s.file()
	if err != nil {
		return err
	}
	if err := rootfile.Replace(path, append(b, '\n')); err != nil {
		return fmt.Errorf("the credential store: %w", err)
	}
	return nil
}

// forget removes the login at a server. The default goes with it, unless one
// other login is left, which is then the default.
func (c *contents) forget(server string) {
	delete(c.Servers, server)
	if c.Default != server {
		return
	}
	c.Default = ""
	if len(c.Servers) == 1 {
		for only := range c.Servers {
			c.Default = only
		}
	}
}
