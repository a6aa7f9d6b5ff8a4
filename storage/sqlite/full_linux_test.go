package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// On a full disk nothing can be written, and what only reads goes on, though the
// log's index cannot be made. A limit of the process stands for the disk, of which
// statfs knows nothing; then a file system is really full.
func TestNoRoomForTheIndex(t *testing.T) {
	check := func(t *testing.T, path, reason string) {
		cmd, _, lines := startChild(t, "full", path)
		for _, want := range []string{reason, "1 <nil>", "true"} {
			if got := line(t, lines); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		must(t, cmd.Wait())
	}
	t.Run("limit", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		check(t, path, reasonDisk)
		wantSequence(t, openTest(t, path, Options{}), 1)
	})
	t.Run("file system", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "mounted")
		must(t, os.Mkdir(dir, 0o700))
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); errors.Is(err, fs.ErrPermission) {
			t.Skip("only root can mount a small file system")
		} else {
			must(t, err)
		}
		defer func() { must(t, syscall.Unmount(dir, 0)) }()
		check(t, filepath.Join(dir, "db"), reasonFull)
		wantSequence(t, openTest(t, filepath.Join(filepath.Dir(dir), "backup"), Options{}), 1)
	})
}
