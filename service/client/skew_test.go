package client

import (
	"net/http"
	"testing"
	"time"
)

// What one answer does to what is known of a server's clock. Times are seconds
// after noon by this machine's clock; date is what the server wrote.
func TestSkew(t *testing.T) {
	const day = 24 * 60 * 60
	for _, c := range []struct {
		name                 string
		known                float64
		sent, received, date float64
		age                  string
		want                 float64
	}{
		{"equal", 0, 0, 0.1, 0, "", 0},
		{"the second before", 0, 0.9, 1.1, 0, "", 0},
		{"a second behind", 0, 10, 10.1, 9, "", 0},
		{"two seconds ahead", 0, 10, 10.1, 12, "", 0},
		{"three seconds and the latency", 0, 10, 10.5, 13, "", 0},
		{"four seconds ahead", 0, 10, 10.5, 14, "", 3.5},
		{"five seconds behind", 0, 10, 10.5, 5, "", -4},
		{"five minutes ahead", 0, 10, 10, 310, "", 300},
		{"five minutes behind", 0, 10, 10, -290, "", -299},
		{"what is known is right", 300, 10, 10.1, 310, "", 300},
		{"what is known is right but for the dead band", 298, 10, 10.1, 310, "", 298},
		{"the machine's clock was set right meanwhile", 300, 10, 10.5, 10, "", 1},
		{"a slow answer proves nothing of the last half minute", 0, 0, 30, 0, "", 0},
		{"a slow answer moves it only as far as it must", 0, 0, 30, 300, "", 270},
		{"and a quick one further", 270, 40, 40.5, 340, "", 299.5},
		{"the clock was set back while it was away", 0, 10, 9, 310, "", 0},
		{"a cache's answer", 0, 1000, 1000.1, 400, "600", 0},
		{"passed by a cache that had none", 0, 10, 10, 310, "0", 300},
		{"just a day ahead", 0, 0, 0, day, "", day},
		{"more than a day ahead", 0, 0, 0, day + 1, "", 0},
		{"more than a day behind", 0, 0, 0, -day - 2, "", 0},
		{"bounded in all, not a step", day - 10, 0, 0, day + 10, "", day - 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			noon := at("2026-03-01T12:00:00Z")
			after := func(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }
			var s skew
			s.ahead.Store(int64(after(c.known).Sub(noon)))
			answer := http.Header{"Date": {after(c.date).Format(http.TimeFormat)}}
			if c.age != "" {
				answer.Set("Age", c.age)
			}
			s.learn(answer, after(c.sent), after(c.received))
			if got := s.get().Seconds(); got != c.want {
				t.Errorf("%v s ahead, want %v", got, c.want)
			}
		})
	}
	for _, date := range []string{"", "now", "2026-03-01T12:05:00Z"} {
		var s skew
		now := at("2026-03-01T12:00:00Z")
		if s.learn(http.Header{"Date": {date}}, now, now); s.get() != 0 {
			t.Errorf("Date %q: %v ahead", date, s.get())
		}
	}
}
