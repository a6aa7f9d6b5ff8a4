package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"macaroond/service/api"
)

func (a *app) version() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "print the version of this program", Args: cobra.NoArgs}
	cmd.RunE = a.does(func(*cobra.Command, []string) error {
		v := built()
		if a.json {
			return a.printJSON(v)
		}
		a.printf("macaroon %s (%s)\n", v.Version, v.Go)
		return nil
	})
	return cmd
}

// version is set by the release build (-ldflags "-X main.version=…").
var version string

// built is what the build recorded of itself.
func built() api.Version {
	v := api.Version{Version: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	switch {
	case version != "":
		v.Version = version
	case info.Main.Version != "":
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}
