// Command demo plays the whole story against a real server over HTTP, a line
// for each step, and fails when a step does not go as told. It starts the
// macaroond that stands in .bin (or the one it is given) in a directory of its
// own, and leaves nothing behind.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/token"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binary := filepath.Join(".bin", "macaroond")
	if len(os.Args) > 1 {
		binary = os.Args[1]
	}
	if err := run(ctx, binary); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string) (err error) {
	dir, err := os.MkdirTemp("", "macaroond-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &story{binary: binary, dir: dir}
	stop, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return s.tell(ctx)
}

// story is the server and the people in it.
type story struct {
	binary, dir string
	api         *client.Client
	service     client.Credential
	step        int
}

// start runs the server on a free port and waits for its first line.
func (s *story) start(ctx context.Context) (stop func() error, err error) {
	cmd := exec.CommandContext(ctx, s.binary, "serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir", s.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (make build first)", err)
	}
	stop = func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return cmd.Wait()
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "macaroond listens on "); ok {
			s.api, err = client.New(url, client.Options{})
			return stop, err
		}
	}
	return nil, errors.Join(errors.New("the server did not start"), cmd.Wait())
}

// say prints a step.
func (s *story) say(format string, args ...any) {
	s.step++
	fmt.Printf("%2d. %s\n", s.step, fmt.Sprintf(format, args...))
}

func (s *story) tell(ctx context.Context) error {
	if err := s.addService(ctx); err != nil {
		return err
	}
	s.say("An operator gives the photo service a credential: it may judge tokens for the audience %q.", "photos")

	password, err := os.ReadFile(filepath.Join(s.dir, "demo-password"))
	if err != nil {
		return err
	}
	phone, err := s.api.Login(ctx, api.LoginIn{Username: "demo", Password: strings.TrimSpace(string(password)), Device: api.DeviceIn{Name: "phone"}})
	if err != nil {
		return err
	}
	root, err := token.Parse(phone.Token)
	if err != nil {
		return err
	}
	s.say("demo logs in on a phone and gets a root macaroon of %d characters: for everything, until %s.", len(phone.Token), phone.ExpiresAt.Format("2006-01-02"))

	album, err := client.Narrow(root, client.Narrowing{For: 20 * time.Minute, Audience: "photos", Methods: []string{"GET"}, Paths: []string{"/albums/7/**"}}, time.Now())
	if err != nil {
		return err
	}
	s.say("The phone narrows it offline to reading album 7, for twenty minutes: no request was made.")
	picture, err := client.Narrow(album, client.Narrowing{For: 5 * time.Minute, Paths: []string{"/albums/7/42.jpg"}}, time.Now())
	if err != nil {
		return err
	}
	s.say("A friend who got that link narrows it again, to one picture for five minutes: still no request.")

	for _, c := range []struct {
		t            *token.Token
		method, path string
		want, told   string
	}{
		{picture, "GET", "/albums/7/42.jpg", api.CodeOK, "The picture's token is good for the picture."},
		{picture, "GET", "/albums/7/43.jpg", api.CodeRefused, "It is refused for the next picture."},
		{picture, "DELETE", "/albums/7/42.jpg", api.CodeRefused, "It is refused for deleting."},
		{album, "GET", "/albums/7/43.jpg", api.CodeOK, "The album's token is good for the next picture."},
		{root, "GET", "/albums/7/42.jpg", api.CodeWrongAudience, "The root itself is refused at the photo service: it must not leave the phone."},
	} {
		if err := s.judge(ctx, c.t, c.method, c.path, c.want, c.told); err != nil {
			return err
		}
	}

	grain, err := s.api.Revoke(ctx, client.Credential{}, picture.Text())
	if err != nil {
		return err
	}
	s.say("The friend's picture token is revoked by posting it: that kills a %s.", grain)
	if err := s.judge(ctx, picture, "GET", "/albums/7/42.jpg", api.CodeRevoked, "The picture's token is dead at once."); err != nil {
		return err
	}
	if err := s.judge(ctx, album, "GET", "/albums/7/42.jpg", api.CodeOK, "The album's token, from which it came, lives on."); err != nil {
		return err
	}

	laptop, err := s.api.Login(ctx, api.LoginIn{Username: "demo", Password: strings.TrimSpace(string(password)), Device: api.DeviceIn{Name: "laptop"}})
	if err != nil {
		return err
	}
	s.say("The phone is lost. demo logs in on a laptop and drops the phone's root key: one call.")
	if err := s.api.RevokeDevice(ctx, client.Bearer(laptop.Token), phone.Device.ID); err != nil {
		return err
	}
	if err := s.judge(ctx, album, "GET", "/albums/7/42.jpg", api.CodeRevoked, "Everything ever derived from the phone's root is dead, whoever holds it."); err != nil {
		return err
	}
	if _, err := s.api.Devices(ctx, client.Bearer(laptop.Token)); err != nil {
		return err
	}
	s.say("The laptop is still logged in. That is all there is to it.")
	return nil
}

// addService runs the operator's command while the server runs.
func (s *story) addService(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, s.binary, "service", "add", "photos", "--serves", "photos", "--data-dir", s.dir, "--json").Output()
	if err != nil {
		return fmt.Errorf("service add: %w", err)
	}
	var svc api.Service
	if err := json.Unmarshal(out, &svc); err != nil {
		return err
	}
	s.service = client.Basic(svc.ID, svc.Secret)
	// The server follows what other processes write; it says when it knows.
	deadline := time.Now().Add(5 * time.Second)
	for {
		_, err := s.api.Introspect(ctx, s.service, "none")
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// judge asks as the photo service would, and checks the answer.
func (s *story) judge(ctx context.Context, t *token.Token, method, path, want, told string) error {
	d, err := s.api.Verify(ctx, s.service, api.VerifyIn{Token: t.Text(), Request: api.Request{Audience: "photos", Method: method, Path: path}})
	if err != nil {
		return err
	}
	if d.Code != want {
		return fmt.Errorf("%s %s: %s (%s), want %s", method, path, d.Code, d.Reason, want)
	}
	s.say("%-74s %s %s -> %s", told, method, path, d.Code)
	return nil
}
