package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-json-experiment/json"

	"macaroond/service/api"
)

const (
	device1 = `{"seq":1,"grain":"device","root_key_id":"AAECAwQFBgcICQoLDA0ODw","expires_at":"2026-12-21T22:10:04Z"}`
	branch2 = `{"seq":2,"grain":"branch","root_key_id":"AAECAwQFBgcICQoLDA0ODw","fingerprint":"_-7dzLuqmYh3ZlVEMyIRAA","expires_at":"2026-12-21T22:10:04Z"}`
	epoch5  = `{"seq":5,"grain":"epoch","epoch":4294967295,"expires_at":"2026-12-31T23:59:59Z"}`
	policy6 = `{"seq":6,"grain":"policy","subject":"usr_AliceAliceAlice1","expires_at":"2026-11-23T01:12:03Z"}`
	opening = `{"generation":"g","as_of":"2026-11-22T01:02:03.456Z","entries":[`
	ending  = `],"next":7}`
	answer  = opening + device1 + "," + branch2 + "," + epoch5 + ending
)

// feedOf reads an answer's text. Entries are copied, as a sink must.
func feedOf(r io.Reader, q FeedQuestion) (out *FeedAnswer, entries []api.Revocation, err error) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	f := feedReader{q: q, body: &steady{r: r, timer: timer}, entries: func(generation string, batch []api.Revocation) error {
		if generation != "g" {
			return errors.New("the generation is not told")
		}
		entries = append(entries, batch...)
		return nil
	}}
	out, err = f.read()
	return out, entries, err
}

func TestFeedAnswer(t *testing.T) {
	want := []api.Revocation{
		{Seq: 1, Grain: "device", RootKeyID: "AAECAwQFBgcICQoLDA0ODw", ExpiresAt: api.At(time.Date(2026, 12, 21, 22, 10, 4, 0, time.UTC))},
		{Seq: 2, Grain: "branch", RootKeyID: "AAECAwQFBgcICQoLDA0ODw", Fingerprint: "_-7dzLuqmYh3ZlVEMyIRAA", ExpiresAt: api.At(time.Date(2026, 12, 21, 22, 10, 4, 0, time.UTC))},
		{Seq: 5, Grain: "epoch", Epoch: 4294967295, ExpiresAt: api.At(time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC))},
	}
	for name, text := range map[string]string{
		"as sent":       answer,
		"with a line":   answer + "\n",
		"with spaces":   strings.NewReplacer(`,"`, " ,\n\"", `":`, "\" : ", `},{`, "} , { ").Replace(answer),
		"newer members": strings.NewReplacer(`"seq"`, `"why":{"a":[1]},"seq"`, `"as_of"`, `"more":[{}],"as_of"`).Replace(answer),
		"other order":   `{"next":7,"generation":"g","entries":[` + device1 + "," + branch2 + "," + epoch5 + `],"as_of":"2026-11-22T02:02:03.456+01:00"}`,
	} {
		for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text)), iotest.DataErrReader(strings.NewReader(text))} {
			out, got, err := feedOf(r, FeedQuestion{})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !reflect.DeepEqual(got, want) || out.Generation != "g" || out.Next != 7 || !out.AsOf.Equal(time.Date(2026, 11, 22, 1, 2, 3, 456e6, time.UTC)) {
				t.Errorf("%s: %+v %+v", name, out, got)
			}
		}
	}
	if out, got, err := feedOf(strings.NewReader(opening+ending), FeedQuestion{Generation: "g", After: 7}); err != nil || len(got) != 0 || out.Next != 7 {
		t.Errorf("no entries: %+v, %v, %v", out, got, err)
	}
}

// An answer that ends early is an error wherever it ends, and the entries that
// were there are handed on.
func TestFeedCutShort(t *testing.T) {
	for n := range len(answer) {
		_, got, err := feedOf(strings.NewReader(answer[:n]), FeedQuestion{})
		if !errors.Is(err, ErrUnreachable) {
			t.Fatalf("%s: %v", answer[:n], err)
		}
		whole := 0
		for _, entry := range []string{device1, branch2, epoch5} {
			if strings.Contains(answer[:n], entry) {
				whole++
			}
		}
		if len(got) != whole {
			t.Errorf("%s: %d entries, want %d", answer[:n], len(got), whole)
		}
	}
}

