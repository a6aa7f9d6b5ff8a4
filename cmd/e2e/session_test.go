package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/client/rootfile"
	"macaroond/service/token"
)

const (
	holderJob  = "MACAROOND_E2E_HOLDER"
	goroutines = 50
)

// job is what one of the processes is told, and tally what it tells.
type (
	job struct {
		Authority, Resource, Root string
		Until                     time.Time
	}
	tally struct {
		Statuses map[int]int // of the resource server's answers
		Lost     int         // requests without a whole answer
		Failed   []string    // what kept a request from being made, once each
		End      int         // the status of the last request, made in peace
	}
)

// TestNobodyIsLoggedOut: two processes that share the file with the root, fifty
// goroutines each, through several lives of it, over a connection that is cut all
// the time, in the middle of answers too. Every request carries a token that was
// made offline. No request is answered 401, and at the end both go on.
func TestNobodyIsLoggedOut(t *testing.T) {
	const life, lives = 6 * time.Second, 3
	a := ownAuthority(t, t.TempDir(), "MACAROOND_RENEW_GRACE=1s")
	u := a.user(t)
	var grant api.Grant
	r := a.send(t, http.MethodPost, "/v1/login", "", encode(t, api.LoginIn{
		Username: u.Username, Password: u.Password, Device: api.DeviceIn{Name: "two processes"}, TTL: int64(life / time.Second),
	}))
	if r.status != http.StatusOK || json.Unmarshal(r.body, &grant) != nil {
		t.Fatal(r)
	}
	root := filepath.Join(t.TempDir(), "root.token")
	if err := rootfile.Replace(root, []byte(grant.Token+"\n")); err != nil {
		t.Fatal(err)
	}
	w := startWire(t, a.addr())
	until := time.Now().Add(lives * life)
	text := encode(t, job{Authority: w.url(), Resource: w.url(), Root: root, Until: until})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var tallies [2]tally
	var holders sync.WaitGroup
	for i := range tallies {
		holders.Go(func() {
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), holderJob+"="+text)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err == nil {
				err = json.Unmarshal(out, &tallies[i])
			}
			if err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	for time.Now().Before(until) { // a third of the time there is no connection
		time.Sleep(60 * time.Millisecond)
		w.sever()
		time.Sleep(30 * time.Millisecond)
		w.heal()
	}
	holders.Wait()
	lost := 0
	for i, c := range tallies {
		t.Logf("process %d: answers %v, %d without an answer", i, c.Statuses, c.Lost)
		lost += c.Lost
		if c.End != http.StatusOK || len(c.Failed) > 0 {
			t.Errorf("process %d: the last request was answered %d; failures %q", i, c.End, c.Failed)
		}
		for status, n := range c.Statuses {
			if status != http.StatusOK {
				t.Errorf("process %d: %d answers of %d", i, n, status)
			}
		}
		if c.Statuses[http.StatusOK] < goroutines {
			t.Errorf("process %d: %d requests went well", i, c.Statuses[http.StatusOK])
		}
	}
	if lost == 0 {
		t.Error("the connection was never cut in a request: this shows nothing")
	}
	kinds := a.audited(t, grant.Device.ID)
	if kinds["renewal_theft"] > 0 || kinds["device_revoked"] > 0 || kinds["renewed"] < lives {
		t.Errorf("the audit of the device: %v", kinds)
	}
}

// TestRenewedThenKilled: a successor that was answered is there after kill -9,
// the same one, and so is what was never answered again: nobody notices.
func TestRenewedThenKilled(t *testing.T) {
	a := ownAuthority(t, t.TempDir())
	root := a.login(t, a.user(t)).Token
	// The location is the server's address, which is another one each time; all
	// that is signed is in the identifier and the caveats.
	renewed := func() (text, signed string) {
		t.Helper()
		var g api.Grant
		if r := a.send(t, http.MethodPost, "/v1/renew", bearer(root), ""); r.status != http.StatusOK || json.Unmarshal(r.body, &g) != nil {
			t.Fatal(r)
		}
		tok, err := token.Parse(g.Token)
		if err != nil {
			t.Fatal(err)
		}
		return g.Token, tok.UnverifiedIdentifier().String() + strings.Join(tok.UnverifiedCaveats(), ",")
	}
	for range 3 {
		next, signed := renewed()
		a.signal(syscall.SIGKILL)
		<-a.done
		a = a.again(t)
		if _, again := renewed(); again != signed {
			t.Fatal("another successor after kill -9")
		}
		root = next
	}
}

// audited counts the audit's entries about a device.
func (a *authority) audited(t *testing.T, device string) map[string]int {
	t.Helper()
	lines, err := tool(t, "", a.env, macaroond, "audit", "tail", "-n", "1000", "--data-dir", a.dataDir, "--json")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range bytes.Lines(lines) {
		var e api.AuditEntry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Device == device {
			out[e.Type]++
		}
	}
	return out
}

// hold is one of the processes.
func hold(text string) int {
	out, err := holds(text)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func holds(text string) (*tally, error) {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return nil, err
	}
	ctx := context.Background()
	c, err := client.New(j.Authority, client.Options{Timeout: 2 * time.Second})
	if err != nil {
		return nil, err
	}
	session, err := client.NewSession(ctx, c, rootfile.Open(j.Root), client.SessionOptions{})
	if err != nil {
		return nil, err
	}
	transport, err := session.Transport(client.TransportOptions{
		Origins: []string{j.Resource}, Narrowing: client.Narrowing{Audience: audience, Methods: []string{"GET"}, Paths: []string{"/photos/**"}},
	})
	if err != nil {
		return nil, err
	}
	asks := &http.Client{Transport: transport, Timeout: 2 * time.Second}
	// What a gateway would ask stands for the resource server.
	get := func() (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.Resource+"/authz/original?audience="+audience, nil)
		if err != nil {
			return 0, err
		}
		req.Header.Set("X-Original-Method", "GET")
		req.Header.Set("X-Original-Uri", "/photos/1")
		res, err := asks.Do(req)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	out := &tally{Statuses: map[int]int{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for time.Now().Before(j.Until) {
				status, err := get()
				mu.Lock()
				switch {
				case err == nil:
					out.Statuses[status]++
				case errors.Is(err, client.ErrLoggedOut):
					out.Failed = append(out.Failed, err.Error())
				default:
					out.Lost++
				}
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	all.Wait()
	for range 20 { // the wire may be about to heal
		if out.End, err = get(); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return out, nil
}
