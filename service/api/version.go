package api

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"strings"
)

// Version is the answer of GET /version.
type Version struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Revision string `json:"revision,omitempty"`
}

// Built is what the build recorded of the running program. version is what a
// release build was given (-ldflags "-X main.version=…"); empty is another one.
func Built(version string) Version {
	v := Version{Version: cmp.Or(version, "dev"), Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if recorded := info.Main.Version; version == "" && recorded != "" && recorded != "(devel)" {
		v.Version = recorded
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

// Of is the line that a program prints of itself.
func (v Version) Of(program string) string {
	return strings.TrimSpace(strings.Join([]string{program, v.Version, v.Go, v.Revision}, " "))
}
