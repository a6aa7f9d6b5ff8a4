package main

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/keyring"
	"macaroond/service/token"
)

// becomes waits until the running server says so of a root.
func (s *site) becomes(what, want string, root string) {
	s.t.Helper()
	late := time.After(patience)
	for s.answer(root) != want {
		select {
		case <-late:
			s.t.Fatalf("%s: %s, want %s", what, s.answer(root), want)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// minted logs alice in until her root is of that epoch, which the running
// server may not have heard of yet.
func (s *site) minted(epoch uint32) *api.Grant {
	s.t.Helper()
	late := time.After(patience)
	for {
		g := s.login("alice")
		tok, err := token.Parse(g.Token)
		if err != nil {
			s.t.Fatal(err)
		}
		switch got := tok.UnverifiedIdentifier().Epoch; {
		case got == epoch:
			return g
		case got > epoch:
			s.t.Fatalf("minted in epoch %d, want %d", got, epoch)
		}
		select {
		case <-late:
			s.t.Fatalf("never minted in epoch %d", epoch)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Keys are rotated, retired and sealed anew while the server runs. Rotating and
// resealing log nobody out; retiring ends what was minted in the epoch, and
// nothing else.
func TestKeys(t *testing.T) {
	s := newSite(t, nil)
	s.serve()
	s.addUser("alice")
	first := s.minted(1)

	var out struct {
		Number, Resealed uint32
		State            string
		RetiredEpochs    uint32 `json:"retired_epochs"`
	}
	s.must(&out, "", "keys", "rotate")
	if out.Number != 2 || out.State != "signing" {
		t.Errorf("rotated to %+v", out)
	}
	second := s.minted(2)
	for what, g := range map[string]*api.Grant{"of the former epoch": first, "of the new one": second} {
		if c := s.answer(g.Token); c != api.CodeOK {
			t.Errorf("a token %s: %s", what, c)
		}
	}

	s.must(&out, "", "keys", "retire", "1")
	s.becomes("a token of the retired epoch", api.CodeInvalid, first.Token)
	if c := s.answer(second.Token); c != api.CodeOK {
		t.Errorf("a token of the other epoch: %s", c)
	}
	for _, bad := range []struct {
		args []string
		code int
	}{
		{[]string{"keys", "retire", "9"}, 1},
		{[]string{"keys", "retire", "0"}, 2},
		{[]string{"keys", "retire", "x"}, 2},
		{[]string{"keys", "retire"}, 2},
		{[]string{"revoke", "--all", "--token-file", "-"}, 2},
	} {
		if _, code := s.run("", bad.args...); code != bad.code {
			t.Errorf("%v: exit code %d, want %d", bad.args, code, bad.code)
		}
	}
	if c := s.answer(second.Token); c != api.CodeOK {
		t.Errorf("after mistakes: %s", c)
	}

	// The one that signs: another begins in the same moment.
	s.must(&out, "", "keys", "retire", "2")
	s.becomes("a token of the epoch that signed", api.CodeInvalid, second.Token)
	third := s.minted(3)

	// A new key-encryption key: first in the file, then alone.
	path := s.settings["key_file"]
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	next := keyring.NewKeyText() + "\n"
	s.write(path, next)
	for _, args := range [][]string{{"keys", "reseal"}, {"keys", "rotate"}, {"revoke", "--all"}} {
		if _, code := s.run("", args...); code != 1 {
			t.Errorf("%v with a key that opens nothing: exit code %d", args, code)
		}
	}
	s.write(path, next+string(old))
	s.must(&out, "", "keys", "reseal")
	if out.Resealed != 1 {
		t.Errorf("%d resealed", out.Resealed)
	}
	if c := s.answer(third.Token); c != api.CodeOK {
		t.Errorf("after resealing: %s", c)
	}
	s.write(path, next)
	s.end()
	s.serve()
	if c := s.answer(third.Token); c != api.CodeOK {
		t.Errorf("under the new key: %s", c)
	}
	s.end()
	s.write(path, string(old))
	if _, code := s.run("", "serve"); code != 1 {
		t.Errorf("under the former key: exit code %d", code)
	}
	s.write(path, next)
	s.serve()

	s.must(&out, "", "revoke", "--all")
	if out.RetiredEpochs != 1 {
		t.Errorf("%d epochs retired", out.RetiredEpochs)
	}
	s.becomes("a token of anybody", api.CodeInvalid, third.Token)
	if c := s.answer(s.minted(4).Token); c != api.CodeOK {
		t.Errorf("a new login: %s", c)
	}
}

// An epoch that is sealed under a key which the server has not read yet, for the
// key file was changed and then the keys rotated: no token can be minted, and
// /readyz and every login say why. A restart is all that it takes.
func TestRotatedBeforeTheRestart(t *testing.T) {
	s := newSite(t, nil)
	s.serve()
	s.addUser("alice")
	path := s.settings["key_file"]
	old, err := os.ReadFile(path)
	must(t, err)
	s.write(path, keyring.NewKeyText()+"\n"+string(old))
	s.must(nil, "", "keys", "reseal") // of epochs that the server has open: it goes on
	s.login("alice")
	s.ready()
	s.must(nil, "", "keys", "rotate")
	if said := s.unready("keys")["keys"]; !strings.Contains(said, "restarted") {
		t.Errorf("readyz says %q", said)
	}
	_, err = s.client.Login(t.Context(), api.LoginIn{Username: "alice", Password: password, Device: api.DeviceIn{Name: "d"}})
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Code != api.CodeUnavailable || !strings.Contains(p.Detail, "restarted") {
		t.Errorf("a login: %v", err)
	}
	s.end()
	s.serve()
	s.login("alice")
	s.ready()
}
