package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
)

// Policies by command, while the server runs: it acts on them within its follow
// interval, they survive a restart, and the commands work when nobody else can
// do anything.
func TestPolicyCommands(t *testing.T) {
	s := newSite(t, nil)
	s.serve()
	s.addUser("alice")
	var bob api.User
	s.must(&bob, password, "user", "add", "bob", "--role", "admin", "--password-file", "-")
	alice, chief := s.login("alice"), s.login("bob")

	var made api.Policy
	s.must(&made, "", "policy", "add", "--user", "alice", "--caveat", "audience photos", "--caveat", "method GET", "--reason", "INC-42", "--for", "24h")
	if made.Target.User != alice.User.ID || len(made.Caveats) != 2 || made.ExpiresAt == nil || made.ExpiresAt.Sub(made.CreatedAt.Time) > 24*time.Hour+time.Second {
		t.Errorf("%+v", made)
	}
	s.becomes("alice, with a policy", api.CodeForbidden, alice.Token)
	if c := s.answer(chief.Token); c != api.CodeOK {
		t.Errorf("bob: %s", c)
	}
	s.end()
	s.serve()
	if c := s.answer(alice.Token); c != api.CodeForbidden {
		t.Errorf("after a restart: %s", c)
	}
	s.must(nil, "", "policy", "remove", made.ID)
	s.becomes("alice, without it", api.CodeOK, alice.Token)

	// Everybody is shut out, administrators too, but for the operator.
	var all api.Policy
	s.must(&all, "", "policy", "add", "--everyone", "--caveat", "audience photos", "--reason", "r")
	s.becomes("bob", api.CodeForbidden, chief.Token)
	if err := s.client.RemovePolicy(t.Context(), client.Bearer(chief.Token), all.ID); s.code(err) != api.CodeForbidden {
		t.Errorf("an administrator's removal: %v", err)
	}
	var list api.Policies
	s.must(&list, "", "policy", "list")
	if len(list.Policies) != 1 || list.Policies[0].ID != all.ID || !list.Policies[0].Target.Everyone {
		t.Errorf("%+v", list)
	}
	s.must(nil, "", "policy", "add", "--device", alice.Device.ID, "--caveat", "client-ip 192.0.2.0/24", "--reason", "r")
	s.must(nil, "", "policy", "remove", all.ID)
	s.becomes("bob, after it", api.CodeOK, chief.Token)
	if c := s.answer(alice.Token); c != api.CodeForbidden {
		t.Errorf("alice's device: %s", c)
	}

	// A service's own tokens are named by its id.
	var photos struct{ ID string }
	s.must(&photos, "", "service", "add", "photos", "--calls", "photos")
	var of api.Policy
	s.must(&of, "", "policy", "add", "--user", photos.ID, "--caveat", "method GET", "--reason", "r")
	if of.Target.User != photos.ID {
		t.Errorf("%+v", of)
	}
	if out, code := s.run("", "policy", "list"); code != exitOK || !strings.Contains(out, "  user "+photos.ID+"  ") || !strings.Contains(out, "  device "+alice.Device.ID+"  ") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out, code := s.run("", "policy", "remove", of.ID); code != exitOK || !strings.HasPrefix(out, "removed "+of.ID+"; ") {
		t.Errorf("exit code %d: %s", code, out)
	}

	for _, bad := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"policy", "add", "--caveat", "method GET", "--reason", "r"}, 2, ""},
		{[]string{"policy", "add", "--everyone", "--user", "alice", "--caveat", "method GET", "--reason", "r"}, 2, ""},
		{[]string{"policy", "add", "--everyone", "--reason", "r"}, 2, "--caveat"},
		{[]string{"policy", "add", "--everyone", "--caveat", "method GET"}, 2, "--reason"},
		{[]string{"policy", "add", "--everyone", "--caveat", "note x", "--reason", "r"}, 2, "--caveat"},
		{[]string{"policy", "add", "--everyone", "--caveat", "method GET", "--reason", "r", "--for", "-1h"}, 2, "--for is whole seconds"},
		{[]string{"policy", "add", "--everyone", "--caveat", "method GET", "--reason", "r", "--for", "0"}, 2, "--for is whole seconds"},
		{[]string{"policy", "add", "--everyone", "--caveat", "method GET", "--reason", "r", "--for", "1.5s"}, 2, "--for is whole seconds"},
		{[]string{"policy", "add", "--user", "nobody", "--caveat", "method GET", "--reason", "r"}, 1, "nobody"},
		{[]string{"policy", "add", "--user", "svc_0123456789abcdef", "--caveat", "method GET", "--reason", "r"}, 1, "there is no user svc_0123456789abcdef"},
		{[]string{"policy", "add", "--device", "dev_0123456789abcdef", "--caveat", "method GET", "--reason", "r"}, 1, "there is no device dev_0123456789abcdef"},
		{[]string{"policy", "remove", "pol_0123456789abcdef"}, 1, `there is no policy "pol_0123456789abcdef"`},
		{[]string{"policy", "remove"}, 2, "usage: "},
	} {
		before := len(s.log.String())
		_, code := s.run("", bad.args...)
		if said := s.log.String()[before:]; code != bad.code || !strings.Contains(said, bad.says) {
			t.Errorf("%v: exit code %d, want %d: %s", bad.args, code, bad.code, said)
		}
	}
	s.must(&list, "", "policy", "list")
	if len(list.Policies) != 1 {
		t.Errorf("after mistakes: %+v", list)
	}
}

