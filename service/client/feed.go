package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"macaroond/service/api"
)

const (
	// maxElement bounds what one element of the feed's answer may take, in
	// bytes: an entry has some 150. The answer as a whole has no bound.
	maxElement = 64 << 10
	// feedBatch is how many entries are handed on at a time.
	feedBatch = 512
	// feedSilence is how long the server may say nothing, beyond the wait that
	// it was asked for.
	feedSilence = 5 * time.Second
)

// FeedQuestion is where a reader of the revocation feed stands. The zero value
// reads everything live from the start.
type FeedQuestion struct {
	Generation string
	After      int64         // exclusive; only with Generation
	Wait       time.Duration // for an entry, when there is none: whole seconds, at most [api.MaxFeedWait]
}

// FeedAnswer is a whole answer, without its entries.
type FeedAnswer struct {
	Generation string
	Next       int64
	AsOf       time.Time // by the authority's clock
	// Age is how long ago AsOf was when the answer had been read to its end, at
	// most: what the authority said, and the time that reading took. How long
	// the answer's beginning was on its way is not in it.
	Age time.Duration
}

// UnknownGrainError is an entry of a grain that this release does not know:
// the list cannot be honoured.
type UnknownGrainError struct {
	Seq   int64
	Grain string // the server's word, at most 64 bytes
}

func (e *UnknownGrainError) Error() string {
	return fmt.Sprintf("revocation %d is of the grain %s, which this release does not know: upgrade it", e.Seq, strconv.QuoteToASCII(e.Grain))
}

// ErrHistory means that an answer of the feed contradicts itself or what was
// asked: its sequence goes backward, or its generation is another one.
var ErrHistory = errors.New("the feed's history is broken")

// errFeed is an answer that is not a feed, or not all of one.
func errFeed(format string, args ...any) error {
	return fmt.Errorf("GET /v1/revocations: %s", fmt.Sprintf(format, args...))
}

// Revocations reads the feed once. Entries are handed on while they come, in
// order of their sequence; the slice and what its strings share are the
// callee's only during the call, and an error of it ends the reading. With an
// error nothing is known but what was handed on. The credential is a
// service's. The answer may take any time as long as it goes on: [Options]'
// Timeout does not count.
//
// Errors: an [*api.Problem] with api.CodeOtherGeneration when the history is
// another one; [ErrHistory]; an [*UnknownGrainError].
func (c *Client) Revocations(ctx context.Context, service Credential, q FeedQuestion, entries func(generation string, batch []api.Revocation) error) (*FeedAnswer, error) {
	parent := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(q.Wait+feedSilence, func() { cancel(errSilent) })
	defer silent.Stop()

	x := call{method: http.MethodGet, path: "/v1/revocations", query: url.Values{}, cred: service}
	if q.Generation != "" {
		x.query.Set("generation", q.Generation)
		x.query.Set("after", strconv.FormatInt(q.After, 10))
	}
	if q.Wait > 0 {
		x.query.Set("wait", strconv.FormatInt(int64(q.Wait/time.Second), 10))
	}
	req, err := c.request(ctx, x)
	if err != nil {
		return nil, err
	}
	unbound := c.http
	unbound.Timeout = 0
	resp, err := unbound.Do(req)
	silent.Stop()
	if err != nil {
		return nil, c.silence(parent, ctx, err)
	}
	defer resp.Body.Close()
	begun := time.Now()
	body := &steady{r: resp.Body, timer: silent}
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(body, maxElement))
		if err != nil {
			return nil, c.silence(parent, ctx, err)
		}
		return nil, refusal(resp.StatusCode, resp.Header, text, false)
	}
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != "application/json" {
		return nil, &StatusError{Status: resp.StatusCode}
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return nil, errFeed("the answer has no Date, so its age cannot be told")
	}
	f := feedReader{q: q, body: body, entries: entries}
	out, err := f.read()
	switch {
	case err != nil && body.err != nil && body.err != io.EOF:
		return nil, c.silence(parent, ctx, body.err)
	case err != nil:
		return nil, err
	}
	// Date is in whole seconds, cut.
	read := time.Since(begun)
	out.Age = max(read, date.Add(time.Second+read).Sub(out.AsOf)) // Sub is at most the greatest duration; a sum would go round
	return out, nil
}

