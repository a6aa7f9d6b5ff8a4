package caveats

import (
	"strings"
	"time"
)

// layout is RFC 3339's profile of ISO 8601 with the one zone that is used here.
const layout = "2006-01-02T15:04:05Z"

// CheckBefore is what checking a time-before of that instant finds: [Held],
// [Expired], or [Refused] when the time of the request is not known.
func CheckBefore(t time.Time, r *Request) Outcome {
	switch {
	case r.Time.IsZero(): // would be before everything
		return Refused
	case r.Time.Before(t):
		return Held
	default:
		return Expired
	}
}

// Before reads the text of a time-before and of nothing else; false when it is
// another caveat or none.
func Before(text string) (t time.Time, ok bool) { return instantOf("time-before ", text) }

// After is Before for a time-after.
func After(text string) (t time.Time, ok bool) { return instantOf("time-after ", text) }

func instantOf(name, text string) (t time.Time, ok bool) {
	arg, ok := strings.CutPrefix(text, name)
	if !ok {
		return time.Time{}, false
	}
	t, err := parseInstant(arg)
	return t, err == nil
}

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
	century, ok1 := two(s, 0)
	year, ok2 := two(s, 2)
	month, ok3 := two(s, 5)
	day, ok4 := two(s, 8)
	hour, ok5 := two(s, 11)
	minute, ok6 := two(s, 14)
	second, ok7 := two(s, 17)
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6 && ok7) {
		return time.Time{}, wrong
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
	year += 100 * century
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, wrong
	}
	unix := int64(daysSince1970(year, month, day))*86400 + int64(hour*3600+minute*60+second)
	return time.Unix(unix, int64(nanos)).UTC(), nil
}

// two reads the two decimal digits at i.
func two(s string, i int) (n int, ok bool) {
	a, b := s[i]-'0', s[i+1]-'0'
	return int(a)*10 + int(b), a <= 9 && b <= 9
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSince1970 counts the days from 1970-01-01 to a date of the Gregorian
// calendar from the year 0 on. Years are made to begin in March, so that the
// leap day is a year's last: the months' lengths are then a straight line. (The
// time package's Date is right as well, and four times as slow.)
func daysSince1970(year, month, day int) int {
	if month <= 2 {
		year, month = year-1, month+12
	}
	leapDays := (year+400)/4 - (year+400)/100 + (year+400)/400 - 97
	return 365*year + leapDays + (153*(month-3)+2)/5 + day - 1 - 719468
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
	if err != nil {
		return Unknown
	}
	return CheckBefore(t, r)
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
