package client

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"macaroond/caveats"
	"macaroond/service/dpop"
	"macaroond/service/token"
)

// wrongClock answers 401, by a clock that is so far ahead of this machine's, to
// a token that is out of time by it.
func wrongClock(t *testing.T, ahead time.Duration) *site {
	return newSite(t, func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().Add(ahead)
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		tok, err := token.Parse(text)
		if err != nil {
			t.Error(err)
		}
		if expiry, ok := UnverifiedExpiry(tok); err != nil || !ok || !now.Before(expiry) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.Copy(w, r.Body)
	})
}

// A request whose body cannot be sent again is not, and says so; made anew it
// is accepted.
func TestTransportSendAgain(t *testing.T) {
	noBody := errors.New("the file is gone")
	for name, c := range map[string]struct {
		getBody func() (io.ReadCloser, error)
		want    error
	}{
		"no way to":        {nil, ErrSendAgain},
		"a way that fails": {func() (io.ReadCloser, error) { return nil, noBody }, noBody},
	} {
		t.Run(name, func(t *testing.T) {
			s := wrongClock(t, 5*time.Minute)
			tr := newTransport(t, TransportOptions{Origins: []string{s.URL}})
			b := &body{Reader: strings.NewReader("x")}
			r := request(t, "POST", s.URL+"/?key="+secret, b)
			r.GetBody = c.getBody
			_, err := done(tr, r)
			if !errors.Is(err, c.want) || !errors.Is(err, ErrSendAgain) || strings.Contains(err.Error(), secret) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if len(s.requests()) != 1 || b.closed == 0 {
				t.Errorf("%d requests; body closed %d times", len(s.requests()), b.closed)
			}
			if resp, err := done(tr, request(t, "POST", s.URL, &body{Reader: strings.NewReader("x")})); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("again: %v, %v", resp, err)
			}
		})
	}
}

// One more try, whatever comes of it: for a clock that never settles, and not
// at all for a 401 that is not about the time.
func TestTransportTriesOnce(t *testing.T) {
	for name, c := range map[string]struct {
		ahead func(n int) time.Duration // of the answer to the nth request
		want  int
	}{
		"the clock is right":               {func(int) time.Duration { return 0 }, 1},
		"two seconds off":                  {func(int) time.Duration { return 2 * time.Second }, 1},
		"wrong":                            {func(int) time.Duration { return time.Hour }, 2},
		"wrong every time":                 {func(n int) time.Duration { return time.Duration(n) * time.Hour }, 2},
		"more wrong than is corrected for": {func(int) time.Duration { return 25 * time.Hour }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var s *site
			s = newSite(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(c.ahead(len(s.requests()))).UTC().Format(http.TimeFormat))
				w.WriteHeader(http.StatusUnauthorized)
			})
			var answers []*body // what is not closed holds a connection
			base := roundTripper(func(r *http.Request) (*http.Response, error) {
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err == nil {
					b := &body{Reader: resp.Body}
					resp.Body, answers = b, append(answers, b)
				}
				return resp, err
			})
			resp, err := done(newTransport(t, TransportOptions{Origins: []string{s.URL}, Base: base}), request(t, "GET", s.URL, nil))
			if err != nil || resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%v, %v", resp, err)
			}
			if got := len(s.requests()); got != c.want {
				t.Errorf("%d requests, want %d", got, c.want)
			}
			for i, b := range answers {
				if b.closed == 0 {
					t.Errorf("answer %d was not closed", i)
				}
			}
		})
	}
}

// Only what says that it had no effect is sent again when the clock was found to
// be wrong: 401, and under a key, whose proof has the time in it, 403.
func TestTransportSendsAgainWhatHadNoEffect(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := dpop.NewKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ status, bearer, bound int }{
		{http.StatusOK, 1, 1},
		{http.StatusBadRequest, 1, 1},
		{http.StatusUnauthorized, 2, 2},
		{http.StatusForbidden, 1, 2},
		{http.StatusInternalServerError, 1, 1},
		{http.StatusServiceUnavailable, 1, 1},
	} {
		for key, want := range map[*dpop.Key]int{nil: c.bearer, key: c.bound} {
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
				w.WriteHeader(c.status)
			})
			tr := newTransport(t, TransportOptions{Origins: []string{s.URL}, Key: key})
			if resp, err := done(tr, request(t, "POST", s.URL, strings.NewReader("x"))); err != nil || resp.StatusCode != c.status {
				t.Errorf("%d: %v, %v", c.status, resp, err)
			}
			if got := len(s.requests()); got != want {
				t.Errorf("%d, bound %v: %d requests, want %d", c.status, key != nil, got, want)
			}
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An origin's clock is that origin's: neither another origin's answers change
// it, nor a stranger's that a base followed a redirect to.
func TestTransportBelievesNobodyElse(t *testing.T) {
	wrong := wrongClock(t, time.Hour)
	home := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, wrong.URL, http.StatusFound)
		}
	})
	follows := &http.Client{}
	tr := newTransport(t, TransportOptions{Origins: []string{home.URL, wrong.URL}, Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != "/away" {
			return http.DefaultTransport.RoundTrip(r)
		}
		return follows.Do(r)
	})})
	for _, target := range []string{wrong.URL, home.URL + "/away", home.URL} {
		resp, err := done(tr, request(t, "GET", target, nil))
		if err != nil {
			t.Fatal(err)
		}
		if want := http.StatusOK; strings.HasSuffix(target, "/away") {
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %d", target, resp.StatusCode)
			}
		} else if resp.StatusCode != want {
			t.Errorf("%s: %d", target, resp.StatusCode)
		}
	}
	came := home.requests()
	texts := put(t, came[len(came)-1])
	if expiry, ok := caveats.Before(texts[len(texts)-1]); !ok || time.Until(expiry) > time.Minute {
		t.Errorf("home was given a token until %v", expiry)
	}
	if got := tr.origins[wrong.URL].get(); got < time.Hour-10*time.Second || got > time.Hour+10*time.Second {
		t.Errorf("the other origin's clock is %v ahead", got)
	}
}