var errSilent = errors.New("the server says nothing")

// silence keeps the caller's own end apart from a server that says nothing. A
// connection on which it said nothing is not used again: it may be dead, and
// HTTP/2 would put the next question on it.
func (c *Client) silence(parent, ctx context.Context, err error) error {
	if parent.Err() == nil && context.Cause(ctx) == errSilent {
		c.http.CloseIdleConnections()
		err = errSilent
	}
	return unreachable(parent, err)
}

// steady reads for as long as something comes: the timer runs only while it
// waits.
type steady struct {
	r     io.Reader
	timer *time.Timer
	read  int64
	limit int64 // on read; 0 is none
	err   error
}

var errElement = errors.New("an element is too long")

func (s *steady) Read(b []byte) (int, error) {
	if s.limit > 0 && s.read > s.limit {
		return 0, errElement
	}
	s.timer.Reset(feedSilence)
	n, err := s.r.Read(b)
	s.timer.Stop()
	s.read += int64(n)
	s.err = err
	return n, err
}

// feedReader reads one answer.
type feedReader struct {
	q       FeedQuestion
	body    *steady
	entries func(generation string, batch []api.Revocation) error

	dec    *jsontext.Decoder
	before int64 // bytes of the body that dec has not seen
	out    FeedAnswer
	last   int64 // sequence
	seen   [4]bool
}

// Members of the answer, in the order in which the server sends them.
const (
	memberGeneration = iota
	memberAsOf
	memberEntries
	memberNext
)

var members = map[string]int{"generation": memberGeneration, "as_of": memberAsOf, "entries": memberEntries, "next": memberNext}

func (f *feedReader) read() (*FeedAnswer, error) {
	f.last = f.q.After
	f.dec = jsontext.NewDecoder(f.body)
	if err := f.token('{'); err != nil {
		return nil, err
	}
	for f.dec.PeekKind() == '"' {
		f.extend()
		name, err := f.dec.ReadToken()
		if err != nil {
			return nil, f.bad(err)
		}
		if err := f.member(name.String()); err != nil {
			return nil, err
		}
	}
	if err := f.token('}'); err != nil {
		return nil, err
	}
	f.extend()
	if _, err := f.dec.ReadToken(); err != io.EOF {
		return nil, errFeed("something follows the answer")
	}
	if f.seen != [4]bool{true, true, true, true} {
		return nil, errFeed("a member is missing")
	}
	if f.out.Next < f.last {
		return nil, fmt.Errorf("%w: next is %d after entry %d", ErrHistory, f.out.Next, f.last)
	}
	return &f.out, nil
}

func (f *feedReader) member(name string) (err error) {
	if i, ours := members[name]; ours {
		if f.seen[i] {
			return errFeed("the member %s is there twice", name)
		}
		f.seen[i] = true
	}
	switch name {
	case "generation":
		var generation string
		switch err = f.value(&generation); {
		case err != nil:
		case generation == "":
			err = errFeed("the generation is empty")
		case f.q.Generation != "" && generation != f.q.Generation:
			err = fmt.Errorf("%w: the generation is another one than was asked for", ErrHistory)
		}
		f.out.Generation = generation
	case "as_of":
		var at api.Moment
		if err = f.value(&at); err == nil && at.IsZero() {
			err = errFeed("as_of is no time")
		}
		f.out.AsOf = at.Time
	case "entries":
		if !f.seen[memberGeneration] {
			return errFeed("entries come before their generation")
		}
		err = f.list()
	case "next":
		err = f.value(&f.out.Next)
	default: // of a newer release
		f.extend()
		if err = f.dec.SkipValue(); err != nil {
			err = f.bad(err)
		}
	}
	return err
}

// list hands the entries on. Those that came before an error are handed on,
// too: each stands by itself.
func (f *feedReader) list() error {
	if err := f.token('['); err != nil {
		return err
	}
	batch := make([]api.Revocation, 0, feedBatch)
	if err := f.quick(batch); err != nil {
		return err
	}
	for f.dec.PeekKind() == '{' {
		batch = batch[:0]
		var bad error
		for bad == nil && len(batch) < feedBatch && f.dec.PeekKind() == '{' {
			var r api.Revocation
			if r, bad = f.entry(); bad == nil {
				batch = append(batch, r)
			}
		}
		if err := f.handOn(batch); err != nil {
			return err
		}
		if bad != nil {
			return bad
		}
	}
	return f.token(']')
}

