package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"macaroond/service/api"
	"macaroond/service/token"
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

// MaxFeedWait is the longest wait that the authority takes.
const MaxFeedWait = 30 * time.Second

// FeedQuestion is where a reader of the revocation feed stands. The zero value
// reads everything live from the start.
type FeedQuestion struct {
	Generation string
	After      int64         // exclusive; only with Generation
	Wait       time.Duration // for an entry, when there is none: whole seconds, at most MaxFeedWait
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
	out.Age = max(0, date.Add(time.Second).Sub(out.AsOf)) + time.Since(begun)
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

	dec  *jsontext.Decoder
	out  FeedAnswer
	last int64 // sequence
	seen [4]bool
}

// Members of the answer, in the order in which the server sends them.
const (
	memberGeneration = iota
	memberAsOf
	memberEntries
	memberNext
)

func (f *feedReader) read() (*FeedAnswer, error) {
	f.last = f.q.After
	f.dec = jsontext.NewDecoder(f.body)
	if _, err := f.token('{'); err != nil {
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
	if _, err := f.token('}'); err != nil {
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
	switch name {
	case "generation":
		f.seen[memberGeneration] = true
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
		f.seen[memberAsOf] = true
		var at api.Moment
		if err = f.value(&at); err == nil && at.IsZero() {
			err = errFeed("as_of is no time")
		}
		f.out.AsOf = at.Time
	case "entries":
		if !f.seen[memberGeneration] {
			return errFeed("entries come before their generation")
		}
		f.seen[memberEntries] = true
		err = f.list()
	case "next":
		f.seen[memberNext] = true
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
func (f *feedReader) list() (err error) {
	if _, err := f.token('['); err != nil {
		return err
	}
	var raw []byte // of the batch
	var ends [feedBatch]int
	n := 0
	batch := make([]api.Revocation, 0, feedBatch)
	flush := func() error {
		var bad error
		batch, bad = f.decode(batch[:0], string(raw), ends[:n])
		raw, n = raw[:0], 0
		if len(batch) > 0 {
			if err := f.entries(f.out.Generation, batch); err != nil {
				return err
			}
		}
		return bad
	}
	for err == nil && f.dec.PeekKind() == '{' {
		f.extend()
		value, e := f.dec.ReadValue()
		if e != nil {
			err = f.bad(e)
			break
		}
		raw = append(raw, value...)
		ends[n] = len(raw)
		if n++; n == feedBatch || len(raw) > maxElement {
			err = flush()
		}
	}
	if n > 0 {
		if e := flush(); err == nil {
			err = e
		}
	}
	if err != nil {
		return err
	}
	_, err = f.token(']')
	return err
}

// decode reads entries that stand one after another in text, whose parts they
// keep: a million entries are not two million strings.
func (f *feedReader) decode(batch []api.Revocation, text string, ends []int) ([]api.Revocation, error) {
	from := 0
	for _, end := range ends {
		value := text[from:end]
		from = end
		r, ok := entryAsSent(value)
		if !ok {
			r = api.Revocation{}
			if err := json.Unmarshal([]byte(value), &r); err != nil {
				return batch, errFeed("an entry is none")
			}
		}
		if r.Seq <= f.last {
			return batch, fmt.Errorf("%w: entry %d after entry %d", ErrHistory, r.Seq, f.last)
		}
		if err := sound(&r); err != nil {
			return batch, err
		}
		f.last = r.Seq
		batch = append(batch, r)
	}
	return batch, nil
}

// sound holds an entry against what its grain needs.
func sound(r *api.Revocation) error {
	var ok bool
	switch r.Grain {
	case api.GrainDevice:
		ok = id128(r.RootKeyID) && r.Fingerprint == "" && r.Epoch == 0
	case api.GrainBranch:
		ok = id128(r.RootKeyID) && id128(r.Fingerprint) && r.Epoch == 0
	case api.GrainEpoch:
		ok = r.RootKeyID == "" && r.Fingerprint == "" && r.Epoch > 0
	case api.GrainPolicy:
		ok = r.RootKeyID == "" && r.Fingerprint == "" && r.Epoch == 0 &&
			(r.Subject == "" || token.IsID(r.Subject, token.UserPrefix, token.ServicePrefix, token.DevicePrefix))
	default:
		return &UnknownGrainError{r.Seq, r.Grain[:min(64, len(r.Grain))]}
	}
	if !ok || r.ExpiresAt.IsZero() || r.Subject != "" && r.Grain != api.GrainPolicy {
		return errFeed("entry %d does not have what its grain needs", r.Seq)
	}
	return nil
}

// id128 reports 16 bytes in base64url, in their one spelling.
func id128(s string) bool {
	if len(s) != 22 {
		return false
	}
	var text [22]byte
	var id [16]byte
	copy(text[:], s)
	n, err := strict.Decode(id[:], text[:])
	return err == nil && n == len(id)
}

var strict = base64.RawURLEncoding.Strict()

// entryAsSent reads an entry in the very form in which macaroond sends it; any
// other is left to the JSON library, which says the same of this form as far as
// it is [sound] (FuzzEntry).
func entryAsSent(s string) (r api.Revocation, ok bool) {
	if s, ok = skip(s, `{"seq":`); !ok {
		return r, false
	}
	var n uint64
	if n, s, ok = number(s); !ok {
		return r, false
	}
	r.Seq = int64(n)
	if s, ok = skip(s, `,"grain":"`); !ok {
		return r, false
	}
	switch {
	case has(&s, api.GrainDevice+`","root_key_id":"`):
		r.Grain = api.GrainDevice
		r.RootKeyID, s, ok = plain(s)
	case has(&s, api.GrainBranch+`","root_key_id":"`):
		r.Grain = api.GrainBranch
		if r.RootKeyID, s, ok = plain(s); ok {
			if s, ok = skip(s, `,"fingerprint":"`); ok {
				r.Fingerprint, s, ok = plain(s)
			}
		}
	case has(&s, api.GrainEpoch+`","epoch":`):
		r.Grain = api.GrainEpoch
		n, s, ok = number(s)
		r.Epoch = uint32(n)
		ok = ok && n == uint64(r.Epoch)
	default:
		return r, false
	}
	if !ok || !has(&s, `,"expires_at":"`) {
		return r, false
	}
	const form = "2006-01-02T15:04:05Z"
	if len(s) != len(form)+len(`"}`) || s[len(form):] != `"}` {
		return r, false
	}
	r.ExpiresAt.Time, ok = instant(s[:len(form)])
	return r, ok
}

func skip(s, prefix string) (rest string, ok bool) {
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return s, false
	}
	return s[len(prefix):], true
}

func has(s *string, prefix string) (ok bool) {
	*s, ok = skip(*s, prefix)
	return ok
}

// number reads a whole number of at most 18 digits.
func number(s string) (n uint64, rest string, ok bool) {
	i := 0
	for ; i < len(s) && i < 19 && '0' <= s[i] && s[i] <= '9'; i++ {
		n = n*10 + uint64(s[i]-'0')
	}
	if i == 0 || i == 19 || s[0] == '0' && i > 1 {
		return 0, s, false
	}
	return n, s[i:], true
}

// plain cuts off 22 characters and the quotation mark after them. What they are
// is for [sound]: any that are not base64url are refused there, and would be,
// too, as whatever they stand for in JSON, which is then shorter.
func plain(s string) (text, rest string, ok bool) {
	if len(s) < 23 || s[22] != '"' {
		return "", s, false
	}
	return s[:22], s[23:], true
}

// instant reads YYYY-MM-DDThh:mm:ssZ.
func instant(s string) (time.Time, bool) {
	if s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[19] != 'Z' {
		return time.Time{}, false
	}
	var v [6]int
	for i, at := range [...][2]int{{0, 4}, {5, 7}, {8, 10}, {11, 13}, {14, 16}, {17, 19}} {
		for _, c := range []byte(s[at[0]:at[1]]) {
			if c < '0' || c > '9' {
				return time.Time{}, false
			}
			v[i] = v[i]*10 + int(c-'0')
		}
	}
	t := time.Date(v[0], time.Month(v[1]), v[2], v[3], v[4], v[5], 0, time.UTC)
	// time.Date takes the 31st of June for the 1st of July.
	return t, t.Month() == time.Month(v[1]) && t.Day() == v[2] && t.Hour() == v[3] && t.Minute() == v[4] && t.Second() == v[5]
}

// extend lets the next element be read.
func (f *feedReader) extend() { f.body.limit = f.dec.InputOffset() + maxElement }

func (f *feedReader) token(want jsontext.Kind) (jsontext.Token, error) {
	f.extend()
	t, err := f.dec.ReadToken()
	if err != nil {
		return t, f.bad(err)
	}
	if t.Kind() != want {
		return t, errFeed("the answer is not the JSON that was expected")
	}
	return t, nil
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
