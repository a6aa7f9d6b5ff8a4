package httpapi

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"macaroond/service"
	"macaroond/service/api"
)

const (
	requestIDHeader = "X-Request-Id" // also where the id is kept: on the answer
	codeKey         = "code"
)

// observe gives every request an id, writes its log line, counts it, and turns
// a panic into a 500. The line has the route, never the path: a path can be
// somebody's link.
func (s *server) observe(c *gin.Context) {
	begin := time.Now()
	id := c.GetHeader(requestIDHeader)
	if !requestID(id) || !s.trusted(peerAddr(c.Request)) {
		id = rand.Text()[:16]
	}
	c.Writer.Header()[requestIDHeader] = []string{id}
	defer func() {
		p := recover()
		if p != nil && p != http.ErrAbortHandler {
			// The value may hold anything; its type and the stack do not.
			s.Log.Error("panic", "type", fmt.Sprintf("%T", p), "request_id", id, "route", c.FullPath(), "stack", string(debug.Stack()))
			if !c.Writer.Written() {
				s.fail(c, &service.Error{Code: api.CodeInternal, Detail: "something went wrong here"})
			}
		}
		s.log(c, id, time.Since(begin))
		if p == http.ErrAbortHandler {
			panic(p) // net/http breaks the connection: nobody takes a part for the whole
		}
	}()
	c.Next()
}

func (s *server) log(c *gin.Context, id string, took time.Duration) {
	route, status := c.FullPath(), c.Writer.Status()
	if route == "" {
		route = "none"
	}
	s.Requests.observe(route, status, took)
	level := slog.LevelInfo
	if verdicts(route) && status != http.StatusInternalServerError {
		level = slog.LevelDebug // one a request of somebody else's: counted, not told
	}
	ctx := c.Request.Context()
	if !s.Log.Enabled(ctx, level) {
		return
	}
	s.Log.LogAttrs(ctx, level, "request",
		slog.String("method", method(c.Request.Method)), slog.String("route", route), slog.Int("status", status),
		slog.String("code", c.GetString(codeKey)), slog.Float64("took_ms", float64(took.Microseconds())/1000),
		slog.Any("client_ip", s.clientAddr(c.Request)), slog.String("request_id", id))
}

func verdicts(route string) bool { return route == "/v1/verify" || strings.HasPrefix(route, "/authz/") }

// method keeps invented methods out of the log.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// requestID reports whether a proxy's id is fit to repeat.
func requestID(id string) bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

// Requests counts requests by route and status. There are few of both, so each
// pair's observer is looked for once.
type Requests struct {
	*prometheus.HistogramVec
	known sync.Map // of answered
}

type answered struct {
	route  string
	status int
}

// NewRequests makes the collector.
func NewRequests() *Requests {
	return &Requests{HistogramVec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "macaroond_http_request_seconds", Help: "Requests, by route and status.",
		Buckets: []float64{.0005, .002, .01, .05, .2, 1, 5},
	}, []string{"route", "status"})}
}

func (r *Requests) observe(route string, status int, took time.Duration) {
	o, ok := r.known.Load(answered{route, status})
	if !ok {
		o, _ = r.known.LoadOrStore(answered{route, status}, r.WithLabelValues(route, strconv.Itoa(status)))
	}
	o.(prometheus.Observer).Observe(took.Seconds())
}
