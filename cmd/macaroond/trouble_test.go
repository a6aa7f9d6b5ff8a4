package main

import (
	"database/sql"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
)

// changes are requests that write: each gives the answer's code.
func (s *site) changes(root string) map[string]func() string {
	return map[string]func() string{
		"login": func() string {
			_, err := s.client.Login(s.t.Context(), api.LoginIn{Username: "alice", Password: password, Device: api.DeviceIn{Name: "d"}})
			return s.code(err)
		},
		"logout": func() string { return s.code(s.client.Logout(s.t.Context(), client.Bearer(root))) },
		"revoke": func() string {
			_, err := s.client.Revoke(s.t.Context(), client.Credential{}, narrow(s.t, root, "audience photos"))
			return s.code(err)
		},
	}
}

// refuseAll sends every change: none may succeed, and each says "unavailable".
func (s *site) refuseAll(root string) {
	s.t.Helper()
	var wg sync.WaitGroup
	for name, change := range s.changes(root) {
		wg.Go(func() {
			if got := change(); got != api.CodeUnavailable {
				s.t.Errorf("%s: %s, want %s", name, got, api.CodeUnavailable)
			}
		})
	}
	wg.Wait()
}

// While another process holds the write lock, nothing is answered as done;
// verdicts go on.
func TestLocked(t *testing.T) {
	s := newSite(t, nil)
	s.serve()
	s.addUser("alice")
	root := s.login("alice").Token
	other, err := sql.Open("sqlite", filepath.Join(s.dir, "macaroond.db")+"?_txlock=immediate")
	must(t, err)
	defer other.Close()
	lock, err := other.Begin()
	must(t, err)
	s.refuseAll(root)
	if got := s.answer(root); got != api.CodeOK {
		t.Errorf("a verdict: %s", got)
	}
	for _, reads := range [][]string{{"user", "list"}, {"audit", "verify"}, {"backup", filepath.Join(t.TempDir(), "backup")}} {
		s.must(nil, "", reads...)
	}
	if said := s.unready("database")["database"]; !strings.Contains(said, "end the one that holds it") {
		t.Errorf("readyz says %q", said)
	}
	if !strings.Contains(s.log.String(), "database is locked by another process: end the one that holds it") {
		t.Errorf("no word for the operator:\n%s", s.log)
	}
	must(t, lock.Rollback())
	s.ready() // also when nobody asks for anything
	if got := s.changes(root)["logout"](); got != api.CodeOK {
		t.Errorf("afterwards: %s", got)
	}
	if got := s.answer(root); got != api.CodeRevoked {
		t.Error(got)
	}
}

// A change that the database does not take is told by the command, with the cause,
// and is never said to be done. (What refuses it here is an audit entry, which
// each change has.)
func TestUnmadeChange(t *testing.T) {
	s := newSite(t, nil)
	s.serve()
	s.addUser("alice")
	s.addUser("bob")
	s.must(nil, "", "user", "suspend", "bob")
	grant := s.login("alice")
	var svc api.Service
	s.must(&svc, "", "service", "add", "photos")
	var policy api.Policy
	s.must(&policy, "", "policy", "add", "--user", "alice", "--caveat", "method GET", "--reason", "r")
	s.end()
	db, err := sql.Open("sqlite", filepath.Join(s.dir, "macaroond.db"))
	must(t, err)
	defer db.Close()
	_, err = db.Exec(`CREATE TRIGGER deaf BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'the auditor is out'); END`)
	must(t, err)
	for _, command := range []string{
		"user add carol --password-file -", "user suspend alice", "user resume bob", "user passwd alice --password-file -", "user recovery-codes alice",
		"user role alice admin", "user delete alice",
		"device revoke alice " + grant.Device.ID, "device revoke alice all",
		"service add albums", "service remove photos", "service secret add photos", "service secret remove photos " + svc.SecretID,
		"policy add --everyone --reason r --caveat", "policy remove " + policy.ID,
		"keys rotate", "keys retire 1", "keys reseal", "revoke --all", "revoke --token-file",
	} {
		args, stdin := strings.Fields(command), password
		switch args[len(args)-1] {
		case "--caveat":
			args = append(args, "method GET")
		case "--token-file":
			args, stdin = append(args, "-"), grant.Token
		}
		before := len(s.log.String())
		out, code := s.run(stdin, args...)
		if said := s.log.String()[before:]; code != exitFailed || out != "" || !strings.Contains(said, "the auditor is out") {
			t.Errorf("%s: exit code %d: %q, %q", command, code, out, said)
		}
	}
}

