package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"macaroond/cmd/internal/terminal"
)

// Whatever comes from a token or a server was written by somebody else: a
// device's name could move the cursor, or pretend to be the next line. All of
// it is printed through shown, quoted or escapeJSON.

// maxShown bounds what is printed of one piece of text, in bytes.
const maxShown = 1024

// shown prints text as it is when every character of it is visible, and
// escaped otherwise. For text that is alone at the end of a line.
func shown(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "…"
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// quoted prints text in quotation marks: for names, which could otherwise pass
// for the next column.
func quoted(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "…"
	}
	return strconv.Quote(s)
}

// escapeJSON writes as \u what encoding/json leaves as it is and a terminal
// may act on: DEL, the C1 controls, bidirectional controls. Outside strings
// JSON has none of them.
func escapeJSON(b []byte) string {
	var out strings.Builder
	for _, r := range string(b) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

// printJSON prints v indented, on stdout.
func (a *app) printJSON(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(a.out, escapeJSON(b.Bytes()))
	return err
}

// printf prints on stdout; the sink remembers a failure.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// note prints a remark for people on stderr, never with --json.
func (a *app) note(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.err, "macaroon: "+format+"\n", args...)
	}
}

// table prints rows in columns, on stdout.
func (a *app) table(rows [][]string) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	w.Flush() // the sink remembers its error
}

// span says a duration in at most two units, cut.
func span(d time.Duration) string {
	s := int64(d / time.Second)
	units := []struct {
		seconds int64
		name    string
	}{{24 * 3600, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}}
	for i, u := range units {
		if s < u.seconds {
			continue
		}
		out := fmt.Sprintf("%d %s", s/u.seconds, u.name)
		if i+1 < len(units) {
			if rest := s % u.seconds / units[i+1].seconds; rest > 0 {
				out += fmt.Sprintf(" %d %s", rest, units[i+1].name)
			}
		}
		return out
	}
	return "0 s"
}

// until says what is left from now to t.
func until(t, now time.Time) string {
	if t.After(now) {
		return span(t.Sub(now)) + " left"
	}
	return "expired " + span(now.Sub(t)) + " ago"
}

// waiting does something that may take seconds, and from the second one on
// says so on stderr, if somebody is looking.
func (a *app) waiting(what string, do func() error) error {
	if _, ok := terminal.Of(a.err); !ok {
		return do()
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		width := 0
		for seconds := 1; ; seconds++ {
			select {
			case <-done:
				fmt.Fprintf(a.err, "\r%*s\r", width, "")
				return
			case <-tick.C:
				n, _ := fmt.Fprintf(a.err, "\rwaiting for %s … %d s", what, seconds)
				width = max(width, n)
			}
		}
	}()
	err := do()
	close(done)
	<-gone
	return err
}
