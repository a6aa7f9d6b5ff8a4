package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"macaroond/service/api"
	"macaroond/service/client"
	"macaroond/service/client/rootfile"
	"macaroond/service/token"
)

// link is the way to the authority, with what can go wrong on it.
type link struct {
	mu    sync.Mutex
	asked int           // renewals that went out
	cut   error         // nothing arrives
	drop  error         // requests arrive, answers do not
	busy  string        // the Retry-After of a 503, which is all that is answered
	over  bool          // all that is answered is that the session is
	slow  chan struct{} // requests wait for it to be closed
}

func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	defer l.mu.Unlock() // one at a time, so that what is counted is what was asked
	if l.cut != nil {
		return nil, l.cut
	}
	l.asked++
	if l.slow != nil {
		select {
		case <-l.slow:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if l.busy != "" {
		answer := httptest.NewRecorder()
		answer.Header().Set("Content-Type", "application/problem+json")
		answer.Header().Set("Retry-After", l.busy)
		answer.WriteHeader(http.StatusServiceUnavailable)
		answer.WriteString(`{"title":"maintenance","code":"unavailable"}`)
		return answer.Result(), nil
	}
	if l.over {
		answer := httptest.NewRecorder()
		answer.Header().Set("Content-Type", "application/problem+json")
		answer.WriteHeader(http.StatusForbidden)
		answer.WriteString(`{"title":"Forbidden","code":"session_over"}`)
		return answer.Result(), nil
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && l.drop != nil {
		res.Body.Close()
		return nil, l.drop
	}
	return res, err
}

// device is a login with a session of its own clock, that starts when the
// login was.
type device struct {
	*client.Session
	*link
	t      *testing.T
	c      *client.Client
	grant  *api.Grant
	file   string
	ahead  time.Duration
	failed []error // what the session told
}

const life = 1000 * time.Second

func newDevice(t *testing.T, store func(client.RootStore) client.RootStore) *device {
	t.Helper()
	plain := authority(t)
	d := &device{link: &link{}, t: t, file: filepath.Join(t.TempDir(), "root")}
	d.c = must[*client.Client](t)(client.New(plain.URL(), client.Options{Transport: d.link}))
	d.grant = must[*api.Grant](t)(plain.Login(t.Context(), api.LoginIn{Username: "root", Password: password, TTL: int64(life / time.Second)}))
	if err := rootfile.Replace(d.file, []byte(d.grant.Token+"\n")); err != nil {
		t.Fatal(err)
	}
	var kept client.RootStore = rootfile.Open(d.file)
	if store != nil {
		kept = store(kept)
	}
	d.Session = d.open(kept)
	return d
}

func (d *device) open(store client.RootStore) *client.Session {
	d.t.Helper()
	return must[*client.Session](d.t)(client.NewSession(d.t.Context(), d.c, store, client.SessionOptions{
		Failed: func(err error) { d.failed = append(d.failed, err) },
		Now:    func() time.Time { return time.Now().Add(d.ahead) },
	}))
}

func (d *device) root() string {
	d.t.Helper()
	return must[*token.Token](d.t)(d.Root(d.t.Context())).Text()
}

func (d *device) stored() string {
	d.t.Helper()
	return must[client.Kept](d.t)(rootfile.Open(d.file).Load(d.t.Context())).Token
}

// wants holds what the session has, what is stored, and how often was asked.
func (d *device) wants(root, stored string, asked int) {
	d.t.Helper()
	if got := d.root(); got != root {
		d.t.Error("the session has another root")
	}
	if d.stored() != stored {
		d.t.Error("another root is stored")
	}
	if d.asked != asked {
		d.t.Errorf("asked %d times, want %d", d.asked, asked)
	}
}

func TestSessionRenewsAtHalfItsLife(t *testing.T) {
	d := newDevice(t, nil)
	first := d.grant.Token
	d.ahead = life/2 - 10*time.Second
	d.wants(first, first, 0)
	d.ahead = life/2 + 10*time.Second
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := d.Root(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	second := d.root()
	if second == first {
		t.Fatal("not renewed")
	}
	d.wants(second, second, 1)
	d.ahead += life/2 - 20*time.Second
	d.wants(second, second, 1)
	if info, err := os.Stat(d.file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// An answer that is lost is had again by asking again; the predecessor serves
// meanwhile.
func TestSessionRepairsALostAnswer(t *testing.T) {
	d := newDevice(t, nil)
	first := d.grant.Token
	d.ahead, d.drop = life/2+time.Second, errors.New("reset")
	d.wants(first, first, 1)
	d.wants(first, first, 1) // not again at once
	d.ahead += 20 * time.Second
	d.wants(first, first, 2)
	d.drop, d.ahead = nil, d.ahead+20*time.Second
	second := d.root()
	d.wants(second, second, 3)
	direct := must[*api.Grant](t)(d.c.Renew(t.Context(), client.Bearer(first)))
	if direct.Token != second {
		t.Error("the retry got another successor")
	}
}

// A renewal takes the time it needs, though every request be shorter than that.
func TestSessionRenewsPastShortRequests(t *testing.T) {
	d := newDevice(t, nil)
	first := d.grant.Token
	d.slow, d.ahead = make(chan struct{}), life-30*time.Second // when it is urgent, everybody waits for it
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		if root, err := d.Root(ctx); err != nil || root.Text() != first || ctx.Err() != nil {
			t.Errorf("%v, %v: it has no root in time", err, ctx.Err())
		}
		cancel()
	}
	close(d.slow)
	if second := d.root(); second == first || d.stored() != second {
		t.Error("not renewed")
	}
	if d.asked != 1 {
		t.Errorf("asked %d times", d.asked)
	}
}

// Who is told to wait waits, but asks again while there is time; and a root that
// has expired is not handed out, asked or not.
func TestSessionAsksAgainInTime(t *testing.T) {
	type step struct {
		at    time.Duration
		asked int
	}
	for wait, steps := range map[string][]step{
		"3600": {
			{life/2 + time.Second, 1},
			{life - 61*time.Second, 1},
			{life - 60*time.Second + time.Second, 2}, // urgent
			{life - 2*time.Second, 2},
			{life + time.Second, 3},
			{life + 2*time.Second, 3},
			{life + 7*time.Second, 4},
		},
		"0": {
			{life/2 + time.Second, 1},
			{life/2 + 15*time.Second, 1},
			{life/2 + 18*time.Second, 2}, // a 64th of its life
			{life - 50*time.Second, 3},
			{life - 47*time.Second, 3},
			{life - 44*time.Second, 4},
			{life + time.Second, 5},
			{life + 4*time.Second, 5},
			{life + 7*time.Second, 6},
		},
	} {
		d := newDevice(t, nil)
		first := d.grant.Token
		d.busy = wait
		for _, step := range steps {
			d.ahead = step.at
			root, err := d.Root(t.Context())
			if step.at < life {
				if err != nil || root.Text() != first {
					t.Errorf("%s: at %v: %v", wait, step.at, err)
				}
			} else if wantCode(t, err, "unavailable"); root != nil {
				t.Errorf("%s: at %v: it hands out a root that has expired", wait, step.at)
			}
			if d.asked != step.asked {
				t.Errorf("%s: at %v: asked %d times, want %d", wait, step.at, d.asked, step.asked)
			}
		}
	}
}

// A session that is over ends with its root: nobody is asked until then.
func TestSessionThatIsOver(t *testing.T) {
	d := newDevice(t, nil)
	d.over = true
	for _, at := range []time.Duration{life/2 + time.Second, life - 30*time.Second, life - time.Second} {
		d.ahead = at
		d.wants(d.grant.Token, d.grant.Token, 1)
	}
	d.ahead = life + time.Second
	_, err := d.Root(t.Context())
	if wantCode(t, err, api.CodeSessionOver); d.asked != 2 {
		t.Errorf("asked %d times, want once more at the end", d.asked)
	}
}

// In memory a session goes on as well, and without anybody to tell of failures.
func TestSessionInMemory(t *testing.T) {
	d := newDevice(t, nil)
	store := client.InMemory(d.grant.Token)
	d.Session = must[*client.Session](t)(client.NewSession(t.Context(), d.c, store, client.SessionOptions{Now: func() time.Time { return time.Now().Add(d.ahead) }}))
	d.drop, d.ahead = errors.New("reset"), life/2+time.Second
	if d.root() != d.grant.Token || must[client.Kept](t)(store.Load(t.Context())).Token != d.grant.Token {
		t.Error("another root, though none arrived")
	}
	d.drop, d.ahead = nil, d.ahead+20*time.Second
	second := d.root()
	if second == d.grant.Token || must[client.Kept](t)(store.Load(t.Context())).Token != second {
		t.Error("not renewed, or not kept")
	}
}

// unwritable is a store that cannot write.
type unwritable struct {
	client.RootStore
	err error
}

func (b *unwritable) Update(ctx context.Context, renew func(client.Kept) (string, error)) error {
	if b.err == nil {
		return b.RootStore.Update(ctx, renew)
	}
	kept, err := b.Load(ctx)
	if err == nil {
		_, err = renew(kept)
	}
	return errors.Join(err, b.err)
}

// What is not kept is not used: a restart would present the predecessor, and be
// taken for a thief.
func TestSessionUsesOnlyWhatIsKept(t *testing.T) {
	b := &unwritable{err: errors.New("disk is full")}
	d := newDevice(t, func(s client.RootStore) client.RootStore { b.RootStore = s; return b })
	first := d.grant.Token
	d.ahead = life/2 + time.Second
	d.wants(first, first, 1)
	if len(d.failed) != 1 || !errors.Is(d.failed[0], b.err) {
		t.Errorf("told %v", d.failed)
	}
	b.err = nil
	d.ahead += 20 * time.Second
	second := d.root()
	d.wants(second, second, 2)
	if len(d.failed) != 1 {
		t.Errorf("told %v", d.failed)
	}
}

// Another process has renewed: its successor is taken, and nothing asked.
func TestSessionsShareAStore(t *testing.T) {
	d := newDevice(t, nil)
	other := d.open(rootfile.Open(d.file))
	d.ahead = life/2 + time.Second
	second := d.root()
	if now := time.Now().Add(d.ahead); os.Chtimes(d.file, now, now) != nil { // as the machine whose clock this is
		t.Fatal("the file's time cannot be set")
	}
	got := must[*token.Token](t)(other.Root(t.Context()))
	if got.Text() != second {
		t.Error("two processes have two roots")
	}
	d.wants(second, second, 1)
}

func TestSessionsEnd(t *testing.T) {
	t.Run("logged out", func(t *testing.T) {
		d := newDevice(t, nil)
		if err := d.c.Logout(t.Context(), client.Bearer(d.grant.Token)); err != nil {
			t.Fatal(err)
		}
		d.ahead = life/2 + time.Second
		_, err := d.Root(t.Context())
		if !errors.Is(err, client.ErrLoggedOut) {
			t.Error(err)
		}
		wantCode(t, err, api.CodeRevoked)

		// Whoever goes on asks the authority no more for a while, and goes on when
		// somebody has logged in again.
		asked := d.asked
		for range 10 {
			if _, err := d.Root(t.Context()); !errors.Is(err, client.ErrLoggedOut) {
				t.Error(err)
			}
		}
		if d.asked != asked {
			t.Errorf("asked %d times more", d.asked-asked)
		}
		if d.failed != nil {
			t.Errorf("told %v as well", d.failed)
		}
		d.ahead += 5 * time.Second
		if _, err := d.Root(t.Context()); !errors.Is(err, client.ErrLoggedOut) || d.asked != asked+1 {
			t.Errorf("%v; asked %d times more, want once", err, d.asked-asked)
		}
		again := must[*api.Grant](t)(d.c.Login(t.Context(), api.LoginIn{Username: "root", Password: password, TTL: int64(life / time.Second)}))
		if err := rootfile.Replace(d.file, []byte(again.Token+"\n")); err != nil {
			t.Fatal(err)
		}
		if d.root() == d.grant.Token {
			t.Error("it has the former root still")
		}
	})
	t.Run("expired out of reach", func(t *testing.T) {
		d := newDevice(t, nil)
		d.cut, d.ahead = errors.New("no route"), life-time.Second
		d.root()
		d.ahead = life + time.Minute
		for range 2 { // asked and not asked
			if root, err := d.Root(t.Context()); root != nil || !errors.Is(err, client.ErrUnreachable) || errors.Is(err, client.ErrLoggedOut) {
				t.Error(err)
			}
		}
	})
	t.Run("nothing stored", func(t *testing.T) {
		d := newDevice(t, nil)
		if err := os.Remove(d.file); err != nil {
			t.Fatal(err)
		}
		d.ahead = life/2 + time.Second
		d.root() // good still
		if _, err := client.NewSession(t.Context(), d.c, rootfile.Open(d.file), client.SessionOptions{}); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("where nothing can be kept", func(t *testing.T) {
		d := newDevice(t, nil)
		os.Remove(d.file + ".lock")
		if err := os.Mkdir(d.file+".lock", 0o700); err != nil { // root may write where nobody may
			t.Fatal(err)
		}
		if _, err := client.NewSession(t.Context(), d.c, rootfile.Open(d.file), client.SessionOptions{}); err == nil || !strings.Contains(err.Error(), d.file) {
			t.Error(err)
		}
	})
	t.Run("open to others", func(t *testing.T) {
		d := newDevice(t, nil)
		if err := os.Chmod(d.file, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := client.NewSession(t.Context(), d.c, rootfile.Open(d.file), client.SessionOptions{}); err == nil || !strings.Contains(err.Error(), "open to others") {
			t.Error(err)
		}
	})
}

// A transport over a session narrows whatever root there is, and sends none.
func TestSessionTransport(t *testing.T) {
	var got []string
	resource := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = append(got, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	}))
	defer resource.Close()
	d := newDevice(t, nil)
	tr := must[*client.Transport](t)(d.Transport(client.TransportOptions{Origins: []string{resource.URL}, Narrowing: client.Narrowing{Audience: "photos"}}))
	get := func() {
		t.Helper()
		res, err := (&http.Client{Transport: tr}).Get(resource.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	get()
	d.ahead = life/2 + time.Second
	get()
	var begins [2]string
	for i, text := range got {
		tok := must[*token.Token](t)(token.Parse(text))
		if len(tok.UnverifiedCaveats()) <= token.MintCaveats {
			t.Error("a bare root was sent")
		}
		begins[i] = tok.UnverifiedCaveats()[0]
	}
	if begins[0] == begins[1] || begins[1] != must[*token.Token](t)(token.Parse(d.stored())).UnverifiedCaveats()[0] {
		t.Errorf("narrowed from %q", begins)
	}
	if err := d.c.Logout(t.Context(), client.Bearer(d.stored())); err != nil {
		t.Fatal(err)
	}
	d.ahead += life/2 + time.Second
	if res, err := (&http.Client{Transport: tr}).Get(resource.URL); !errors.Is(err, client.ErrLoggedOut) || len(got) != 2 {
		t.Errorf("logged out: %v, %v, %d requests", res, err, len(got))
	}
}

// Somebody has logged in again, into the same file: 401 makes the session look
// there, now and then, and the request is sent again from the new root.
func TestSessionTakesANewLogin(t *testing.T) {
	d := newDevice(t, nil)
	mint := func(text string) string {
		return strings.Join(must[*token.Token](t)(token.Parse(text)).UnverifiedCaveats()[:token.MintCaveats], "\n")
	}
	var good atomic.Value
	good.Store("")
	var came atomic.Int64
	resource := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came.Add(1)
		body, _ := io.ReadAll(r.Body)
		if text := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); mint(text) != good.Load() || string(body) != "x" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer resource.Close()
	tr := must[*client.Transport](t)(d.Transport(client.TransportOptions{Origins: []string{resource.URL}, Narrowing: client.Narrowing{Audience: "photos"}}))
	post := func(body io.Reader) (int, error) {
		res, err := (&http.Client{Transport: tr}).Post(resource.URL, "text/plain", body)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	wants := func(want int) {
		t.Helper()
		if status, err := post(strings.NewReader("x")); err != nil || status != want {
			t.Errorf("%d, %v, want %d", status, err, want)
		}
	}
	wants(401) // it looks
	login := func() {
		t.Helper()
		again := must[*api.Grant](t)(d.c.Login(t.Context(), api.LoginIn{Username: "root", Password: password}))
		d.asked = 0
		if err := rootfile.Replace(d.file, []byte(again.Token+"\n")); err != nil {
			t.Fatal(err)
		}
		good.Store(mint(again.Token))
	}
	login()
	wants(401) // a look each time would be too much
	if n := came.Load(); n != 2 {
		t.Errorf("%d requests, want 2: there was no other root to send them again from", n)
	}
	d.ahead = 6 * time.Second
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { wants(200) })
	}
	all.Wait()
	d.wants(d.stored(), d.stored(), 0)

	login()
	d.ahead += 6 * time.Second
	if _, err := post(io.MultiReader(strings.NewReader("x"))); !errors.Is(err, client.ErrSendAgain) {
		t.Errorf("a body that cannot be sent again: %v", err)
	}
	wants(200)
}

func TestSessionsDoNotPrint(t *testing.T) {
	d := newDevice(t, nil)
	for _, v := range []any{d.Session, client.InMemory(d.grant.Token), client.Kept{Token: d.grant.Token}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, d.grant.Token[:40]) || !strings.Contains(text, "redacted") {
				t.Errorf("%T with %s: %s", v, verb, text)
			}
		}
	}
}
