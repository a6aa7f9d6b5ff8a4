package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/client/rootfile"
	"macaroond/service/token"
)

// An interrupt ends a read that nothing else would.
func TestInterrupted(t *testing.T) {
	for _, args := range [][]string{
		{"inspect"},
		{"attenuate", "--for", "1m"},
		{"revoke"},
		{"verify"},
		{"login", "--server", "https://auth.example", "alice", "--password-file", "-"},
	} {
		r, w := io.Pipe() // nobody writes
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out, errs bytes.Buffer
		code := run(ctx, args, r, &out, &errs, []string{"HOME=" + t.TempDir()})
		if code != exitInterrupted || out.Len() > 0 || !strings.Contains(errs.String(), "interrupted") {
			t.Errorf("%v: exit code %d, %q, %q", args, code, &out, &errs)
		}
		w.Close() // lets the reader end
	}
}

// A job tells by the exit code whether to try again, or to have somebody log in.
func TestExitCodes(t *testing.T) {
	for _, row := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), exitFailed},
		{usagef("x"), exitUsage},
		{fmt.Errorf("x: %w", errNoLogin), exitNoLogin},
		{fmt.Errorf("%w: x", client.ErrUnreachable), exitServer},
		{&client.StatusError{Status: 404}, exitServer},
		{&api.Problem{Status: 401, Code: api.CodeRevoked}, exitNoLogin},
		{&api.Problem{Status: 401, Code: api.CodeBadCredentials}, exitFailed},
		{&api.Problem{Status: 403, Code: api.CodeForbidden}, exitFailed},
		{&api.Problem{Status: 429, Code: api.CodeRateLimited}, exitServer},
		{&api.Problem{Status: 500, Code: api.CodeInternal}, exitServer},
		{&api.Problem{Status: 503, Code: api.CodeStale}, exitServer},
	} {
		if got := codeOf(row.err); got != row.want {
			t.Errorf("%v: exit code %d, want %d", row.err, got, row.want)
		}
	}
}

// An interrupt ends the wait for another run that has the store.
func TestInterruptedStore(t *testing.T) {
	home := t.TempDir()
	s := store{filepath.Join(home, ".config", "macaroon")}
	const url = "https://auth.example"
	if err := s.update(t.Context(), func(c *contents) {
		c.Servers[url] = login{Token: bareRoot(time.Hour), User: api.UserRef{Username: "alice"}}
	}); err != nil {
		t.Fatal(err)
	}
	unlock, err := rootfile.Lock(t.Context(), filepath.Join(s.dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for _, args := range [][]string{
		{"logout", "--only-here", "--server", url},
		{"login", "--server", url, "alice", "--password-file", "-"},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, interrupt)
		var out, errs bytes.Buffer
		code := run(ctx, args, strings.NewReader(""), &out, &errs, []string{"HOME=" + home})
		if code != exitInterrupted || !strings.Contains(errs.String(), "interrupted") {
			t.Errorf("%v: exit code %d, %q, %q", args, code, &out, &errs)
		}
	}
}

// Of two logins from here at the same moment, the one that the server granted
// last, and that ended the other, is the one that is kept.
func TestLoginsAtOnce(t *testing.T) {
	s := store{filepath.Join(t.TempDir(), "macaroon")}
	var url string
	login := func() {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"login", "alice", "--password-file", "-"}, strings.NewReader("secret"), &out, &errs, []string{"XDG_CONFIG_HOME=" + filepath.Dir(s.dir), "MACAROON_SERVER=" + url}); code != exitOK {
			t.Errorf("exit code %d, %q", code, &errs)
		}
	}
	var granted []string
	var mu sync.Mutex
	first, second := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		token := bareRoot(time.Hour)
		granted = append(granted, token)
		n := len(granted)
		mu.Unlock()
		if n == 1 {
			close(first)
			select { // the answer is slow
			case <-second:
			case <-time.After(100 * time.Millisecond):
			}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(api.Grant{Token: token, ExpiresAt: api.At(time.Now().Add(time.Hour)), ExpiresIn: 3600})
	}))
	defer server.Close()
	url = server.URL
	var both sync.WaitGroup
	both.Go(login)
	<-first
	both.Go(func() { login(); close(second) })
	both.Wait()
	c, err := s.read()
	if err != nil || len(granted) != 2 || c.Servers[url].Token != granted[1] {
		t.Errorf("%d granted, %v; the last is not what is stored", len(granted), err)
	}
}

