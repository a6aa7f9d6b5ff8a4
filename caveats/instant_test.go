package caveats

import (
	"testing"
	"time"
)

// Every day of the years that can be written is where the time package has it.
func TestDaysAgreeWithTime(t *testing.T) {
	day := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	for n := int(day.Unix() / 86400); day.Year() < 10000; n++ {
		y, m, d := day.Date()
		if got := daysSince1970(y, int(m), d); got != n {
			t.Fatalf("%v is day %d, want %d", day, got, n)
		}
		next := day.AddDate(0, 0, 1)
		if last := next.Day() == 1; last != (daysIn(y, int(m)) == d) {
			t.Fatalf("%d-%d has %d days", y, m, daysIn(y, int(m)))
		}
		day = next
	}
}

// What looks at eight bytes at a time says what looking at each says.
func TestShown(t *testing.T) {
	for length := 1; length <= 17; length++ {
		for at := range length {
			for c := range 256 {
				b := []byte("~ !aZ09_~ !aZ09_~"[:length])
				b[at] = byte(c)
				if want := c >= ' ' && c < 0x7f; shown(string(b)) != want {
					t.Fatalf("byte %#x at %d of %d: %v", c, at, length, !want)
				}
				for also := range length { // a byte beside it must not hide it
					b := []byte("                 "[:length])
					b[also] = '~'
					b[at] = byte(c)
					if want := c >= ' ' && c < 0x7f; shown(string(b)) != want {
						t.Fatalf("byte %#x at %d of %d, '~' at %d: %v", c, at, length, also, !want)
					}
				}
			}
		}
	}
}
