package caveats

import "time"

// layout is RFC 3339's profile of ISO 8601 with the one zone that is used here.
const layout = "2006-01-02T15:04:05Z"

// instant accepts a point in time.
func instant(s string) error {
	_, err := parseInstant(s)
	return err
}

// parseInstant reads YYYY-MM-DDTHH:MM:SS[.d{1,9}]Z, a real date in the
// Gregorian calendar. It is RFC 3339, section 5.6, without what makes two
// readers disagree: lower-case letters, offsets, leap seconds, a comma, more
// digits than a nanosecond has. (The time package's parser is more lenient.)
func parseInstant(s string) (time.Time, error) {
	const wrong = flaw("wants a time such as 2026-01-31T09:30:00Z")
	const whole = len("2006-01-02T15:04:05")
	if len(s) <= whole || s[len(s)-1] != 'Z' ||
		s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return time.Time{}, wrong
	}
	var field [6]int
	for i, span := range [6][2]int{{0, 4}, {5, 7}, {8, 10}, {11, 13}, {14, 16}, {17, 19}} {
		n, ok := digits(s[span[0]:span[1]])
		if !ok {
			return time.Time{}, wrong
		}
		field[i] = n
	}
	nanos := 0
	if fraction := s[whole : len(s)-1]; fraction != "" {
		n, ok := digits(fraction[1:])
		if fraction[0] != '.' || !ok {
			return time.Time{}, wrong
		}
		for range len(".999999999") - len(fraction) {
			n *= 10
		}
		nanos = n
	}
	year, month, day := field[0], time.Month(field[1]), field[2]
	hour, minute, second := field[3], field[4], field[5]
	t := time.Date(year, month, day, hour, minute, second, nanos, time.UTC)
	// Date carries a day that the month does not have over into another month.
	if t.Month() != month || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, wrong
	}
	return t, nil
}

// digits reads up to nine decimal digits, at least one.
func digits(s string) (n int, ok bool) {
	if s == "" || len(s) > 9 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

func checkTimeBefore(args string, r *Request) Outcome {
	t, err := parseInstant(args)
	switch {
	case err != nil:
		return Unknown
	case r.Time.IsZero(): // would be before everything
		return Refused
	case r.Time.Before(t):
		return Held
	default:
		return Expired
	}
}

func checkTimeAfter(args string, r *Request) Outcome {
	t, err := parseInstant(args)
	switch {
	case err != nil:
		return Unknown
	case r.Time.IsZero():
		return Refused
	case r.Time.Before(t):
		return NotYetValid
	default:
		return Held
	}
}

func whyTimeBefore(args string, r *Request) string {
	if r.Time.IsZero() {
		return missing("time")
	}
	return "expired at " + args + ", and it is " + r.Time.UTC().Format(time.RFC3339Nano)
}

func whyTimeAfter(args string, r *Request) string {
	if r.Time.IsZero() {
		return missing("time")
	}
	return "not valid before " + args + ", and it is " + r.Time.UTC().Format(time.RFC3339Nano)
}
