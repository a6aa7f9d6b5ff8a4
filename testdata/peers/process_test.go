package peers

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// build compiles the command in a module's directory.
func build(b *testing.B, module, pkg string) string {
	b.Helper()
	to := filepath.Join(b.TempDir(), "server")
	cmd := exec.Command("go", "build", "-o", to, pkg)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("building %s in %s: %v\n%s", pkg, module, err, out)
	}
	return to
}

// server is a program that listens.
type server struct {
	url string
	pid int
}

// start starts a server on one core; it prints "… listens on URL". None of the
// caller's own settings reach it.
func start(b *testing.B, name string, args ...string) server {
	b.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GOMAXPROCS=1", "NODE_ENV=production"}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	must(b, err)
	must(b, cmd.Start())
	b.Cleanup(func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), " listens on "); ok {
			go io.Copy(io.Discard, out)
			return server{url, cmd.Process.Pid}
		}
	}
	cmd.Wait()
	b.Fatalf("%s did not start: %s", name, &complaints)
	return server{}
}

// cpu is the processor time that the server has used, with all its threads, in
// steps of a hundredth of a second.
func (s server) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid)) // proc_pid_stat(5)
	must(b, err)
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest) // from the third on
	user, err := strconv.Atoi(fields[14-3])
	must(b, err)
	system, err := strconv.Atoi(fields[15-3])
	must(b, err)
	return time.Duration(user+system) * time.Second / 100
}
