package tokensource_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"macaroond/service/client"
	"macaroond/service/client/tokensource"
	"macaroond/service/token"
)

// A source of a session narrows the root that there is now.
func TestFromSession(t *testing.T) {
	now := time.Now()
	first, second := root(t, now.Add(time.Hour)), root(t, now.Add(2*time.Hour))
	authority := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/renew" || r.Header.Get("Authorization") != "Bearer "+first.Text() {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"token":"` + second.Text() + `","expires_in":7200}`))
	}))
	defer authority.Close()
	c, err := client.New(authority.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	clock := now
	session, err := client.NewSession(t.Context(), c, client.InMemory(first.Text()), client.SessionOptions{Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	source, err := tokensource.FromSession(t.Context(), session, client.Narrowing{Audience: "photos"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	begins := func() string {
		got, err := source.Token()
		if err != nil {
			t.Fatal(err)
		}
		tok, err := token.Parse(got.AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		return tok.UnverifiedCaveats()[0]
	}
	before := begins()
	clock = now.Add(31 * time.Minute)
	if after := begins(); before == after || !strings.HasPrefix(before, "time-before ") {
		t.Errorf("%q, then %q", before, after)
	}
	if _, err := tokensource.FromSession(t.Context(), session, client.Narrowing{}, nil); err == nil {
		t.Error("no audience")
	}
}
