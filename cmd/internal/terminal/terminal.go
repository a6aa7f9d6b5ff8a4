// Package terminal asks people, and reads what they give in a file instead: by one
// rule for both commands.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// ErrNone: there is nobody to ask.
var ErrNone = errors.New("there is no terminal to ask at")

// maxInput bounds a token, password or credential that is read, in bytes.
const maxInput = 64 << 10

// Of gives the descriptor of a stream that is a terminal.
func Of(stream any) (fd int, ok bool) {
	f, is := stream.(*os.File)
	if !is {
		return 0, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}

// Asker asks at a terminal; what it says goes to Err.
type Asker struct {
	In  io.Reader
	Err io.Writer
}

// Asks reports whether what comes from a file, or - for In, is asked for instead:
// no file was given, or somebody is to type it.
func (a Asker) Asks(file string) bool {
	_, there := Of(a.In)
	return file == "" || file == "-" && there
}

// Line asks for one line, which is shown while it is typed.
func (a Asker) Line(ctx context.Context, prompt string) (string, error) {
	return a.ask(ctx, prompt, true)
}

// Secret asks for one line without echo.
func (a Asker) Secret(ctx context.Context, prompt string) (string, error) {
	return a.ask(ctx, prompt, false)
}

// ask is [ErrNone] without a terminal. It ends with ctx; the read then ends with
// the process, which follows at once.
func (a Asker) ask(ctx context.Context, prompt string, echo bool) (string, error) {
	fd, ok := Of(a.In)
	if !ok {
		return "", ErrNone
	}
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("the terminal: %w", err)
	}
	fmt.Fprint(a.Err, prompt)
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		var got result
		if echo {
			got.text, got.err = readLine(a.In)
		} else {
			var b []byte
			b, got.err = term.ReadPassword(fd)
			got.text = string(b)
		}
		done <- got
	}()
	select {
	case <-ctx.Done(): // leave no terminal behind that does not echo
		term.Restore(fd, before)
		fmt.Fprintln(a.Err)
		return "", context.Cause(ctx)
	case got := <-done:
		if !echo {
			fmt.Fprintln(a.Err)
		}
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return "", fmt.Errorf("reading from the terminal: %w", got.err)
		}
		return got.text, nil
	}
}

// readLine reads byte by byte, so that what follows is left to the next reader.
func readLine(r io.Reader) (string, error) {
	var line []byte
	var b [1]byte
	for len(line) < maxInput {
		n, err := r.Read(b[:])
		if n == 1 && b[0] == '\n' {
			break
		}
		line = append(line, b[:n]...)
		if err != nil {
			return string(line), err
		}
	}
	return strings.TrimSuffix(string(line), "\r"), nil
}
