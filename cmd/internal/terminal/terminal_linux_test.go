package terminal

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// open are never closed: whoever was interrupted reads on, by the descriptor's
// number, which must not be another terminal's by then.
var open []*os.File

// pseudo is a terminal, and the other end of it, where somebody types.
func pseudo(t *testing.T) (tty, keyboard *os.File) {
	t.Helper()
	of := func(name string) *os.File {
		t.Helper()
		f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
		return f
	}
	keyboard = of("/dev/ptmx")
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return of("/dev/pts/" + strconv.Itoa(n)), keyboard
}

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

func wantShown(t *testing.T, keyboard *os.File, want string) {
	t.Helper()
	shown := make(chan string, 1)
	go func() {
		b := make([]byte, 64)
		n, _ := keyboard.Read(b)
		shown <- string(b[:n])
	}()
	select {
	case got := <-shown:
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q was shown, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing was shown")
	}
}

// prompt tells that it was written.
type prompt chan string

func (p prompt) Write(b []byte) (int, error) { p <- string(b); return len(b), nil }

// A line is shown while it is typed, a secret is not; and however asking ends, the
// terminal shows again what is typed.
func TestEcho(t *testing.T) {
	why := errors.New("interrupted")
	for _, row := range []struct {
		name  string
		ask   func(Asker, context.Context, string) (string, error)
		shown bool
		typed string // empty: interrupted
	}{
		{"a line", Asker.Line, true, "horse\n"},
		{"a secret", Asker.Secret, false, "horse\n"},
		{"a line, interrupted", Asker.Line, true, ""},
		{"a secret, interrupted", Asker.Secret, false, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			tty, keyboard := pseudo(t)
			ctx, interrupt := context.WithCancelCause(t.Context())
			defer interrupt(nil)
			asked := make(prompt, 2)
			var text string
			ended := make(chan error, 1)
			go func() {
				var err error
				text, err = row.ask(Asker{tty, asked}, ctx, "who? ")
				ended <- err
			}()
			if got := <-asked; got != "who? " {
				t.Errorf("it asks %q", got)
			}
			for late := time.Now().Add(10 * time.Second); echoes(t, tty) != row.shown; time.Sleep(time.Millisecond) {
				if time.Now().After(late) {
					t.Fatalf("what is typed is shown: %v, want %v", !row.shown, row.shown)
				}
			}
			if row.typed == "" {
				interrupt(why)
				if err := <-ended; !errors.Is(err, why) {
					t.Error(err)
				}
			} else {
				if _, err := keyboard.WriteString(row.typed); err != nil {
					t.Fatal(err)
				}
				if err := <-ended; err != nil || text != strings.TrimSpace(row.typed) {
					t.Errorf("%q, %v", text, err)
				}
				if row.shown {
					wantShown(t, keyboard, "horse")
				}
			}
			if !echoes(t, tty) {
				t.Error("what is typed next is not shown")
			}
		})
	}
}

// Two lines may be there at once: each is a question's.
func TestLines(t *testing.T) {
	tty, keyboard := pseudo(t)
	if _, err := keyboard.WriteString("alice\nhorse\nlast"); err != nil {
		t.Fatal(err)
	}
	a := Asker{tty, make(prompt, 9)}
	name, err := a.Line(t.Context(), "")
	secret, err2 := a.Secret(t.Context(), "")
	if name != "alice" || secret != "horse" || err != nil || err2 != nil {
		t.Errorf("%q, %q, %v, %v", name, secret, err, err2)
	}
}

// Without a terminal nobody is asked; - is then a stream as any other.
func TestNoTerminal(t *testing.T) {
	tty, _ := pseudo(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, row := range []struct {
		in       Asker
		file     string
		asks     bool
		terminal bool
	}{
		{Asker{In: tty}, "", true, true},
		{Asker{In: tty}, "-", true, true},
		{Asker{In: tty}, "f", false, true},
		{Asker{In: null}, "", true, false},
		{Asker{In: null}, "-", false, false},
		{Asker{In: null}, "f", false, false},
		{Asker{In: strings.NewReader("x")}, "-", false, false},
	} {
		if got := row.in.Asks(row.file); got != row.asks {
			t.Errorf("%q: asks: %v", row.file, got)
		}
		if !row.terminal {
			if _, err := row.in.Secret(t.Context(), "x"); !errors.Is(err, ErrNone) {
				t.Error(err)
			}
		}
	}
}
