package tokensource_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"macaroond/caveats"
	"macaroond/service/client"
	"macaroond/service/client/tokensource"
	"macaroond/service/token"
)

var rootKey = token.RootKey{7}

func root(t *testing.T, expires time.Time) *token.Token {
	t.Helper()
	id := token.Identifier{Epoch: 3, RootKeyID: token.RootKeyID{9}}
	out, err := token.Mint(&rootKey, "https://auth.example", id, token.Identity{User: "usr_AAAAAAAAAAAAAAAA", Device: "dev_AAAAAAAAAAAAAAAA", Expires: expires})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// put is what the source put on, in order.
func put(t *testing.T, text string) []string {
	t.Helper()
	tok, err := token.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := tok.Verify(&rootKey); !ok {
		t.Error("the chain does not hold")
	}
	return tok.UnverifiedCaveats()[token.MintCaveats:]
}

// The caveats are those of client.Transport, by the time at the verifier; the
// expiry is by this machine's clock, with which oauth2 compares it.
func TestToken(t *testing.T) {
	there := time.Date(2026, 3, 1, 12, 0, 0, 900e6, time.UTC)
	for _, c := range []struct {
		name    string
		n       client.Narrowing
		expires time.Time // the root's
		want    []string
		lives   time.Duration
	}{
		{
			"a minute",
			client.Narrowing{Audience: "photos"},
			there.AddDate(1, 0, 0),
			[]string{"time-before 2026-03-01T13:00:00Z", "audience photos", "time-before 2026-03-01T12:01:00Z"},
			59100 * time.Millisecond,
		},
		{
			"ten, and actions",
			client.Narrowing{For: 10 * time.Minute, Audience: "photos", Actions: []string{"photos:read"}},
			there.AddDate(1, 0, 0),
			[]string{"time-before 2026-03-01T13:00:00Z", "audience photos", "time-before 2026-03-01T12:10:00Z", "allow photos:read"},
			599100 * time.Millisecond,
		},
		{
			"the root ends before",
			client.Narrowing{Audience: "photos"},
			there.Add(20 * time.Second),
			[]string{"time-before 2026-03-01T13:00:00Z", "audience photos", "time-before 2026-03-01T12:01:00Z"},
			19100 * time.Millisecond,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := tokensource.New(root(t, c.expires), c.n, func() time.Time { return there })
			if err != nil {
				t.Fatal(err)
			}
			before := time.Now()
			tok, err := s.Token()
			after := time.Now()
			if err != nil {
				t.Fatal(err)
			}
			if got := put(t, tok.AccessToken); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if tok.Type() != "Bearer" || tok.Expiry.Before(before.Add(c.lives)) || tok.Expiry.After(after.Add(c.lives)) {
				t.Errorf("%s until %v, want %v from now", tok.Type(), tok.Expiry, c.lives)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		n    client.Narrowing
		want error // nil: any
	}{
		"no audience":         {client.Narrowing{}, nil},
		"audience with space": {client.Narrowing{Audience: "a b"}, caveats.ErrSyntax},
		"too short":           {client.Narrowing{Audience: "photos", For: 9 * time.Second}, nil},
		"too many":            {client.Narrowing{Audience: "photos", Extra: slices.Repeat([]string{"note n"}, 60)}, token.ErrTooLarge},
	} {
		s, err := tokensource.New(root(t, time.Now().Add(time.Hour)), c.n, nil)
		if err == nil || s != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, s, err, c.want)
		}
	}
}

// oauth2.NewClient sends one token until it is about to end, and then another.
func TestClient(t *testing.T) {
	var mu sync.Mutex
	var came []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		came = append(came, r.Header.Get("Authorization"))
	}))
	t.Cleanup(server.Close)
	made := 0
	clock := time.Now()
	for _, c := range []struct {
		lifetime time.Duration
		made     int // by three requests
	}{
		{time.Minute, 1},
		{10 * time.Second, 3}, // about to end as it is made
	} {
		came, made = nil, 0
		s, err := tokensource.New(root(t, clock.Add(time.Hour)), client.Narrowing{Audience: "photos", For: c.lifetime}, func() time.Time {
			made++
			return clock.Add(time.Duration(made) * time.Second)
		})
		if err != nil {
			t.Fatal(err)
		}
		made = 0
		web := oauth2.NewClient(t.Context(), s)
		for range 3 {
			resp, err := web.Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		for _, header := range came {
			text, ok := strings.CutPrefix(header, "Bearer ")
			if texts := put(t, text); !ok || !slices.Contains(texts, "audience photos") {
				t.Errorf("%q", texts)
			}
		}
		if slices.Sort(came); len(came) != 3 || made != c.made || len(slices.Compact(came)) != c.made {
			t.Errorf("%v: %d requests, %d tokens made", c.lifetime, len(came), made)
		}
	}
}

func TestSourceDoesNotPrint(t *testing.T) {
	from := root(t, time.Now().Add(time.Hour))
	s, err := tokensource.New(from, client.Narrowing{Audience: "photos"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		out := fmt.Sprintf(verb, struct{ hidden oauth2.TokenSource }{s}) + fmt.Sprintf(verb, s)
		if out == "" || strings.Contains(out, "usr_") || strings.Contains(out, "auth.example") {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}
