package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"macaroond/service/client"
	"macaroond/service/guard"
)

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The authority is asked each second until it has answered, and then each minute:
// it may say no later, and yes again. The time is synctest's: nothing here waits.
func TestRights(t *testing.T) {
	type known struct {
		at        time.Duration
		confirmed bool
		trouble   string // empty: none
	}
	for _, row := range []struct {
		answers []int // 0: none
		want    []known
	}{
		{
			[]int{0, 0, 401, 0, 200, 403, 200},
			[]known{
				{0, false, ""},
				{time.Second, false, ""},
				{2 * time.Second, false, ""},
				{62 * time.Second, false, "does not know it"},
				{63 * time.Second, false, "does not know it"},
				{123 * time.Second, true, ""},
				{183 * time.Second, true, "does not serve"},
			},
		},
		{
			[]int{200, 0, 0},
			[]known{{0, false, ""}, {time.Minute, true, ""}, {2 * time.Minute, true, ""}},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			log := slog.New(slog.DiscardHandler)
			r := &rights{log: log}
			ctx, stop := context.WithCancel(t.Context())
			begin, n := time.Now(), 0
			authority := func(req *http.Request) (*http.Response, error) {
				if req.URL.Path != "/v1/verify" {
					return nil, errors.New("away")
				}
				if n == len(row.answers) {
					stop()
					return nil, errors.New("away")
				}
				want, status := row.want[n], row.answers[n]
				n++
				trouble := r.trouble.Load()
				if at := time.Since(begin); at != want.at || r.confirmed.Load() != want.confirmed || (trouble == nil) != (want.trouble == "") || trouble != nil && !strings.Contains(*trouble, want.trouble) {
					t.Errorf("question %d after %s: %v, %v, want %+v", n, at, r.confirmed.Load(), trouble, want)
				}
				if status == 0 {
					return nil, errors.New("away")
				}
				kind, body := "application/json", `{"allowed":false,"code":"malformed","reason":""}`
				if status != http.StatusOK {
					kind, body = "application/problem+json", fmt.Sprintf(`{"type":"about:blank","title":"no","status":%d,"code":"refused"}`, status)
				}
				return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body))}, nil
			}
			g, err := guard.New(ctx, guard.Options{
				Authority: "https://auth.example", Credential: client.Basic("svc_AAAAAAAAAAAAAAAA", "mds_x"), Audience: "photos", Log: log,
				Client: client.Options{Transport: transport(authority)},
			})
			must(t, err)
			defer g.Close()
			r.follow(ctx, g)
			if n != len(row.answers) {
				t.Errorf("asked %d times", n)
			}
		})
	}
}
