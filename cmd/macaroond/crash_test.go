package main

import (
	"fmt"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/api"
	"macaroond/service/client"
)

// What was answered is there after kill -9, whatever it was.
func TestKilled(t *testing.T) {
	s := newSite(t, nil)
	s.spawn()
	s.addUser("alice")
	kept := s.login("alice").Token
	for n := range 3 {
		fresh := s.login("alice").Token
		s.kill()
		s.spawn()
		if got := s.answer(fresh); got != api.CodeOK {
			t.Fatalf("login %d was lost: %s", n, got)
		}

		branch := narrow(t, kept, "audience macaroond", fmt.Sprintf("note %d", n))
		if got := s.answer(branch); got != api.CodeOK {
			t.Fatal(got)
		}
		_, err := s.client.Revoke(t.Context(), client.Credential{}, branch)
		must(t, err)
		s.kill()
		s.spawn()
		if got := s.answer(branch); got != api.CodeRevoked {
			t.Fatalf("revoking branch %d was lost: %s", n, got)
		}

		ticket := narrow(t, kept, caveats.TimeBefore(time.Now().Add(time.Minute)).String(), "audience macaroond", fmt.Sprintf("once %d", n))
		if got := s.answer(ticket); got != api.CodeOK {
			t.Fatal(got)
		}
		s.kill()
		s.spawn()
		if got := s.answer(ticket); got != api.CodeReplayed {
			t.Fatalf("one-time token %d is good again: %s", n, got)
		}

		must(t, s.client.Logout(t.Context(), client.Bearer(fresh)))
		s.kill()
		s.spawn()
		if got := s.answer(fresh); got != api.CodeRevoked {
			t.Fatalf("logout %d was lost: %s", n, got)
		}
		if got := s.answer(kept); got != api.CodeOK {
			t.Fatalf("another device died: %s", got)
		}
	}
	// A command's, too: it ends by itself, the server is killed right after.
	s.must(nil, "", "user", "suspend", "alice")
	s.kill()
	s.spawn()
	if got := s.answer(kept); got != api.CodeRevoked {
		t.Errorf("the suspension was lost: %s", got)
	}
	s.must(nil, "", "audit", "verify")
	if code := s.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