// Formats: what cannot be accepted is a mistake in the configuration. (This release
// knows one format, and so there is nothing yet that can.)
func TestAcceptFormats(t *testing.T) {
	for _, row := range []struct{ bad, says string }{
		{"m1", "want FORMAT=TIME"},
		{"m1=tomorrow", "the time is not as RFC 3339 has it, in UTC"},
		{"m1=2027-01-31T00:00:00+01:00", "the time is not as RFC 3339 has it, in UTC"},
		{"=", "the time is not as RFC 3339 has it, in UTC"},
		{"=2027-01-31T00:00:00Z", `this release knows no format ""`},
		{"m0=2027-01-31T00:00:00Z", `this release knows no format "m0"`},
		{"m1=2027-01-31T00:00:00Z", "m1 is the format that is minted in: it has no end"},
	} {
		_, err := configured([]string{"accept_formats=" + row.bad})
		checkSetting(t, "accept_formats="+row.bad, err, false)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q: %s", row.bad, row.says)) {
			t.Errorf("%s: %v, want %s", row.bad, err, row.says)
		}
	}
}

// Whoever asks at all times, with tokens of every epoch, notices nothing of keys
// that are rotated again and again and sealed anew under another key-encryption
// key meanwhile. (What rotates on schedule is the same verb; a schedule is in
// hours: see TestRotateWhenDue.)
func TestRotationLogsNobodyOut(t *testing.T) {
	s := newSite(t, nil)
	s.serve()
	s.addUser("alice")
	roots := []string{s.minted(1).Token}
	var held atomic.Pointer[[]string]
	first := append([]string{}, roots...)
	held.Store(&first)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asking sync.WaitGroup
	var answered atomic.Int64
	for range 4 {
		asking.Go(func() {
			for ctx.Err() == nil {
				for _, root := range *held.Load() {
					_, err := s.client.Devices(ctx, client.Bearer(root))
					if ctx.Err() != nil {
						return
					}
					if err != nil {
						t.Errorf("logged out: %v", err)
						return
					}
					answered.Add(1)
				}
			}
		})
	}
	for epoch := uint32(2); epoch <= 5; epoch++ {
		s.must(nil, "", "keys", "rotate")
		roots = append(roots, s.minted(epoch).Token)
		now := append([]string{}, roots...)
		held.Store(&now)
	}
	s.must(nil, "", "keys", "reseal")
	for range 2 {
		n := answered.Load()
		late := time.After(patience)
		for answered.Load() < n+int64(4*len(roots)) {
			select {
			case <-late:
				t.Fatal("nobody is answered")
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	stop()
	asking.Wait()
	if answered.Load() == 0 {
		t.Error("nobody asked")
	}
}