func TestFeedRefused(t *testing.T) {
	huge := strings.Repeat("x", 2*maxElement)
	entry := func(s string) string { return opening + s + ending }
	change := func(from, to string) string { return strings.Replace(answer, from, to, 1) }
	for name, c := range map[string]struct {
		text string
		q    FeedQuestion
		is   error // nil: any
	}{
		"another generation":            {answer, FeedQuestion{Generation: "h"}, ErrHistory},
		"an entry that was there":       {answer, FeedQuestion{Generation: "g", After: 1}, ErrHistory},
		"an entry twice":                {change(`"seq":2`, `"seq":1`), FeedQuestion{}, ErrHistory},
		"backward":                      {change(`"seq":5`, `"seq":1`), FeedQuestion{}, ErrHistory},
		"sequence 0":                    {change(`"seq":1`, `"seq":0`), FeedQuestion{}, ErrHistory},
		"a negative sequence":           {change(`"seq":1`, `"seq":-1`), FeedQuestion{}, ErrHistory},
		"next is behind":                {change(`"next":7`, `"next":4`), FeedQuestion{}, ErrHistory},
		"next is behind what was asked": {opening + ending, FeedQuestion{Generation: "g", After: 8}, ErrHistory},
		"no generation":                 {change(`"generation":"g",`, ``), FeedQuestion{}, nil},
		"an empty generation":           {change(`"g"`, `""`), FeedQuestion{}, nil},
		"a generation too late":         {`{"entries":[],"generation":"g","as_of":"2026-11-22T01:02:03.456Z","next":7}`, FeedQuestion{}, nil},
		"no as_of":                      {change(`"as_of":"2026-11-22T01:02:03.456Z",`, ``), FeedQuestion{}, nil},
		"as_of is no time":              {change(`2026-11-22T01:02:03.456Z`, `now`), FeedQuestion{}, nil},
		"as_of is null":                 {change(`"2026-11-22T01:02:03.456Z"`, `null`), FeedQuestion{}, nil},
		"no next":                       {change(`,"next":7`, ``), FeedQuestion{}, nil},
		"next is null":                  {change(`"next":7`, `"next":null`), FeedQuestion{}, nil},
		"no entries":                    {`{"generation":"g","as_of":"2026-11-22T01:02:03.456Z","next":7}`, FeedQuestion{}, nil},
		"entries are null":              {`{"generation":"g","as_of":"2026-11-22T01:02:03.456Z","entries":null,"next":7}`, FeedQuestion{}, nil},
		"an entry is no object":         {entry(`1`), FeedQuestion{}, nil},
		"an entry is null":              {entry(device1 + `,null`), FeedQuestion{}, nil},
		"a member twice":                {change(`"next":7`, `"next":7,"next":7`), FeedQuestion{}, nil},
		"an entry's member twice":       {change(`"seq":1`, `"seq":1,"seq":1`), FeedQuestion{}, nil},
		"something after it":            {answer + "{}", FeedQuestion{}, nil},
		"no JSON":                       {"<html>", FeedQuestion{}, nil},
		"an array":                      {"[]", FeedQuestion{}, nil},
		"a grain in capitals":           {change(`"device"`, `"Device"`), FeedQuestion{}, nil},
		"no grain":                      {change(`"grain":"device",`, ``), FeedQuestion{}, nil},
		"no root key":                   {change(`"root_key_id":"AAECAwQFBgcICQoLDA0ODw",`, ``), FeedQuestion{}, nil},
		"a short root key":              {change(`ODw"`, `OD"`), FeedQuestion{}, nil},
		"a root key with loose bits":    {change(`ODw"`, `ODx"`), FeedQuestion{}, nil},
		"a root key in lines":           {change(`ODw"`, `O\nw"`), FeedQuestion{}, nil},
		"a branch without fingerprint":  {change(`"fingerprint":"_-7dzLuqmYh3ZlVEMyIRAA",`, ``), FeedQuestion{}, nil},
		"a device with fingerprint":     {change(`"branch"`, `"device"`), FeedQuestion{}, nil},
		"an epoch without number":       {change(`"epoch":4294967295,`, ``), FeedQuestion{}, nil},
		"epoch 0":                       {change(`4294967295`, `0`), FeedQuestion{}, nil},
		"a long epoch":                  {change(`4294967295`, `4294967296`), FeedQuestion{}, nil},
		"no expiry":                     {change(`,"expires_at":"2026-12-31T23:59:59Z"`, ``), FeedQuestion{}, nil},
		"the 31st of November":          {change(`12-31T`, `11-31T`), FeedQuestion{}, nil},
		"a long entry":                  {change(`"seq":5`, `"x":"`+huge+`","seq":5`), FeedQuestion{}, nil},
		"a long member":                 {change(`"next":7`, `"x":"`+huge+`","next":7`), FeedQuestion{}, nil},
		"a long name":                   {change(`"next":7`, `"`+huge+`":1,"next":7`), FeedQuestion{}, nil},
		"endless spaces":                {change(`"next":7`, strings.Repeat(" ", 2*maxElement)+`"next":7`), FeedQuestion{}, nil},
	} {
		_, _, err := feedOf(strings.NewReader(c.text), c.q)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || c.is == nil && errors.Is(err, ErrHistory) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A change of policies says whose: a user's, a service's, a device's, or
// nobody's in particular. Whatever else it says makes it none.
func TestFeedPolicy(t *testing.T) {
	change := func(from, to string) string { return strings.Replace(policy6, from, to, 1) }
	for text, subject := range map[string]string{
		policy6: "usr_AliceAliceAlice1",
		change(`,"subject":"usr_AliceAliceAlice1"`, ``):                 "",
		change("usr_AliceAliceAlice1", "dev_PhonePhonePhone1"):          "dev_PhonePhonePhone1",
		change("usr_AliceAliceAlice1", "svc_PrintPrintPrint1"):          "svc_PrintPrintPrint1",
		change(`"grain":"policy"`, `"new":1,"grain":"policy"`):          "usr_AliceAliceAlice1",
		change(`"usr_AliceAliceAlice1"`, `""`):                          "",
		change(`"usr_AliceAliceAlice1"`, `"usr_AliceAlice\u0041lice1"`): "usr_AliceAliceAlice1",
	} {
		_, got, err := feedOf(strings.NewReader(opening+device1+","+text+ending), FeedQuestion{})
		if err != nil || len(got) != 2 || got[1].Grain != api.GrainPolicy || got[1].Seq != 6 || got[1].Subject != subject {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		change("usr_AliceAliceAlice1", "alice"),
		change("usr_AliceAliceAlice1", "usr_AliceAliceAlice"),
		change("usr_AliceAliceAlice1", "pol_AliceAliceAlice1"),
		change(`"usr_AliceAliceAlice1"`, `1`),
		change(`"subject"`, `"epoch":1,"subject"`),
		change(`"subject"`, `"root_key_id":"AAECAwQFBgcICQoLDA0ODw","subject"`),
		change(`"subject"`, `"fingerprint":"AAECAwQFBgcICQoLDA0ODw","subject"`),
		change(`,"expires_at":"2026-11-23T01:12:03Z"`, ``),
		change(`"grain":"policy"`, `"grain":"policies"`),
		strings.Replace(device1, `"root_key_id"`, `"subject":"usr_AliceAliceAlice1","root_key_id"`, 1),
		strings.Replace(epoch5, `"epoch"`, `"subject":"usr_AliceAliceAlice1","epoch"`, 1),
	} {
		_, got, err := feedOf(strings.NewReader(opening+text+ending), FeedQuestion{})
		if err == nil || len(got) != 0 {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

// An unknown grain is told as such, after what comes before it and without
// what comes after.
func TestFeedUnknownGrain(t *testing.T) {
	text := strings.Replace(answer, `"grain":"branch"`, `"grain":"user","of":"usr_A"`, 1)
	_, got, err := feedOf(strings.NewReader(text), FeedQuestion{})
	e, ok := errors.AsType[*UnknownGrainError](err)
	if !ok || e.Seq != 2 || e.Grain != "user" || len(got) != 1 || got[0].Seq != 1 {
		t.Errorf("%v, %+v", err, got)
	}
}

// What the sink refuses ends the reading.
func TestFeedSinkError(t *testing.T) {
	mine := errors.New("mine")
	c := peer(t, Options{}, serving("application/json", answer))
	_, err := c.Revocations(t.Context(), Credential{}, FeedQuestion{}, func(string, []api.Revocation) error { return mine })
	if !errors.Is(err, mine) {
		t.Error(err)
	}
}

func serving(media, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", media)
		io.WriteString(w, body)
	}
}

func nothing(string, []api.Revocation) error { return nil }

// The age is what the answer says of itself by its own clock: ours may be
// wrong by years.
func TestFeedAge(t *testing.T) {
	dated := func(date string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil
			if date != "" {
				w.Header().Set("Date", date)
			}
			serving("application/json", answer)(w, r)
		}
	}
	for date, least := range map[string]time.Duration{ // as_of is 01:02:03.456
		"Sun, 22 Nov 2026 01:02:03 GMT": 544 * time.Millisecond,
		"Sun, 22 Nov 2026 01:02:23 GMT": 20544 * time.Millisecond,
		"Sun, 22 Nov 2026 01:02:02 GMT": 0,
		"Sun, 22 Nov 2026 01:01:02 GMT": 0,
	} {
		out, err := peer(t, Options{}, dated(date)).Revocations(t.Context(), Credential{}, FeedQuestion{}, nothing)
		if err != nil || out.Age < least || out.Age > least+5*time.Second {
			t.Errorf("%s: %+v, %v", date, out, err)
		}
	}
	// Older than a duration can say is not new.
	out, err := peer(t, Options{}, dated("Fri, 31 Dec 9999 23:59:59 GMT")).Revocations(t.Context(), Credential{}, FeedQuestion{}, nothing)
	if err != nil || out.Age != math.MaxInt64 {
		t.Errorf("in the year 9999: %+v, %v", out, err)
	}
	for _, date := range []string{"", "yesterday"} {
		if _, err := peer(t, Options{}, dated(date)).Revocations(t.Context(), Credential{}, FeedQuestion{}, nothing); err == nil {
			t.Errorf("Date: %q is taken", date)
		}
	}
	// The time that reading takes is age, too.
	const pause = 300 * time.Millisecond
	slow := peer(t, Options{}, dated("Sun, 22 Nov 2026 01:02:03 GMT"))
	out, err = slow.Revocations(t.Context(), Credential{}, FeedQuestion{}, func(string, []api.Revocation) error { time.Sleep(pause); return nil })
	if err != nil || out.Age < pause+544*time.Millisecond {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestFeedForeignAnswers(t *testing.T) {
	c := peer(t, Options{}, serving("text/html", answer))
	if _, err := c.Revocations(t.Context(), Bearer(secret), FeedQuestion{}, nothing); !isStatus(200)(err) {
		t.Error(err)
	}
	c = peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
	if _, err := c.Revocations(t.Context(), Bearer(secret), FeedQuestion{}, nothing); !isStatus(302)(err) {
		t.Error(err)
	}
	c = peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100000")
		io.WriteString(w, answer[:200])
	})
	if _, err := c.Revocations(t.Context(), Bearer(secret), FeedQuestion{}, nothing); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	why := errors.New("changed my mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	c = peer(t, Options{}, func(w http.ResponseWriter, r *http.Request) { cancel(why); <-r.Context().Done() })
	if _, err := c.Revocations(ctx, Bearer(secret), FeedQuestion{}, nothing); !errors.Is(err, why) || errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}

// The fast reading of an entry is the library's, or none.
func FuzzEntry(f *testing.F) {
	seeds := []string{
		device1, branch2, epoch5, policy6, strings.Replace(epoch5, "4294967295", "0", 1), strings.Replace(device1, `:1,`, `:01,`, 1), strings.Replace(device1, `:1,`, `:999999999999999999,`, 1),
		strings.Replace(device1, "12-21", "02-30", 1), strings.Replace(device1, "22:10:04", "24:00:00", 1), strings.Replace(device1, "22:10:04", "23:59:60", 1), strings.Replace(device1, "2026", "0000", 1), device1 + " ",
		strings.Replace(device1, "2026-12", "2026/12", 1), strings.Replace(device1, "12-21", "12/21", 1), strings.Replace(device1, "T22", " 22", 1), strings.Replace(device1, "22:10", "22.10", 1), strings.Replace(device1, "10:04", "10.04", 1),
		strings.Replace(device1, "04Z", "04z", 1), strings.Replace(device1, "04Z", "0:Z", 1),
		strings.Replace(device1, "AAECAwQFBgcICQoLDA0ODw", `AAE","fingerprint":"AA`, 1), strings.Replace(device1, "AAECAwQFBgcICQoLDA0ODw", `\u0041AECAwQFBgcICQoL`, 1),
	}
	fast := 0
	for _, s := range seeds {
		f.Add(s)
		if _, rest, ok := entryAsSent(s); ok && rest == "" {
			fast++
		}
	}
	if fast < 4 {
		f.Fatalf("of %d seeds %d are read fast", len(seeds), fast)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, rest, ok := entryAsSent(s)
		if !ok || rest != "" {
			return
		}
		var want api.Revocation
		err := json.Unmarshal([]byte(s), &want)
		switch {
		case err == nil && (sound(&got) == nil) != (sound(&want) == nil):
			t.Errorf("%s: one of %+v and %+v is sound", s, got, want)
		case sound(&got) == nil && (err != nil || got != want):
			t.Errorf("%s: got %+v, the library %+v, %v", s, got, want, err)
		}
	})
}

// No answer, whatever it is, is taken for a whole one unless the library says
// so, too, and no entry is given that does not stand in it.
func FuzzFeed(f *testing.F) {
	for _, s := range []string{answer, opening + ending, opening + device1 + ending, answer[:200], strings.Replace(answer, "branch", "user", 1), strings.ReplaceAll(answer, `,`, ` , `)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, got, err := feedOf(strings.NewReader(s), FeedQuestion{})
		last := int64(0)
		for _, e := range got {
			if e.Seq <= last || !strings.Contains(s, fmt.Sprint(e.Seq)) {
				t.Errorf("entry %+v of %s", e, s)
			}
			last = e.Seq
		}
		if err != nil {
			return
		}
		var whole api.Feed
		if e := json.Unmarshal([]byte(s), &whole); e != nil {
			t.Fatalf("%s is taken, and the library says %v", s, e)
		}
		if !reflect.DeepEqual(whole.Entries, got) && len(whole.Entries)+len(got) > 0 || out.Next != whole.Next || out.Generation != whole.Generation || !out.AsOf.Equal(whole.AsOf.Time) {
			t.Errorf("%s: got %+v %+v, the library %+v", s, out, got, whole)
		}
	})
}

// BenchmarkFeedDecode reads an answer of 1,000,000 entries from memory: the
// reader's share of BenchmarkFeedSnapshot.
func BenchmarkFeedDecode(b *testing.B) {
	const entries = 1_000_000
	text := []byte(opening)
	for seq := int64(1); seq <= entries; seq++ {
		if seq > 1 {
			text = append(text, ',')
		}
		text = append(strconv.AppendInt(append(text, `{"seq":`...), seq, 10), branch2[len(`{"seq":2`):]...)
	}
	text = append(text, `],"next":1000000}`...)
	b.SetBytes(int64(len(text)))
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for b.Loop() {
		n := 0
		f := feedReader{body: &steady{r: struct{ io.Reader }{bytes.NewReader(text)}, timer: timer}, entries: func(_ string, batch []api.Revocation) error {
			n += len(batch)
			return nil
		}}
		if _, err := f.read(); err != nil || n != entries {
			b.Fatalf("%d entries, %v", n, err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/million")
}
