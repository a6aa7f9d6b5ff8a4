package main

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever reads what a command says from a file or a pipe is not shown that it
// works, however long it does. The time is synctest's: nothing here waits.
func TestWorkingUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stderr bytes.Buffer
		want := errors.New("in vain")
		err := (&env{process{Stderr: &stderr}}).working("trying", func() error {
			time.Sleep(time.Minute)
			return want
		})
		if err != want || stderr.Len() > 0 {
			t.Errorf("%v: %q", err, &stderr)
		}
	})
}
