package main

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"strings"

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
		a.printf("%s\n", strings.TrimSpace(strings.Join([]string{"macaroon", v.Version, v.Go, v.Revision}, " ")))
		return nil
	})
	return cmd
}

// version is set by the release build (-ldflags "-X main.version=…").
var version string

// built is what the build recorded of itself: the other command says the same.
func built() api.Version {
	v := api.Version{Version: cmp.Or(version, "dev"), Go: runtime.Version()}
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