// quick reads entries for as long as they stand in the very form in which
// macaroond sends them, without the JSON decoder: at a start there can be a
// million. What comes then is left to a decoder that takes itself to be at the
// same place.
func (f *feedReader) quick(batch []api.Revocation) error {
	f.body.limit = 0 // an entry that does not fit the buffer is left to the decoder
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(f.dec.UnreadBuffer()), f.body), maxElement)
	place := `{"":[`
	for {
		if _, err := r.Peek(1); err != nil {
			break // the decoder says what is missing
		}
		buffered, _ := r.Peek(r.Buffered())
		text, read := string(buffered), 0 // which the entries keep: a million of them are not two million strings
		batch = batch[:0]
		var bad error
		for bad == nil {
			s, ok := text[read:], true
			if place == between {
				s, ok = strings.CutPrefix(s, ",")
			}
			var e api.Revocation
			if ok {
				e, s, ok = entryAsSent(s)
			}
			if !ok {
				break
			}
			if bad = f.next(&e); bad == nil {
				batch = append(batch, e)
			}
			read, place = len(text)-len(s), between
		}
		if err := f.handOn(batch); err != nil {
			return err
		}
		if bad != nil {
			return bad
		}
		_, _ = r.Discard(read) // it is in the buffer
		if left := r.Buffered(); read == 0 && (left > longestEntry || text[0] == ']') {
			break
		} else if left > 0 && left <= longestEntry {
			if _, err := r.Peek(left + 1); err != nil { // the rest of an entry
				break
			}
		}
	}
	f.before = f.body.read - int64(r.Buffered()+len(place))
	f.dec = jsontext.NewDecoder(io.MultiReader(strings.NewReader(place), r))
	for range tokensTo[place] {
		if _, err := f.dec.ReadToken(); err != nil {
			return f.bad(err)
		}
	}
	return nil
}

// between is what a decoder reads to be between entries.
const (
	between      = `{"":[0`
	longestEntry = 512 // more than one takes in the form in which it is sent
)

var tokensTo = map[string]int{`{"":[`: 3, between: 4}

// entry reads one by the decoder.
func (f *feedReader) entry() (r api.Revocation, err error) {
	f.extend()
	value, err := f.dec.ReadValue()
	if err != nil {
		return r, f.bad(err)
	}
	if json.Unmarshal(value, &r) != nil {
		return r, errFeed("an entry is none")
	}
	err = f.next(&r)
	return r, err
}

// next holds an entry against the one before it and against what it needs.
func (f *feedReader) next(r *api.Revocation) error {
	if r.Seq <= f.last {
		return fmt.Errorf("%w: entry %d after entry %d", ErrHistory, r.Seq, f.last)
	}
	if err := sound(r); err != nil {
		return err
	}
	f.last = r.Seq
	return nil
}

// handOn gives entries to the caller, no more than feedBatch at a time.
func (f *feedReader) handOn(entries []api.Revocation) error {
	for len(entries) > 0 {
		n := min(len(entries), feedBatch)
		if err := f.entries(f.out.Generation, entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// extend lets the next element be read.
func (f *feedReader) extend() { f.body.limit = f.before + f.dec.InputOffset() + maxElement }

func (f *feedReader) token(want jsontext.Kind) error {
	f.extend()
	t, err := f.dec.ReadToken()
	if err != nil {
		return f.bad(err)
	}
	if t.Kind() != want {
		return errFeed("the answer is not the JSON that was expected")
	}
	return nil
}

func (f *feedReader) value(into any) error {
	f.extend()
	value, err := f.dec.ReadValue()
	if err != nil {
		return f.bad(err)
	}
	if value.Kind() == 'n' || json.Unmarshal(value, into) != nil {
		return errFeed("a member has the wrong type")
	}
	return nil
}

// bad says nothing of what was sent.
func (f *feedReader) bad(err error) error {
	switch {
	case errors.Is(err, errElement):
		return errFeed("an element is longer than %d bytes", maxElement)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the answer was cut off", ErrUnreachable)
	}
	return errFeed("the answer is not the JSON that was expected")
}
