package e2e

import "syscall"

// ownGroup puts a program into a process group of its own, and ends it when a
// test run is cut off (a timeout, ^C) before it could end what it started.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
