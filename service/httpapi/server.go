package httpapi

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Limits against slow and large clients. net/http reads up to 4,096 bytes
// beyond MaxHeaderBytes before it answers 431, so that much is taken off the
// 16 KiB that headers may have.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16<<10 - 4096
)

// NewServer is an http.Server with the limits.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Listener says in the log, now and then, that no connection can be taken: the
// process has as many files open as it may. net/http tries again and tells only
// its ErrorLog, where strangers write as much as they like.
func Listener(l net.Listener, log *slog.Logger) net.Listener {
	return &listener{Listener: l, log: log, full: rate.Sometimes{First: 1, Interval: time.Minute}}
}

type listener struct {
	net.Listener
	log  *slog.Logger
	full rate.Sometimes
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.full.Do(func() {
			l.log.Error("no connection can be taken: see who holds so many, or raise the limit of open files", "error", err)
		})
	}
	return c, err
}

// Swap is a handler that can be replaced while requests are being served:
// each goes to the end with the one that it began with.
type Swap struct{ h atomic.Pointer[http.Handler] }

// Set replaces the handler.
func (s *Swap) Set(h http.Handler) { s.h.Store(&h) }

func (s *Swap) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*s.h.Load()).ServeHTTP(w, r) }
