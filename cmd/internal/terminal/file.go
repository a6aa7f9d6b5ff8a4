package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Piped reports whether there is anybody to write to standard input: it is no
// terminal, and no other character device such as /dev/null.
func Piped(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return in != nil
	}
	info, err := f.Stat()
	return err != nil || info.Mode()&os.ModeCharDevice == 0
}

// ReadFile reads a small file, or In for "-", to its end or until ctx ends. What
// still waits then, for whoever is to write into a pipe, nothing can wake: it ends
// with the process, which follows at once.
func (a Asker) ReadFile(ctx context.Context, name string) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := a.readFile(name)
		done <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case got := <-done:
		return got.text, got.err
	}
}

func (a Asker) readFile(name string) (string, error) {
	if name == "-" {
		return readSmall(a.In)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err // names the file
	}
	defer f.Close()
	text, err := readSmall(f)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return text, err
}

func readSmall(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if len(b) > maxInput {
		return "", fmt.Errorf("more than %d bytes: this is no token, password or credential", maxInput)
	}
	return string(b), err
}

// ByteOrderMark is what some editors put before a file's first character.
const ByteOrderMark = "\ufeff"

// OneLine is a secret as it stands in a file of that name: its one line, without
// the line's end. What nobody could type at a terminal is an error, for a password
// that was set from such a file would be good from that file only.
func OneLine(text, name string) (string, error) {
	if name == "-" {
		name = "stdin"
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	switch {
	case strings.HasPrefix(text, ByteOrderMark):
		return "", errors.New(name + " begins with a byte-order mark, which no keyboard types: save it as UTF-8 without")
	case strings.ContainsAny(text, "\r\n"):
		return "", errors.New(name + " has more than one line, and a secret is one")
	}
	return text, nil
}
