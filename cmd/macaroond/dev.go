package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
)

// announce says where the service listens; with --dev also whom to log in as,
// and what to try.
func (a *authority) announce() {
	url := a.url()
	out := a.env.Stdout
	if !a.cfg.dev {
		fmt.Fprintf(out, "macaroond listens on %s\n", url)
		return
	}
	fmt.Fprintf(out, `macaroond listens on %[1]s

  try-out mode: data and keys are in %[2]s, only this machine can connect
  user demo, password %[3]s

Next, in another terminal:
  %[4]s login --server %[1]s --password-file %[5]s demo
  %[4]s attenuate --for 5m --audience photos --method GET --path '/photos/**' | %[4]s inspect
  %[4]s devices

`, url, a.cfg.DataDir, a.demo, holderCommand(), filepath.Join(a.cfg.DataDir, "demo-password"))
}

// demoUser makes the try-out user with a password of its own: no two
// installations share one. It is kept beside the key, mode 0600.
func (a *authority) demoUser(ctx context.Context) (string, error) {
	path := filepath.Join(a.cfg.DataDir, "demo-password")
	b, err := os.ReadFile(path)
	password := strings.TrimSpace(string(b))
	if errors.Is(err, fs.ErrNotExist) {
		password = strings.ToLower(rand.Text()[:16])
		err = writeNew(path, password+"\n")
	}
	if err != nil {
		return "", err
	}
	_, err = a.svc.FindUser(ctx, "demo")
	if errors.Is(err, storage.ErrNotFound) {
		_, err = a.svc.AddUser(ctx, api.UserIn{Username: "demo", Password: password}, service.ActorOperator, service.Source{})
	}
	return password, err
}

// holderCommand is how the holder's command is started from here: the one
// beside this executable, if it is there.
func holderCommand() string {
	self, err := os.Executable()
	if err != nil {
		return "macaroon"
	}
	path := filepath.Join(filepath.Dir(self), "macaroon")
	if _, err := os.Stat(path); err != nil {
		return "macaroon"
	}
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, path); err == nil && len(rel) < len(path) {
			return rel
		}
	}
	return path
}
