package token

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

// strict is what appendBase64 must be: the library's strict decoding, without
// the CR and LF that it skips.
func strict(text string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return b, err == nil && !strings.ContainsAny(text, "\r\n")
}

func sameBase64(t *testing.T, text string) {
	t.Helper()
	want, fine := strict(text)
	got, err := appendBase64(nil, text)
	if (err == nil) != fine || fine && !bytes.Equal(got, want) {
		t.Fatalf("%q: %x, %v; want %x, %v", text, got, err, want, fine)
	}
	if fine && base64.RawURLEncoding.EncodeToString(got) != text {
		t.Fatalf("%q has another spelling", text)
	}
}

// Every byte at every place of texts of every length around a group.
func TestBase64(t *testing.T) {
	for length := range 14 {
		for at := range max(1, length) {
			for c := range 256 {
				b := []byte("ABCDwxyz0189-_"[:length])
				if length > 0 {
					b[at] = byte(c)
				}
				sameBase64(t, string(b))
			}
		}
	}
	if _, err := appendBase64(nil, strings.Repeat("A", 4095)+"="); err == nil {
		t.Error("padding")
	}
}

func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "AA", "AB", "AAA", "AAAA", "AgJBAA", "A\nAA", "AA==", "+/+/", "\xff\xff\xff\xff"} {
		f.Add(s)
	}
	f.Fuzz(sameBase64)
}
