package guard_test

import (
	"log"
	"log/slog"
	"testing"
	"time"

	"macaroond/service/client"
	"macaroond/service/guard"
)

// An authority that is away is asked again and again, and the log says once
// that it is, and once that it is back: a night of it is no flood.
func TestLogOfASilence(t *testing.T) {
	t.Parallel()
	a := start(t)
	lines := new(journal)
	g := a.guard(func(o *guard.Options) {
		o.Log, o.MaxStaleness = slog.New(slog.NewTextHandler(lines, nil)), 3*time.Second
	})
	alice := a.device("alice")
	text := narrow(t, alice.Token, window(), "audience photos")
	a.want("before", g, text, "ok", 1)
	for outage := 1; outage <= 2; outage++ {
		a.cut()
		before := a.count("/v1/revocations").Load()
		eventually(t, "the feed is asked again and again", func() bool { return a.count("/v1/revocations").Load() >= before+3 })
		if n := lines.count("cannot be read"); n != outage {
			t.Errorf("outage %d: the log has said %d times that the feed cannot be read", outage, n)
		}
		a.heal()
		eventually(t, "the log says that the feed is read again", func() bool { return lines.count("read again") == outage })
	}
}

// Who sets no Log hears all the same why everything is 503: no answer says it.
func TestLogByDefault(t *testing.T) {
	lines, was, out, flags := new(journal), slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(slog.NewTextHandler(lines, nil))) // which sets log's, too
	t.Cleanup(func() {
		slog.SetDefault(was)
		log.SetOutput(out)
		log.SetFlags(flags)
	})
	a := start(t)
	g, err := guard.New(t.Context(), guard.Options{Authority: a.url, Credential: client.Basic("svc_0000000000000000", "wrong"), Audience: "photos"})
	ok(t, err)
	defer g.Close()
	eventually(t, "the log says that the feed cannot be read", func() bool { return lines.count("cannot be read") > 0 })
	a.want("a wrong credential", g, narrow(t, a.device("alice").Token, window(), "audience photos"), "stale", 1)
	if lines.count("cannot be asked") == 0 {
		t.Error("the log does not say that the authority cannot be asked")
	}
}
