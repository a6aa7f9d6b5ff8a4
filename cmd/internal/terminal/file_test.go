//go:build unix

package terminal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Whoever gives a pipe that nobody writes to can still be interrupted: while it is
// opened, too.
func TestReadFileInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, interrupt := context.WithCancelCause(t.Context())
	interrupt(enough)
	if text, err := (Asker{}).ReadFile(ctx, path); text != "" || !errors.Is(err, enough) {
		t.Errorf("%q, %v", text, err)
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0) // lets the reader end
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	for size, good := range map[int]bool{0: true, 1: true, maxInput: true, maxInput + 1: false} {
		text := strings.Repeat("x", size)
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{path, "-"} {
			got, err := (Asker{In: strings.NewReader(text)}).ReadFile(t.Context(), name)
			if good != (err == nil) || good && got != text {
				t.Errorf("%d bytes of %s: %d, %v", size, name, len(got), err)
			}
		}
	}
	if _, err := (Asker{}).ReadFile(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{ // "!" and what the error says
		"":                      "",
		"horse":                 "horse",
		"horse\n":               "horse",
		"horse\r\n":             "horse",
		" horse \n":             " horse ",
		"horse\n\n":             "!more than one line",
		"horse\r\n\r\n":         "!more than one line",
		"correct\nhorse\n":      "!more than one line",
		"correct\rhorse":        "!more than one line",
		ByteOrderMark + "horse": "!byte-order mark",
	} {
		got, err := OneLine(text, "-")
		if why, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || got != "" || !strings.Contains(err.Error(), why) || !strings.HasPrefix(err.Error(), "stdin ") || strings.Contains(err.Error(), "horse") {
				t.Errorf("%q: %q, %v", text, got, err)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
