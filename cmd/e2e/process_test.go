package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// How long another program may take, at most. A test that works never waits
// this long: these bounds are for machines under load.
const (
	startTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second
	toolTimeout  = 60 * time.Second
)

// process is a program in a process group of its own.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdout chan string // its lines; closed at the end
	stderr *log
	done   chan struct{} // closed when it has ended and was waited for
	err    error         // after done
}

// log keeps what a program wrote.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// tail is the end of it.
func (l *log) tail() string {
	s := l.String()
	return s[max(0, len(s)-4096):]
}

// start starts a program. env is added to what a program needs to run at all;
// none of the caller's own MACAROOND_ settings reach it.
func start(env []string, name string, args ...string) (*process, error) {
	p := &process{
		name:   name,
		cmd:    exec.Command(name, args...),
		stdout: make(chan string, 64),
		stderr: new(log),
		done:   make(chan struct{}),
	}
	p.cmd.Env = environment(env...)
	p.cmd.Stderr = p.stderr
	p.cmd.SysProcAttr = ownGroup()
	p.cmd.WaitDelay = stopTimeout
	out, write := io.Pipe()
	p.cmd.Stdout = write
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.stdout)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			select {
			case p.stdout <- lines.Text():
			default: // nobody reads any more
			}
		}
		io.Copy(io.Discard, out) // a line that was too long must not block the program
	}()
	go func() {
		p.err = p.cmd.Wait()
		write.Close()
		close(p.done)
	}()
	return p, nil
}

func environment(add ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "MACAROOND_") {
			env = append(env, kv)
		}
	}
	return append(env, add...)
}

// firstLine waits for the first line on standard output.
func (p *process) firstLine() (string, error) {
	select {
	case line, ok := <-p.stdout:
		if ok {
			return line, nil
		}
		return "", fmt.Errorf("%s ended without a line:\n%s", p.name, p.stderr)
	case <-time.After(startTimeout):
		return "", fmt.Errorf("%s said nothing for %v:\n%s", p.name, startTimeout, p.stderr)
	}
}

// accepts waits until somebody listens on addr.
func (p *process) accepts(addr string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(startTimeout)
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended before it listened on %s: %v\n%s", p.name, addr, p.err, p.stderr)
		case <-deadline:
			return fmt.Errorf("%s does not listen on %s: %w\n%s", p.name, addr, err, p.stderr)
		}
	}
}

// stop asks the process to end, waits, and ends the whole group if it does not.
func (p *process) stop() error {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		p.signal(syscall.SIGKILL) // children that outlived it
	case <-time.After(stopTimeout):
		p.signal(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("%s did not end within %v of SIGTERM:\n%s", p.name, stopTimeout, p.stderr)
	}
	if strings.Contains(p.stderr.String(), "DATA RACE") {
		return fmt.Errorf("%s has a data race:\n%s", p.name, p.stderr)
	}
	return nil
}

func (p *process) signal(s syscall.Signal) { syscall.Kill(-p.cmd.Process.Pid, s) }

// tool runs a program to its end and returns what it wrote.
func tool(t *testing.T, stdin string, env []string, name string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environment(env...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), errors.Join(err, ctx.Err()), errs.String())
	}
	return out.Bytes(), nil
}

// freeAddr is a loopback address that nobody listened on a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
