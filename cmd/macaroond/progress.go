package main

import (
	"time"

	"github.com/schollz/progressbar/v3"

	"macaroond/cmd/internal/terminal"
)

// working shows on a terminal that something longer is going on, once it has
// taken a second.
func (e *env) working(what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	if _, ok := terminal.Of(e.Stderr); !ok {
		return <-done
	}
	select {
	case err := <-done:
		return err
	case <-time.After(time.Second):
	}
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(e.Stderr), progressbar.OptionSetDescription(what),
		progressbar.OptionSpinnerType(14), progressbar.OptionSetElapsedTime(true), progressbar.OptionClearOnFinish())
	defer bar.Finish()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			_ = bar.Add(1)
		}
	}
}
