// Package script runs the scripts that test the two commands, and has what both
// kinds of scripts can say.
package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Command is one of a script's own.
type Command = func(ts *testscript.TestScript, neg bool, args []string)

// Run runs testdata/script, of which there must be some, with these commands and
// "exits" and "member". Each script's home is its own directory.
func Run(t *testing.T, setup func(*testscript.Env), commands map[string]Command) {
	t.Helper()
	const dir = "testdata/script"
	scripts, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in %s: %v", dir, err)
	}
	all := map[string]Command{"exits": exits, "member": member}
	maps.Copy(all, commands)
	for name := range all {
		if slices.Contains(builtin, name) {
			t.Fatalf("%s is testscript's own, and comes first", name)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                all,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GORACE", "atexit_sleep_ms=10") // with -race each process would end a second late
			setup(env)
			return nil
		},
	})
}

// builtin are testscript's commands. A script's own of the same name is never
// called, which nothing says; stop even ends a script well.
var builtin = strings.Fields("cd chmod cmp cmpenv cp env exec exists grep kill mkdir mv rm skip stderr stdin stdout stop symlink ttyin ttyout unix2dos unquote wait")

// exits CODE PROGRAM ARG… runs a program that must end with the code; one that
// a signal ends has 128 and its number.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if status, ok := errors.AsType[*exec.ExitError](err); ok {
		got = status.ExitCode()
		if ws, ok := status.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			got = 128 + int(ws.Signal())
		}
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// member VARIABLE FILE PATH sets a variable to a member of a JSON file, such as
// devices.0.id; numbers as they are written.
func member(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: member VARIABLE FILE PATH")
	}
	var v any
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[1])))
	dec.UseNumber()
	ts.Check(dec.Decode(&v))
	for key := range strings.SplitSeq(args[2], ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			ts.Check(err)
			if i >= len(in) {
				ts.Fatalf("%s: no element %d", args[1], i)
			}
			v = in[i]
		default:
			v = nil
		}
	}
	if v == nil {
		ts.Fatalf("%s: no member %s", args[1], args[2])
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}