// What was stored while a login was being ended is another login, and stays.
func TestForgetsOnlyWhatIsOver(t *testing.T) {
	for name, c := range map[string]struct {
		args  []string
		piped bool // the stored token
		end   func(http.ResponseWriter)
	}{
		"logout":         {args: []string{"logout"}, end: func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }},
		"devices revoke": {args: []string{"devices", "revoke", "--all"}, end: func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }},
		"revoke": {args: []string{"revoke"}, piped: true, end: func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"grain":"device"}`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := store{filepath.Join(t.TempDir(), "macaroon")}
			var url string
			keep := func(l login) {
				l.RenewAt, l.ExpiresAt = api.At(time.Now().Add(time.Hour)), api.At(time.Now().Add(2*time.Hour))
				if err := s.update(t.Context(), func(c *contents) { c.Servers[url], c.Default = l, url }); err != nil {
					t.Error(err)
				}
			}
			former, newer := login{Token: bareRoot(time.Hour), RootKeyID: "former"}, login{Token: bareRoot(time.Hour), RootKeyID: "newer"}
			again := true
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if again {
					keep(newer)
				}
				c.end(w)
			}))
			defer server.Close()
			url = server.URL
			for _, want := range []int{exitFailed, exitOK} {
				keep(former)
				var in string
				if c.piped {
					in = former.Token
				}
				var out, errs bytes.Buffer
				code := run(t.Context(), c.args, strings.NewReader(in), &out, &errs, []string{"XDG_CONFIG_HOME=" + filepath.Dir(s.dir), "MACAROON_SERVER=" + url})
				got, err := s.read()
				if err != nil || code != want {
					t.Errorf("exit code %d, want %d; %q, %v", code, want, &errs, err)
				}
				if l, there := got.Servers[url]; there != again || again && (l.Token != newer.Token || !strings.Contains(errs.String(), "that login stays")) {
					t.Errorf("stored: %v; %q", there, &errs)
				}
				again = false
			}
		})
	}
}

// A link's code that is not watched any more is voided, and whoever made it is told
// when it could not be.
func TestLinkGivenUp(t *testing.T) {
	const id, another = "lnk_AAAAAAAAAAAAAAAA", "lnk_BBBBBBBBBBBBBBBB"
	for _, row := range []struct {
		name           string
		link           string // the one that is open, and somebody gave its code
		approve, close int    // the answers; close is 0 where it is not asked for
		code           int
		says           string
	}{
		{"approved", id, 204, 0, exitOK, `"approved": "tablet"`},
		{"nobody came", "", 204, 204, exitFailed, "nobody gave the code in time"},
		{"another was made", another, 204, 204, exitFailed, "nobody gave the code in time"},
		{"not approved", id, 503, 204, exitServer, "503"},
		{"not voided", id, 503, 503, exitServer, "the code could not be voided; it ends at "},
	} {
		t.Run(row.name, func(t *testing.T) {
			closed := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				switch r.Method + " " + r.URL.Path {
				case "POST /v1/links":
					w.WriteHeader(http.StatusCreated)
					json.NewEncoder(w).Encode(api.LinkCode{ID: id, Code: "abcd-efgh", ExpiresAt: api.At(time.Now())})
				case "GET /v1/links":
					var open []api.Link
					if row.link != "" {
						open = []api.Link{{ID: row.link, Waiting: true, Name: "tablet"}}
					}
					json.NewEncoder(w).Encode(api.Links{Links: open})
				case "POST /v1/links/" + id + "/approve":
					w.WriteHeader(row.approve)
				case "DELETE /v1/links/" + id:
					closed = row.close
					w.WriteHeader(row.close)
				}
			}))
			defer server.Close()
			home := t.TempDir()
			s := store{filepath.Join(home, "macaroon")}
			if err := s.update(t.Context(), func(c *contents) {
				c.Servers[server.URL] = login{Token: bareRoot(time.Hour), RenewAt: api.At(time.Now().Add(time.Hour)), ExpiresAt: api.At(time.Now().Add(2 * time.Hour))}
			}); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			code := run(t.Context(), []string{"link", "--approve-first", "--json", "--server", server.URL}, nil, &out, &errs, []string{"XDG_CONFIG_HOME=" + home})
			if code != row.code || closed != row.close || !strings.Contains(out.String()+errs.String(), row.says) {
				t.Errorf("exit code %d, closed %d; %q, %q", code, closed, &out, &errs)
			}
			if told := strings.Contains(errs.String(), "could not be voided"); told != (row.close == 503) {
				t.Errorf("told that it could not be voided: %q", &errs)
			}
		})
	}
}

// What cannot be asked now is asked again, as late as the server wants, for as long
// as it could keep a link; a refusal is an answer.
func TestPoll(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	c, err := client.New(server.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, busy := c.Links(t.Context(), client.Bearer("t"))
	lost := fmt.Errorf("%w: x", client.ErrUnreachable)
	refused := &api.Problem{Status: 401, Code: api.CodeBadCredentials}
	for _, row := range []struct {
		name  string
		says  []error // what the answers are; the last one stays
		want  error
		took  time.Duration
		notes int
	}{
		{"at once", []error{nil}, nil, 0, 0},
		{"refused", []error{refused}, refused, 0, 0},
		{"lost, twice in a row and once more", []error{lost, lost, errWait, lost, nil}, nil, 4 * time.Second, 2},
		{"busy", []error{busy, nil}, nil, time.Minute, 1},
		{"silent", []error{lost}, lost, linkLife + linkPoll, 1},
		{"busy for good", []error{busy}, busy, linkLife + linkPoll, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var errs bytes.Buffer
				begin, n := time.Now(), 0
				err := (&app{err: &errs}).poll(t.Context(), func() (bool, error) {
					err := row.says[min(n, len(row.says)-1)]
					n++
					if err == errWait {
						return false, nil
					}
					return err == nil, err
				})
				if took := time.Since(begin); err != row.want || took != row.took || strings.Count(errs.String(), "still trying") != row.notes {
					t.Errorf("%v after %s: %q", err, took, &errs)
				}
			})
		})
	}
}

// errWait stands for an answer that it is not done.
var errWait = errors.New("not yet")

// Whoever revokes a token shows the stored root as well, if it is the same user's: the
// owner is not refused for having revoked too many. What is stored is forgotten when it
// was revoked itself, and only then.
func TestRevokesAsOwner(t *testing.T) {
	root, err := token.Parse(bareRoot(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	user, _, _ := claims(root.UnverifiedCaveats())
	for _, row := range []struct {
		name   string
		stored *login
		status []int  // of one answer after another
		asked  string // what was shown: the stored root (o), nothing (-)
		code   int
		kept   bool
	}{
		{"nobody", nil, []int{200}, "-", exitOK, false},
		{"its owner", &login{Token: bareRoot(time.Hour), User: api.UserRef{ID: user}}, []int{200}, "o", exitOK, true},
		{"somebody else", &login{Token: bareRoot(time.Hour), User: api.UserRef{ID: "usr_AAAAAAAAAAAAAAAA"}}, []int{200}, "-", exitOK, true},
		{"no owner any more", &login{Token: bareRoot(time.Hour), User: api.UserRef{ID: user}}, []int{401, 200}, "o-", exitOK, true},
		{"an owner who cannot be answered", &login{Token: bareRoot(time.Hour), User: api.UserRef{ID: user}}, []int{503, 200}, "o", exitServer, true},
		{"a token that is not taken", nil, []int{401, 200}, "-", exitFailed, false},
		{"itself", &login{Token: root.Text(), User: api.UserRef{ID: user}}, []int{200}, "-", exitOK, false},
		{"itself, in vain", &login{Token: root.Text(), User: api.UserRef{ID: user}}, []int{503}, "-", exitServer, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			asked := ""
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				status := row.status[len(asked)]
				switch r.Header.Get("Authorization") {
				case "":
					asked += "-"
				case "Bearer " + row.stored.Token:
					asked += "o"
				default:
					asked += "?"
				}
				w.Header().Set("Content-Type", "application/json")
				if status != http.StatusOK {
					w.Header().Set("Content-Type", "application/problem+json")
				}
				w.WriteHeader(status)
				fmt.Fprintf(w, `{"grain":"branch","status":%d,"code":"invalid"}`, status)
			}))
			defer server.Close()
			home := t.TempDir()
			s := store{filepath.Join(home, "macaroon")}
			if row.stored != nil {
				if err := s.update(t.Context(), func(c *contents) { c.Servers[server.URL] = *row.stored }); err != nil {
					t.Fatal(err)
				}
			}
			var out, errs bytes.Buffer
			code := run(t.Context(), []string{"revoke", "--server", server.URL}, strings.NewReader(root.Text()), &out, &errs, []string{"XDG_CONFIG_HOME=" + home})
			c, err := s.read()
			if _, kept := c.Servers[server.URL]; err != nil || code != row.code || asked != row.asked || kept != row.kept {
				t.Errorf("exit code %d, asked %q, kept %v; %q, %v", code, asked, kept, &errs, err)
			}
		})
	}
}

// That plain HTTP was permitted is remembered with a login, and not without one. The
// first server is the default, until another one is asked to be.
func TestKept(t *testing.T) {
	const plain, other = "http://auth.example", "https://other.example"
	home := t.TempDir()
	for _, row := range []struct {
		server      string
		plain       bool // --plain-http
		makeDef     bool // --default
		permitted   bool
		wantDefault string
	}{
		{plain, false, false, false, ""},
		{plain, true, false, true, plain},
		{plain, false, false, true, plain},
		{other, false, false, true, plain},
		{other, false, true, true, other},
	} {
		a := &app{err: io.Discard, env: []string{"XDG_CONFIG_HOME=" + home}, server: row.server, plainHTTP: row.plain}
		c, err := a.chosen()
		if (err == nil) != row.permitted {
			t.Fatalf("%+v: %v", row, err)
		}
		if err != nil {
			continue
		}
		g := api.Grant{
			Token: "t", User: api.UserRef{ID: "u", Username: "alice"}, Device: api.DeviceRef{ID: "d", Name: "laptop"}, RootKeyID: "k",
			ExpiresAt: api.At(time.Now().Add(time.Hour).Truncate(time.Second)), ExpiresIn: 3600,
		}
		if err := a.keep(t.Context(), loginFlags{makeDef: row.makeDef}, c, &g); err != nil {
			t.Fatal(err)
		}
		s, err := store{filepath.Join(home, "macaroon")}.read()
		if err != nil || s.Default != row.wantDefault || s.Servers[row.server].PlainHTTP != (row.server == plain) {
			t.Errorf("%+v: %+v, %v", row, s, err)
		}
		l := s.Servers[row.server]
		l.PlainHTTP = false
		if half := time.Until(l.RenewAt.Time); half > 30*time.Minute || half < 29*time.Minute {
			t.Errorf("to be renewed in %s", half)
		}
		if l.RenewAt = (api.Time{}); l != (login{Token: g.Token, User: g.User, Device: g.Device, RootKeyID: g.RootKeyID, ExpiresAt: l.ExpiresAt}) || !l.ExpiresAt.Equal(g.ExpiresAt.Time) {
			t.Errorf("kept: %+v", l)
		}
	}
}

// An argument too many is not passed over: logout NAME would end one's own login.
func TestSurplusArguments(t *testing.T) {
	for _, args := range []string{
		"login alice bob", "signup alice bob", "recover alice bob", "renew alice", "logout alice", "devices alice",
		"devices rename dev_AAAAAAAAAAAAAAAA the phone", "delayed alice", "link alice", "passwd alice", "recovery-codes alice",
		"attenuate x", "inspect x", "verify x", "revoke x", "version x",
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append(strings.Fields(args), "--server", "https://auth.example"), nil, &out, &errs, []string{"HOME=" + t.TempDir()})
		if code != exitUsage || !strings.Contains(errs.String(), "accepts") && !strings.Contains(errs.String(), "unknown command") {
			t.Errorf("%s: exit code %d, %q", args, code, &errs)
		}
	}
}

// An interrupt is told as one, and not instead of what went wrong as well.
func TestInterruptedFailure(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	for says, err := range map[string]error{
		"interrupted":        fmt.Errorf("waiting: %w", context.Cause(ctx)),
		"not revoked either": errors.New("not revoked either"),
	} {
		var errs bytes.Buffer
		a := &app{err: &errs, began: true}
		if code := a.finish(ctx, a.login(), err); code != exitInterrupted || errs.String() != "macaroon: "+says+"\n" {
			t.Errorf("%v: exit code %d, %q", err, code, &errs)
		}
	}
}

// Two logins at the same moment are both kept, and there is one install id.
func TestStoreUpdates(t *testing.T) {
	s := store{filepath.Join(t.TempDir(), "macaroon")}
	var wg sync.WaitGroup
	ids := make([]string, 20)
	for i := range ids {
		wg.Go(func() {
			err := s.update(t.Context(), func(c *contents) {
				c.Servers[fmt.Sprint(i)] = login{Token: "t"}
				ids[i] = c.InstallID
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c, err := s.read()
	if err != nil || len(c.Servers) != len(ids) {
		t.Fatalf("%d of %d kept: %v", len(c.Servers), len(ids), err)
	}
	for _, id := range ids {
		if id != c.InstallID || id == "" {
			t.Errorf("install id %q, stored %q", id, c.InstallID)
		}
	}
	left, err := filepath.Glob(filepath.Join(s.dir, ".*.new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// A grant shows the server's clock.
func TestCompareClocks(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for ahead, want := range map[time.Duration]string{
		0:                "",
		time.Minute:      "",
		-time.Minute:     "",
		2 * time.Hour:    "clock is 2 h ahead",
		-2 * time.Minute: "clock is 2 min behind",
	} {
		var errs bytes.Buffer
		a := &app{err: &errs}
		a.compareClocks(&api.Grant{ExpiresAt: api.At(now.Add(time.Hour)), ExpiresIn: 3600}, now.Add(ahead))
		if got := errs.String(); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%v ahead: %q", ahead, got)
		}
	}
}

// The documented exit codes are the ones in the code.
func TestExitCodesTopic(t *testing.T) {
	for _, code := range []int{exitOK, exitFailed, exitUsage, exitServer, exitNoLogin, exitInterrupted, exitExecFailed, exitExecCannot, exitExecMissing} {
		if !strings.Contains(exitCodesTopic, fmt.Sprintf("\n  %3d  ", code)) {
			t.Errorf("exit code %d is not documented", code)
		}
	}
}
