package sqlite

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"macaroond/storage"
	"macaroond/storage/storagetest"
)

// The test binary is its own second process: with childRole set it does that
// role's work on the database at childPath instead of testing.
const (
	childRole = "MACAROOND_TEST_CHILD"
	childPath = "MACAROOND_TEST_PATH"
)

func TestMain(m *testing.M) {
	roles := map[string]func(*Store) error{"writer": childWriter, "pair": childPair, "state": childState, "limit": childLimit, "taker": childTaker, "full": childFull}
	name := os.Getenv(childRole)
	if name == "" {
		os.Exit(m.Run())
	}
	s, err := Open(context.Background(), os.Getenv(childPath), Options{})
	if err == nil {
		err = errors.Join(roles[name](s), s.Close())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// startChild starts a role; its lines come by the scanner.
func startChild(t *testing.T, role, path string) (*exec.Cmd, io.WriteCloser, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"="+role, childPath+"="+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return cmd, in, bufio.NewScanner(out)
}

func numbered(n uint64) storage.RevokeBranch {
	in := storage.RevokeBranch{ExpiresAt: storagetest.T0.Add(time.Hour)}
	in.RootKeyID[0] = 1
	binary.BigEndian.PutUint64(in.Fingerprint[:], n)
	return in
}

func revoke(ctx context.Context, s *Store, n uint64) (int64, error) {
	r, added, err := s.RevokeBranch(ctx, numbered(n), storage.Event{Time: storagetest.T0, Type: "branch_revoked"})
	if err == nil && !added {
		err = errors.New("not added")
	}
	return r.Seq, err
}

// childWriter revokes from four goroutines without end and prints each number
// when it is answered.
func childWriter(s *Store) error {
	var next atomic.Uint64
	errs := make(chan error)
	for range 4 {
		go func() {
			for {
				n := next.Add(1)
				seq, err := revoke(context.Background(), s, n)
				if err != nil {
					errs <- err
					return
				}
				fmt.Printf("%d %d\n", n, seq) // one write, not buffered
			}
		}()
	}
	return <-errs
}

// Everything that was answered before kill -9 is there afterwards.
func TestKill(t *testing.T) {
	for range 3 {
		path := filepath.Join(t.TempDir(), "db")
		cmd, _, lines := startChild(t, "writer", path)
		answered := map[uint64]int64{}
		for until := 1 + rand.IntN(200); lines.Scan(); {
			var n uint64
			var seq int64
			if _, err := fmt.Sscanf(lines.Text(), "%d %d", &n, &seq); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			answered[n] = seq
			if len(answered) == until {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait() // killed
		s := openTest(t, path, Options{})
		list := map[int64]uint64{}
		last := int64(0)
		for r, err := range s.Revocations(t.Context(), 0) {
			must(t, err)
			if r.Seq != last+1 {
				t.Fatalf("sequence %d after %d", r.Seq, last)
			}
			last = r.Seq
			list[r.Seq] = binary.BigEndian.Uint64(r.Fingerprint[:])
		}
		if len(answered) == 0 {
			t.Fatal("nothing was answered")
		}
		for n, seq := range answered {
			if list[seq] != n {
				t.Errorf("revocation %d was answered as entry %d, and that is %d", n, seq, list[seq])
			}
		}
		st, err := s.State(t.Context())
		must(t, err)
		if st.Sequence != last {
			t.Errorf("sequence %d, list ends at %d", st.Sequence, last)
		}
	}
}

// childPair revokes 1, prints, waits for a line, and prints what it sees.
func childPair(s *Store) error {
	seq, err := revoke(context.Background(), s, 1)
	if err != nil {
		return err
	}
	fmt.Println(seq)
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	return childState(s)
}

func childState(s *Store) error {
	st, err := s.State(context.Background())
	if err != nil {
		return err
	}
	fmt.Println(st.Sequence)
	_, err = revoke(context.Background(), s, uint64(1000+st.Sequence))
	return err
}

func line(t *testing.T, lines *bufio.Scanner) string {
	t.Helper()
	if !lines.Scan() {
		t.Fatal("the child said nothing", lines.Err())
	}
	return lines.Text()
}

// Two processes see each other's changes at once.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := openTest(t, path, Options{})
	cmd, in, lines := startChild(t, "pair", path)
	if got := line(t, lines); got != "1" {
		t.Fatalf("child: %s", got)
	}
	wantSequence(t, s, 1)
	if seq, err := revoke(t.Context(), s, 2); err != nil || seq != 2 {
		t.Fatal(seq, err)
	}
	fmt.Fprintln(in)
	if got := line(t, lines); got != "2" {
		t.Fatalf("child: %s", got)
	}
	must(t, cmd.Wait())
	wantSequence(t, s, 3)
}

func wantSequence(t *testing.T, s *Store, want int64) {
	t.Helper()
	st, err := s.State(t.Context())
	must(t, err)
	var n int64
	for r, err := range s.Revocations(t.Context(), 0) {
		must(t, err)
		n = r.Seq
	}
	if st.Sequence != want || n != want {
		t.Fatalf("sequence %d, list ends at %d, want %d", st.Sequence, n, want)
	}
}

func TestTwoStoresOnOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	a, b := openTest(t, path, Options{}), openTest(t, path, Options{})
	var wg sync.WaitGroup
	for i, s := range []*Store{a, b} {
		wg.Go(func() {
			for n := range uint64(50) {
				seq, err := revoke(t.Context(), s, uint64(i)*1000+n)
				if err != nil {
					t.Error(err)
					return
				}
				for _, s := range []*Store{a, b} {
					if st, err := s.State(t.Context()); err != nil || st.Sequence < seq {
						t.Error(st, err)
					}
				}
			}
		})
	}
	wg.Wait()
	wantSequence(t, a, 100)
	wantSequence(t, b, 100)
}

// As nobody, or as who runs the test if that is not root: modes hold for both.
func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	must(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "db")
	must(t, openTest(t, path, Options{}).Close())
	run := func() (string, error) {
		cmd, _, lines := startChildAs(t, dir, path)
		text := line(t, lines)
		return text, cmd.Wait()
	}
	for _, mode := range []struct {
		dir, file os.FileMode
		reason    string
	}{{0o700, 0o400, reasonReadOnly}, {0o500, 0o600, reasonReadOnly}, {0o500, 0o400, reasonReadOnly}, {0o700, 0o000, reasonNoOpen}} {
		before, err := os.ReadFile(path)
		must(t, err)
		must(t, os.Chmod(path, mode.file))
		must(t, os.Chmod(dir, mode.dir))
		got, err := run()
		if got != mode.reason || err == nil {
			t.Errorf("directory %v, file %v: %q, %v, want %q", mode.dir, mode.file, got, err, mode.reason)
		}
		must(t, os.Chmod(dir, 0o700))
		must(t, os.Chmod(path, 0o600))
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("the file was changed: %v", err)
		}
		if got, err := run(); err != nil {
			t.Errorf("when the trouble was gone: %q, %v", got, err)
		}
	}
}

