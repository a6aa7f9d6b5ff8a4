package httpapi

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"macaroond/service"
	"macaroond/service/api"
	"macaroond/storage"
)

const (
	feedChunk    = 32 << 10         // bytes written at a time
	feedDeadline = 10 * time.Minute // for the whole of an answer, however steadily it is read
)

// revocations answers GET /v1/revocations. It does not go through the adapter,
// which holds whole answers: a million entries are 130 MB.
func (s *server) revocations(c *gin.Context) {
	c.Header("Cache-Control", "no-store")
	answer, err := s.feed(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	defer answer.Close()
	s.stream(&feedWriter{c: c, idle: writeTimeout, end: time.Now().Add(feedDeadline)}, answer)
}

// feed reads the question and waits for its answer.
func (s *server) feed(c *gin.Context) (*service.FeedAnswer, error) {
	x, err := s.read(c)
	if err != nil {
		return nil, err
	}
	if err := x.decode(&none{}); err != nil {
		return nil, err
	}
	q, err := x.feedQuestion()
	if err != nil {
		return nil, err
	}
	svc, err := x.service("revocations", s.svc.MayFeed(x.ctx(), q))
	if err != nil {
		return nil, err
	}
	// The server's limit is for a request that is answered at once; in HTTP/2 it
	// cannot be put off once it has passed. What the connection does not support
	// (a test's recorder) has no limit either.
	_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(q.Wait + writeTimeout))
	return s.svc.Feed(x.ctx(), *svc, q)
}

func (x *call) feedQuestion() (q service.FeedQuestion, err error) {
	params, err := x.query("generation", "after", "wait")
	if err != nil {
		return q, err
	}
	var continued, placed bool
	q.Generation, continued = params["generation"]
	if continued && q.Generation == "" {
		return q, badRequest("generation is empty: leave it out to read from the start")
	}
	if text, there := params["after"]; there {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return q, badRequest("after is a sequence: a whole number, 0 or more")
		}
		q.After, placed = int64(n), true
	}
	if placed && !continued {
		return q, badRequest("after means nothing without the generation that it is of")
	}
	if text, there := params["wait"]; there {
		n, err := strconv.ParseUint(text, 10, 8)
		if q.Wait = time.Duration(n) * time.Second; err != nil || q.Wait > api.MaxFeedWait {
			return q, badRequest(fmt.Sprintf("wait is 0 to %d whole seconds", api.MaxFeedWait/time.Second))
		}
	}
	if x.gin.Request.Method == http.MethodHead {
		q.Wait = 0
	}
	return q, nil
}

// stream writes the answer as it is read. Before the first byte an error is
// answered as any other; after it the connection is broken.
func (s *server) stream(w *feedWriter, answer *service.FeedAnswer) {
	c := w.c
	b := []byte(`{"generation":`)
	b, _ = jsontext.AppendQuote(b, answer.Generation) // base64url
	b = append(b, `,"as_of":`...)
	moment, _ := api.Moment{Time: answer.AsOf}.MarshalJSON() // never fails
	b = append(append(b, moment...), `,"entries":[`...)
	if c.Request.Method != http.MethodHead {
		comma := false
		for entry, err := range answer.Entries(c.Request.Context()) {
			if err == nil {
				if comma {
					b = append(b, ',')
				}
				comma = true
				if b, err = appendRevocation(b, &entry); err == nil && len(b) >= feedChunk {
					err, b = w.write(b), b[:0]
				}
			}
			if err != nil {
				s.cut(c, err)
				return
			}
		}
	}
	b = strconv.AppendInt(append(b, `],"next":`...), answer.Next, 10)
	if err := w.write(append(b, '}', '\n')); err != nil {
		s.cut(c, err)
	}
}

// cut ends an answer that cannot be finished.
func (s *server) cut(c *gin.Context, err error) {
	if !c.Writer.Written() {
		s.fail(c, err)
		return
	}
	s.problem(c, err) // for the log
	panic(http.ErrAbortHandler)
}

// feedWriter writes to a reader for as long as it takes what it is given.
type feedWriter struct {
	c    *gin.Context
	idle time.Duration // for a chunk
	end  time.Time     // for all of them
}

func (w *feedWriter) write(b []byte) error {
	by := time.Now().Add(w.idle)
	if by.After(w.end) {
		by = w.end
	}
	_ = http.NewResponseController(w.c.Writer).SetWriteDeadline(by)
	if !w.c.Writer.Written() {
		w.c.Writer.Header()["Content-Type"] = []string{"application/json"}
		w.c.Status(http.StatusOK)
	}
	if _, err := w.c.Writer.Write(b); err != nil {
		return &service.Error{Code: api.CodeUnavailable, Detail: "the reader has gone or is too slow"}
	}
	return nil
}

// appendRevocation writes an [api.Revocation].
func appendRevocation(b []byte, r *storage.Revocation) ([]byte, error) {
	b = strconv.AppendInt(append(b, `{"seq":`...), r.Seq, 10)
	switch r.Grain {
	case storage.GrainDevice:
		b = append(b, `,"grain":"`+api.GrainDevice+`","root_key_id":"`...)
		b = base64.RawURLEncoding.AppendEncode(b, r.RootKeyID[:])
		b = append(b, '"')
	case storage.GrainBranch:
		b = append(b, `,"grain":"`+api.GrainBranch+`","root_key_id":"`...)
		b = base64.RawURLEncoding.AppendEncode(b, r.RootKeyID[:])
		b = append(b, `","fingerprint":"`...)
		b = base64.RawURLEncoding.AppendEncode(b, r.Fingerprint[:])
		b = append(b, '"')
	case storage.GrainEpoch:
		b = append(b, `,"grain":"`+api.GrainEpoch+`","epoch":`...)
		b = strconv.AppendUint(b, uint64(r.Epoch), 10)
	case storage.GrainPolicy:
		b = append(b, `,"grain":"`+api.GrainPolicy+`"`...)
		if r.Subject != "" {
			b = appendMember(b, "subject", r.Subject)
		}
	default:
		return b, fmt.Errorf("revocation %d is of grain %d, which has no name on the wire", r.Seq, r.Grain)
	}
	b = append(b, `,"expires_at":"`...)
	until := r.ExpiresAt.Add(time.Second - time.Nanosecond).Truncate(time.Second) // never early
	b = until.UTC().AppendFormat(b, time.RFC3339)
	return append(b, '"', '}'), nil
}