// Output that cannot be written is no success: what is in it may be a secret
// that is kept nowhere else.
func TestUnwritableOutput(t *testing.T) {
	s := newSite(t, nil)
	s.serve()
	s.addUser("alice")
	s.must(nil, "", "service", "add", "photos")
	for _, command := range []string{
		"keys new", "keys list", "keys rotate", "config print", "config check", "doctor", "version",
		"user list", "user role alice none", "user recovery-codes alice", "user suspend alice", "user resume alice", "device list alice", "device revoke alice all",
		"service add albums", "service secret add photos", "service list", "service secret list photos", "policy list", "audit tail", "audit verify",
		"keys reseal", "revoke --all",
	} {
		for _, form := range []string{"", " --json"} {
			log := newRecord()
			code := run(t.Context(), process{
				Args: append(strings.Fields(command+form), "--config", s.file), Stdout: full{}, Stderr: log,
			})
			if command == "service add albums" {
				s.must(nil, "", "service", "remove", "albums") // it was added, and whoever asked is told that something went wrong
			}
			if code != exitFailed || !strings.Contains(log.String(), "writing the output: "+syscall.ENOSPC.Error()) {
				t.Errorf("%s%s: exit code %d: %s", command, form, code, log)
			}
		}
	}
}

// full is a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// A database that cannot be read: no success, and within max_staleness every
// token is refused as one of which nobody knows whether it is revoked.
func TestDamaged(t *testing.T) {
	s := newSite(t, map[string]string{"max_staleness": "1s"})
	s.serve()
	s.addUser("alice")
	root := s.login("alice").Token
	path := filepath.Join(s.dir, "macaroond.db")
	must(t, os.Truncate(path, 0))
	must(t, os.Truncate(path+"-wal", 0))
	var wg sync.WaitGroup
	for name, change := range s.changes(root) {
		wg.Go(func() {
			if got := change(); got == api.CodeOK {
				t.Errorf("%s: succeeded", name)
			}
		})
	}
	wg.Wait()
	got := ""
	for deadline := time.Now().Add(patience); got != api.CodeStale && time.Now().Before(deadline); {
		if got = s.answer(root); got != api.CodeStale && got != api.CodeUnavailable {
			t.Fatalf("%s from a database that is not there\n%s", got, s.log)
		}
	}
	if got != api.CodeStale {
		t.Errorf("%s, want %s", got, api.CodeStale)
	}
	s.unready("database", "revocations")
	resp, err := http.Get(s.url + "/livez")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Error("livez is not about the database")
	}
	resp.Body.Close()
	s.end()
}

// ready waits until /readyz is 200.
func (s *site) ready() {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		h, err := s.client.Ready(s.t.Context())
		must(s.t, err)
		if h.Status == "ok" {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not ready: %v", h.Checks)
		}
	}
}

// unready holds that /readyz is not 200, and fails exactly these checks; it gives
// what is said of them.
func (s *site) unready(checks ...string) map[string]string {
	s.t.Helper()
	h, err := s.client.Ready(s.t.Context())
	must(s.t, err)
	if got := slices.Sorted(maps.Keys(h.Checks)); h.Status == "ok" || !slices.Equal(got, checks) {
		s.t.Errorf("readyz: %v, want %v", h.Checks, checks)
	}
	return h.Checks
}

// A backup is put in the place of the database by hand, under the running server:
// no change is answered as done, and before long every token is refused, for the
// commands beside it revoke in the other file.
func TestReplaced(t *testing.T) {
	s := newSite(t, map[string]string{"max_staleness": "1s"})
	s.serve()
	s.set(map[string]string{"listen": strings.TrimPrefix(s.url, "http://")}) // for doctor
	s.addUser("alice")
	root := s.login("alice").Token
	backup, path := filepath.Join(t.TempDir(), "backup"), filepath.Join(s.dir, "macaroond.db")
	s.must(nil, "", "backup", backup)
	must(t, os.Rename(backup, path))
	for _, suffix := range sidecars {
		must(t, os.Remove(path+suffix))
	}
	s.refuseAll(root)
	if said := s.unready("database")["database"]; !strings.Contains(said, "replaced") {
		t.Errorf("readyz says %q", said)
	}
	s.must(nil, "", "revoke", "--all")
	for deadline := time.Now().Add(patience); s.answer(root) != api.CodeStale; {
		if time.Now().After(deadline) {
			t.Fatalf("%s, want %s", s.answer(root), api.CodeStale)
		}
	}
	if said, code := s.run("", "doctor"); code != exitFailed || !strings.Contains(said, "replaced") {
		t.Errorf("doctor: %d\n%s", code, said)
	}
	s.end()
	s.serve() // from the file that is there
	if got := s.answer(root); got != api.CodeRevoked && got != api.CodeInvalid {
		t.Errorf("after a restart: %s", got)
	}
	s.login("alice")
}
