package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptrace"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"macaroond/service/api"
)

// TestLoginMemory holds what logins may cost: the process never has more than
// pool × 19 MiB + 64 MiB in memory, however many come at once; those that find
// the pool and its queue full are told to come back, quickly.
func TestLoginMemory(t *testing.T) {
	const pool, queue, attempts = 2, 8, 200
	a, err := startAuthority(t.TempDir(), []string{"MACAROOND_HASH_POOL=" + strconv.Itoa(pool), "MACAROOND_HASH_QUEUE=" + strconv.Itoa(queue)}, "--dev")
	if err != nil {
		t.Fatal(err)
	}
	defer a.stop()
	u := a.user(t)
	body := encode(t, api.LoginIn{Username: u.Username, Password: u.Password, Device: api.DeviceIn{Name: "one of many", InstallID: "same"}})

	var mu sync.Mutex
	var wg sync.WaitGroup
	statuses := map[int]int{}
	var told []time.Duration // how long the server took to say 503
	for range attempts {
		wg.Go(func() {
			var wrote, answered time.Time
			trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				WroteRequest:         func(httptrace.WroteRequestInfo) { wrote = time.Now() },
				GotFirstResponseByte: func() { answered = time.Now() },
			})
			req, err := http.NewRequestWithContext(trace, http.MethodPost, a.url+"/v1/login", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/json")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			mu.Lock()
			if res.StatusCode == http.StatusServiceUnavailable {
				told = append(told, answered.Sub(wrote))
			}
			statuses[res.StatusCode]++
			mu.Unlock()
		})
	}
	wg.Wait()
	t.Logf("statuses: %v", statuses)
	if statuses[http.StatusOK] < pool || statuses[http.StatusServiceUnavailable] == 0 || len(statuses) != 2 {
		t.Fatalf("statuses %v: want some 200, the rest 503", statuses)
	}
	slices.Sort(told)
	t.Logf("503 after %.1f ms (median), %.1f ms (99th percentile)", ms(told[len(told)/2]), ms(told[len(told)*99/100]))
	if peak := peakMemory(t, a.cmd.Process.Pid); raceEnabled {
		t.Logf("peak %d MiB, of a race-instrumented binary: not judged", peak>>20)
	} else if limit := (pool*19 + 64) << 20; peak > limit {
		t.Errorf("peak %d MiB, limit %d MiB", peak>>20, limit>>20)
	} else {
		t.Logf("peak %d MiB, limit %d MiB", peak>>20, limit>>20)
	}
	a.login(t, u)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the most that the process ever had resident, in bytes.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := highWater.FindSubmatch(b)
	if m == nil {
		t.Fatal("the system does not tell the peak of memory")
	}
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
