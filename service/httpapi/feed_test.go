package httpapi

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
)

// follow has the follower run, by the real clock, until the test ends.
func (a *authority) follow() {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { a.svc.Run(ctx) })
	a.t.Cleanup(func() { stop(); wg.Wait() })
}

func realClock(s *setup) { s.service.Now = time.Now }

// poll asks the feed.
func (a *authority) poll(auth, query string) *reply {
	a.t.Helper()
	return a.do(ask{method: "GET", path: "/v1/revocations" + query, auth: auth})
}

// waiting returns when so many readers wait.
func (a *authority) waiting(n float64) {
	a.t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(a.svc.Metrics().Collectors()...)
	have := func() float64 {
		for _, f := range must(reg.Gather()) {
			if f.GetName() == "macaroond_feed_waiting" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		a.t.Fatal("no such metric")
		return 0
	}
	for deadline := time.Now().Add(20 * time.Second); have() != n; {
		if time.Now().After(deadline) {
			a.t.Fatalf("%v wait, want %v", have(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// Every grain as it goes over the wire, from the start and from the middle.
func TestFeed(t *testing.T) {
	a := start(t)
	_, cred := a.service("edge")
	empty := into[api.Feed](a.poll(cred, ""), 200)
	if empty.Generation == "" || empty.Next != 0 || empty.Entries == nil || len(empty.Entries) != 0 || !empty.AsOf.Equal(a.clock.Now()) {
		t.Errorf("%+v", empty)
	}
	at := func(after int64) string { return fmt.Sprintf("?generation=%s&after=%d", empty.Generation, after) }

	alice := a.user("alice")
	branch := narrow(alice.Token, "audience photos", a.until(time.Hour))
	into[api.RevokeOut](a.post("/v1/revoke", "", api.RevokeIn{Token: branch}), 200)
	a.post("/v1/logout", bearer(alice.Token), struct{}{}).want(204, "")
	epochs := must(a.store.Epochs(t.Context()))
	must(a.svc.RotateKeys(t.Context(), service.ActorOperator, service.Source{}))
	retired := must(a.store.RetireEpochs(t.Context(), storage.RetireEpochs{Number: epochs[0].Number}, storage.Event{Time: a.clock.Now().Add(1500 * time.Millisecond), Type: "test"}))[0]
	a.pass(time.Second)

	got := a.poll(cred, "")
	all := into[api.Feed](got, 200)
	if len(all.Entries) != 3 || all.Next != 3 || all.Generation != empty.Generation || !all.AsOf.After(empty.AsOf.Time) {
		t.Fatalf("%+v", all)
	}
	want := []api.Revocation{
		{Seq: 1, Grain: api.GrainBranch, RootKeyID: alice.RootKeyID, ExpiresAt: api.At(a.clock.Now().Add(time.Hour - time.Second + storage.ClockSkew))},
		{Seq: 2, Grain: api.GrainDevice, RootKeyID: alice.RootKeyID, ExpiresAt: api.At(alice.ExpiresAt.Add(storage.ClockSkew))},
		{Seq: 3, Grain: api.GrainEpoch, Epoch: epochs[0].Number, ExpiresAt: api.At(retired.ExpiresAt.Add(time.Second - time.Millisecond))},
	}
	for i, e := range all.Entries {
		if i == 0 {
			if len(e.Fingerprint) != 22 {
				t.Errorf("fingerprint %q", e.Fingerprint)
			}
			e.Fingerprint = ""
		}
		if e != want[i] {
			t.Errorf("entry %+v, want %+v", e, want[i])
		}
	}
	// What is appended by hand is what the library writes.
	if library := append(must(json.Marshal(all)), '\n'); !same(library, got.body) {
		t.Errorf("got  %s\nwant %s", got.body, library)
	}
	for after := range int64(4) {
		some := into[api.Feed](a.poll(cred, at(after)+"&wait=0"), 200)
		if int64(len(some.Entries)) != 3-after || some.Next != 3 || len(some.Entries) > 0 && some.Entries[0].Seq != after+1 {
			t.Errorf("after %d: %+v", after, some)
		}
	}
	head := a.do(ask{method: "HEAD", path: "/v1/revocations" + at(3) + "&wait=30", auth: cred})
	if head.StatusCode != 200 || len(head.body) != 0 || head.Header.Get("Content-Type") != "application/json" || head.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("HEAD: %d %s", head.StatusCode, head.Header)
	}
	if p := a.poll(cred, at(4)).want(410, api.CodeOtherGeneration); p.Generation != all.Generation {
		t.Errorf("in force is %q", p.Generation)
	}
	if p := a.poll(cred, "?generation=another&after=1&wait=30").want(410, api.CodeOtherGeneration); p.Generation != all.Generation {
		t.Errorf("in force is %q", p.Generation)
	}
}

// A time that is not whole seconds is rounded up: an entry that went early
// would bring a token back.
func TestFeedRoundsUp(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for add, want := range map[time.Duration]string{0: "12:00:00", time.Millisecond: "12:00:01", 999 * time.Millisecond: "12:00:01", time.Second: "12:00:01"} {
		got, err := appendRevocation(nil, &storage.Revocation{Seq: 1, Grain: storage.GrainEpoch, Epoch: 1, ExpiresAt: at.Add(add).Local()})
		if err != nil || !strings.Contains(string(got), `"2026-11-22T`+want+`Z"`) {
			t.Errorf("%v: %s, %v", add, got, err)
		}
	}
}

func TestFeedRefusals(t *testing.T) {
	a := start(t)
	svc, cred := a.service("edge")
	g := "?generation=" + into[api.Feed](a.poll(cred, ""), 200).Generation
	for _, query := range []string{
		"?after=0", "?after=1&wait=1", "?generation=", g + "&after=", g + "&after=-1", g + "&after=%2B1", g + "&after=1.0", g + "&after=1e1", g + "&after=9223372036854775808",
		g + "&wait=31", g + "&wait=-1", g + "&wait=", g + "&wait=1.5", g + "&wait=1s", g + "&wait=256", "?wait=31", g + "&generation=x", g + "&after=0&after=1", g + "&afer=1", g + ";after=1",
	} {
		a.poll(cred, query).want(400, api.CodeBadRequest)
	}
	a.do(ask{method: "GET", path: "/v1/revocations", auth: cred, body: `{"after":1}`}).want(400, api.CodeBadRequest)

	a.poll("", "").want(401, api.CodeNoToken)
	a.poll(basic(svc.ID, "wrong"), "").want(401, api.CodeBadCredentials)
	a.poll(basic("svc_AAAAAAAAAAAAAAAA", svc.Secret), "").want(401, api.CodeBadCredentials)
	alice := a.user("alice")
	a.poll(basic("alice", password("alice")), "").want(401, api.CodeBadCredentials)
	// A token is not documented as a credential, so the watch is left out.
	for _, token := range []string{alice.Token, narrow(alice.Token, "audience macaroond"), a.admin().Token, "nonsense"} {
		a.raw("GET /v1/revocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "+token+"\r\n\r\n").want(403, api.CodeForbidden)
	}
	a.do(ask{method: "GET", path: "/v1/revocations", auth: cred, header: []string{"Authorization", cred}}).want(400, api.CodeBadRequest)
	if err := a.svc.RemoveService(t.Context(), svc.ID, service.ActorOperator, service.Source{}); err != nil {
		t.Fatal(err)
	}
	a.poll(cred, "").want(401, api.CodeBadCredentials)
}

// A wait ends when something is revoked; the one who revokes does not wait.
func TestFeedWait(t *testing.T) {
	a := start(t, realClock)
	a.follow()
	_, cred := a.service("edge")
	alice := a.user("alice")
	g := into[api.Feed](a.poll(cred, ""), 200).Generation
	const readers = 20
	answers := make(chan api.Feed, readers)
	for range readers {
		go func() { answers <- into[api.Feed](a.poll(cred, "?generation="+g+"&after=0&wait=30"), 200) }()
	}
	a.waiting(readers)
	begin := time.Now()
	a.post("/v1/logout", bearer(alice.Token), struct{}{}).want(204, "")
	for range readers {
		if f := <-answers; len(f.Entries) != 1 || f.Entries[0].RootKeyID != alice.RootKeyID || f.Next != 1 {
			t.Errorf("%+v", f)
		}
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	a.waiting(0)
	// One that nothing ends has its time, and then an answer that is no news but for as_of.
	before := a.svc.FeedPosition()
	if f := into[api.Feed](a.poll(cred, "?generation="+g+"&after=1&wait=1"), 200); len(f.Entries) != 0 || f.Next != 1 || f.AsOf.Sub(before.AsOf.Time) < 700*time.Millisecond {
		t.Errorf("%+v after %+v", f, before)
	}
}

// A long wait outlives the server's limits for requests that are answered at
// once, in HTTP/1.1 and in HTTP/2, and the connection is good afterwards.
func TestFeedOutlivesTimeouts(t *testing.T) {
	a := start(t, realClock)
	_, cred := a.service("edge")
	g := into[api.Feed](a.poll(cred, ""), 200).Generation
	log := slog.New(slog.NewJSONHandler(a.log, nil))
	server := NewServer(New(Config{Service: a.svc, Log: log, Requests: NewRequests()}), log)
	server.ReadTimeout, server.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
	server.Protocols = &http.Protocols{}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	t.Cleanup(func() { server.Close(); serving.Wait() })
	one, two := &http.Protocols{}, &http.Protocols{}
	one.SetHTTP1(true)
	two.SetUnencryptedHTTP2(true)
	for major, protocols := range map[int]*http.Protocols{1: one, 2: two} {
		transport := &http.Transport{Protocols: protocols}
		defer transport.CloseIdleConnections()
		for range 2 {
			r := must(http.NewRequestWithContext(t.Context(), "GET", "http://"+listener.Addr().String()+"/v1/revocations?wait=1&after=0&generation="+g, nil))
			r.Header.Set("Authorization", cred)
			resp, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatalf("HTTP/%d: %v", major, err)
			}
			body := must(io.ReadAll(resp.Body))
			resp.Body.Close()
			if f := into[api.Feed](&reply{t, resp, body}, 200); f.Generation != g || resp.ProtoMajor != major {
				t.Errorf("%s: %+v", resp.Proto, f)
			}
		}
	}
}

// A restored backup ends the waits of the former history, and a server that
// shuts down all of them.
func TestFeedWaitEnds(t *testing.T) {
	a := start(t, realClock)
	a.follow()
	_, cred := a.service("edge")
	g := into[api.Feed](a.poll(cred, ""), 200).Generation
	answer := make(chan *reply, 1)
	wait := func(generation string) {
		go func() { answer <- a.poll(cred, "?generation="+generation+"&after=0&wait=30") }()
		a.waiting(1)
	}
	wait(g)
	now := must(a.store.Restored(t.Context(), true, storage.Event{Time: time.Now(), Type: "test"}))
	if p := (<-answer).want(410, api.CodeOtherGeneration); p.Generation != now.Generation || now.Generation == g {
		t.Errorf("in force is %q", p.Generation)
	}
	wait(now.Generation)
	a.svc.EndWaits()
	if f := into[api.Feed](<-answer, 200); len(f.Entries) != 0 || f.Next != 0 {
		t.Errorf("%+v", f)
	}
}

// An answer that cannot be finished is broken off: what came is no whole
// answer for anybody. Before the first byte it is an error like any other.
func TestFeedCutOff(t *testing.T) {
	const all = 20_000 // more than is kept in memory
	a := start(t)
	db := must(sql.Open("sqlite", a.path))
	defer db.Close()
	must(db.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
		INSERT INTO revocations (seq, grain, root_key_id, fingerprint, epoch, expires_at)
		SELECT i, 1, randomblob(16), x'', 0, ?2 FROM n`, all, a.clock.Now().Add(24*time.Hour).UnixMilli()))
	must(db.Exec(`UPDATE state SET sequence = ?`, all))
	a.pass(time.Second)
	_, cred := a.service("edge")
	spoil := func(seq int) {
		must(db.Exec(`PRAGMA ignore_check_constraints = 1; UPDATE revocations SET grain = 1; UPDATE revocations SET grain = 9 WHERE seq = ` + fmt.Sprint(seq)))
	}
	ask := func() (*http.Response, []byte, error) {
		r := must(http.NewRequestWithContext(t.Context(), "GET", "http://"+a.addr+"/v1/revocations", nil))
		r.Header.Set("Authorization", cred)
		resp := must(a.http.Transport.(*watch).wire.RoundTrip(r)) // the watch would want all of it
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp, body, err
	}
	resp, body, err := ask()
	if f := into[api.Feed](&reply{t, resp, body}, 200); err != nil || len(f.Entries) != all || f.Next != all {
		t.Fatalf("%d entries, %v", len(f.Entries), err)
	}
	spoil(15_000)
	resp, body, err = ask()
	if resp.StatusCode != 200 || !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Contains(body, []byte(`{"seq":14000,`)) || bytes.Contains(body, []byte(`"next"`)) || resp.Header.Get("X-Request-Id") == "" {
		t.Errorf("%d, %v, %d bytes", resp.StatusCode, err, len(body))
	}
	spoil(3)
	resp, body, err = ask()
	(&reply{t, resp, body}).want(500, api.CodeInternal)
	if err != nil {
		t.Error(err)
	}
	log := a.log.String()
	if n := strings.Count(log, "is of grain 9"); n != 2 || strings.Count(log, `"route":"/v1/revocations","status":200,"code":"internal"`) != 1 || strings.Contains(log, "panic") {
		t.Errorf("the log: %s", log)
	}
	spoil(all + 1)
	a.tooSlow(t)
	// One who leaves in the middle.
	conn := must(net.Dial("tcp", a.addr))
	fmt.Fprintf(conn, "GET /v1/revocations HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", cred)
	must(io.ReadFull(conn, make([]byte, 1000)))
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(a.log.String(), `"route":"/v1/revocations","status":200,"code":"unavailable"`); {
		if time.Now().After(deadline) {
			t.Fatal("who has left is still written to")
		}
		time.Sleep(time.Millisecond)
	}
}

// tooSlow has somebody ask for the whole list and read none of it: the time for
// a chunk ends that, and so does the time for the whole.
func (a *authority) tooSlow(t *testing.T) {
	t.Helper()
	log := slog.New(slog.NewJSONHandler(a.log, nil))
	s := &server{Config: Config{Service: a.svc, Log: log, Requests: NewRequests()}, svc: a.svc}
	for name, w := range map[string]feedWriter{
		"takes no chunk":           {idle: 100 * time.Millisecond, end: time.Now().Add(time.Hour)},
		"does not come to the end": {idle: time.Hour, end: time.Now().Add(300 * time.Millisecond)},
	} {
		ended := make(chan any, 1)
		g := gin.New()
		g.GET("/", func(c *gin.Context) {
			defer func() { ended <- recover() }()
			answer := must(a.svc.Feed(c.Request.Context(), storage.Service{}, service.FeedQuestion{}))
			defer answer.Close()
			w.c = c
			s.stream(&w, answer)
		})
		srv := NewServer(g, log)
		srv.ConnState = func(c net.Conn, state http.ConnState) {
			if state == http.StateNew {
				c.(*net.TCPConn).SetWriteBuffer(4096)
			}
		}
		listener := must(net.Listen("tcp", "127.0.0.1:0"))
		var serving sync.WaitGroup
		serving.Go(func() { srv.Serve(listener) })
		conn := must(net.Dial("tcp", listener.Addr().String()))
		conn.(*net.TCPConn).SetReadBuffer(4096)
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		select {
		case p := <-ended:
			if p != http.ErrAbortHandler {
				t.Errorf("who %s: %v", name, p)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("who %s is still served", name)
		}
		conn.Close()
		srv.Close()
		serving.Wait()
	}
}

// A reader that goes away while it waits is counted as gone and not as trouble
// of ours: operators watch the answers of 503.
func TestFeedReaderGone(t *testing.T) {
	a := start(t, realClock)
	a.follow()
	_, cred := a.service("edge")
	at := into[api.Feed](a.poll(cred, ""), 200)
	conn := must(net.Dial("tcp", a.addr))
	fmt.Fprintf(conn, "GET /v1/revocations?generation=%s&after=%d&wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", at.Generation, at.Next, cred)
	a.waiting(1)
	conn.Close()
	a.waiting(0)
	logged := func() bool { return strings.Contains(a.log.String(), `"status":499,"code":"gone"`) }
	for deadline := time.Now().Add(20 * time.Second); !logged(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("logged otherwise: %s", a.log.String())
		}
	}
}