func startChildAs(t *testing.T, dir, path string) (*exec.Cmd, io.WriteCloser, *bufio.Scanner) {
	t.Helper()
	if os.Getuid() != 0 {
		return startChild(t, "state", path)
	}
	const nobody = 65534
	for d := filepath.Dir(dir); d != os.TempDir(); d = filepath.Dir(d) { // the test's own directories above
		must(t, os.Chmod(d, 0o755))
	}
	for _, name := range []string{dir, path} {
		must(t, os.Chown(name, nobody, nobody))
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"=state", childPath+"="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return cmd, nil, bufio.NewScanner(out)
}

// childLimit meets a disk that refuses to write, and one that writes again.
func childLimit(s *Store) error {
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	if _, err := s.State(ctx); err != nil { // a reader keeps the log, which is longer than the limit
		return err
	}
	for range 16 {
		if err := s.AppendAudit(ctx, storage.Event{Time: time.Now(), Type: "filler"}); err != nil {
			return err
		}
	}
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 65536, Max: old.Max}); err != nil {
		return err
	}
	for n := range uint64(3) {
		seq, err := revoke(ctx, s, n)
		fmt.Println(seq, err)
	}
	fmt.Println(s.w.do(ctx, touch)) // by which the store finds that it can write again
	st, err := s.State(ctx)
	fmt.Println(st.Sequence, err)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	seq, err := revoke(ctx, s, 9)
	fmt.Println(seq, err)
	return nil
}

func TestDiskThatFailsToWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	cmd, _, lines := startChild(t, "limit", path)
	for _, want := range []string{"0 " + reasonDisk, "0 " + reasonDisk, "0 " + reasonDisk, reasonDisk, "0 <nil>", "1 <nil>"} {
		if got := line(t, lines); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	must(t, cmd.Wait())
	wantSequence(t, openTest(t, path, Options{}), 1)
}

// childFull stops well, and starts again when there is no room left; the disk is
// what the store's directory is on.
func childFull(s *Store) error {
	ctx := context.Background()
	if _, err := revoke(ctx, s, 1); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	dir := filepath.Dir(s.path)
	if filepath.Base(dir) == "mounted" {
		if err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 4<<20), 0o600); err == nil {
			return errors.New("there is no end to the disk")
		}
	} else if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1024, Max: 1024}); err != nil {
		return err
	}
	_, err := Open(ctx, s.path, Options{})
	fmt.Println(err)
	again, err := Open(ctx, s.path, Options{AllowReadOnly: true})
	if err != nil {
		return err
	}
	st, err := again.State(ctx)
	fmt.Println(st.Sequence, err)
	_, err = revoke(ctx, again, 2)
	fmt.Println(err != nil)
	if filepath.Base(dir) == "mounted" {
		if err := again.Backup(ctx, filepath.Join(filepath.Dir(dir), "backup")); err != nil {
			return err
		}
	}
	return again.Close()
}
