package service

import (
	"time"

	"macaroond/service/token"
)

// FormatEnd is when tokens of an earlier format cease to verify.
type FormatEnd struct {
	Format token.Format
	At     time.Time
}

func endedFormats(ends []FormatEnd, now time.Time) (ended token.FormatSet) {
	for _, e := range ends {
		if !now.Before(e.At) {
			ended = ended.With(e.Format)
		}
	}
	return ended
}

// accepted counts a token that was: how many are still seen of an earlier
// format, or of an earlier epoch, is what says when an overlap can end.
func (s *Service) accepted(id token.Identifier) {
	earlier := 0
	if id.Epoch != s.keyring.Signing() {
		earlier = 1
	}
	s.metrics.seen[id.Format][earlier].Inc()
}
