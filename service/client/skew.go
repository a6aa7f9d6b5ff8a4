package client

import (
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// deadBand is by how much a server's clock may seem to differ before it
	// counts: several machines behind one name never agree to the second.
	deadBand = 3 * time.Second
	// maxSkew is the most that is corrected for. Whoever can choose an origin's
	// Date is that origin, and is given its tokens anyway. By a Date in the
	// future it is given some that last until then instead of for a minute: so
	// long it could act at this audience, with what else the tokens say, until
	// the token's own expiry, or its revocation, at the latest. A day covers
	// every wrong time zone; a clock that is wrong by more is for people to set.
	maxSkew = 24 * time.Hour
)

// skew is by how much an origin's clock is ahead of this machine's, as far as
// its answers told. The zero value is an equal clock.
type skew struct{ ahead atomic.Int64 }

func (s *skew) get() time.Duration { return time.Duration(s.ahead.Load()) }

// learn corrects s by the Date of an answer (RFC 9110, section 6.6.1), which the
// server wrote at some instant between sent and received, by this machine's
// clock, and cut to the second. What is known stays when it agrees with that but
// for the dead band. Otherwise it moves no further than the answer proves, so
// that a slow answer says little and a quick one more.
func (s *skew) learn(answer http.Header, sent, received time.Time) {
	date, err := http.ParseTime(answer.Get("Date"))
	if err != nil || received.Before(sent) { // the clock was set meanwhile
		return
	}
	if age := answer.Get("Age"); age != "" && age != "0" {
		return // a cache's, which was dated when it was stored
	}
	least, most := date.Sub(received), date.Add(time.Second).Sub(sent)
	known := s.get()
	ahead := min(max(known, least), most)
	if (ahead-known).Abs() <= deadBand || ahead.Abs() > maxSkew {
		return
	}
	s.ahead.Store(int64(ahead))
}
