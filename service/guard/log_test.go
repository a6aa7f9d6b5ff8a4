package guard_test

import (
	"log/slog"
	"testing"
	"time"

	"macaroond/service/guard"
)

// An authority that is away is asked again and again, and the log says once
// that it is, and once that it is back: a night of it is no flood.
func TestLogOfASilence(t *testing.T) {
	t.Parallel()
	a := start(t)
	log := new(journal)
	g := a.guard(func(o *guard.Options) { o.Log, o.MaxStaleness = slog.New(slog.NewTextHandler(log, nil)), 3*time.Second })
	alice := a.device("alice")
	text := narrow(t, alice.Token, window(), "audience photos")
	a.want("before", g, text, "ok", 1)
	for outage := 1; outage <= 2; outage++ {
		a.cut()
		before := a.count("/v1/revocations").Load()
		eventually(t, "the feed is asked again and again", func() bool { return a.count("/v1/revocations").Load() >= before+3 })
		if n := log.count("cannot be read"); n != outage {
			t.Errorf("outage %d: the log has said %d times that the feed cannot be read", outage, n)
		}
		a.heal()
		eventually(t, "the log says that the feed is read again", func() bool { return log.count("read again") == outage })
	}
}
